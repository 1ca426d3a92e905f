"""How do all publishers of a process keep their plans?  In open loop, without coordinated omission, by one timer.

Theory of operation.  The plan gives each message its due time (T0 + index / rate), whatever became of the message
before.  A heap holds when each slot has something to do; the timer fires at the earliest; `_turn_all` pumps the slots
that are due, up to a budget, and then naps a little, so that several due messages leave in one send.  A closed loop,
which sends the next message when the last was answered, would stall together with the target and sample the stall once:
coordinated omission.  Open loop keeps the load and counts each delay from the due time.

Example: 1,000 messages a second, and a connection that takes nothing from 10.0 to 10.5 s.

    closed loop     one message waited 500 ms; 499 were never sent, and no figure shows them
    here            500 messages are due; they leave from 10.5 s on, blocked for 500, 499, ... 1 ms (`backpressure`)

Invariants:
- A slot's `wake_ns` names its one valid entry in the heap; older entries are skipped.
- A turn deals with about `_BUDGET` messages. While a burst is younger than FIRST_NS, consumers of this process wait
  where more is due than that; later, where they cannot keep up either, the nap after a turn is as long as the turn.
- The next holder of a slot begins at an epoch that was never used, so no `seq` of a stream is given out twice.
- Slot 65535 is reserved for probes (`probe`), which say whether the path is open; it is in no plan. A probe's stream is
  of that slot, its run id is `probe_run(run)`, its `seq` the nonce; no probe is ever accounted, neither here nor by a
  receiver.

Source: Gil Tene, "How NOT to Measure Latency" (coordinated omission).
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import gevent
import msgspec

from loadtests.drive.locust_stats import PublishDisplay, connect_failure
from loadtests.drive.publish.bad_input import PublisherFaults
from loadtests.drive.publish.commands import Commands, Stamp
from loadtests.drive.publish.redis_connection import RedisConnection, ask, dial
from loadtests.drive.publish.replays import read_replays
from loadtests.drive.publish.resp import ErrorReply, command
from loadtests.drive.publish.sink import Sink, sink_of
from loadtests.drive.publish.slot import Slot
from loadtests.drive.run_context import Lease, RunContext
from loadtests.drive.slot_user import SlotUser
from loadtests.drive.timer import Timer
from loadtests.model.ids import MAX_SLOTS, NS_PER_MS, NS_PER_S, SLICE_NS, pack_stream
from loadtests.model.registry import PUBLISH, PUBLISHER, SINKS
from loadtests.plan.pacing import Stretch
from loadtests.plan.payload import Payloads
from loadtests.plan.replay import Replayed
from loadtests.plan.workload import Workload
from loadtests.tally.identity import encode, probe_run
from loadtests.tally.publishing import PublishTally

if TYPE_CHECKING:
    from locust.env import Environment

NAP_BUSY_NS = 200_000
"""Where a turn sends so many messages that waking costs little beside them."""
BUSY = 50
"""Messages of a turn from which on it belongs to a burst."""
NAP_MOST_NS = 2_000_000
FIRST_NS = 300_000_000
"""A burst goes before the consumers of its process for so long: their bytes wait in the kernel with their times."""
_BUDGET = 500  # messages per callback: half a millisecond, so that the hub stays responsive
_FIRST_S, _MAX_S = 0.05, 1.0
_DIAL_S = 2.0


class PublishingHealth(msgspec.Struct, frozen=True, kw_only=True):
    """How this process's publishers fare; totals since the start of the run."""

    publishing: int  # slots held
    connected: int
    planned: int
    sent: int
    not_offered: int
    failed: int
    unknown: int
    outstanding: int
    own_lag_p99_ns: int  # of the last flushed second; -1: too few samples


class Publishing:
    """The publishers of one process and run. Create it in the process that publishes, with a hub.

    Without `replays` the files of replaying groups are read here, relative to the working directory; raises as
    `read_replays` does.  `crowded` says whether more waits for others of this process than they take in one turn.
    """

    def __init__(
        self,
        context: RunContext,
        *,
        replays: Mapping[str, tuple[Replayed, ...]] | None = None,
        reply_timeout_s: float = 5.0,
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._context = context
        self._crowded = crowded
        files = read_replays(context.contract, Path()) if replays is None else replays
        self._workload = Workload(context.profile, context.contract, files)
        self._tally = PublishTally()
        self._commands: dict[int, Commands] = {}
        self._reply_timeout_ns = round(reply_timeout_s * NS_PER_S)
        self._slots: dict[int, Slot] = {}
        self._leaving: set[Slot] = set()
        self._faults: dict[int, PublisherFaults] = {}
        self._next_epochs: dict[int, int] = {}
        self._heap: list[tuple[int, int, Slot]] = []
        self._turn = 0
        self._nap_ns = context.profile.run.nap_us * 1000
        self._burst_ns = -1  # since when every turn had much to do
        self._timer = Timer(self._tick)
        self.displays = {name: PublishDisplay(sink.shown) for name, sink in SINKS.items()}
        self._closed = False
        self._stopper = gevent.spawn(self._stop_when_over)

    # -- for the user class

    def serve(self, lease: Lease) -> int:
        """Publish a slot's plan, through any number of connections, then hold the slot until the run is over.

        Returns the next free epoch.  Blocks this greenlet; where it is killed, what is out is still waited for.
        """
        entered_ns = self._context.clock.now_ns()
        slot = self._enter(lease)
        try:
            gevent.spawn(self._begin, slot, lease, entered_ns)
            self._keep_connected(slot)
            slot.lost("done")
            self._context.over.wait()
        finally:
            self._leave(slot)
        return slot.next_epoch

    def next_epoch(self, lease: Lease) -> int:
        """The first epoch that the holder after this lease may use, also while or after it was served."""
        slot = self._slots.get(lease.slot)
        return self._next_epochs.get(lease.slot, lease.epoch) if slot is None else slot.next_epoch

    # -- for the harness

    def plan_level(self, index: int, factor: float, from_ns: int, to_ns: int) -> None:
        """Play a level of the run's clock, told before it begins. Safe to repeat.

        A level that is told late is sent late, by our own lag: then it says nothing of the target.
        """
        stretches, t0_ns = self._workload.stretches, self._context.t0.get(block=False)
        if stretches is None or t0_ns is None:
            raise ValueError(f"level {index} of a run that has none, or before its T0")
        stretch = Stretch(index=index, factor=factor, from_ns=from_ns - t0_ns, to_ns=to_ns - t0_ns)
        if stretches.add(stretch):
            for slot in list(self._slots.values()):
                slot.replan(stretch.from_ns)
                self._wake(slot)

    def health(self) -> PublishingHealth:
        """How the publishers fare now."""
        tally = self._tally
        p99 = tally.own_lag.quantile_ms(0.99)
        held = list(self._slots.values())
        return PublishingHealth(
            publishing=len(held),
            connected=sum(slot.connection is not None for slot in held),
            planned=tally.sent_total + tally.not_offered_total,
            sent=tally.sent_total,
            not_offered=tally.not_offered_total,
            failed=tally.failed_total,
            unknown=tally.unknown_total,
            outstanding=sum(slot.outstanding for slot in (*held, *self._leaving)),
            own_lag_p99_ns=-1 if p99 is None else round(p99 * NS_PER_MS),
        )

    def flush(self, now_ns: int, *, final: bool = False) -> None:
        """Emit what came since the last flush. `final`: publishing is over; commands without an answer are UNKNOWN."""
        del now_ns  # every record carries its own times
        if final:
            self.close()
        for record in self._tally.records():
            self._context.emit(record)

    def merge_stats(self, environment: Environment) -> None:
        """Show Locust what it has not seen yet: requests "PUBLISH <channel>", their time is that of the reply."""
        for display in self.displays.values():
            display.merge_into(environment)

    def close(self) -> None:
        """Stop everything; what has no answer is UNKNOWN. Safe to repeat."""
        if self._closed:
            return
        self._closed = True
        self._context.publish_first = False
        self._timer.close()
        self._stopper.kill(block=False)
        for slot in (*self._slots.values(), *self._leaving):
            slot.stop()
            slot.lost("the run ended")
        self._leaving.clear()
        self._heap.clear()

    def probe(self, family: int, nonce: int, *, route: int | None = None, timeout_s: float = 2.0) -> int:
        """Publish one probe on a route of a family; see `probe`."""
        return probe(self._context, family, nonce, route=route, timeout_s=timeout_s)

    # -- a slot's life

    def _enter(self, lease: Lease) -> Slot:
        context = self._context
        plan = self._workload.publisher(lease.slot)
        spec = context.profile.publishers[plan.group]
        if plan.group not in self._commands:
            self._commands[plan.group] = Commands(
                context.contract,
                plan.group,
                run=context.run,
                identity=context.profile.identity,
                seed=context.profile.seed,
                routes=len(context.contract.publisher_routes(lease.slot)),
            )
        slot = Slot(
            plan=plan,
            epoch=lease.epoch,
            commands=self._commands[plan.group],
            clock=context.clock,
            tally=self._tally,
            outstanding=spec.outstanding,
            late_ns=round(context.profile.run.late_s * NS_PER_S),
            reply_timeout_ns=self._reply_timeout_ns,
            answered=self._display(plan.group).answered,
            failed=self._display(plan.group).failed,
            wake=self._wake,
        )
        self._slots[lease.slot] = slot
        faults = self._faults[lease.slot] = PublisherFaults(context, plan)
        context.user_faults.join(faults)
        return slot

    def _display(self, group: int) -> PublishDisplay:
        return self.displays[self._context.profile.publishers[group].sink]

    def _leave(self, slot: Slot) -> None:
        slot.stop()
        faults = self._faults.pop(slot.plan.slot, None)
        if faults is not None:
            self._context.user_faults.leave(faults)
            faults.close()
        self._next_epochs[slot.plan.slot] = slot.next_epoch
        if self._slots.get(slot.plan.slot) is slot:
            del self._slots[slot.plan.slot]
        if slot.outstanding and not self._closed:
            self._leaving.add(slot)
            self._wake(slot)
        elif slot.connection is not None:
            slot.lost("left")

    def _begin(self, slot: Slot, lease: Lease, entered_ns: int) -> None:
        t0: int = self._context.t0.get()  # type: ignore[assignment]  # gevent says Optional for a get that does not block
        if self._closed or self._context.plan_over.is_set() or self._slots.get(lease.slot) is not slot:
            return
        slot.begin(t0, entered_ns)
        self._wake(slot)
        if entered_ns <= t0:
            return
        if lease.vacant_from_ns < 0 and lease.epoch > 0:
            return  # it is not known since when: the harness names that scope
        at, end = max(t0, lease.vacant_from_ns) - t0, entered_ns - t0
        while at < end:
            part = min(end, at + slot.plan.block_ns)
            for due in slot.plan.planned(at, part):
                self._tally.not_offered(slot.plan.group, (t0 + due) // SLICE_NS)
            at = part
            gevent.sleep(0)

    def _keep_connected(self, slot: Slot) -> None:
        delay = _FIRST_S
        jitter = random.Random(f"{self._context.profile.seed}:reconnect:{slot.plan.slot}:{slot.epoch}")
        while not (self._closed or slot.done or self._context.plan_over.is_set()):
            if slot.exhausted:
                self._context.trouble(
                    self._context.clock.now_ns(), -1, f"publisher slot {slot.plan.slot} has used up its epochs"
                )
                slot.stop()
                return
            began_ns = self._context.clock.now_ns()
            try:
                sock = dial(self._context.addresses.redis, _DIAL_S)
            except OSError as error:
                took_ns = self._context.clock.now_ns() - began_ns
                group = slot.plan.group
                name = f"connect {self._context.profile.publishers[group].name}"
                self._display(group).failed(name, connect_failure(error), 1, took_ns)
                gevent.sleep(delay * jitter.uniform(0.8, 1.2))
                delay = min(_MAX_S, delay * 2)
                continue
            since = time.monotonic()
            slot.attach(RedisConnection(sock, replies=slot.replies, lost=slot.lost, writable=lambda: self._wake(slot)))
            self._wake(slot)
            slot.went.wait()
            if time.monotonic() - since > _MAX_S:
                delay = _FIRST_S
            if not slot.done:  # a peer that accepts and hangs up at once is not to be stormed
                gevent.sleep(delay * jitter.uniform(0.8, 1.2))
                delay = min(_MAX_S, delay * 2)

    def _stop_when_over(self) -> None:
        self._context.plan_over.wait()
        for slot in list(self._slots.values()):
            slot.stop()

    # -- the pace

    def _wake(self, slot: Slot) -> None:
        """Have the slot pumped at once."""
        self._schedule(slot, self._context.clock.now_ns())
        self._arm(self._context.clock.now_ns(), 0)

    def _schedule(self, slot: Slot, at_ns: int) -> None:
        slot.wake_ns = at_ns
        self._turn += 1
        heapq.heappush(self._heap, (at_ns, self._turn, slot))

    def _arm(self, now_ns: int, nap_ns: int) -> None:
        if self._heap and not self._closed:
            self._timer.arm(time.monotonic_ns() + max(self._heap[0][0] - now_ns, nap_ns))

    def _tick(self) -> None:
        self._context.publish_first = sound = False
        try:
            self._turn_all()
            sound = True
        finally:
            if not sound:  # the hub prints the error; the run must know that its load stopped
                self._context.trouble(self._context.clock.now_ns(), -1, "the pacer of the publishers failed")

    def _turn_all(self) -> None:
        clock, heap = self._context.clock, self._heap
        turn_ns, budget = clock.now_ns(), _BUDGET
        while heap and heap[0][0] <= turn_ns and budget > 0:
            at, _, slot = heapq.heappop(heap)
            if slot.wake_ns != at:
                continue
            budget -= max(1, slot.pump(turn_ns, budget))
            wake = slot.next_wake_ns(clock.now_ns())
            slot.wake_ns = None
            if slot.done or wake is None:
                self._retire(slot)
            else:
                self._schedule(slot, wake)
        now, dealt = clock.now_ns(), _BUDGET - budget
        if dealt < BUSY:
            self._burst_ns = -1
        elif self._burst_ns < 0:
            self._burst_ns = turn_ns
        # A nap is only so long that more than one message is due. Where consumers of this process cannot keep up
        # either, it is as long as the turn, lest publishers starve them; but a burst goes first.
        first = now - self._burst_ns < FIRST_NS
        crowded = self._crowded() and not (first and dealt >= BUSY)
        if budget <= 0 and not crowded:
            self._context.publish_first = first and bool(heap)
            nap_ns = 0
        else:
            nap_ns = self._nap_ns if dealt < BUSY else min(self._nap_ns, NAP_BUSY_NS)
            if crowded:
                nap_ns = min(NAP_MOST_NS, max(nap_ns, now - turn_ns))
        self._arm(now, nap_ns)

    def _retire(self, slot: Slot) -> None:
        if slot.done:
            slot.went.set()
            if slot in self._leaving:
                self._leaving.discard(slot)
                slot.lost("left")


class EventPublisher(SlotUser):
    """One publisher slot of the profile."""

    kind = PUBLISHER.name

    def serve(self, context: RunContext, lease: Lease) -> None:
        """Publish the slot's plan."""
        context.publishing.serve(lease)

    def next_epoch(self, context: RunContext, lease: Lease) -> int:
        """As `Publishing` knows it: a user that was killed knows less."""
        return context.publishing.next_epoch(lease)


# -- probes

PROBE_SLOT = MAX_SLOTS - 1


def probe(context: RunContext, family: int, nonce: int, *, route: int | None, timeout_s: float) -> int:
    """Publish one probe on a route of a family (default: its first); returns how many receivers Redis named.

    Blocks this greenlet.  Raises OSError, also where Redis refuses.
    """
    where = context.contract.routes_of_family[family][0] if route is None else route
    known = context.contract.routes[where]
    identity = context.profile.identity
    families = context.profile.families
    pool = Payloads(context.contract.routes, families, 1, seed=0, identity=identity, payload_bytes=0)
    payload = pool.one(where, random.Random(f"probe:{nonce}"))
    now = context.clock.now_ns()
    stream = pack_stream(PROBE_SLOT, 0, where)
    who = encode(identity.form, probe_run(context.run), stream, nonce, now, now, payload.content)
    sink = _sink(context, families[family].name)
    sock = dial(context.addresses.redis, timeout_s)
    try:
        text = payload.fill(Stamp().now(), who)
        reply = ask(sock, command(*sink.words(known.channel.encode()), text), timeout_s)
    finally:
        sock.close()
    outcome = sink.outcome(reply)
    if not isinstance(outcome, int):
        why = reply.text if isinstance(reply, ErrorReply) else str(reply)
        raise ConnectionError(f"the probe's {sink.words(b'')[0].decode()} was answered by {why[:120]}")
    return outcome


def _sink(context: RunContext, family: str) -> Sink:
    """Where the publishers of a family write."""
    return sink_of(next((group.sink for group in context.profile.publishers if family in group.families), PUBLISH.name))
