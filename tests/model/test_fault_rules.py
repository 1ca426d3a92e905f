"""Is every fault refused that could be played and yet never be proved, in a profile as well as by hand?"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from loadtests.model.injectwire import PlannedFault
from loadtests.model.profile.manual_fault import ManualFaultRefused, Moment, fault_by_hand
from loadtests.model.profile.profile import Profile

S = 1_000_000_000
BASE: dict[str, Any] = {
    "name": "p",
    "question": "what can never be proved?",
    "target": {"test_system": True},
    "run": {"duration_s": 120.0},
    "families": [{"name": "patterns", "channel": "tickstock.events.patterns", "event": "pattern_detected"}],
    "publishers": [{"name": "p", "families": ["patterns"], "shape": {"kind": "constant", "rate_per_s": 1.0}}],
    "consumers": [{"name": "a", "count": 2}, {"name": "b", "count": 2}],
    "thresholds": [{"measure": "lost_defect", "at_most": 0.0}],
}
EXTERNAL = {"kind": "external", "test_system": True, "redis": "r:1", "gateway": "g:2", "toxiproxy": "t:3"}
LINK = {"link": "gateway-redis"}
SLICED = {"kind": "slicer", "average_size_bytes": 64, **LINK}
OVER = {"kind": "failover", **LINK}


def problems(*faults: dict[str, Any], **parts: Any) -> str:
    named = [{"name": f"f{i}", "at_s": 10, "for_s": 5} | fault for i, fault in enumerate(faults)]
    try:
        Profile.model_validate(BASE | parts | {"faults": named})
    except ValidationError as error:
        return str(error)
    return ""


def by_hand(fault: dict[str, Any], *known: PlannedFault, **parts: Any) -> str:
    profile = Profile.model_validate(BASE | parts)
    links = ("gateway-redis", "client-gateway", "gateway-postgres")
    now = Moment(
        now_ns=20 * S, from_ns=5 * S, until_ns=100 * S, links=links, names=(), under_way=0, by_hand=0, known=known
    )
    try:
        fault_by_hand(profile, {"for_s": 5} | fault, now)
    except ManualFaultRefused as error:
        return str(error)
    return ""


NEVER: list[tuple[dict[str, Any], str]] = [
    ({"kind": "pause", "service": "redis", "for_s": 0.4}, "for_s: found 0.4, allowed from 0.5"),
    ({"kind": "black-hole", **LINK, "for_s": 0.3}, "for_s: found 0.3, allowed from 0.5"),
    ({"kind": "cpu-limit", "service": "gateway", "cpu_percent": 5, "for_s": 1}, "for_s: found 1, allowed from 2"),
    ({"kind": "latency", "latency_ms": 5000, **LINK}, "for_s: found 5, allowed from 5.1"),
    ({"kind": "memory-limit", "service": "gateway", "memory_mb": 100}, 'service: found "gateway"'),
    ({"kind": "memory-limit", "service": "toxiproxy", "memory_mb": 100}, 'service: found "toxiproxy"'),
    (SLICED, 'delay_us: found nothing with direction "both"'),
    (SLICED | {"direction": "upstream", "delay_us": 0}, 'delay_us: found nothing with direction "upstream"'),
    ({"kind": "limit-data", "limit_bytes": 4_000_001, **LINK}, "limit_bytes"),
    (OVER | {"to": "nonsense"}, "to"),
    ({"kind": "bad-token", "token": "wrong"}, 'allowed only with target.auth = "token"'),
]


@pytest.mark.parametrize(("fault", "text"), NEVER)
def test_what_can_never_be_proved_is_refused(fault: dict[str, Any], text: str) -> None:
    assert text in problems(fault)
    assert text in by_hand(fault)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "pause", "service": "redis", "for_s": 0.5},
        {"kind": "black-hole", **LINK, "for_s": 0.5},
        {"kind": "cpu-limit", "service": "gateway", "cpu_percent": 5, "for_s": 2},
        {"kind": "latency", "latency_ms": 4800, **LINK},
        {"kind": "memory-limit", "service": "postgres", "memory_mb": 400},
        SLICED | {"direction": "downstream"},
        SLICED | {"delay_us": 1000},
        {"kind": "limit-data", "limit_bytes": 4_000_000, **LINK},
        OVER | {"to": "spare"},
    ],
)
def test_what_can_be_proved_is_allowed(fault: dict[str, Any]) -> None:
    assert problems(fault) == ""
    assert by_hand(fault) == ""


def test_a_profile_alone_leads_to_any_server() -> None:
    assert problems(OVER | {"to": "host:6380"}) == ""
    assert by_hand(OVER | {"to": "host:6380"}).startswith('to: found "host:6380", allowed by hand are "spare"')


@pytest.mark.parametrize("kind", ["kill", "restart", "pause"])
def test_a_process_that_is_not_ours_cannot_be_acted_on(kind: str) -> None:
    fault = {"kind": kind, "service": "redis"}
    for said in (problems(fault, target=EXTERNAL), by_hand(fault, target=EXTERNAL)):
        assert 'allowed only with target.kind = "local"' in said


def test_a_server_elsewhere_needs_its_address() -> None:
    assert 'allowed only with target.postgres = "host:port"' in problems({"kind": "lock"}, target=EXTERNAL)
    assert problems({"kind": "lock"}, target=EXTERNAL | {"postgres": "p:4"}) == ""
    assert problems({"kind": "memory-pressure", "headroom_kb": 9}, target=EXTERNAL) == ""
    assert 'to: found "spare"' in problems(OVER | {"to": "spare"}, target=EXTERNAL)


STALL = {"kind": "stalled-consumers"}


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [({}, {}, True), ({}, {"consumers": "b"}, True), ({"consumers": "a"}, {"consumers": "a"}, True),
     ({"consumers": "a"}, {"consumers": "b"}, False)],
)  # fmt: skip
def test_two_faults_of_the_same_users_at_once_are_refused(
    one: dict[str, str], other: dict[str, str], meet: bool
) -> None:
    said = problems(STALL | one, {"kind": "offline-consumers", "at_s": 12} | other)
    assert ("allowed only where the two can be told apart" in said) is meet
    known = planned("offline-consumers", other.get("consumers", "consumers"), 18, 30)
    assert ("could not be told apart" in by_hand(STALL | one, known)) is meet


def planned(kind: str, where: str, from_s: float, to_s: float, direction: str = "both") -> PlannedFault:
    at_ns, until_ns = round(from_s * S), round(to_s * S)
    return PlannedFault(
        name="known", kind=kind, link=where, direction=direction, at_ns=at_ns, until_ns=until_ns, asked={}
    )


SLOW = {"kind": "latency", "link": "client-gateway", "latency_ms": 50}


@pytest.mark.parametrize(
    ("fault", "known", "text"),
    [
        (SLOW, planned("stalled-consumers", "consumers", 18, 24), "makes Toxiproxy hang"),
        (STALL, planned("latency", "client-gateway", 22, 40), "makes Toxiproxy hang"),
        (SLOW, planned("down", "client-gateway", 18, 24), "could not be told apart"),
        (SLOW, planned("kill", "toxiproxy", 25, 28), "could not be told apart"),
        (SLOW, planned("latency", "client-gateway", 22, 24), "planned in 2.0 s"),
        (SLOW, planned("down", "gateway-redis", 27, 30), "it would be 1.0 s apart"),
        (SLOW, planned("down", "client-gateway", 10, 19), '"known" (down on "client-gateway", in force)'),
    ],
)
def test_by_hand_the_rules_of_pairs_hold_as_well(fault: dict[str, Any], known: PlannedFault, text: str) -> None:
    assert text in by_hand(fault, known)


@pytest.mark.parametrize(
    "known",
    [
        planned("latency", "client-gateway", 30, 40),
        planned("down", "gateway-redis", 22, 30),
        planned("offline-consumers", "consumers", 18, 30),
    ],
)
def test_by_hand_what_can_be_told_apart_is_allowed(known: PlannedFault) -> None:
    assert by_hand(SLOW, known) == ""
