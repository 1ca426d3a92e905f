"""Does the catalogue build what it demands, on channels that have the right names?"""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.model.catalogue import EVENT_TYPES, NOTICES
from loadtests.model.profile.tables import Identity
from loadtests.plan import market
from loadtests.plan.payload import TIMESTAMP_BYTES, IdentityPathError, payload

STAMP = "2026-01-02T03:04:05.678Z"


@given(st.sampled_from(sorted(market.CATALOGUE)), st.integers(0, 1 << 30))
def test_every_built_event_is_valid_and_seeded(name, seed) -> None:
    event = market.build(name, random.Random(seed), timestamp=STAMP)
    assert market.problems(name, event) == []
    assert event == market.build(name, random.Random(seed), timestamp=STAMP)
    assert msgspec.json.decode(msgspec.json.encode(event)) == event


@pytest.mark.parametrize("name", sorted(market.CATALOGUE))
def test_a_missing_or_wrong_field_is_found(name) -> None:
    event = market.build(name, random.Random(1), timestamp=STAMP)
    for field in (*market.CATALOGUE[name].required, "timestamp", "event_type"):
        assert market.problems(name, {k: v for k, v in event.items() if k != field})
        assert market.problems(name, event | {field: None})


@pytest.mark.parametrize("name", sorted(EVENT_TYPES))
def test_the_profile_s_rules_and_the_builders_agree(name) -> None:
    kind = EVENT_TYPES[name]
    for channel in kind.channels:
        event = market.build(name, random.Random(3), timestamp=STAMP, channel=channel)
        assert {"pattern", "symbol"} & event.keys() == kind.always  # a target filters by these
        assert event["event_type"] == name
        assert name == "notification" or market.CATALOGUE[name].channel == channel
    draw = random.Random(3)
    notices = {market.build("notification", draw, timestamp=STAMP, channel=c)["notification"] for c in NOTICES}
    assert len(notices) == len(NOTICES)


def test_bounds_of_values_are_checked() -> None:
    event = market.build("backtest_progress", random.Random(1), timestamp=STAMP)
    assert market.problems("backtest_progress", event | {"progress": 1.01})
    assert market.problems("backtest_progress", event | {"progress": True})
    tick = market.build("tick", random.Random(1), timestamp=STAMP)
    assert market.problems("tick", tick | {"bid": tick["ask"]})
    assert market.problems("tick", tick | {"last": 0.1})
    assert market.problems("nothing", {})


def test_channels_of_the_sources() -> None:
    channels = {kind.channel for kind in market.CATALOGUE.values()}
    assert channels >= {
        "tickstock.events.patterns",
        "tickstock.events.market_state",
        "tickstock.events.backtesting.progress",
        "tickstock.events.backtesting.results",
        "tickstock.jobs.backtest",
        "tickstock.universe.updated",
        "tickstock.cache.sync_complete",
        "tickstock.etf.correlation_update",
        "tickstock.cache.ipo_assignment",
        "tickstock.cache.delisting_cleanup",
    }
    assert all(market.CHANNEL.fullmatch(channel) for channel in channels)
    assert all(market.STRICT_CHANNEL.fullmatch(channel) for channel in market.REQUIRED_CHANNELS)
    assert not market.CHANNEL.fullmatch("tickstock.events.patterns\n")
    assert not market.CHANNEL.fullmatch("tickstock.events")


def test_volatility_is_per_second_whatever_the_rate() -> None:
    def spread(ticks_per_s: int) -> float:
        ends = [
            market.walk(random.Random(n), base=20_000, seconds=[1 / ticks_per_s] * ticks_per_s)[-1] for n in range(300)
        ]
        mean = sum(ends) / len(ends)
        return (sum((end - mean) ** 2 for end in ends) / len(ends)) ** 0.5 / 20_000

    assert 0.017 < spread(1) < 0.023
    assert 0.017 < spread(100) < 0.023
    assert min(market.walk(random.Random(1), base=0.3, seconds=[1.0] * 500, volatility=1.0)) >= market.TICK


@pytest.mark.parametrize("path", ["tickstorm", "results.note", "a.b.c", "source", "timestamp"])
def test_a_payload_keeps_its_fields_and_carries_the_identity(path) -> None:
    event = market.build("backtest_results", random.Random(5), timestamp=STAMP)
    made = payload(event, Identity(path=path, form="text"), 0)
    filled = msgspec.json.decode(made.fill(STAMP.encode(), b'"who"'))
    inner = filled
    *steps, last = path.split(".")
    for step in steps:
        inner = inner[step]
    assert inner.pop(last) == "who"
    assert made.size + len(b'"who"') == len(made.fill(STAMP.encode(), b'"who"'))
    assert len(STAMP) == TIMESTAMP_BYTES
    if path == "tickstorm":
        assert filled == event


def test_padding_and_paths_that_do_not_fit() -> None:
    event = market.build("pattern_detected", random.Random(5), timestamp=STAMP)
    assert abs(payload(event, Identity(), 2000).size + 90 - 2000) < 40
    with pytest.raises(IdentityPathError):
        payload(event, Identity(path="symbol.x"), 0)
    with pytest.raises(IdentityPathError):
        payload(event | {"results": {"a": 1}}, Identity(path="results"), 0)
    with pytest.raises(IdentityPathError):
        payload(event | {"symbol": "@@identity@@"}, Identity(), 0)
    percent = payload(event | {"symbol": "100%d"}, Identity(), 0)
    assert msgspec.json.decode(percent.fill(STAMP.encode(), b"1"))["symbol"] == "100%d"
