"""What do references cost where they gain nothing, and are they given up, freed and taken up again in time?"""

from __future__ import annotations

import gc
from dataclasses import dataclass

import pytest

from loadtests.drive.consume.chunks import Chunks
from loadtests.drive.consume.frames import Cutter, wire
from loadtests.drive.consume.read_accounting import account_read
from loadtests.drive.consume.websocket import PlainDialect
from loadtests.model.ids import SLICE_NS, pack_stream
from loadtests.model.records import Deviations, Record, Strange
from loadtests.tally import followers as kinship
from loadtests.tally import shared_prefix
from loadtests.tally.account import Account
from loadtests.tally.accountant import Accountant
from loadtests.tally.identity import encode
from loadtests.tally.shared_prefix import Reference, Step

BEGIN = 50 * SLICE_NS
ROUTES = 64


@dataclass
class Line:
    """One consumer's connection without a socket."""

    account: Account
    chunks: Chunks
    cutter: Cutter
    clean: bool = True

    @property
    def cached(self):  # type: ignore[no-untyped-def]
        return self.chunks.cached


class Calls:
    """How often the ways that look at all streams, or at all members, were taken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.joins = self.settles = self.founded = 0
        join, settled, init = Reference.join, Reference.settle, Reference.__init__

        def counted_join(self_: Reference, account: Account, at: Step) -> bool:
            self.joins += 1
            return join(self_, account, at)

        def counted_settle(self_: Reference, account: Account, at: Step) -> None:
            self.settles += 1
            settled(self_, account, at)

        def counted_init(self_: Reference, *args: object) -> None:
            self.founded += 1
            init(self_, *args)  # type: ignore[arg-type]

        monkeypatch.setattr(Reference, "join", counted_join)
        monkeypatch.setattr(Reference, "settle", counted_settle)
        monkeypatch.setattr(Reference, "__init__", counted_init)

    def take(self) -> tuple[int, int, int]:
        """Joins, settlements and foundings since the last time."""
        found = self.joins, self.settles, self.founded
        self.joins = self.settles = self.founded = 0
        return found


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


class Hall:
    """One process's tally and its consumers."""

    def __init__(self, **settings: int) -> None:
        self.tally = Accountant(
            family_of_route=[0] * ROUTES,
            copies_of_family=[1],
            consumer_groups=1,
            exceptions_per_s=1000,
            now_ns=BEGIN,
            **settings,
        )
        self.chunks = Chunks(PlainDialect("tickstorm", "object"), self.tally.streams, "run")
        self.lines: list[Line] = []

    def line(self, routes: frozenset[int] = frozenset(range(ROUTES))) -> Line:
        account = self.tally.account(consumer=len(self.lines), epoch=0, group=0, routes=routes)
        self.lines.append(Line(account, self.chunks, Cutter()))
        return self.lines[-1]

    def come(self, line: Line, *frames: bytes) -> None:
        account_read(self.tally, line, b"".join(frames), BEGIN)

    def forget(self) -> None:
        """Let logs and rings drop what they hold of the past."""
        for _ in range(60):
            self.tally.turn(self.tally.slice_end)
            list(self.tally.flush(self.tally.slice_end))

    def close(self) -> list[Record]:
        for line in self.lines:
            self.tally.close_account(line.account)
        found = list(self.tally.flush(self.tally.slice_end, final=True))
        assert self.tally.miscounted == []
        return found


def frame(seq: int, stream: int = 0, mark: bytes = b"") -> bytes:
    packed = pack_stream(stream // ROUTES, 0, stream % ROUTES)
    return wire(b'{"data":{"tickstorm":%b,"for":"%b"}}' % (encode("object", "run", packed, seq, BEGIN, BEGIN), mark))


def uniques(line: Line) -> int:
    return sum(unique for *_, unique in line.account.vector())


def alive(kind: type) -> int:
    gc.collect()
    return sum(type(thing) is kind for thing in gc.get_objects())


@pytest.mark.parametrize("newcomer", [False, True])
def test_whoever_leads_looks_at_no_other_stream(calls: Calls, newcomer: bool) -> None:
    """A list of all streams per message would make leading dearer than what following saves."""
    hall = Hall()
    old = [hall.line(), hall.line()]
    for stream in range(500):
        for line in old:
            hall.come(line, frame(0, stream))
    leader = hall.line() if newcomer else old[0]
    for line in [*old, leader] if newcomer else old:
        hall.come(line, frame(1))
    calls.take()
    for seq in range(2, 202):
        hall.come(leader, frame(seq))
    hall.come(leader, frame(202), frame(203), frame(1, 7), frame(204), frame(0, 600))
    assert calls.take() == (0, 0, 0)
    assert leader.account.led >= 205, "or it would not have led"
    found = hall.close()
    assert not [r for r in found if isinstance(r, Deviations | Strange)]
    assert [uniques(line) for line in old] == [501 if newcomer else 706, 501]
    assert uniques(leader) == (206 if newcomer else 706)


def test_reads_that_only_in_part_continue_the_reference_are_accounted_message_by_message() -> None:
    hall = Hall()
    leader, other = hall.line(), hall.line()
    hall.come(leader, frame(0))
    hall.come(leader, frame(1), frame(2), frame(4), frame(5))
    for seq in (0, 1, 2, 4, 5):
        hall.come(other, frame(seq))
    gaps = [
        (consumer, first, last)
        for record in hall.close()
        if isinstance(record, Deviations)
        for consumer, first, last in zip(record.consumer, record.first, record.last, strict=True)
    ]
    assert sorted(gaps) == [(0, 3, 3), (1, 3, 3)]
    assert [uniques(line) for line in hall.lines] == [5, 5]


@pytest.mark.parametrize("ahead", [0, 50])
def test_bytes_that_differ_for_each_recipient_end_the_trying(calls: Calls, ahead: int) -> None:
    hall = Hall()
    lines = [hall.line() for _ in range(8)]
    for seq in range(ahead):
        hall.come(lines[0], frame(seq, mark=b"0"))
    for seq in range(1500):
        for n, line in enumerate(lines):
            hall.come(line, frame(seq + ahead if n == 0 else seq, mark=b"%d" % n))
        if seq == 749:
            calls.take()
    joins, settles, founded = calls.take()
    assert joins + settles < 8 * 750 / 50, "one in fifty reads at most"
    assert founded < 8
    found = hall.close()
    assert not [r for r in found if isinstance(r, Deviations | Strange)]
    assert [uniques(line) for line in lines] == [1500 + ahead] + [1500] * 7


def test_some_whose_bytes_differ_do_not_keep_the_others_from_following() -> None:
    """Though they read first, and so would found every shared_prefix."""
    hall = Hall()
    odd, alike = [hall.line() for _ in range(2)], [hall.line() for _ in range(8)]
    for seq in range(1500):
        for n, line in enumerate(odd):
            hall.come(line, frame(seq, mark=b"%d" % n))
        for line in alike:
            hall.come(line, frame(seq))
    assert all(line.account.reference is not None for line in alike)
    assert min(line.account.followed for line in alike[1:]) > 500
    assert all(line.account.reference is None for line in odd)
    hall.close()
    assert {uniques(line) for line in hall.lines} == {1500}


def test_once_bytes_are_equal_again_they_are_compared_again() -> None:
    hall = Hall()
    lines = [hall.line() for _ in range(3)]
    for seq in range(4000):
        for n, line in enumerate(lines):
            hall.come(line, frame(seq, mark=b"" if seq >= 300 else b"%d" % n))
    assert all(line.account.reference is not None for line in lines)


def test_one_that_always_deviates_ends_no_reference_of_the_others_for_ever(calls: Calls) -> None:
    hall = Hall()
    odd, alike = hall.line(), [hall.line() for _ in range(5)]
    for seq in range(1000):
        hall.come(odd, frame(2 * seq, 1))
        for line in alike:
            hall.come(line, frame(seq, 2), frame(2 * seq, 1), frame(2 * seq + 1, 1))
        hall.come(odd, frame(seq, 2))
        if seq == 499:
            calls.take()
    joins, _, founded = calls.take()
    assert founded <= 5
    assert joins < 50
    hall.close()
    assert [uniques(line) for line in hall.lines] == [2000] + [3000] * 5


@pytest.mark.prove_all
def test_all_references_of_a_process_stay_within_their_budget() -> None:
    budget = 512 << 10
    hall = Hall(references_bytes=budget)
    pairs = [[hall.line(frozenset({route})) for _ in range(2)] for route in range(4)]
    before = alive(Step)
    most = 0
    for seq in range(700):
        for route, lines in enumerate(pairs):
            for line in lines:
                hall.come(line, frame(seq, route, b"x" * 150))
        assert hall.tally.kinship.bytes <= budget
        if seq % 100 == 99:
            hall.forget()
            most = max(most, alive(Step) - before)
    assert 0 < most <= budget // shared_prefix.STEP_BYTES
    assert all(line.account.reference is not None for lines in pairs for line in lines), "shorter ones, not none"
    hall.close()
    assert {uniques(line) for line in hall.lines} == {700}


def test_more_kin_than_the_budget_has_room_for_are_parsed() -> None:
    hall = Hall(references_bytes=256 << 10)
    pairs = [[hall.line(frozenset({route})) for _ in range(2)] for route in range(10)]
    for seq in range(200):
        for route, lines in enumerate(pairs):
            for line in lines:
                hall.come(line, frame(seq, route))
    assert hall.tally.kinship.bytes == 0
    hall.close()
    assert {uniques(line) for line in hall.lines} == {200}


def test_who_stalls_pins_no_old_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stalls inside a frame of another reference; when the rest comes, nothing is amiss."""
    monkeypatch.setattr(shared_prefix, "STEPS", 20)
    hall = Hall()
    lines = [hall.line() for _ in range(10)]
    before = alive(Reference)
    stalled: dict[int, int] = {}
    for seq in range(400):
        if seq and seq % 40 == 0 and len(stalled) < 8:
            stalled[9 - len(stalled)] = seq
            hall.come(lines[0], frame(seq))
            hall.come(lines[9 - len(stalled) + 1], frame(seq)[:30])
            started = 1
        else:
            started = 0
        for n, line in enumerate(lines):
            if n >= started and n not in stalled:
                hall.come(line, frame(seq))
    hall.forget()
    assert len(stalled) == 8
    assert alive(Reference) - before <= kinship._GENERATIONS
    for n, seq in stalled.items():
        hall.come(lines[n], frame(seq)[30:])
        for later in range(seq + 1, 400):
            hall.come(lines[n], frame(later))
    found = hall.close()
    assert not [r for r in found if isinstance(r, Deviations | Strange)]
    assert {uniques(line) for line in lines} == {400}


def test_kin_are_forgotten_with_their_last_member() -> None:
    hall = Hall()
    for route in range(30):
        for line in (hall.line(frozenset({route})), hall.line(frozenset({route}))):
            hall.come(line, frame(0, route))
    assert len(hall.tally.kinship) == 30
    hall.close()
    assert len(hall.tally.kinship) == 0
    assert hall.tally.kinship.bytes == 0


def test_a_newcomer_keeps_nothing_for_streams_of_which_it_got_nothing() -> None:
    hall = Hall()
    old = [hall.line(), hall.line()]
    for stream in range(300):
        for line in old:
            hall.come(line, frame(0, stream))
    newcomer = hall.line()
    for line in (*old, newcomer):
        hall.come(line, frame(1))
    account = newcomer.account
    assert account.reference is old[0].account.reference is not None
    kept = [getattr(account, name) for name in Account.__slots__ if name not in ("last", "routes", "kin", "cells")]
    assert max(len(thing) for thing in kept if hasattr(thing, "__len__")) <= 2


def test_what_kin_read_together_is_kept_by_its_messages_not_by_its_reads() -> None:
    hall = Hall()
    leader, *others = [hall.line() for _ in range(30)]
    frames = [frame(seq) for seq in range(1500)]
    for one in frames:
        hall.come(leader, one)
    for n, line in enumerate(others):
        hall.come(line, frames[0])
        at = 1
        while at < len(frames):
            hall.come(line, *frames[at : at + 40 + n])
            at += 40 + n
    kept = leader.account.reference
    assert kept is not None
    assert sum(len(batch.messages) for batch in kept._spans.values()) <= shared_prefix._SPANNED + 5 * 1500
    hall.close()
    assert {uniques(line) for line in hall.lines} == {1500}
