"""Are commands what Redis and consumers read, and do the rows of a slice say what left, whatever was taken back?"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.drive.publish.commands import Commands
from loadtests.drive.publish.resp import Replies
from loadtests.model.contract import Contract
from loadtests.model.ids import SLICE_NS, unpack_stream
from loadtests.model.profile.tables import Identity
from loadtests.model.records import Published
from loadtests.tally.identity import Seal, decoder
from loadtests.tally.publishing import PublishTally
from tests.examples import examples
from tests.measure.simulate import profile

RUN = "20260102-030405-test-0001"
STEPS = st.lists(
    st.tuples(
        st.integers(0, 3),  # slices that pass before it
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 900)), min_size=1, max_size=30),  # route, us later
        st.one_of(st.none(), st.integers(0, 29)),  # so many are kept, the others taken back
        st.integers(0, 2),  # messages given up afterwards
        st.booleans(),  # records are handed out afterwards
    ),
    min_size=1,
    max_size=12,
)


def contract_of() -> Contract:
    return Contract(profile(families=[
        {"name": "patterns", "channel": "tickstock.events.patterns", "event": "pattern_detected", "symbols": 3},
        {"name": "ranks", "channel": "tickstock.events.backtesting.progress", "event": "backtest_progress",
         "keys": {"job": ["a", "b"]}},
    ]))  # fmt: skip


@settings(max_examples=examples(200), deadline=None)
@given(STEPS, st.sampled_from(["object", "text"]), st.sampled_from([10**9 - 2 * SLICE_NS, 7 * 10**15]))
def test_what_is_built_is_read_back_and_its_rows_are_exact(steps: list[Any], form: Any, begin_ns: int) -> None:
    contract, tally, identity = contract_of(), PublishTally(), Identity(form=form)
    routes = list(contract.publisher_routes(0))
    made = Commands(contract, 0, run=RUN, identity=identity, seed=1, routes=len(routes))
    streams, read, seal = made.streams(0, 0, tally), decoder(form, identity.path, ()), Seal(RUN)
    following: dict[int, int] = defaultdict(int)
    bytes_: dict[int, int] = defaultdict(int)
    records, now = [], begin_ns
    for passes, messages, kept, given_up, hand_out in steps:
        now += passes * SLICE_NS
        slice_, due, wanted = now // SLICE_NS, now, []
        for place, later_us in messages:
            due = min(due + later_us * 1000, (slice_ + 1) * SLICE_NS - 1)
            wanted.append((routes[place % len(routes)], due))
        now = max(now, due)
        slices = slice_, now // SLICE_NS
        while wanted:
            built = streams.build([r for r, _ in wanted], [d for _, d in wanted], now, [], slices)
            count = len(built.seqs)
            assert count >= 1
            assert built.data == "".join(built.commands).encode("latin-1")
            keep = count if kept is None else min(count, kept)
            commands = list(built.commands)
            if keep < count:
                streams.take_back(built, keep)
            for command, (route, planned) in zip(commands[:keep], wanted, strict=False):
                ((words, _),) = Replies().feed(command.encode("latin-1"))
                assert isinstance(words, list)
                assert words[:2] == [b"PUBLISH", contract.routes[route].channel.encode()]
                payload = words[2]
                assert isinstance(payload, bytes)
                who = read(payload)
                assert who is not None
                assert (who.run, who.due_ns, who.sent_ns) == (RUN, planned, now)
                assert unpack_stream(who.stream) == (0, 0, route)
                assert who.seq == following[who.stream]
                assert who.check == seal.of(who.stream, who.seq, planned, now)
                assert msgspec.json.decode(payload)
                following[who.stream] += 1
                bytes_[who.stream] += len(payload)
            wanted = [] if keep < count else wanted[count:]
        for _ in range(given_up):
            stream, seq, _ = streams.give_up(routes[0], slices)
            assert seq == following[stream]
            following[stream] += 1
        if hand_out:
            records += tally.records()
    records += tally.records()
    at: dict[int, int] = defaultdict(int)
    sizes: dict[int, int] = defaultdict(int)
    for record in records:
        assert isinstance(record, Published)
        for stream, first, last, size in zip(record.stream, record.first, record.last, record.bytes, strict=True):
            assert first == at[stream] <= last
            at[stream] = last + 1
            sizes[stream] += size
    assert dict(at) == {stream: count for stream, count in following.items() if count}
    assert {stream: size for stream, size in sizes.items() if size} == dict(bytes_)
