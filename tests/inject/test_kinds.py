"""Is every kind applied, read back, proved, and lifted, on a real link with traffic?"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from loadtests.inject.deadline import Watch
from loadtests.inject.kinds import KINDS
from loadtests.inject.kinds.bandwidth import rates, reached
from loadtests.inject.kinds.latency import judge
from loadtests.inject.probe import Carried
from loadtests.model.injectwire import End, Schedule

from .conftest import NS_PER_S, Place, Run, TestLink, planned
from .side_by_side import LEAD_S, Played, begin, part

pytestmark = [pytest.mark.e2e, pytest.mark.group("USERS")]
MS = 1_000_000
SOON_NS = 900 * MS
WHOLE = ["announced", "active", "proved", "lifted"]


@contextmanager
def traffic(link: TestLink) -> Iterator[list[OSError]]:
    """Three clients that ask all the time, and come back when they are cut."""
    stop, cuts = threading.Event(), []

    def ask() -> None:
        sock = None
        while not stop.wait(0.04):
            try:
                sock = sock or link.connect()
                sock.sendall(b"*1\r\n$4\r\nPING\r\n")
                if not sock.recv(64):
                    raise ConnectionResetError
            except OSError as error:
                cuts.append(error)
                if sock is not None:
                    sock.close()
                sock = None
        if sock is not None:
            sock.close()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield cuts
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@contextmanager
def traffic_and_an_idle_one(link: TestLink) -> Iterator[socket.socket]:
    with link.connect() as idle, traffic(link):
        yield idle


DIRECTIONS = ("both", "downstream", "upstream")
REFUSED = {
    "a rate below nothing": part("bandwidth", after_s=-1, rate_kb_per_s=-1),
    "half a millisecond": part("latency", after_s=-1, latency_ms=1.5),
    "no kind": part("no-such-kind", after_s=-1),
    "a slicer of nothing": part("raw-toxic", after_s=-1, toxic_type="slicer", toxic_attributes="{}"),
    "a slicer that varies too much": part(
        "raw-toxic", after_s=-1, toxic_type="slicer", toxic_attributes='{"average_size": 4, "size_variation": 9}'
    ),
    "no toxic": part("raw-toxic", after_s=-1, toxic_type="nonsense"),
}
AGAIN = {"down": {}, "latency": {"latency_ms": 40}}
PARTS = {
    "latency": part("latency", for_s=2, beside=traffic, latency_ms=60),
    "latency upstream": part("latency", for_s=2, direction="upstream", latency_ms=80),
    **{f"bandwidth {way}": part("bandwidth", for_s=3, direction=way, rate_kb_per_s=50) for way in DIRECTIONS},
    "any rate": part("bandwidth", rate_kb_per_s=10_000_000),
    "down": part("down", for_s=5, beside=traffic),
    "reset": part("reset", for_s=5, beside=traffic_and_an_idle_one),
    "black hole": part("black-hole", for_s=5),
    "misspelt": part("raw-toxic", toxic_type="latency", toxic_attributes='{"latancy": 100}', latency_ms=100),
    "spelt": part("raw-toxic", toxic_type="latency", toxic_attributes='{"latency": 100}', for_s=2, latency_ms=100),
    "cut": part("down", for_s=3),
    "slow on a cut link": part("latency", after_s=0.8, on="cut", latency_ms=50),
    "first": part("latency", for_s=4, latency_ms=40),
    "second": part("latency", after_s=1.5, on="first", latency_ms=40),
    **{
        f"{kind}#{i}": part(kind, after_s=2.8 * i, for_s=2, on=f"{kind}#0" if i else "", **asked)
        for kind, asked in AGAIN.items()
        for i in range(3)
    },
    "stranger": part("down", after_s=-1, known=False),
    "at once": part("latency", after_s=-LEAD_S, for_s=2.5, latency_ms=40),
    "too late": part("down", after_s=-LEAD_S - 2),
    **REFUSED,
}
LONG = {"long": part("latency", for_s=9, direction="upstream", latency_ms=40)}


@pytest.fixture(scope="module")
def played(make_place: Callable[[], Place]) -> dict[str, Played]:
    with make_place() as one, make_place() as other:
        long, together = begin(LONG, one, probe_every_s=0.02), begin(PARTS, other)
        return together.ended() | long.ended()


def test_latency_on_both_streams_is_measured_per_direction(played: dict[str, Played]) -> None:
    one = played["latency"]
    assert one.names == WHOLE, one.steps
    effective = one.effective
    assert 50 < effective["latency_ms"] < 120
    assert 100 < effective["added_rtt_ms"] < 240
    assert 100 < effective["p50_ms"] < 240
    assert effective["p99_ms"] is None  # too few for it
    assert effective["directions"] == "downstream+upstream"
    active, lifted = one.step("active"), one.step("lifted")
    assert one.fault.at_ns <= active.before_ns <= active.after_ns < lifted.before_ns <= lifted.after_ns
    assert lifted.before_ns >= one.fault.until_ns
    assert lifted.by == "plan"
    assert lifted.effective["clean"] == 1
    assert one.clean


def test_a_long_fault_is_measured_to_its_end(played: dict[str, Played]) -> None:
    assert played["long"].names == WHOLE, played["long"].steps
    effective = played["long"].effective
    assert effective["probes"] >= 100  # of about two hundred, where the machine has nothing else to do
    assert effective["p50_ms"] <= effective["p99_ms"] <= effective["p50_ms"] + effective["spread_ms"]


def test_a_fault_that_is_ended_early_is_still_proved(start, make_link: Callable[..., TestLink]) -> None:
    asked = {"black-hole": {}, "down": {}, "latency": {"latency_ms": 30}}
    links = {kind: make_link() for kind in asked}
    run = start(*links.values())
    at_ns = run.now_ns() + SOON_NS
    faults = [planned(links[kind], kind, name=kind, at_ns=at_ns, for_s=60, **each) for kind, each in asked.items()]
    run.handle.send(Schedule(faults=faults))
    for kind in asked:
        run.await_step(kind, "active")
    Watch.of_s(1.5).wait()
    for kind, link in links.items():
        run.handle.send(End(fault=kind, by="user"))
        run.await_step(kind, "lifted", "failed")
        assert run.ear.names(kind) == WHOLE, run.ear.told(kind)
        assert link.is_clean


def test_latency_of_one_stream_counts_once(played: dict[str, Played]) -> None:
    assert played["latency upstream"].names == WHOLE
    assert 70 < played["latency upstream"].effective["added_rtt_ms"] < 200


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_bandwidth_is_measured_in_each_direction_asked(played: dict[str, Played], direction: str) -> None:
    one = played[f"bandwidth {direction}"]
    assert one.names == WHOLE, one.steps
    ways = ["downstream", "upstream"] if direction == "both" else [direction]
    for way in ways:
        assert 20 < one.effective[f"{way}_kb_per_s"] < 75
    assert one.clean


def test_down_refuses_and_counts_whom_it_cut(played: dict[str, Played]) -> None:
    one = played["down"]
    assert one.names == WHOLE, one.steps
    told = {"connect": "refused", "connections_before": 3, "connections_closed": 3}
    assert told.items() <= one.effective.items()
    assert one.effective["refused"] >= 3
    assert len(one.beside) >= 3
    assert one.clean


def test_reset_cuts_old_and_new_connections(played: dict[str, Played]) -> None:
    one = played["reset"]
    assert one.names == WHOLE, one.steps
    assert one.effective["new_connection"] == "reset"
    assert one.effective["old_connection"] in ("closed", "reset")
    assert one.effective["connections_before"] == 4
    assert one.effective["connections_closed"] == 3  # one never asks, so it is never reset: the count must say so
    assert one.clean


def test_black_hole_swallows_what_it_accepts(played: dict[str, Played]) -> None:
    one = played["black hole"]
    assert one.names == WHOLE, one.steps
    assert one.effective["connect"] == "accepted"
    assert one.effective["silent_ms"] >= 500
    assert one.clean


def test_a_misspelt_attribute_is_not_in_force_and_not_proved(played: dict[str, Played]) -> None:
    one = played["misspelt"]
    assert one.names == ["announced", "not in force", "not proved", "lifted"]
    assert "latancy" in one.step("not in force").detail
    assert one.step("not proved").detail
    assert one.clean


def test_the_same_attribute_spelt_rightly_is_proved(played: dict[str, Played]) -> None:
    assert played["spelt"].names == WHOLE, played["spelt"].steps


def test_the_measurement_alone_tells_a_fault_that_does_nothing(link: TestLink) -> None:
    fault = planned(link, "latency", at_ns=0, latency_ms=100)
    calm = [MS, MS + 1000, MS + 2000]
    assert not judge(fault, calm_ns=calm, took_ns=[MS, MS, MS], silent_ns=None).proved
    assert judge(fault, calm_ns=calm, took_ns=[201 * MS] * 3, silent_ns=None).proved
    assert judge(fault, calm_ns=[*calm, 300 * MS], took_ns=[201 * MS] * 3, silent_ns=None).proved
    assert not judge(fault, calm_ns=[MS, 100 * MS, 200 * MS], took_ns=[301 * MS] * 3, silent_ns=None).proved
    assert not judge(fault, calm_ns=calm, took_ns=[150 * MS, 120 * MS, 201 * MS], silent_ns=None).proved
    # Busy before and not during: no round trip of the fault was as short as some were before, or one was.
    busy = [MS, *[120 * MS] * 9]
    assert judge(fault, calm_ns=busy, took_ns=[201 * MS] * 9, silent_ns=None).proved
    assert not judge(fault, calm_ns=busy, took_ns=[*[201 * MS] * 9, 20 * MS], silent_ns=None).proved
    assert not judge(fault, calm_ns=[120 * MS] * 9, took_ns=[201 * MS] * 9, silent_ns=None).proved
    assert not judge(fault, calm_ns=[], took_ns=[201 * MS], silent_ns=None).proved
    assert not judge(fault, calm_ns=calm, took_ns=[], silent_ns=20 * MS).proved
    assert judge(fault, calm_ns=calm, took_ns=[], silent_ns=201 * MS).proved


def test_a_rate_that_the_link_does_not_reach_anyway_is_not_proved(played: dict[str, Played]) -> None:
    assert played["any rate"].names == ["announced", "active", "not proved", "lifted"]


def test_what_was_slow_without_the_fault_does_not_prove_a_rate() -> None:
    calm = Carried(up_bytes=10_000, down_bytes=1_000, took_ns=100 * MS)
    assert reached("upstream", calm, 99)
    assert not reached("upstream", calm, 100)
    assert not reached("downstream", calm, 10)
    assert reached("downstream", calm, 9)
    assert not reached("upstream", None, 1)


def test_a_latency_fault_on_a_link_that_is_cut_is_not_proved(played: dict[str, Played]) -> None:
    assert played["cut"].names == WHOLE, played["cut"].steps
    assert played["slow on a cut link"].names == ["announced", "active", "not proved", "lifted"]
    assert played["cut"].clean


def test_faults_on_several_links_are_in_force_at_once(played: dict[str, Played]) -> None:
    several = [played[name] for name in ("down", "reset", "black hole")]
    assert max(each.step("active").after_ns for each in several) < min(
        each.step("lifted").before_ns for each in several
    )


def test_two_that_cannot_be_told_apart_are_not_both_done(played: dict[str, Played]) -> None:
    assert played["first"].names == WHOLE, played["first"].steps
    assert played["second"].names == ["failed"]
    assert "cannot be told apart" in played["second"].step("failed").detail


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_hurt_the_server_is_never_sent(played: dict[str, Played], name: str) -> None:
    assert played[name].names == ["failed"]
    assert played[name].clean


def test_an_unknown_link_is_a_failed_fault(played: dict[str, Played]) -> None:
    assert played["stranger"].names == ["failed"]


def test_a_fault_asked_for_at_once_is_measured_first(played: dict[str, Played]) -> None:
    assert played["at once"].names == WHOLE, played["at once"].steps


def test_a_fault_whose_time_has_passed_is_a_failed_one(played: dict[str, Played]) -> None:
    assert played["too late"].names == ["failed"]


@pytest.mark.parametrize("kind", AGAIN)
def test_repetitions_close_together_are_each_proved(played: dict[str, Played], kind: str) -> None:
    """Their names hold a #, which would end a URL's path."""
    for i in range(3):
        assert played[f"{kind}#{i}"].names == WHOLE, played[f"{kind}#{i}"].steps


def test_healing_lifts_at_once_what_is_in_force(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    run.handle.send(Schedule(faults=[planned(link, "down", at_ns=run.now_ns() + SOON_NS, for_s=600)]))
    run.await_step("fault", "active")
    healed = run.handle.heal_all("finish", 10)
    assert healed is not None
    assert healed.left == []
    assert run.ear.step("fault", "lifted").by == "finish"
    assert link.is_clean


def test_two_equations_give_both_rates() -> None:
    up = Carried(up_bytes=1000, down_bytes=4, took_ns=int(1000 / 50_000 * NS_PER_S + 4 / 25_000 * NS_PER_S))
    down = Carried(up_bytes=1000, down_bytes=1000, took_ns=int(1000 / 50_000 * NS_PER_S + 1000 / 25_000 * NS_PER_S))
    assert rates(up, down, ("downstream", "upstream")) == {"upstream": 50.0, "downstream": 25.0}
    assert rates(None, down, ("downstream", "upstream")) == {"upstream": None, "downstream": None}


def test_every_kind_of_the_profile_has_a_row() -> None:
    assert {"latency", "bandwidth", "down", "reset", "black-hole"} <= KINDS.keys()
    assert all(name == kind.name for name, kind in KINDS.items())
