"""Is every kind applied, read back, proved, and lifted, on a real link with traffic?"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from loadtests.inject.kinds import KINDS
from loadtests.inject.kinds.bandwidth import rates
from loadtests.inject.kinds.latency import judge
from loadtests.inject.probe import Carried
from loadtests.inject.watch import Watch
from loadtests.model.injectwire import End, PlannedFault, Schedule

from .conftest import NS_PER_S, Run, TestLink, planned

pytestmark = pytest.mark.e2e
MS = 1_000_000
SOON_NS = 900 * MS


@pytest.fixture
def traffic(link: TestLink) -> Iterator[list[socket.socket]]:
    """Three clients that ask all the time, and come back when they are cut."""
    stop, cuts = threading.Event(), []

    def ask() -> None:
        sock = None
        while not stop.wait(0.02):
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

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    yield cuts
    stop.set()
    for thread in threads:
        thread.join()


def inject(run: Run, fault: PlannedFault) -> list[str]:
    run.handle.send(Schedule(faults=[fault]))
    run.await_step(fault.name, "lifted", "not lifted", "failed")
    return run.ear.names(fault.name)


WHOLE = ["announced", "active", "proved", "lifted"]


def test_latency_on_both_streams_is_measured_per_direction(start: Callable[..., Run], link: TestLink, traffic) -> None:
    run = start(link)
    fault = planned(link, "latency", at_ns=run.now_ns() + SOON_NS, latency_ms=60)
    assert inject(run, fault) == WHOLE
    proved = run.ear.step("fault", "proved")
    assert 50 < proved.effective["latency_ms"] < 120
    assert 100 < proved.effective["added_rtt_ms"] < 240
    assert 100 < proved.effective["p50_ms"] < 240
    assert proved.effective["p99_ms"] is None  # too few for it
    assert proved.effective["directions"] == "downstream+upstream"
    active, lifted = run.ear.step("fault", "active"), run.ear.step("fault", "lifted")
    assert fault.at_ns <= active.before_ns <= active.after_ns < lifted.before_ns <= lifted.after_ns
    assert lifted.before_ns >= fault.until_ns
    assert lifted.by == "plan"
    assert lifted.effective["clean"] == 1
    assert link.is_clean


def test_a_long_fault_is_measured_to_its_end(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    fault = planned(link, "latency", at_ns=run.now_ns() + SOON_NS, for_s=6.5, latency_ms=4, direction="upstream")
    assert inject(run, fault) == WHOLE
    effective = run.ear.step("fault", "proved").effective
    assert effective["probes"] >= 100  # at one each 50 ms
    assert effective["p50_ms"] <= effective["p99_ms"] <= effective["p50_ms"] + effective["spread_ms"]


def test_a_fault_that_is_ended_early_is_still_proved(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    for kind, asked in (("black-hole", {}), ("down", {}), ("latency", {"latency_ms": 30})):
        fault = planned(link, kind, name=kind, at_ns=run.now_ns() + SOON_NS, for_s=60, **asked)
        run.handle.send(Schedule(faults=[fault]))
        run.await_step(kind, "active")
        Watch.of_s(1.5).wait()
        run.handle.send(End(fault=kind, by="user"))
        run.await_step(kind, "lifted", "failed")
        assert run.ear.names(kind) == WHOLE, run.ear.steps(kind)
    assert link.is_clean


def test_latency_of_one_stream_counts_once(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    fault = planned(link, "latency", at_ns=run.now_ns() + SOON_NS, latency_ms=80, direction="upstream")
    assert inject(run, fault) == WHOLE
    assert 70 < run.ear.step("fault", "proved").effective["added_rtt_ms"] < 200


@pytest.mark.parametrize("direction", ["both", "downstream", "upstream"])
def test_bandwidth_is_measured_in_each_direction_asked(start, link: TestLink, direction: str) -> None:
    run = start(link)
    fault = planned(link, "bandwidth", at_ns=run.now_ns() + SOON_NS, for_s=2, direction=direction, rate_kb_per_s=50)
    assert inject(run, fault) == WHOLE
    effective = run.ear.step("fault", "proved").effective
    ways = ["downstream", "upstream"] if direction == "both" else [direction]
    for way in ways:
        assert 20 < effective[f"{way}_kb_per_s"] < 75
    assert link.is_clean


def test_down_refuses_and_counts_whom_it_cut(start: Callable[..., Run], link: TestLink, traffic) -> None:
    run = start(link)
    assert inject(run, planned(link, "down", at_ns=run.now_ns() + SOON_NS)) == WHOLE
    effective = run.ear.step("fault", "proved").effective
    told = {"connect": "refused", "connections_before": 3, "connections_closed": 3}
    assert told.items() <= effective.items()
    assert effective["refused"] >= 3
    assert len(traffic) >= 3
    assert link.is_clean


def test_reset_cuts_old_and_new_connections(start: Callable[..., Run], link: TestLink, traffic) -> None:
    run = start(link)
    idle = link.connect()  # it never asks, so it is never reset: the count must say so
    fault = planned(link, "reset", at_ns=run.now_ns() + SOON_NS, for_s=2)
    assert inject(run, fault) == WHOLE
    effective = run.ear.step("fault", "proved").effective
    assert effective["new_connection"] == "reset"
    assert effective["old_connection"] in ("closed", "reset")
    assert effective["connections_before"] == 4
    assert effective["connections_closed"] == 3
    idle.close()
    assert link.is_clean


def test_black_hole_swallows_what_it_accepts(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    fault = planned(link, "black-hole", at_ns=run.now_ns() + SOON_NS, for_s=1.5)
    assert inject(run, fault) == WHOLE
    effective = run.ear.step("fault", "proved").effective
    assert effective["connect"] == "accepted"
    assert effective["silent_ms"] >= 500
    assert link.is_clean


def test_a_misspelt_attribute_is_not_in_force_and_not_proved(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    fault = planned(
        link,
        "raw-toxic",
        at_ns=run.now_ns() + SOON_NS,
        toxic_type="latency",
        toxic_attributes='{"latancy": 100}',
        latency_ms=100,
    )
    assert inject(run, fault) == ["announced", "not in force", "not proved", "lifted"]
    assert "latancy" in run.ear.step("fault", "not in force").detail
    assert run.ear.step("fault", "not proved").detail
    assert link.is_clean


def test_the_same_attribute_spelt_rightly_is_proved(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    fault = planned(
        link,
        "raw-toxic",
        at_ns=run.now_ns() + SOON_NS,
        toxic_type="latency",
        toxic_attributes='{"latency": 100}',
        latency_ms=100,
    )
    assert inject(run, fault) == WHOLE


def test_the_measurement_alone_tells_a_fault_that_does_nothing(link: TestLink) -> None:
    fault = planned(link, "latency", at_ns=0, latency_ms=100)
    calm = [MS, MS + 1000, MS + 2000]
    assert not judge(fault, calm_ns=calm, took_ns=[MS, MS, MS], silent_ns=None).proved
    assert judge(fault, calm_ns=calm, took_ns=[201 * MS] * 3, silent_ns=None).proved
    assert judge(fault, calm_ns=[*calm, 300 * MS], took_ns=[201 * MS] * 3, silent_ns=None).proved
    assert not judge(fault, calm_ns=[MS, 100 * MS, 200 * MS], took_ns=[301 * MS] * 3, silent_ns=None).proved
    assert not judge(fault, calm_ns=calm, took_ns=[150 * MS, 120 * MS, 201 * MS], silent_ns=None).proved
    assert not judge(fault, calm_ns=[], took_ns=[201 * MS], silent_ns=None).proved
    assert not judge(fault, calm_ns=calm, took_ns=[], silent_ns=20 * MS).proved
    assert judge(fault, calm_ns=calm, took_ns=[], silent_ns=201 * MS).proved


def test_a_rate_that_the_link_does_not_reach_anyway_is_not_proved(start, link: TestLink) -> None:
    run = start(link)
    fault = planned(link, "bandwidth", at_ns=run.now_ns() + SOON_NS, rate_kb_per_s=10_000_000)
    assert "not proved" in inject(run, fault)


def test_a_latency_fault_on_a_link_that_is_cut_is_not_proved(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    at_ns = run.now_ns() + SOON_NS
    down = planned(link, "down", name="cut", at_ns=at_ns, for_s=2)
    slow = planned(link, "latency", name="slow", at_ns=at_ns + NS_PER_S // 2, latency_ms=50)
    run.handle.send(Schedule(faults=[down, slow]))
    run.await_step("cut", "lifted")
    run.await_step("slow", "lifted")
    assert run.ear.names("cut") == WHOLE
    assert run.ear.names("slow") == ["announced", "active", "not proved", "lifted"]
    assert link.is_clean


def test_two_faults_on_two_links_at_once(start, make_link: Callable[..., TestLink]) -> None:
    one, other = make_link(), make_link()
    run = start(one, other)
    at_ns = run.now_ns() + SOON_NS
    faults = [
        planned(one, "latency", name="slow", at_ns=at_ns, latency_ms=40),
        planned(other, "down", name="cut", at_ns=at_ns),
    ]
    run.handle.send(Schedule(faults=faults))
    for fault in faults:
        run.await_step(fault.name, "lifted")
        assert run.ear.names(fault.name) == WHOLE


def test_two_that_cannot_be_told_apart_are_not_both_done(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    at_ns = run.now_ns() + SOON_NS
    first = planned(link, "latency", name="first", at_ns=at_ns, latency_ms=40)
    second = planned(link, "latency", name="second", at_ns=at_ns + NS_PER_S // 10, latency_ms=40)
    run.handle.send(Schedule(faults=[first, second]))
    run.await_step("first", "lifted")
    assert run.ear.names("first") == WHOLE
    assert run.ear.names("second") == ["failed"]
    assert "cannot be told apart" in run.ear.step("second", "failed").detail


def test_a_repeated_faults_name_reaches_toxiproxy(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    assert inject(run, planned(link, "latency", name="slow#2", at_ns=run.now_ns() + SOON_NS, latency_ms=40)) == WHOLE


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("bandwidth", {"rate_kb_per_s": -1}),
        ("latency", {"latency_ms": 1.5}),
        ("no-such-kind", {}),
        ("raw-toxic", {"toxic_type": "slicer", "toxic_attributes": "{}"}),
        ("raw-toxic", {"toxic_type": "slicer", "toxic_attributes": '{"average_size": 4, "size_variation": 9}'}),
        ("raw-toxic", {"toxic_type": "nonsense"}),
    ],
)
def test_what_would_hurt_the_server_is_never_sent(start, link: TestLink, kind: str, asked: dict[str, object]) -> None:
    run = start(link)
    assert inject(run, planned(link, kind, at_ns=run.now_ns() + SOON_NS, **asked)) == ["failed"]
    assert link.is_clean


def test_an_unknown_link_is_a_failed_fault(start: Callable[..., Run], link: TestLink, make_link) -> None:
    run = start(link)
    stranger = make_link()
    assert inject(run, planned(stranger, "down", at_ns=run.now_ns() + SOON_NS)) == ["failed"]


def test_a_fault_asked_for_at_once_is_measured_first(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    assert inject(run, planned(link, "latency", at_ns=run.now_ns(), for_s=2, latency_ms=40)) == WHOLE


def test_a_fault_whose_time_has_passed_is_a_failed_one(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    assert inject(run, planned(link, "down", at_ns=run.now_ns() - 2 * NS_PER_S)) == ["failed"]


@pytest.mark.parametrize(("kind", "asked"), [("down", {}), ("latency", {"latency_ms": 40})])
def test_repetitions_close_together_are_each_proved(start, link: TestLink, kind: str, asked: dict[str, int]) -> None:
    run = start(link)
    at_ns = run.now_ns() + SOON_NS
    faults = [planned(link, kind, name=f"again#{i}", at_ns=at_ns + i * 1300 * MS, for_s=0.9, **asked) for i in range(3)]
    run.handle.send(Schedule(faults=faults))
    for fault in faults:
        run.await_step(fault.name, "lifted")
        assert run.ear.names(fault.name) == WHOLE, run.ear.steps(fault.name)


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
