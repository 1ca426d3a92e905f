"""Which faults of the run's own users are refused when a profile is read?"""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from loadtests.model.profile.profile import Profile

BASE: dict[str, Any] = {
    "name": "p",
    "question": "what can the users not play?",
    "run": {"duration_s": 120.0},
    "families": [{"name": "patterns", "channel": "tickstock.events.patterns", "event": "pattern_detected"}],
    "publishers": [{"name": "p", "families": ["patterns"], "shape": {"kind": "constant", "rate_per_s": 1.0}}],
    "consumers": [{"name": "a", "count": 2}, {"name": "b", "count": 2}],
    "thresholds": [{"measure": "lost_defect", "at_most": 0.0}],
}
STALL = {"name": "stall", "kind": "stalled-consumers", "at_s": 10, "for_s": 5}


def problems(*faults: dict[str, Any], **parts: Any) -> str:
    try:
        Profile.model_validate(BASE | parts | {"faults": list(faults)})
    except ValidationError as error:
        return str(error)
    return ""


def toxic(kind: str = "latency", *, at_s: float = 12, link: str = "client-gateway", **asked: Any) -> dict[str, Any]:
    keys = {"latency": {"latency_ms": 50}, "bandwidth": {"rate_kb_per_s": 50}}.get(kind, {})
    return {"name": "toxic", "kind": kind, "link": link, "at_s": at_s, "for_s": 5} | keys | asked


@pytest.mark.parametrize("kind", ["stalled-consumers", "half-open-consumers", "slow-consumers"])
@pytest.mark.parametrize("other", ["latency", "bandwidth", "black-hole", "reset"])
def test_a_toxic_on_the_consumers_link_while_they_do_not_read_would_wedge_it(kind: str, other: str) -> None:
    slow = {"read_bytes_per_s": 100} if kind == "slow-consumers" else {}
    said = problems(STALL | {"kind": kind} | slow, toxic(other))
    assert f'"toxic" ({other}) overlaps "stall" ({kind})' in said
    assert "makes Toxiproxy hang" in said


@pytest.mark.parametrize(
    "other",
    [
        toxic("down"),
        toxic(at_s=60),
        toxic(link="gateway-redis"),
        toxic(direction="upstream"),
    ],
)
def test_what_does_not_touch_the_stalled_stream_is_allowed(other: dict[str, Any]) -> None:
    assert problems(STALL, other) == ""


def test_away_or_vanishing_consumers_leave_nothing_unread() -> None:
    assert problems(STALL | {"kind": "offline-consumers"}, toxic()) == ""


def test_a_bad_token_needs_somebody_who_asks_for_one() -> None:
    fault = {"name": "t", "kind": "bad-token", "token": "wrong", "at_s": 10, "for_s": 5}
    assert 'allowed only with target.auth = "token"' in problems(fault)
    assert problems(fault, target={"auth": "token"}) == ""


def test_a_group_that_is_called_like_all_of_them_must_be_named() -> None:
    groups = [{"name": "consumers", "count": 2}, {"name": "b", "count": 2}]
    assert "faults[0].consumers: found nothing" in problems(STALL, consumers=groups)
    assert problems(STALL | {"consumers": "consumers"}, consumers=groups) == ""
    assert problems(STALL, consumers=groups[:1]) == ""
