"""Does the account of publishes add up, row by row?"""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.model.records import Published, PublishTimes, Settled
from loadtests.tally.histogram import Histogram
from loadtests.tally.publishing import PublishTally
from tests.examples import examples

LEFT = 10**12
BATCHES = st.lists(
    st.tuples(
        st.integers(0, 1),  # group
        st.integers(0, 3),  # how many slices later it is due
        st.integers(0, 2),  # how many slices later it is sent
        st.lists(st.integers(0, 3), min_size=1, max_size=6),  # streams
        st.booleans(),  # hand out the records afterwards
    ),
    max_size=20,
)


@settings(max_examples=examples(40), deadline=None)
@given(BATCHES)
def test_rows_of_a_stream_are_gapless_from_0_and_counts_agree(batches) -> None:
    tally, records = PublishTally(), []
    next_seq: dict[int, int] = defaultdict(int)
    due = sent = total = 0
    for group, later_due, later_sent, streams, hand_out in batches:
        due, sent = due + later_due, max(sent, due) + later_sent
        seqs = []
        for stream in streams:
            seqs.append(next_seq[stream])
            next_seq[stream] += 1
        count = len(streams)
        total += count
        own = [n * 100 for n in range(count)]
        for stream, seq in zip(streams, seqs, strict=True):
            tally.row(stream, due, sent, seq, seq, 10)
        tally.sent(group, due, [LEFT - 1000 * us for us in own], LEFT)
        if hand_out:
            records += tally.records()
    records += tally.records()
    seen: dict[int, list[tuple[int, int]]] = defaultdict(list)
    size = 0
    for record in records:
        if isinstance(record, Published):
            for stream, first, last, length in zip(record.stream, record.first, record.last, record.bytes, strict=True):
                seen[stream].append((first, last))
                assert length == 10 * (last - first + 1)
                size += length
    for stream, ranges in seen.items():
        at = 0
        for first, last in sorted(ranges):
            assert first == at
            at = last + 1
        assert at == next_seq[stream]
    times = [record for record in records if isinstance(record, PublishTimes)]
    assert sum(t.sent for t in times) == total == tally.sent_total == size // 10
    for t in times:
        assert sum(t.own_lag[1]) == t.sent == sum(t.blocked[1])


def test_outcomes_are_ranges_and_receivers_are_kept() -> None:
    tally = PublishTally()
    tally.row(9, 5, 5, 0, 5, 6)
    tally.sent(0, 5, [LEFT - 7000] * 6, LEFT, [7000] * 6)
    tally.answered(0, 5, 3, 2)
    tally.answered(0, 5, 0, 1)
    for seq in (3, 4):
        tally.settled(9, seq, "UNKNOWN", 77)
    tally.settled(9, 5, "FAILED", 78)
    tally.not_offered(0, 6, 4)
    records = tally.records()
    (settled,) = [r for r in records if isinstance(r, Settled)]
    assert sorted(zip(settled.first, settled.last, settled.outcome, strict=True)) == [
        (3, 4, "UNKNOWN"),
        (5, 5, "FAILED"),
    ]
    first, second = (r for r in records if isinstance(r, PublishTimes))
    assert (first.receivers_min, first.receivers_max, first.receivers_zero) == (0, 3, 1)
    assert Histogram(first.blocked).count == 6
    assert (second.due_slice, second.not_offered, second.sent, second.receivers_min) == (6, 4, 0, -1)
    assert tally.records() == []
    assert (tally.failed_total, tally.unknown_total, tally.not_offered_total) == (1, 2, 4)
