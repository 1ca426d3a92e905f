"""Is every kind of fault in the proof of the catalogue, in a profile that is valid, and is its row judged rightly?"""

from __future__ import annotations

from typing import Any

import pytest

from loadtests.inject.errors import ControlError, NotAllowedHere, Refused
from loadtests.model.fault_kinds import KINDS
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.reading import read_profile
from loadtests.model.results import Lost
from proof.faults import PLAYS, CatalogueRow, _losses, groups, profile, row_of


def parsed(text: str) -> Profile:
    return read_profile(text.encode(), file="proof").profile


def test_every_kind_that_a_profile_may_name_is_played() -> None:
    assert set(PLAYS) == set(KINDS)
    assert sorted(play.kind for plays in groups(list(PLAYS)).values() for play in plays) == sorted(KINDS)


@pytest.mark.parametrize("name", list(groups(list(PLAYS))))
def test_the_profile_of_each_run_is_valid(name: str) -> None:
    plays = groups(list(PLAYS))[name]
    read = parsed(profile(name, plays, seed=1))
    assert [fault.kind for fault in read.faults if fault.name in PLAYS] == [play.kind for play in plays]
    assert read.run.duration_s < 120


@pytest.mark.parametrize("kind", list(PLAYS))
def test_each_kind_may_be_played_alone(kind: str) -> None:
    ((name, plays),) = groups([kind]).items()
    read = parsed(profile(name, plays, seed=1))
    assert [fault.kind for fault in read.faults if fault.name in PLAYS] == [kind]


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
        "recovery": [{"fault": each["name"], **RECOVERED} for each in faults],
        "delivery": {"lost": {"total": 12}},
    }


def test_what_a_run_lost_is_told_by_the_names_that_results_have() -> None:
    assert _losses(dict.fromkeys(Lost.__struct_fields__)).startswith("- lost: - charged")


RECOVERED = {"recovery_s": 1.2, "outage_s": 3.1, "verdict": "PASS", "summary": "steady 1.2 s after it was healed"}


def test_a_row_says_what_the_results_say() -> None:
    row = row_of(PLAYS["down"], told(fault()))
    assert (row.asked, row.effective, row.proved, row.lifted_by) == ("", "connect refused", True, "plan")
    assert (row.loss, row.recovery, row.fine) == ("12 charged to it", "1.2 s, out of limits for 3.1 s", True)


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


def recovered(**changed: Any) -> CatalogueRow:
    results = told(fault())
    results["recovery"][0] |= changed
    return row_of(PLAYS["down"], results)


def test_an_end_that_can_be_is_said() -> None:
    calm = recovered(outage_s=0, recovery_s=0.0)
    assert calm.fine
    assert calm.recovery.startswith("no visible impact")
    unknown = recovered(verdict="UNKNOWN", recovery_s=None, outage_s=None, summary="down: the next fault began")
    assert unknown.fine
    assert unknown.recovery == "unknown (down: the next fault began)"


@pytest.mark.parametrize(
    "changed",
    [
        {"recovery_s": -0.1},
        {"recovery_s": 60.0},
        {"recovery_s": None},
        {"outage_s": None},
        {"outage_s": -1.0},
        {"outage_s": 9.0},
        {"verdict": "FAIL", "recovery_s": None, "outage_s": None, "summary": "down: not recovered (> 8 s)"},
        {"verdict": "UNKNOWN", "recovery_s": None, "outage_s": None, "summary": ""},
    ],
    ids=str,
)
def test_an_end_that_cannot_be_is_not_fine(changed: dict[str, Any]) -> None:
    row = recovered(**changed)
    assert row.absurd
    assert not row.fine


@pytest.mark.parametrize("charged", [-1, 13])
def test_no_loss_exceeds_all_that_was_lost(charged: int) -> None:
    assert row_of(PLAYS["down"], told(fault(lost_charged=charged))).absurd


def test_of_a_recovery_something_must_be_said() -> None:
    assert not row_of(PLAYS["down"], told(fault()) | {"recovery": []}).fine


def test_only_what_needs_rights_may_be_refused_here_and_only_before_it_acted() -> None:
    play, detail = PLAYS["cpu-limit"], str(NotAllowedHere("no rights"))
    before = fault(name="cpu-limit", injected_s=None, healed_s=None, lifted_by=None, proved=False, detail=detail)
    assert row_of(play, told(before)).refused == "no rights"
    assert row_of(play, told(before)).fine
    assert not row_of(play, told(before | {"injected_s": 5.0})).fine
    assert not row_of(PLAYS["down"], told(before | {"name": "down"})).fine


@pytest.mark.parametrize("error", [Refused("a mistake"), ControlError("not allowed"), Refused("")], ids=repr)
def test_what_a_mistake_says_is_no_refusal(error: ControlError) -> None:
    play = PLAYS["cpu-limit"]
    before = fault(name="cpu-limit", injected_s=None, healed_s=None, lifted_by=None, proved=False, detail=str(error))
    assert not row_of(play, told(before)).refused
    assert not row_of(play, told(before)).fine
