"""Are slicer, limit of data and slow close applied, proved by what they do to bytes and closes, and lifted?"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from loadtests.inject.kinds import limit_data, slow_close
from loadtests.inject.kinds.slicer import Cut, why_not_down, why_not_up
from loadtests.inject.probe import Carried, Spent
from loadtests.inject.socketry import Piece
from loadtests.model.injectwire import PlannedFault, Schedule

from .conftest import Run, TestLink, planned

pytestmark = pytest.mark.e2e
MS = 1_000_000
SOON_NS = 3_000_000_000  # a calm load is carried before, also on a busy machine
WHOLE = ["announced", "active", "proved", "lifted"]


def inject(run: Run, fault: PlannedFault) -> list[str]:
    run.handle.send(Schedule(faults=[fault]))
    run.await_step(fault.name, "lifted", "not lifted", "failed")
    return run.ear.names(fault.name)


@pytest.mark.parametrize("direction", ["both", "downstream", "upstream"])
def test_a_slicer_is_seen_by_pieces_and_pauses(start: Callable[..., Run], link: TestLink, direction: str) -> None:
    run = start(link)
    at_ns = run.now_ns() + SOON_NS
    fault = planned(link, "slicer", at_ns=at_ns, for_s=2.5, direction=direction, average_size_bytes=100, delay_us=5_000)
    assert inject(run, fault) == WHOLE, run.ear.steps("fault")
    effective = run.ear.step("fault", "proved").effective
    if direction != "upstream":
        assert effective["downstream_piece_bytes"] <= 100
        assert effective["downstream_pieces"] > 3 * effective["downstream_calm_pieces"]
        assert effective["downstream_spacing_us"] > 4_000
    if direction != "downstream":
        assert effective["upstream_spacing_us"] > 3_000
    assert link.is_clean


def test_a_slicer_of_pieces_larger_than_any_answer_is_not_proved(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    fault = planned(link, "slicer", at_ns=run.now_ns() + SOON_NS, direction="downstream", average_size_bytes=1_000_000)
    assert inject(run, fault) == ["announced", "active", "not proved", "lifted"]


@pytest.mark.parametrize("direction", ["both", "downstream", "upstream"])
@pytest.mark.parametrize("limit", [200, 300_000])
def test_a_limit_is_seen_by_what_passes_before_the_close(start, link: TestLink, direction: str, limit: int) -> None:
    run = start(link)
    idle = link.connect()
    at_ns = run.now_ns() + SOON_NS
    fault = planned(link, "limit-data", at_ns=at_ns, for_s=1.2, direction=direction, limit_bytes=limit)
    assert inject(run, fault) == WHOLE, run.ear.steps("fault")
    effective = run.ear.step("fault", "proved").effective
    if direction == "downstream":
        assert effective["downstream_bytes"] == effective["limit_bytes"] == limit
    if direction == "upstream":
        assert effective["upstream_bytes_at_least"] <= limit <= effective["upstream_bytes_at_most"]
    assert (effective["connections_hit"], effective["connections_closed"]) == (1, 0)
    idle.close()
    assert link.is_clean


@pytest.mark.parametrize("direction", ["both", "downstream", "upstream"])
def test_a_slow_close_is_seen_by_when_the_other_half_closes(start, link: TestLink, direction: str) -> None:
    run = start(link)
    at_ns = run.now_ns() + SOON_NS
    fault = planned(link, "slow-close", at_ns=at_ns, for_s=1.2, direction=direction, close_delay_ms=120)
    assert inject(run, fault) == WHOLE, run.ear.steps("fault")
    effective = run.ear.step("fault", "proved").effective
    assert 100 < effective["close_delay_ms"] < 250
    assert effective["closes"] > 1
    assert link.is_clean


def test_a_close_that_outlasts_the_fault_is_a_lower_bound(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    fault = planned(
        link, "slow-close", at_ns=run.now_ns() + SOON_NS, for_s=1.6, direction="upstream", close_delay_ms=1700
    )
    assert inject(run, fault) == WHOLE, run.ear.steps("fault")
    effective = run.ear.step("fault", "proved").effective
    assert effective["close_delay_ms"] is None
    assert 800 < effective["added_close_ms_at_least"] < 1700


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("slicer", {}),
        ("slicer", {"average_size_bytes": 0}),
        ("slicer", {"average_size_bytes": 10, "size_variation_bytes": 11}),
        ("slicer", {"average_size_bytes": 10, "delay_us": -1}),
        ("limit-data", {"limit_bytes": 0}),
        ("slow-close", {"close_delay_ms": 0.5}),
    ],
)
def test_what_would_hurt_the_server_is_never_sent(start, link: TestLink, kind: str, asked: dict[str, object]) -> None:
    run = start(link)
    assert inject(run, planned(link, kind, at_ns=run.now_ns() + SOON_NS, **asked)) == ["failed"]
    assert link.is_clean


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
