"""Which profile, and which number of users, may a run begin with, how fast, and go on with?"""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtests.harness.leader import Chosen
from loadtests.harness.profile_loading import load, one_profile
from loadtests.model.errors import BadInput


class EventPublisher:
    fixed_count = 0


class WebSocketClient:
    fixed_count = 0


class DatabaseReader:
    fixed_count = 0


class Own:
    """A class of the user's own locustfile."""

    fixed_count = 3


EVERYBODY = (EventPublisher, WebSocketClient, DatabaseReader)


@pytest.fixture
def chosen() -> Chosen:
    found = Chosen(loaded=load("locust-quick"), folder=Path())
    assert found.planned["publisher"] > 0
    return found


def test_a_run_goes_on_with_fewer_consumers_and_with_all_of_them(chosen: Chosen) -> None:
    users = chosen.users_of(EVERYBODY)
    others = users - chosen.planned["consumer"]
    for wanted in (others + 1, users - 1, users):
        chosen.may_go_on_with(wanted, EVERYBODY)
    for wanted in (0, others, users + 1, 10 * users):
        with pytest.raises(
            BadInput, match=f"users: found {wanted}, allowed while this run goes on is {others + 1} to {users}"
        ):
            chosen.may_go_on_with(wanted, EVERYBODY)


def test_an_override_at_the_start_is_what_a_run_goes_on_with(chosen: Chosen) -> None:
    more = chosen.with_users(chosen.users_of(EVERYBODY) + 20)
    more.may_go_on_with(chosen.users_of(EVERYBODY) + 20, EVERYBODY)


def test_classes_that_are_not_there_and_classes_of_the_users_own_count_as_they_are(chosen: Chosen) -> None:
    consumers = chosen.planned["consumer"]
    chosen.may_go_on_with(1, [WebSocketClient])
    with pytest.raises(BadInput, match=f"is 1 to {consumers}"):
        chosen.may_go_on_with(consumers + 1, [WebSocketClient])
    with pytest.raises(BadInput, match=f"is 4 to {consumers + 3}"):
        chosen.may_go_on_with(3, [WebSocketClient, Own])


def test_users_start_as_fast_as_the_profile_needs_or_as_somebody_wishes_in_time(chosen: Chosen) -> None:
    assert (chosen.rate_of(52), chosen.rate_of(15_000)) == (100, 4_000)
    assert chosen.with_rate(3.5).rate_of(52) == 3.5
    for wanted in (3.4, 0, -1, float("nan"), float("inf")):
        with pytest.raises(BadInput, match=r"ramp up: found .+ users/s, allowed from 3\.5: 52 users must be connected"):
            chosen.with_rate(wanted)


def test_a_profile_is_named_once_by_our_field_or_by_locusts_own() -> None:
    assert one_profile("burst", "", "first-run") == one_profile("", "burst", "first-run") == "burst"
    assert one_profile("burst", "burst", "") == "burst"
    assert (one_profile("", "", "first-run"), one_profile("", "", "")) == ("first-run", "locust-quick")
    with pytest.raises(BadInput, match='profile: found "burst" and "first-run", allowed is one'):
        one_profile("burst", "first-run", "")
