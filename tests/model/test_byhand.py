"""Is a fault by hand held to the limits of a planned one, and is every refusal a sentence?"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.model.fault_kinds import KINDS
from loadtests.model.profile.manual_fault import (
    AT_ONCE,
    IN_ALL,
    LEAD_NS,
    MAX_NOTE,
    ManualFaultRefused,
    Moment,
    annotation,
    fault_by_hand,
    forms,
)
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.reading import read_profile

S = 1_000_000_000
SHIPPED = Path(__file__).parents[2] / "profiles" / "locust-quick.toml"


def profile(*sets: str) -> Profile:
    return read_profile(SHIPPED.read_text("utf-8"), file="quick", sets=sets).profile


QUICK, TEST_SYSTEM = profile(), profile("target.test_system=true")


def moment(**other: Any) -> Moment:
    given = {
        "now_ns": 10 * S,
        "from_ns": 3 * S,
        "until_ns": 26 * S,
        "links": ("gateway-redis",),
        "names": {"blink"},
        "under_way": 0,
        "by_hand": 0,
    }
    return Moment(**{**given, **other})


def refused(asked: dict[str, Any], profile: Profile = QUICK, **other: Any) -> tuple[str, str]:
    with pytest.raises(ManualFaultRefused) as error:
        fault_by_hand(profile, asked, moment(**other))
    return error.value.why, str(error.value)


CUT = {"kind": "down", "link": "gateway-redis", "for_s": 2}


def test_it_begins_when_its_calm_is_measured_and_ends_by_itself() -> None:
    slow = {"kind": "latency", "link": "gateway-redis", "latency_ms": 200, "for_s": 2.5}
    fault = fault_by_hand(QUICK, slow, moment())
    assert (fault.name, fault.kind, fault.link, fault.by_hand) == ("by-hand-1", "latency", "gateway-redis", True)
    assert (fault.at_ns, fault.until_ns) == (10 * S + LEAD_NS, 10 * S + LEAD_NS + 2_500_000_000)
    assert fault.asked == {"latency_ms": 200}


def test_it_waits_for_the_calm_stretch_after_the_warm_up() -> None:
    assert fault_by_hand(QUICK, CUT, moment(from_ns=12 * S)).at_ns == 12 * S


def test_its_name_is_nobody_elses() -> None:
    taken = {"by-hand-2", "by-hand-3", "blink"}
    assert fault_by_hand(QUICK, CUT, moment(names=taken, by_hand=1)).name == "by-hand-4"


@pytest.mark.parametrize(
    ("asked", "why", "text"),
    [
        ({**CUT, "link": "elsewhere"}, "bad", 'link: "elsewhere" is not known, known are: gateway-redis'),
        ({**CUT, "kind": "latency", "latency_ms": 0}, "bad", "latency_ms: found 0, allowed a whole number from 1"),
        ({**CUT, "kind": "latency"}, "bad", "latency_ms: found nothing"),
        ({**CUT, "for_s": 0}, "bad", "for_s"),
        ({**CUT, "for_s": "2"}, "bad", "for_s"),
        ({**CUT, "direction": "upstream"}, "bad", "direction"),
        ({**CUT, "name": "mine"}, "bad", "name: a fault by hand begins now and once"),
        ({**CUT, "at_s": 3}, "bad", "at_s: a fault by hand begins now and once"),
        ({**CUT, "repeat": {"times": 2, "every_s": 3}}, "bad", "repeat"),
        ({**CUT, "kind": "explode"}, "bad", 'kind: found "explode"'),
        (
            {**CUT, "kind": "failover", "to": "192.0.2.1:6379"},
            "not allowed",
            'to: found "192.0.2.1:6379", allowed by hand',
        ),
        ({"kind": "kill", "service": "redis", "for_s": 1}, "not allowed", "target.test_system = true"),
        ({"kind": "stalled-consumers", "consumers": "nobody", "for_s": 1}, "bad", 'consumers: "nobody" is not known'),
        ({**CUT, "for_s": 30}, "conflict", "allowed up to 15.0: the plan ends then"),
    ],
)
def test_what_is_not_allowed_is_told(asked: dict[str, Any], why: str, text: str) -> None:
    found = refused(asked)
    assert found[0] == why
    assert text in found[1]


def test_when_it_is_not_allowed_is_told() -> None:
    assert refused(CUT, from_ns=None)[0] == "conflict"
    assert "plan is over" in refused(CUT, now_ns=26 * S)[1]
    assert "heal one first" in refused(CUT, under_way=AT_ONCE)[1]
    assert refused(CUT, by_hand=IN_ALL)[0] == "conflict"
    assert fault_by_hand(QUICK, CUT, moment(under_way=AT_ONCE - 1, by_hand=IN_ALL - 1)).kind == "down"


def test_a_test_system_may_be_broken() -> None:
    assert fault_by_hand(TEST_SYSTEM, {"kind": "kill", "service": "redis", "for_s": 1}, moment()).link == "redis"


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.lists(st.integers())


@given(st.dictionaries(st.sampled_from([*forms()[0].__struct_fields__, "link", "for_s", "latency_ms"]), values))
def test_anything_at_all_is_a_fault_or_a_refusal(asked: dict[str, Any]) -> None:
    with contextlib.suppress(ManualFaultRefused):
        assert fault_by_hand(QUICK, asked, moment()).by_hand


def test_there_is_a_form_for_every_kind_with_every_key_that_it_needs() -> None:
    found = {form.kind: form for form in forms()}
    assert found.keys() == KINDS.keys()
    for name, kind in KINDS.items():
        amounts = {amount.key: amount for amount in found[name].amounts}
        assert amounts.keys() == kind.keys.keys()
        assert {key for key, amount in amounts.items() if amount.needed} == kind.needs.keys()
    latency = next(amount for amount in found["latency"].amounts if amount.key == "latency_ms")
    assert (latency.kind, latency.at_least, latency.at_most) == ("whole", 1, 600_000)
    token = next(amount for amount in found["bad-token"].amounts if amount.key == "token")
    assert token.choices == ["missing", "wrong", "expired"]


def test_a_note_is_one_line() -> None:
    assert annotation("  new\nbuild \x07 ") == "new build \N{REPLACEMENT CHARACTER}"
    for bad in ("", " \n ", None, 5, "x" * (MAX_NOTE + 1)):
        with pytest.raises(ManualFaultRefused):
            annotation(bad)
