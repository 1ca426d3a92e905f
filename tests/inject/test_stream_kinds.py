"""Are slicer, limit of data and slow close applied, proved by what they do to bytes and closes, and lifted?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loadtests.inject.kinds import limit_data, slow_close
from loadtests.inject.kinds.slicer import Cut, why_not_down, why_not_up
from loadtests.inject.probe import Carried, Spent
from loadtests.inject.probe_connection import Piece

from .conftest import Place, TestLink, planned
from .side_by_side import Played, begin, part

pytestmark = pytest.mark.e2e
MS = 1_000_000
WHOLE = ["announced", "active", "proved", "lifted"]
DIRECTIONS = ("both", "downstream", "upstream")
LIMITS = (200, 300_000)
REFUSED = {
    "a slicer of nothing": part("slicer", after_s=-1),
    "a slicer of 0 bytes": part("slicer", after_s=-1, average_size_bytes=0),
    "a slicer that varies by more than its size": part(
        "slicer", after_s=-1, average_size_bytes=10, size_variation_bytes=11
    ),
    "a slicer that waits for less than nothing": part("slicer", after_s=-1, average_size_bytes=10, delay_us=-1),
    "a limit of 0 bytes": part("limit-data", after_s=-1, limit_bytes=0),
    "half a millisecond": part("slow-close", after_s=-1, close_delay_ms=0.5),
}
SLICED_S = 2.5  # after the others: how pieces come is measured while little else happens
PARTS = {
    **{
        f"limit {limit} {way}": part("limit-data", for_s=5, direction=way, beside=TestLink.connect, limit_bytes=limit)
        for limit in LIMITS
        for way in DIRECTIONS
    },
    **{f"close {way}": part("slow-close", for_s=6, direction=way, close_delay_ms=120) for way in DIRECTIONS},
    "a close that outlasts it": part("slow-close", for_s=1.6, direction="upstream", close_delay_ms=1700),
    **{
        f"slicer {way}": part(
            "slicer", after_s=SLICED_S, for_s=2.5, direction=way, average_size_bytes=100, delay_us=5_000
        )
        for way in DIRECTIONS
    },
    "large pieces": part("slicer", after_s=SLICED_S, direction="downstream", average_size_bytes=1_000_000),
    **REFUSED,
}


@pytest.fixture(scope="module")
def played(make_place: Callable[[], Place]) -> dict[str, Played]:
    with make_place() as place:
        return begin(PARTS, place).ended()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_slicer_is_seen_by_pieces_and_pauses(played: dict[str, Played], direction: str) -> None:
    fault = played[f"slicer {direction}"]
    assert fault.names == WHOLE, fault.steps
    effective = fault.effective
    if direction != "upstream":
        assert effective["downstream_piece_bytes"] <= 100
        assert effective["downstream_pieces"] > 3 * effective["downstream_calm_pieces"]
        assert effective["downstream_spacing_us"] > 4_000
    if direction != "downstream":
        assert effective["upstream_spacing_us"] > 3_000
    assert fault.clean


def test_a_slicer_of_pieces_larger_than_any_answer_is_not_proved(played: dict[str, Played]) -> None:
    fault = played["large pieces"]
    assert fault.names == ["announced", "active", "not proved", "lifted"]
    assert "no larger than a piece may be" in fault.step("not proved").detail


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_is_seen_by_what_passes_before_the_close(played: dict[str, Played], direction: str, limit: int) -> None:
    fault = played[f"limit {limit} {direction}"]
    assert fault.names == WHOLE, fault.steps
    effective = fault.effective
    if direction == "downstream":
        assert effective["downstream_bytes"] == effective["limit_bytes"] == limit
    if direction == "upstream":
        assert effective["upstream_bytes_at_least"] <= limit <= effective["upstream_bytes_at_most"]
    assert (effective["connections_hit"], effective["connections_closed"]) == (1, 0)  # the one that asks nothing
    assert fault.clean


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_slow_close_is_seen_by_when_the_other_half_closes(played: dict[str, Played], direction: str) -> None:
    fault = played[f"close {direction}"]
    assert fault.names == WHOLE, fault.steps
    assert 60 < fault.effective["close_delay_ms"] < 250  # less a calm that a busy machine lengthened
    assert fault.effective["closes"] > 1
    assert fault.clean


def test_a_close_that_outlasts_the_fault_is_a_lower_bound(played: dict[str, Played]) -> None:
    fault = played["a close that outlasts it"]
    assert fault.names == WHOLE, fault.steps
    assert fault.effective["close_delay_ms"] is None
    assert 800 < fault.effective["added_close_ms_at_least"] < 1700


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_hurt_the_server_is_never_sent(played: dict[str, Played], name: str) -> None:
    assert played[name].names == ["failed"]
    assert played[name].clean


def carried(size: int, pieces: int, took_ns: int) -> Carried:
    each = Piece(at_ns=0, size_bytes=size // pieces)
    return Carried(up_bytes=size, down_bytes=size, took_ns=took_ns, pieces=(each,) * pieces)


def test_the_measurement_alone_tells_a_slicer_that_does_nothing() -> None:
    cut = Cut(size_bytes=100, variation_bytes=10, pause_ns=5 * MS)
    calm = carried(6400, 1, MS)
    assert why_not_down(cut, calm, carried(6400, 64, 320 * MS)) == ""
    assert why_not_down(cut, calm, calm)
    assert why_not_down(cut, carried(6400, 64, MS), carried(6400, 64, MS))
    assert why_not_down(cut, None, calm)
    larger = Cut(size_bytes=6400, variation_bytes=0, pause_ns=0)  # than all that came, however it came
    assert why_not_down(larger, calm, carried(6400, 64, MS))
    assert why_not_up(cut, calm, carried(6400, 1, 320 * MS)) == ""
    assert why_not_up(cut, calm, carried(6400, 1, 100 * MS))
    assert why_not_up(Cut(size_bytes=100, variation_bytes=0, pause_ns=0), calm, carried(6400, 1, 320 * MS))


def spent(ended: str, got: int) -> dict[str, Spent | None]:
    return {"downstream": Spent(ended=ended, answered_bytes=0, sent_bytes=10, got_bytes=got)}


def test_the_measurement_alone_tells_a_limit_that_does_nothing() -> None:
    calm = spent("answer", 2000)
    assert limit_data.judge(1000, spent("closed", 1000), calm).proved
    assert not limit_data.judge(1000, spent("answer", 900), calm).proved
    assert not limit_data.judge(1000, spent("closed", 900), calm).proved
    assert not limit_data.judge(1000, spent("closed", 1001), calm).proved
    assert not limit_data.judge(1000, spent("closed", 1000), spent("closed", 1000)).proved
    assert not limit_data.judge(1000, spent("closed", 1000), {}).proved
    assert not limit_data.judge(1000, {"downstream": None}, calm).proved


def test_the_measurement_alone_tells_a_slow_close_that_does_nothing(link: TestLink) -> None:
    fault = planned(link, "slow-close", at_ns=0, direction="upstream", close_delay_ms=100)
    assert slow_close.judge(fault, calm_ns=[MS], took_ns=[101 * MS], open_ns=None).proved
    assert slow_close.judge(fault, calm_ns=[MS], took_ns=[], open_ns=99 * MS).proved
    assert not slow_close.judge(fault, calm_ns=[MS], took_ns=[MS], open_ns=99 * MS).proved
    assert not slow_close.judge(fault, calm_ns=[], took_ns=[101 * MS], open_ns=None).proved
    assert not slow_close.judge(fault, calm_ns=[90 * MS], took_ns=[191 * MS], open_ns=None).proved
    assert not slow_close.judge(fault, calm_ns=[MS], took_ns=[], open_ns=20 * MS).proved
