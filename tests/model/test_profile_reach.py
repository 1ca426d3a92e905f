"""Does a profile that was overridden reach no more than the one that was named, however the override is spelt?"""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.model.profile.describe import all_fields
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.reading import REACHING, beyond, read_profile

QUICK = (Path(__file__).resolve().parents[2] / "profiles" / "locust-quick.toml").read_text(encoding="utf-8")
REPLAY = '{kind="replay",file="/elsewhere/secret"}'
EXTERNAL = '{kind="external",redis="192.0.2.1:1",gateway="192.0.2.1:2",postgres="192.0.2.1:3",toxiproxy="192.0.2.1:4"}'
FAILOVER = '{name="f",kind="failover",link="publisher-redis",at_s=9,for_s=2,to="TO"}'
BARE = {
    "name", "question", "identity.path", "families[].name", "families[].event", "publishers[].name",
    "consumers[].name", "readers[].name", "users[].name", "users[].kind",
    "faults[].name", "faults[].link", "faults[].consumers", "faults[].publishers",
    "faults[].after", "faults[].user", "faults[].table", "families[].channel", "aborts[].process", "thresholds[].group",
    "thresholds[].family", "thresholds[].fault", "thresholds[].process", "capacity.under",
}  # fmt: skip
"""Texts that lead nowhere outside of a run."""


def quick(*sets: str) -> Profile:
    return read_profile(QUICK, file="quick", sets=sets).profile


@pytest.mark.parametrize(
    ("sets", "keys"),
    [
        (("target[test_system]=true",), ["target.test_system"]),
        (("target={kind='local',test_system=true}",), ["target.test_system"]),
        (
            (f"target={EXTERNAL}",),
            ["target.kind", "target.redis", "target.gateway", "target.postgres", "target.toxiproxy"],
        ),
        ((f"publishers[0].shape={REPLAY}",), ["publishers.shape.file"]),
        ((f"publishers[0][shape]={REPLAY}",), ["publishers.shape.file"]),
        (("publishers[0].shape={kind='replay',file='a'}", "publishers[0].shape[file]=b"), ["publishers.shape.file"]),
        ((f"faults=[{FAILOVER.replace('TO', '192.0.2.1:6379')}]",), ["faults.to"]),
    ],
)
def test_what_leads_elsewhere_is_named(sets: tuple[str, ...], keys: list[str]) -> None:
    assert beyond(quick(*sets), quick()) == keys


def test_what_stays_within_the_profile_is_free() -> None:
    sets = ("run.duration_s=40", f"faults=[{FAILOVER.replace('TO', 'spare')}]", "target.test_system=false")
    assert beyond(quick(*sets), quick()) == []
    assert beyond(quick(), quick(f"publishers[0].shape={REPLAY}")) == []
    there = quick(f"publishers[0].shape={REPLAY}")
    assert beyond(there, there) == []


def test_it_is_known_of_every_text_whether_it_leads_outside() -> None:
    texts = {note.path for note in all_fields() if note.kind.of == "text" and not note.path.startswith("target.")}
    assert texts == BARE | set(REACHING)
