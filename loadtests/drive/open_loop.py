"""How does a user of single requests, such as a reader, ask in open loop?  A late one counts from when it was due.

A request that had to wait for the one before it counts from the time when it was due; one that did not, from its start:
so what the user's own queueing adds is in the figures, and what the hub's lateness adds is not (coordinated omission).
"""

from __future__ import annotations

from collections.abc import Sequence

import gevent
from locust.env import Environment

from loadtests.drive.locust_stats import merge
from loadtests.drive.run_context import RunContext
from loadtests.model.ids import NS_PER_MS, NS_PER_S, slice_of
from loadtests.plan.pacing import Constant
from loadtests.plan.workload import phase_of
from loadtests.tally.publishing import RequestTally

_SHOW_NS = NS_PER_S


class RequestFailed(Exception):  # noqa: N818  it names what came of it
    """Why there was no answer, as the record says it."""


class OpenLoop:
    """One slot that asks; a subclass says how.  `names` are asked in turn, `rate_per_s` in all."""

    def __init__(
        self,
        context: RunContext,
        environment: Environment | None,
        *,
        slot: str,  # which of all users: its phase in the period comes from that and the seed
        rate_per_s: float,
        names: Sequence[str],
        timeout_s: float,
        tally: RequestTally,
        shown: str,  # request type in Locust's statistics
    ) -> None:
        self.context, self._environment = context, environment
        self._pacer = Constant(rate_per_s, phase_of(f"{context.profile.seed}:{slot}"))
        self._names, self._timeout_s, self._shown = names, timeout_s, shown
        self._tally = tally
        self._connecting_ns = self._due_slice = 0
        self._free_ns = 0  # when the request before was done with
        self._told_ns = 0
        self._times: dict[str, dict[int, int]] = {}
        self._errors: dict[str, dict[str, int]] = {}

    def ask(self, name: str) -> None:
        """One request, to its answer. Calls `connected` where it had to connect. Raises RequestFailed."""
        raise NotImplementedError

    def rest(self) -> None:
        """A request is over: let go of what the next one is not to use."""

    def close(self) -> None:
        """Let go of everything; safe to repeat."""

    def connected(self, name: str, took_ns: int) -> None:
        """A connection had to be made for a request, which is counted apart."""
        self._connecting_ns = took_ns
        self._tally.connected(name, self._due_slice, took_ns)

    def run(self) -> None:
        """Ask what is due, from T0 or now, until the plan is over. Blocks this greenlet."""
        context = self.context
        t0: int = context.t0.get()  # type: ignore[assignment]  # gevent says Optional for a get that does not block
        run = context.profile.run
        span = round((run.warm_up_s + run.duration_s) * NS_PER_S)
        index = self._pacer.before(context.clock.now_ns() - t0)
        self._free_ns = context.clock.now_ns()
        try:
            while (due := self._pacer.due(index)) < span and not context.plan_over.is_set():
                if self._sleep_until(t0 + due):
                    break
                self._one(self._names[index % len(self._names)], t0 + due)
                index += 1
                self._show(_SHOW_NS)
        finally:
            self.close()
            self._show(0)

    def _sleep_until(self, at_ns: int) -> bool:
        left = (at_ns - self.context.clock.now_ns()) / NS_PER_S
        return bool(left > 0 and self.context.plan_over.wait(left))

    def _one(self, name: str, due_ns: int) -> None:
        clock, at = self.context.clock, slice_of(due_ns)
        began = clock.now_ns()
        if began - due_ns > self._timeout_s * NS_PER_S:
            self._fail(name, at, "timeout: the queries before it left no time", began - due_ns)
            return
        self._connecting_ns, self._due_slice = 0, at
        since = due_ns if self._free_ns > due_ns else began
        try:
            self.ask(name)
        except RequestFailed as error:
            self._fail(name, at, str(error), clock.now_ns() - since)
        else:
            took = clock.now_ns() - since - self._connecting_ns
            self._tally.answered(name, at, took)
            self._took(name, took)
        self._free_ns = clock.now_ns()
        self.rest()

    def _took(self, name: str, took_ns: int) -> None:
        times = self._times.setdefault(name, {})
        ms = round(took_ns / NS_PER_MS)
        times[ms] = times.get(ms, 0) + 1

    def _fail(self, name: str, at: int, why: str, took_ns: int) -> None:
        self._tally.failed(name, at, why)
        self._took(name, took_ns)
        errors = self._errors.setdefault(name, {})
        errors[why] = errors.get(why, 0) + 1
        gevent.sleep(0)

    def _show(self, every_ns: int) -> None:
        now = self.context.clock.now_ns()
        if now - self._told_ns < every_ns:
            return
        self._told_ns = now
        for record in self._tally.records():
            self.context.emit(record)
        times, self._times = self._times, {}
        errors, self._errors = self._errors, {}
        if self._environment is None:
            return
        for name in sorted(times.keys() | errors.keys()):
            of = times.get(name, {})
            total = float(sum(ms * count for ms, count in of.items()))
            merge(self._environment, self._shown, name, of, total, sum(of.values()), 0, errors.get(name, {}))
