"""Is every kind of fault in the proof of the catalogue, in a profile that is valid, and is its row judged rightly?"""

from __future__ import annotations

from typing import Any

import pytest

from loadtests.model.fault_kinds import KINDS
from loadtests.model.profile import Profile
from loadtests.model.profile_read import read_profile
from loadtests.prove.faults import row_of
from loadtests.prove.faults_plan import PLAYS, groups, profile


def parsed(text: str) -> Profile:
    return read_profile(text.encode(), file="proof").profile


def test_every_kind_that_a_profile_may_name_is_played() -> None:
    assert set(PLAYS) == set(KINDS)
    assert sorted(play.kind for plays in groups(list(PLAYS)).values() for play in plays) == sorted(KINDS)


@pytest.mark.parametrize("name", list(groups(list(PLAYS))))
def test_the_profile_of_each_run_is_valid(name: str) -> None:
    plays = groups(list(PLAYS))[name]
    read = parsed(profile(name, plays, seed=1))
    assert [fault.kind for fault in read.faults] == [play.kind for play in plays]
    assert read.run.duration_s < 120


@pytest.mark.parametrize("kind", list(PLAYS))
def test_each_kind_may_be_played_alone(kind: str) -> None:
    ((name, plays),) = groups([kind]).items()
    assert [fault.kind for fault in parsed(profile(name, plays, seed=1)).faults] == [kind]


def fault(**changed: Any) -> dict[str, Any]:
    return {
        "name": "down", "kind": "down", "link": "gateway-redis", "asked": {"direction": "both"},
        "effective": {"connect": "refused"}, "injected_s": 5.0, "healed_s": 7.5, "proved": True,
        "lifted_by": "plan", "detail": "", "lost_charged": 12,
    } | changed  # fmt: skip


def told(*faults: dict[str, Any]) -> dict[str, Any]:
    return {
        "reasons": ["cut short"],
        "faults": list(faults),
        "recovery": [{"fault": "down", "recovery_s": 1.2, "verdict": "PASS"}],
    }


def test_a_row_says_what_the_results_say() -> None:
    row = row_of(PLAYS["down"], told(fault()))
    assert (row.asked, row.effective, row.proved, row.lifted_by) == ("", "connect refused", True, "plan")
    assert (row.loss, row.recovery, row.fine) == ("12 charged to it", "1.2 s", True)


@pytest.mark.parametrize(
    "changed",
    [
        {"proved": False, "detail": "a new connection saw: answer"},
        {"healed_s": None},
        {"lifted_by": None},
        {"injected_s": None, "detail": "the link is not known"},
    ],
)
def test_what_is_not_proved_or_not_lifted_is_not_fine(changed: dict[str, Any]) -> None:
    row = row_of(PLAYS["down"], told(fault(**changed)))
    assert not row.fine
    assert not row.refused


def test_a_fault_that_the_results_do_not_name_is_not_fine() -> None:
    row = row_of(PLAYS["down"], told())
    assert not row.fine
    assert "cut short" in row.detail


def test_only_what_needs_rights_may_be_refused_here_and_only_before_it_acted() -> None:
    play = PLAYS["cpu-limit"]
    before = fault(name="cpu-limit", injected_s=None, healed_s=None, lifted_by=None, proved=False, detail="no rights")
    assert row_of(play, told(before)).refused == "no rights"
    assert row_of(play, told(before)).fine
    assert not row_of(play, told(before | {"injected_s": 5.0})).fine
    assert not row_of(play, told(before | {"detail": ""})).fine
