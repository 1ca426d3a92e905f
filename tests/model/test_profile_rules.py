"""Is every profile refused that only several tables together show to be wrong, with path, found and allowed?"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from pydantic import ValidationError

from loadtests.model.contract import Contract
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.rules import history_mb, memory_mb, problems

BASE: dict[str, Any] = {
    "name": "base",
    "question": "Does the base profile hold?",
    "run": {"duration_s": 60},
    "families": [
        {
            "name": "patterns",
            "channel": "tickstock.events.patterns",
            "event": "pattern_detected",
            "symbols": 4,
            "keys": {"pattern": ["Doji", "Hammer"]},
        },
        {"name": "ranks", "channel": "tickstock.events.market_state", "event": "ranking_change", "symbols": 4},
    ],
    "publishers": [{"name": "p", "families": ["patterns", "ranks"], "shape": {"kind": "constant", "rate_per_s": 5}}],
    "consumers": [{"name": "plain", "count": 4}, {"name": "browsers", "count": 4, "transport": "socketio"}],
    "readers": [{"name": "readers", "queries": ["symbols_count"]}],
    "faults": [
        {"name": "cut", "kind": "down", "link": "gateway-redis", "at_s": 5, "for_s": 2},
        {"name": "slow", "kind": "latency", "link": "client-gateway", "latency_ms": 50, "at_s": 20, "for_s": 2},
    ],
    "thresholds": [{"measure": "lost_defect", "at_most": 0}],
}

STAGE = {"name": "stage", "channel": "tickstock.events.market_state", "event": "stage_change"}


KILL = {"name": "gone", "kind": "kill", "service": "redis", "at_s": 5, "for_s": 2}
STALL = {"name": "deaf", "kind": "stalled-consumers", "at_s": 5, "for_s": 2}


def threshold(**changes: Any) -> dict[str, Any]:
    return {"thresholds": [{"measure": "lost_defect", "at_most": 0} | changes]}


def put(raw: dict[str, Any], path: str, value: Any) -> None:
    *steps, last = path.split(".")
    node: Any = raw
    for step in steps:
        node = node[int(step)] if step.isdecimal() else node[step]
    if last.isdecimal():
        node[int(last)] = value
    else:
        node[last] = value


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    raw = copy.deepcopy(BASE)
    for path, value in changes.items():
        put(raw, path, copy.deepcopy(value))
    return raw


@pytest.mark.parametrize("link", ["publisher-redis", "gateway-redis", "gateway-postgres", "producer-postgres"])
def test_a_fault_may_act_on_what_messages_or_database_connections_pass(link: str) -> None:
    Profile.model_validate(changed({"faults.0.link": link}))


def test_a_fault_may_act_on_whatever_a_path_names() -> None:
    path = ["producer-redis", "gateway-redis", "client-gateway"]
    Profile.model_validate(changed({"faults.0.link": "producer-redis", "families.0.path": path}))


def refused(raw: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        Profile.model_validate(raw)
    return "\n".join(error["msg"].removeprefix("Value error, ") for error in caught.value.errors())


def test_the_base_is_valid() -> None:
    assert problems(Profile.model_validate(BASE)) == []


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"families.1.name": "patterns"}, 'families[1].name: found "patterns", the name of families[0]'),
    ({"consumers.1.name": "plain"}, "consumers[1].name"),
    ({"faults.1.name": "cut"}, "faults[1].name"),
    ({"families.0.event": "pattern_detectd"}, 'families[0].event: found "pattern_detectd", allowed one of'),
    ({"families.1.keys": {"pattern": ["Doji"]}}, "families[1].keys.pattern: found a key"),
    ({"families.1.channel": "tickstock.events.patterns"}, 'families[1].channel: found "tickstock.events.patterns"'),
    ({"families.1.path": ["gateway-redi"]}, 'families[1].path[0]: found "gateway-redi"'),
    ({"families.1.path": ["gateway-redis", "gateway-redis"]}, 'path: found "gateway-redis" twice'),
    ({"faults.0.link": "no-such-thing"}, 'faults[0].link: found "no-such-thing", allowed one of "publisher-redis"'),
    ({"publishers.0.families": ["patterns", "rank"]}, 'publishers[0].families[1]: found "rank"'),
    ({"publishers.0.families": ["patterns"]}, 'families[1].name: found "ranks", which no publishers write'),
    ({"publishers.0.families": ["patterns", "ranks", "ranks"]}, 'publishers[0].families: found "ranks" twice'),
    ({"consumers.0.subscribe": {"families": ["rank"]}}, 'consumers[0].subscribe.families[0]: found "rank"'),
    ({"consumers.0.subscribe": {"patterns": ["Hamer"]}}, 'consumers[0].subscribe.patterns[0]: found "Hamer"'),
    ({"consumers.0.subscribe": {"symbols": ["AAPL"]}}, 'consumers[0].subscribe.symbols[0]: found "AAPL"'),
    (
        {"consumers.0.subscribe": {"families": ["ranks"], "patterns": ["Doji"]}},
        'consumers[0].subscribe.patterns[0]: found "Doji", allowed a pattern of a family that the group takes',
    ),
    (
        {"faults.0.link": "producer-redis"},
        'faults[0].link: found "producer-redis", which no family\'s path names and no reader uses, so that a fault on '
        'it touches nobody, allowed one of "publisher-redis", "gateway-redis"',
    ),
    ({"faults.0.at_s": 0.2}, "faults[0].at_s: found 0.2, allowed from 1"),
    ({"faults.1.at_s": 40}, 'faults[1].for_s: found that "slow" ends 42 s after the warm-up, allowed up to 27'),
    ({"faults.1.repeat": {"times": 9, "every_s": 10}}, "faults[1].for_s"),
    ({"faults.0.repeat": {"times": 2, "every_s": 3}}, "faults[0].repeat.every_s: found 3, allowed from 5"),
    ({"faults.1.at_s": 8}, 'faults[1].at_s: found that "cut" and "slow" are 1 s apart, allowed from steady.hold_s, 3'),
    (
        {"faults.1.link": "gateway-redis", "faults.1.at_s": 6},
        'faults[1].at_s: found that "slow" (latency, 6 to 8 s) overlaps "cut" (down, 5 to 7 s) on "gateway-redis"',
    ),
    (
        {"faults.0.repeat": {"times": 2, "every_s": 15}, "faults.1.link": "gateway-redis"},
        '"slow" (latency, 20 to 22 s) overlaps "cut#2" (down, 20 to 22 s)',
    ),
    (
        {
            "target.test_system": True,
            "faults.0": {"name": "dead", "kind": "kill", "service": "toxiproxy", "at_s": 5, "for_s": 2},
            "faults.1.at_s": 6,
        },
        '"slow" (latency, 6 to 8 s) overlaps "dead" (kill, 5 to 7 s)',
    ),
    (threshold(group="plan"), 'thresholds[0].group: found "plan", allowed one of "plain", "browsers"'),
    (threshold(family="x"), 'thresholds[0].family: found "x"'),
    (
        threshold(fault="cut"),
        'thresholds[0].fault: found "cut" with measure "lost_defect", allowed "group" or "family"',
    ),
    (threshold(measure="recovery_s", fault="x"), 'thresholds[0].fault: found "x", allowed one of "cut", "slow"'),
    (threshold(measure="growth_mb", process="nginx"), 'thresholds[0].process: found "nginx"'),
    (threshold(measure="query_max_ms", query="events_last"), 'thresholds[0].query: found "events_last"'),
    ({"faults": []} | threshold(measure="recovery_s"), "thresholds[0].measure: found"),
    ({"faults": []} | threshold(phases=["fault"]), 'thresholds[0].phases: found "fault" in a profile without faults'),
    ({"readers": []} | threshold(measure="query_mean_ms"), "in a profile without readers"),
    ({"thresholds": [{"measure": "late", "at_most": 1}] * 2}, "thresholds[1].measure: found"),
    (
        {"consumers.0.expect_slow": True, "consumers.1.expect_slow": True},
        "thresholds[0].group: found nothing, allowed a consumer group",
    ),
    ({"guard.memory_mb": 64, "consumers.0.count": 90_000}, "guard.memory_mb: found 64, allowed from"),
    ({"run.duration_s": 1, "faults": []}, "run.duration_s: found 1, allowed from 2"),
    ({"run.late_s": 9}, "run.late_s: found 9, allowed at most run.drain_s, 5"),
    ({"consumers.0.reconnect": {"first_ms": 900, "max_ms": 100}}, "consumers[0].reconnect.first_ms: found 900"),
    ({"target.kind": "external", "target.redis": "a:1", "target.gateway": "b:1"}, "target.toxiproxy: found nothing"),
    ({"target.kind": "external", "target.redis": "a:1", "target.gateway": "b:1"}, "target.postgres: found nothing"),
    ({"target.proxies": {"gateway-redis": "x"}}, "target.proxies: found names"),
    ({"target.redis": "a:1"}, 'redis: found "a:1", allowed nothing unless'),
    ({"target.tls": True}, "tls: found true, allowed false unless"),
    ({"target.compression": True}, "compression: found true, allowed false unless"),
    ({"target.ca_file": "ca.pem"}, 'ca_file: found "ca.pem", allowed nothing unless tls'),
    ({"target.tls_name": "gateway"}, 'tls_name: found "gateway", allowed nothing unless tls'),
    ({"families.0.latest_within_s": 3}, 'latest_within_s: found 3.0 with mode "all"'),
    ({"families.0.replay_messages": 3}, 'replay_messages: found 3 with offline "lost"'),
    ({"families.0.offline": "replayed"}, "replay_messages: found 0, allowed above 0"),
    ({"publishers.0.shape": {"kind": "burst", "rate_per_s": 3}}, "base_per_s: found nothing"),
    (
        {"publishers.0.shape": {"kind": "burst", "rate_per_s": 3}},
        'rate_per_s: found 3.0, allowed nothing with kind "burst"',
    ),
    ({"faults.0": KILL}, 'faults[0].kind: found "kill", which is destructive, allowed only with target.test_system'),
    ({"faults.0": {**KILL, "service": None}}, 'service: found nothing, allowed one of "redis", "postgres"'),
    ({"faults.0": {**KILL, "link": "gateway-redis"}}, 'link: found "gateway-redis", allowed nothing with kind "kill"'),
    ({"faults.0": {**KILL, "kind": "lock"}}, 'service: found "redis", allowed with kind "lock": "postgres"'),
    ({"faults.0.link": None}, "link: found nothing, allowed a link"),
    ({"faults.0": {**STALL, "consumers": "nobody"}}, 'faults[0].consumers: found "nobody", allowed one of "plain"'),
    ({"faults.0.direction": "upstream"}, 'direction: found "upstream" with kind "down", allowed "both"'),
    (threshold(measure="deliveries"), "at_least: found nothing"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG, ids=[words[:60] for _, words in WRONG])
def test_what_is_wrong_is_refused_with_its_place(changes: dict[str, Any], words: str) -> None:
    raw = copy.deepcopy(BASE) | {"target": {}, "guard": {}}
    for path, value in changes.items():
        put(raw, path, copy.deepcopy(value))
    text = refused(raw)
    assert words in text
    assert all(": found " in line and ", allowed " in line for line in text.split("\n"))


RIGHT: list[dict[str, Any]] = [
    {"faults.1.at_s": 6, "faults.1.link": "client-gateway"},  # two links at once
    {"faults.0.kind": "latency", "faults.0.latency_ms": 10, "faults.0.direction": "upstream"}
    | {"faults.1.link": "gateway-redis", "faults.1.at_s": 6, "faults.1.direction": "downstream"},
    {"faults.1.at_s": 10},  # three seconds after the end of the first: the hold time exactly
    {"faults.1.at_s": 25},  # its end, the recovery limit and the hold time end with the plan exactly
    {"consumers.0.subscribe": {"families": ["ranks"]}},
    {"consumers.0.subscribe": {"families": ["ranks"], "symbol_share": 0.5}},
    {"run.duration_s": 2, "faults": []},
    threshold(measure="recovery_s", fault="cut", at_most=5),
    threshold(measure="growth_mb", process="gateway"),
]


@pytest.mark.parametrize("changes", RIGHT)
def test_what_is_right_at_the_edge_is_taken(changes: dict[str, Any]) -> None:
    Profile.model_validate(changed(changes))


def three_families() -> dict[str, Any]:
    raw = copy.deepcopy(BASE)
    raw["families"].append(copy.deepcopy(STAGE))
    raw["publishers"][0]["families"].append("stage")
    return raw


def test_families_that_share_a_channel_are_taken_together() -> None:
    raw = three_families()
    raw["families"][2]["symbols"] = 4
    Profile.model_validate(raw)
    raw["consumers"][0]["subscribe"] = {"families": ["ranks"]}
    assert 'families of channel "tickstock.events.market_state" without "stage"' in refused(raw)


def test_keys_may_tell_families_of_a_channel_apart() -> None:
    raw = three_families()
    raw["families"][2]["keys"] = {"symbol": ["AAPL"]}
    raw["consumers"][0]["subscribe"] = {"families": ["ranks"], "symbols": ["TEST_0001"]}
    Profile.model_validate(raw)
    raw["families"][2]["keys"] = {"symbol": ["TEST_0001"]}
    assert 'without "stage"' in refused(raw)


def test_a_choice_of_symbols_needs_symbols_as_keys_where_every_payload_has_one() -> None:
    raw = three_families()
    raw["consumers"][0]["subscribe"] = {"symbols": ["TEST_0001"]}
    assert 'family "stage", whose messages carry a symbol that is no key of it' in refused(raw)


def test_a_subscription_that_gets_nothing_is_refused() -> None:
    raw = three_families()
    raw["families"][2] |= {"keys": {"symbol": ["AAPL"]}}
    raw["consumers"][0]["subscribe"] = {
        "families": ["ranks", "stage", "patterns"],
        "symbols": ["AAPL"],
        "patterns": ["Doji"],
    }
    assert "found a subscription that gets no route of any family" in refused(raw)


def test_a_share_of_symbols_must_reach_every_consumer() -> None:
    raw = copy.deepcopy(BASE)
    raw["families"][0] |= {"symbols": 0, "keys": {"pattern": ["Doji"], "symbol": ["A", "B", "C", "D", "E", "F"]}}
    raw["consumers"][0]["subscribe"] = {"families": ["ranks"], "symbol_share": 0.3}
    assert "consumers[0].subscribe.symbol_share" in refused(raw)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 1.0])
def test_every_consumer_of_an_accepted_profile_gets_a_route(share: float) -> None:
    raw = copy.deepcopy(BASE)
    raw["consumers"][0]["subscribe"] = {"symbol_share": share}
    profile = Profile.model_validate(raw)
    contract = Contract(profile)
    assert all(contract.consumer(slot).routes for slot in range(contract.consumer_count))


def test_at_most_64_pairs_of_family_and_group() -> None:
    raw = copy.deepcopy(BASE)
    raw["consumers"] = [{"name": f"group-{index}", "count": 1} for index in range(32)]
    Profile.model_validate(raw)
    raw["consumers"].append({"name": "one-more", "count": 1})
    assert "found 2 families x 33 consumer groups = 66, allowed 64" in refused(raw)


def test_the_memory_estimate_grows_with_consumers_and_streams() -> None:
    small = memory_mb(Profile.model_validate(BASE))
    more = memory_mb(Profile.model_validate(changed({"consumers.0.count": 4000})))
    streams = memory_mb(Profile.model_validate(changed({"consumers.0.count": 4000, "families.1.symbols": 400})))
    assert small < more < streams
    # 4000 x (8 + 400 streams) x 160 B = 261 MB, and 16 KiB for each of 4004 consumers
    assert 261 < streams < 340


def test_the_history_estimate_is_of_the_size_that_was_measured() -> None:
    """20 streams with 50/s each to 1,000 consumers: 330 MB in four hours."""
    raw = copy.deepcopy(BASE)
    raw["families"] = [dict(raw["families"][0], keys={}, symbols=1)]
    name = raw["families"][0]["name"]
    raw["publishers"] = [
        {"name": "all", "count": 20, "families": [name], "shape": {"kind": "constant", "rate_per_s": 50}}
    ]
    raw["consumers"] = [{"name": "all", "count": 1000}]
    raw["run"]["duration_s"] = 4 * 3600
    often = Profile.model_validate(raw)
    assert 250 < history_mb(often) < 450
    raw["publishers"][0]["shape"] = {
        "kind": "burst", "base_per_s": 1, "peak_per_s": 9, "length_s": 1, "period_s": 8,
    }  # fmt: skip
    assert history_mb(Profile.model_validate(raw)) < 0.7 * history_mb(often)


def test_an_external_target_may_name_its_own_links() -> None:
    raw = copy.deepcopy(BASE)
    raw["target"] = {
        "kind": "external",
        "redis": "r:6379",
        "gateway": "g:80",
        "postgres": "p:5432",
        "toxiproxy": "t:8474",
        "proxies": {"app-redis": "redis_proxy"},
    }
    raw["faults"][0]["link"] = "app-redis"
    raw["families"][0]["path"] = ["app-redis", "client-gateway"]
    raw["families"][1]["channel"] = "other.channel"  # an external target may take events elsewhere
    Profile.model_validate(raw)


@pytest.mark.parametrize(
    ("measures", "sentence"),
    [
        (
            ["first_fresh_p95_s:nobody"],
            'gate.measures[0]: found "first_fresh_p95_s:nobody", allowed one of "first_fresh',
        ),
        (["unseen_max", "latency_p95_ms:cut"], "gate.measures[1]: found"),
    ],
)
def test_a_figure_that_no_run_can_have_cannot_be_gated(measures: list[str], sentence: str) -> None:
    with pytest.raises(ValidationError) as error:
        Profile.model_validate(changed({"gate": {"measures": measures}}))
    assert sentence in str(error.value)
    gated = {"measures": ["first_fresh_p95_s:cut", "latency_p95_ms:patterns", "unseen_max"]}
    assert Profile.model_validate(changed({"gate": gated})).gate is not None
    for wrong, said in ((["speed"], "allowed one of"), (["unseen_max"] * 2, 'found "unseen_max" twice')):
        with pytest.raises(ValidationError, match=said):
            Profile.model_validate(changed({"gate": {"measures": wrong}}))
    with pytest.raises(ValidationError, match="the profile has none"):
        Profile.model_validate(changed({"faults": [], "gate": {"measures": ["recovery_s"]}}))
