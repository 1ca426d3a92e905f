"""Does a slot keep its plan against a connection that does whatever it likes?"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from publish_servers import RUN, Books, make_profile

from loadtests.drive.publish.commands import Commands
from loadtests.drive.publish.resp import ErrorReply
from loadtests.drive.publish.slot import Backpressure, Slot
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_S
from loadtests.model.profile.workload import Shape
from loadtests.model.records import PublishTimes
from loadtests.plan.workload import Workload
from loadtests.tally.publishing import PublishTally

MS = 1_000_000


class Hand:
    """A clock that moves by hand."""

    now = 0

    def now_ns(self) -> int:
        return self.now

    def at_monotonic_ns(self, monotonic_ns: int) -> int:
        return monotonic_ns


class Wire:
    """A connection that takes as many messages as it is told to, and remembers which."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.most = 10**9
        self.cut = False
        self.full = False
        self.rest = b""

    def send(self, data: bytes, messages) -> int:
        assert data.decode("latin-1") == "".join(messages)
        count = min(self.most, len(messages))
        self.most -= count
        self.taken += [message.encode("latin-1") for message in messages[:count]]
        if count < len(messages):
            self.full = True
            if self.cut and count:
                self.rest = b"x"
        return count

    def read(self) -> None:
        pass

    def close(self) -> None:
        pass


class World:
    def __init__(self, *, rate: float = 1000.0, outstanding: int = 50, duration_s: float = 2.0, late_s: float = 0.5):
        profile = make_profile(
            Shape(kind="constant", rate_per_s=rate), outstanding=outstanding, duration_s=duration_s, late_s=late_s
        )
        contract = Contract(profile)
        self.plan = Workload(profile, contract).publisher(0)
        self.clock, self.tally, self.woken = Hand(), PublishTally(), 0
        self.slot = Slot(
            plan=self.plan,
            epoch=0,
            commands=Commands(contract, 0, run=RUN, identity=profile.identity, seed=1, routes=8),
            clock=self.clock,
            tally=self.tally,
            outstanding=outstanding,
            late_ns=round(late_s * NS_PER_S),
            reply_timeout_ns=5 * NS_PER_S,
            answered=lambda *_: None,
            failed=lambda *_: None,
            wake=self._wake,
        )
        self.slot.begin(0, 0)
        self.wire = Wire()

    def _wake(self, _slot) -> None:
        self.woken += 1

    def attach(self) -> None:
        self.wire = Wire()
        self.slot.attach(self.wire)

    def books(self) -> Books:
        return Books(self.tally.records())


def test_a_budget_that_ends_at_the_limit_of_open_commands_still_waits_for_the_answers() -> None:
    world = World(outstanding=50)
    world.attach()
    world.clock.now = 100 * MS
    assert world.slot.pump(world.clock.now, 50) == 50
    assert world.slot.next_wake_ns(world.clock.now) >= world.clock.now + 20 * MS
    world.slot.replies([(1, 50)])
    assert world.woken


def test_a_full_window_is_our_own_lag_while_the_answers_are_prompt_and_a_block_once_they_are_not() -> None:
    for answer_ms, blocked in ((5, False), (60, True)):
        world = World(outstanding=50)
        world.attach()
        for _ in range(40):
            world.clock.now += answer_ms * MS
            if world.slot.outstanding:
                world.slot.replies([(1, world.slot.outstanding)])
            world.slot.pump(world.clock.now, 500)
            world.clock.now += MS
            world.slot.pump(world.clock.now, 500)
            world.slot.next_wake_ns(world.clock.now)
            world.clock.now += answer_ms * MS
            world.slot.pump(world.clock.now, 500)
        times = [x for x in world.tally.records() if isinstance(x, PublishTimes)]
        assert any(max(x.blocked[0]) > 0 for x in times) is blocked, answer_ms


def test_a_rate_that_nobody_can_keep_is_not_offered_and_not_failed() -> None:
    world = World(rate=5_000_000.0, outstanding=1000)
    world.attach()
    for _ in range(60):
        world.slot.pump(world.clock.now, 500)
        world.clock.now += 25 * MS
        if world.slot.outstanding:
            world.slot.replies([(1, world.slot.outstanding)])
    world.slot.stop()
    world.slot.replies([(1, world.slot.outstanding)])
    books = world.books()
    assert books.not_offered > 5_000_000
    assert not books.of("FAILED")


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(("block", "release", "caught up")), st.integers(0, 900)), max_size=6),
    st.integers(0, 3000),
)
def test_what_is_given_up_in_bulk_is_what_is_late_by_our_own_doing(steps: list[tuple[str, int]], after: int) -> None:
    backpressure, now = Backpressure(), 0
    for step, wait in steps:
        now += wait
        if step == "block":
            backpressure.block(now)
        elif step == "release":
            backpressure.release(now)
        else:
            backpressure.caught_up()
    now += after
    for limit in (0, 100, 1000):
        ours = backpressure.own_before(now, limit)
        for due in range(now - 3000, now + 1, 50):
            assert (due < ours) == (now - due - backpressure.of(due, now) > limit)


def test_what_becomes_due_during_a_turn_waits_for_the_next() -> None:
    world = World()
    world.attach()
    world.clock.now = 40 * MS
    sent = world.slot.pump(20 * MS, 1000)
    assert sent == len(world.plan.planned(0, 20 * MS + 1))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("time"), st.integers(1, 400)),
        st.tuples(st.just("pump"), st.integers(1, 500)),
        st.tuples(st.just("answer"), st.integers(1, 60)),
        st.tuples(st.just("refuse"), st.integers(1, 20)),
        st.tuples(st.just("lost"), st.just(0)),
        st.tuples(st.just("attach"), st.just(0)),
        st.tuples(st.sampled_from(("choke", "cut")), st.integers(0, 30)),
        st.tuples(st.just("free"), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS)
@settings(max_examples=40, deadline=None)
def test_every_planned_message_has_one_end_and_only_what_went_can_be_ok(steps) -> None:
    world = World()
    slot = world.slot
    wires = []
    for step, n in steps:
        match step:
            case "time":
                world.clock.now += n * MS
            case "pump":
                slot.pump(world.clock.now, n)
            case "answer" if slot.connection:
                slot.replies([(2, min(n, slot.outstanding))] if slot.outstanding else [])
            case "refuse" if slot.connection and slot.outstanding:
                slot.replies([(ErrorReply("NO"), 1)] * min(n, slot.outstanding))
            case "lost":
                slot.lost("test")
            case "attach" if slot.connection is None:
                world.attach()
                wires.append(world.wire)
            case "choke" | "cut":
                world.wire.most, world.wire.cut = n, step == "cut"
            case "free":
                world.wire.most, world.wire.full, world.wire.rest = 10**9, False, b""
    slot.stop()
    slot.lost("end")
    books = world.books()
    assert books.sent + books.not_offered == len(world.plan.planned(0, world.clock.now + 1))
    assert slot.outstanding == 0
    went = sum(len(wire.taken) for wire in wires)
    assert len(books.of("OK")) + len(books.of("UNKNOWN")) <= went
    assert slot.done


def test_what_is_given_up_together_is_accounted_as_one_by_one() -> None:
    told = []
    for budget in (1, 500):
        world = World(rate=2000.0, outstanding=5000, late_s=0.5)
        world.attach()
        world.clock.now = 130 * MS
        world.slot.pump(world.clock.now, 500)
        world.wire.full = True  # from here on it takes nothing
        for now in (131, 700, 1100, 1350):
            world.clock.now = now * MS
            while world.slot.pump(world.clock.now, budget):
                pass
        world.wire.full = False
        while world.slot.pump(world.clock.now, 500):
            pass
        world.slot.replies([(1, world.slot.outstanding)])
        records = world.tally.records()
        books = Books(records)
        assert len(books.of("FAILED")) > 1000
        assert not books.not_offered
        told.append(records)
    assert told[0] == told[1]
