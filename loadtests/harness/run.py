"""How does a run go from its start to its verdict?  One `ActiveRun` per run, in the master or the only process.

connect -> probe the path -> T0 -> warm-up -> plan -> drain -> close -> judge.  `finish` is idempotent: all callers get
the same end.  The run gives orders to participants; it does not know which of them is in this process or on a worker.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import gevent
import msgspec
from gevent.event import Event

from loadtests.capture.clock import MonotonicClock
from loadtests.capture.machine import free_memory_mb
from loadtests.harness.fault_control import FaultControl
from loadtests.harness.levels import LevelPlayer
from loadtests.harness.live import LiveFold
from loadtests.harness.participant import ParticipantStatus
from loadtests.harness.run_intake import RunIntake
from loadtests.harness.slots import SlotBook
from loadtests.harness.triggers import AbortGuards, FaultChain
from loadtests.model.contract import Contract
from loadtests.model.errors import HarnessError
from loadtests.model.ids import NS_PER_MS, NS_PER_S
from loadtests.model.live import Live
from loadtests.model.profile.profile import Profile
from loadtests.model.records import Finish, Note, PathProbe, Phase, PhaseMark, Record, WantedUsers
from loadtests.model.registry import CONSUMER, PUBLISHER
from loadtests.model.results import Verdict
from loadtests.model.runconfig import RunConfig
from loadtests.plan.schedule import plan_end_ns, planned_faults

LEAD_NS = 300 * NS_PER_MS
"""From the broadcast of T0 to T0, so that it reaches every worker before."""
CLOSE_S = 10.0
"""How long participants may take to close and ship their last frames."""
GUARD = "guard: "
"""How the reason of a run begins that a guard of its profile ended."""
LEAVE_S = 5.0
"""How long consumers may take to unsubscribe."""
PROBE_S = 10.0


class Participants(Protocol):
    """All processes that have users of a run."""

    def order(self, what: str, data: dict[str, Any]) -> None:
        """Tell every participant; never waits."""
        ...

    def alive(self) -> set[str]:
        """Process names of the participants that are there."""
        ...


class Closer(Protocol):
    """Something that ends with the run, such as the sampler of the target."""

    def close(self) -> None: ...


@dataclass(slots=True, kw_only=True)
class Ended:
    """How a run ended."""

    reason: str
    plan_done: bool
    verdict: str = "UNKNOWN"
    exit_status: int = 3
    reasons: tuple[str, ...] = ()
    account: Mapping[str, int | bool] = field(default_factory=dict)  # counts of `Live` as the report has them


class ActiveRun:
    """One run: its state, its phases, its end. `on_state` is called where one of them changes, and twice a second."""

    def __init__(
        self,
        config: RunConfig,
        profile: Profile,
        *,
        folder: Path,
        participants: Participants,
        opening: list[Record],
        on_state: Callable[[ActiveRun], None],
    ) -> None:
        self.config, self.profile, self.folder = config, profile, folder
        self.contract = Contract(profile)
        self.clock = MonotonicClock(config.origin_ns)
        self.fold = LiveFold(config.run, profile, self.contract)
        self.intake = RunIntake(folder / "history", self.clock.now_ns, opening, self.fold.take)
        self.guards = AbortGuards(profile, self.fold, free_mb=free_memory_mb, emit=self.emit)
        self.fault_chain: FaultChain | None = None
        self.book = SlotBook(config.users | {CONSUMER.name: None})
        self.participants = participants
        self.faults: FaultControl | None = None
        self.closers: list[Closer] = []
        self.state = "connecting"
        self.phase: Phase = "connect"
        self.t0_ns: int | None = None
        self.ended: Ended | None = None
        self.done = Event()
        self.hurry = Event()
        self._on_state = on_state
        self._stop = Event()
        self._finisher: gevent.Greenlet[..., Any] | None = None
        self._plan_done = False
        self._levels = LevelPlayer(self)
        self._search_ended = ""
        self._over_ns: int | None = None  # when there was nothing more to see
        self.mark("connect")
        self._life = gevent.spawn(self._live)
        self._life.link_exception(lambda g: self.abandon(f"error: {type(g.exception).__name__}: {g.exception}"))
        self._flusher = gevent.spawn(self._flush_forever)

    # -- what comes in

    def emit(self, record: Record) -> None:
        """Queue a record of this process."""
        self.intake.emit(record)

    def heard(self, status: ParticipantStatus) -> None:
        """A participant told how far it is."""
        self.intake.heard(status)
        if self.faults is not None and any(self.intake.user_faults):
            self.faults.users_told(self.intake.user_faults)
        if status.refused:
            self.abandon(f"error: {status.process} {status.refused}")

    def seconds(self, at_ns: int) -> float:
        """Seconds since T0, or since the run clock's 0 before there was one."""
        return (at_ns - (self.t0_ns or 0)) / NS_PER_S

    def users(self, wanted: dict[str, int]) -> None:
        """The wanted user count changed."""
        self.emit(WantedUsers(at_ns=self.clock.now_ns(), wanted=wanted))

    def note(self, text: str) -> None:
        """A sentence for the report's log."""
        self.emit(Note(at_ns=self.clock.now_ns(), text=text))

    def mark(self, phase: Phase, detail: str = "", at_ns: int | None = None) -> None:
        """A phase begins, now or when all participants were told that it does."""
        if phase not in ("fault", "recovery"):  # these end by what the consumers get: `live` asks the fold
            self.phase = phase
        self.emit(PhaseMark(phase=phase, at_ns=self.clock.now_ns() if at_ns is None else at_ns, detail=detail))
        self._on_state(self)

    def _live(self) -> None:
        try:
            self._run_plan()
        except HarnessError as error:
            self.abandon(f"error: {error}")

    def _run_plan(self) -> None:
        wanted, publishers = self.config.consumers, self.config.users[PUBLISHER.name]
        if not self._until(
            lambda: self.intake.connected >= wanted and self.intake.publishing >= publishers, self.profile.run.connect_s
        ):
            if not self._stop.is_set():
                self.abandon(
                    f"error: {self.intake.connected} of {wanted} subscriptions, "
                    f"{self.intake.publishing} of {publishers} publishers were ready "
                    f"{self.profile.run.connect_s:g} s after the start"
                )
            return
        if not self._path_is_proved():
            return
        self.t0_ns = self.fold.t0_ns = self.clock.now_ns() + LEAD_NS
        self.participants.order("t0", {"t0_ns": self.t0_ns})
        warm_ns = self.t0_ns + round(self.profile.run.warm_up_s * NS_PER_S)
        self._levels.tell_stages(warm_ns)
        if self.faults is not None and self.profile.plays_faults:
            planned = planned_faults(self.profile, self.t0_ns)
            self.fault_chain = FaultChain(self.profile, self.fold, planned, self.config.consumers)
            self.faults.schedule(planned)
        self.wait_to(self.t0_ns)
        self.state = "running"
        self.mark("warm-up", at_ns=self.t0_ns)  # a hub that wakes late moves no T0: participants began at theirs
        if self.wait_to(warm_ns):
            self.mark("baseline")
            if self.profile.searches:
                self._search_ended = self._levels.search()
            else:
                self.wait_to(plan_end_ns(self.profile, self.t0_ns))
        if not self._stop.is_set():
            self._plan_done = True
            self.abandon("plan done")

    def _path_is_proved(self) -> bool:
        followed = self._followed()
        for index, family in enumerate(self.profile.families):
            began, nonce = self.clock.now_ns(), index
            route = next((r for r in self.contract.routes_of_family[index] if r in followed), None)
            if route is None:
                continue
            deadline, seen = began + round(PROBE_S * NS_PER_S), False
            while not seen and self.clock.now_ns() < deadline and not self._stop.is_set():
                self.participants.order("probe", {"family": index, "nonce": nonce, "route": route})
                seen = self._until(lambda n=nonce: self.intake.saw_probe(n), 1.0)  # type: ignore[misc]
                nonce += 1000
            took = self.clock.now_ns() - began
            self.emit(PathProbe(what=f"family:{family.name}", at_ns=began, took_ns=took if seen else -1, ok=seen))
            if not seen and not self._stop.is_set():
                self.abandon(
                    f'error: no consumer saw a probe message of family "{family.name}" within {PROBE_S:g} s:'
                    f" is the target subscribed to {family.channel}?"
                )
            if not seen:
                return False
        return True

    def _followed(self) -> set[int]:
        return {r for slot in range(min(self.config.consumers, 2000)) for r in self.contract.consumer(slot).routes}

    def _until(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self._stop.is_set() or time.monotonic() > deadline:
                return condition()
            gevent.sleep(0.05)
        return True

    def wait_to(self, at_ns: int) -> bool:
        """Wait for a moment of the run clock; False: the run ends."""
        while not self._stop.is_set() and (left := at_ns - self.clock.now_ns()) > 0:
            self._stop.wait(min(left / NS_PER_S, 1.0))
        return not self._stop.is_set()

    def _flush_forever(self) -> None:
        while not self.done.is_set():
            gevent.sleep(0.5)
            error = self.intake.flush()
            if self.state not in ("judging", "done"):
                for process in self.intake.lose(self.participants.alive()):
                    self.book.lose(process)
            self._look()
            if error is not None:
                self.abandon(f"error: the history cannot be written: {error.strerror}")
            self._on_state(self)

    def _look(self) -> None:
        """What the live figures call for: the next fault of a chain, or the end that a guard demands."""
        if self.state != "running":
            return
        now_ns = self.clock.now_ns()
        if (why := self.guards.look(now_ns)) is not None:
            self.abandon(f"{GUARD}{why}")
        elif self.fault_chain is not None and self.faults is not None:
            for sentence, next_ in self.fault_chain.look(now_ns):
                self.note(sentence)
                self.faults.schedule(next_)

    # -- the end

    def abandon(self, reason: str) -> None:
        """Begin to finish; does not wait. The first reason counts."""
        if self._finisher is None:
            self._stop.set()
            self._finisher = gevent.spawn(self._finish, reason)

    def finish(self, reason: str) -> Ended:
        """End the run and wait for its verdict, also where the end began earlier."""
        self.abandon(reason)
        self.done.wait()
        assert self.ended is not None
        return self.ended

    def _finish(self, reason: str) -> None:
        self.ended = Ended(
            reason=reason, plan_done=self._plan_done, reasons=("the run could not be ended in good order",)
        )
        try:
            self._end(reason, self.ended)
        finally:  # also after an error: `finish` must not wait for ever
            self.state = "done"
            self.done.set()
            self._on_state(self)

    def _end(self, reason: str, ended: Ended) -> None:
        self.state = "draining"
        by_guard = reason.startswith(GUARD)
        if not by_guard:
            self.participants.order("plan_over", {})
        left = []
        if self.faults is not None:
            left = self.faults.heal("guard" if by_guard else "finish")
        if by_guard:  # a guard lifts first: the load that is left shows what the target makes of it
            self.participants.order("plan_over", {})
        for sentence in left:
            self.note(sentence)
        drained = self._drain()
        complete = self._close_participants()
        self.mark("end")
        self._over_ns = self.clock.now_ns()
        for closer in self.closers:
            closer.close()
        if self.faults is not None:
            self.faults.close()
        self.emit(
            Finish(
                at_ns=self.clock.now_ns(),
                reason=reason,
                plan_done=self._plan_done,
                drained=drained,
                complete=complete,
                frames=self.intake.frames,
            )
        )
        self.intake.seal()
        self._flusher.kill(block=False)
        try:
            self.intake.close(self._wait, CLOSE_S)
        except HarnessError as error:
            ended.reasons = (str(error),)
            return
        self.state = "judging"
        self._on_state(self)
        ended.verdict, ended.exit_status, ended.reasons = judged_by_child(self.folder)
        ended.account = account_of(self.folder)

    def _drain(self) -> bool:
        if self.t0_ns is None:
            return False
        self.mark("drain", self._search_ended)
        deadline = time.monotonic() + self.profile.run.drain_s
        while (left := deadline - time.monotonic()) > 0:
            if self.hurry.wait(min(left, 0.5)):
                return False
        return True

    def _close_participants(self) -> bool:
        self.participants.order("over", {})
        self._wait(lambda: self.intake.connected == 0, LEAVE_S)
        self.participants.order("close", {})
        expected = self.intake.expected(self.participants.alive())
        self._wait(lambda: all(self.intake.is_whole(p) for p in expected), CLOSE_S)
        return self.intake.give_up(expected)

    def _wait(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            gevent.sleep(0.02)
        return True

    # -- what is shown

    def _has_page(self) -> bool:
        return self.state == "done" and (self.folder / "report.html").exists()

    def live(self, *, with_series: bool = True, since_s: float | None = None) -> Live:
        """The run so far; `since_s` as in `LiveFold.live`."""
        warm_up = self.profile.run.warm_up_s
        now_ns = self.clock.now_ns() if self._over_ns is None else self._over_ns
        on = self.state in ("running", "draining")
        base: dict[str, object] = {
            "state": self.state,
            "phase": (self.fold.disturbed(now_ns, self.config.consumers) if on else None)
            or (self._levels.words if self.state == "running" else "")
            or self.phase,
            "plan_s": warm_up + self.profile.run.duration_s,
            "planned": self.config.consumers,
            "connected": self.intake.connected,
            "publishing": self.intake.publishing,
            "verdict": self.ended.verdict if self.ended and self.state == "done" else "",
            "reasons": list(self.ended.reasons) if self.ended else [],
            "report": f"/tickstorm/reports/{self.config.run}/report.html" if self._has_page() else "",
        }
        planned = self.faults.planned if self.faults is not None else None
        live = self.fold.live(now_ns, base, planned=planned, with_series=with_series, since_s=since_s)
        return msgspec.structs.replace(live, **self.ended.account) if self.ended and self.state == "done" else live


def account_of(folder: Path) -> Mapping[str, int | bool]:
    """The counts of `Live` as `results.json` has them; none where one of them is not known."""
    try:
        found = json.loads((folder / "results.json").read_bytes())["delivery"]
        counts = {name: found[name] for name in ("published", "not_offered", "owed", "delivered", "repeated")}
        counts["lost_so_far"] = found["lost"]["total"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    whole = all(isinstance(value, int) for value in counts.values())
    return {**counts, "overdue": 0, "unseen": 0, "judged": True} if whole else {}


def judged_by_child(folder: Path) -> tuple[str, int, tuple[str, ...]]:
    """Verdict, exit status and reasons of `tickstorm analyze`, which judges the stored history in a child process."""
    command = [sys.executable, "-m", "loadtests.cli", "analyze", str(folder), "--quiet"]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8"}  # what it says is read here, not on the console
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, encoding="utf-8",
        errors="replace", check=False,
    )  # fmt: skip
    last = ((done.stderr or done.stdout).strip().splitlines() or ["it printed nothing"])[-1]
    try:
        results = json.loads((folder / "results.json").read_bytes())
        verdict = Verdict(results["verdict"])
    except (OSError, ValueError):
        return "UNKNOWN", 3, (f"the history could not be analyzed (status {done.returncode}): {last}",)
    reasons = tuple(results["reasons"])
    if done.returncode != verdict.exit_status:  # the verdict is there: what failed came after it
        reasons += (f"the other reports could not be written: {last}",)
    return verdict.value, verdict.exit_status, reasons
