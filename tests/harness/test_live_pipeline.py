"""Does the page see each fault as far as it has come, and how fresh everything is since its healing?"""

from __future__ import annotations

from pathlib import Path

from loadtests.harness.live_pipeline import LiveFaults, links_and_services
from loadtests.model.injectwire import PlannedFault
from loadtests.model.profile.reading import read_profile
from loadtests.model.records import FaultStep, FirstAfter, Note, PathProbe

SHIPPED = Path(__file__).parents[2] / "profiles" / "locust-quick.toml"
PROFILE = read_profile(SHIPPED.read_text("utf-8"), file="quick").profile
S = 1_000_000_000
T0 = 5 * S


def step(name: str, step: str, at_s: float, **more: object) -> FaultStep:
    at_ns = T0 + round(at_s * S)
    return FaultStep(name=name, kind="down", link="gateway-redis", step=step, before_ns=at_ns, after_ns=at_ns, **more)  # type: ignore[arg-type]


def fold(*records: object) -> LiveFaults:
    made = LiveFaults(PROFILE)
    for record in records:
        made.add(record, T0)
    return made


def planned(name: str, at_s: float, *, by_hand: bool = False) -> dict[str, PlannedFault]:
    return {
        name: PlannedFault(
            name=name,
            kind="down",
            link="gateway-redis",
            direction="both",
            at_ns=T0 + round(at_s * S),
            until_ns=T0 + round((at_s + 2) * S),
            asked={"a": 1},
            by_hand=by_hand,
        )
    }


def test_a_fault_to_come_is_shown_with_its_time() -> None:
    (fault,) = fold().shown(planned("blink", 8), T0)
    assert (fault.state, fault.plan_from_s, fault.plan_to_s) == ("planned", 8, 10)
    assert (fault.from_s, fault.fresh) == (None, None)
    assert fault.asked == {"a": 1}


def test_freshness_counts_from_the_healing_that_it_belongs_to() -> None:
    healed = T0 + 4 * S
    steps = [step("x", "active", 2), step("x", "proved", 2.5, effective={"rtt_ms": 1.0}), step("x", "lifted", 4)]
    before = fold(*steps, FirstAfter(healed_ns=1, kind=["fresh"], consumer=[9], at_ns=[3]))
    (fault,) = before.shown(planned("x", 2, by_hand=True), T0)
    assert (fault.state, fault.from_s, fault.to_s, fault.proved, fault.by_hand) == ("healed", 2, 4, True, True)
    assert (fault.fresh, fault.fresh_s) == (0, None)
    for consumers in ([0, 1], [2]):
        firsts = [(kind, consumer) for consumer in consumers for kind in ("byte", "fresh")]
        before.add(
            FirstAfter(
                healed_ns=healed,
                kind=[kind for kind, _ in firsts],
                consumer=[consumer for _, consumer in firsts],
                at_ns=[healed + (consumer + 1) * S for _, consumer in firsts],
            ),
            T0,
        )
    (fault,) = before.shown({}, T0)
    assert (fault.fresh, fault.fresh_s) == (3, 7)


def test_one_that_failed_or_stayed_says_why() -> None:
    found = fold(
        step("x", "failed", 1, detail="no such link"), step("y", "active", 1), step("y", "not lifted", 2, detail="run")
    )
    x, y = found.shown({}, T0)
    assert (x.state, x.detail, x.from_s, x.to_s) == ("failed", "no such link", None, None)
    assert (y.state, y.detail, y.to_s) == ("not lifted", "run", None)


def test_one_that_acts_again_begins_anew() -> None:
    acts = [step("x", "active", 1), step("x", "proved", 1), step("x", "lifted", 2), step("x", "announced", 5)]
    (fault,) = fold(*acts).shown({}, T0)
    assert (fault.state, fault.from_s, fault.to_s, fault.proved) == ("announced", None, None, None)


def test_only_what_the_user_wrote_is_a_note() -> None:
    found = fold(Note(at_ns=T0 + S, text="override"), Note(at_ns=T0 + 2 * S, text="look", by="user"))
    assert [(note.at_s, note.text) for note in found.written(T0)] == [(2, "look")]


def test_the_picture_says_nothing_that_nobody_measured() -> None:
    names = ("publisher-redis", "gateway-redis", "client-gateway", "gateway-postgres", "odd")
    links, services = links_and_services(names, {"published": 10.0, "received": 90.0}, 1.5, 2, age_s=0.5)
    assert [(link.rate_per_s, link.delay_ms) for link in links] == [
        (10.0, None),
        (10.0, None),
        (90.0, 1.5),
        (None, None),
        (None, None),
    ]
    assert {link.age_s for link in links} == {0.5}
    assert {service.name for service in services} == {"redis", "gateway", "postgres", "odd", "toxiproxy"}
    health = PathProbe(what="health", at_ns=3 * S, took_ns=2_000_000, ok=True)
    gateway, redis = (fold(health).looked_at(name, 4 * S, 70.0, None, S) for name in ("gateway", "redis"))
    assert (gateway.memory_mb, gateway.cpu_percent, gateway.read_age_s) == (70.0, None, 3.0)
    assert (gateway.health_ms, gateway.healthy, gateway.health_age_s) == (2.0, True, 0.998)
    assert (redis.health_ms, redis.healthy, redis.health_age_s) == (None, None, None)


def test_nothing_passes_to_a_subscriber_that_is_not_there() -> None:
    (link,), _ = links_and_services(("gateway-redis",), {"published": 10.0}, None, 0)
    assert (link.rate_per_s, link.rate_is) == (0, "to 0 subscribers")


def test_a_recovery_is_over_when_all_are_fresh_or_its_limit_is() -> None:
    healed = T0 + 4 * S
    found = fold(step("x", "active", 2))
    assert found.disturbed(T0 + 3 * S, 2) == "fault"
    found.add(step("x", "lifted", 4), T0)
    found.add(FirstAfter(healed_ns=healed, kind=["fresh"], consumer=[0], at_ns=[healed + S]), T0)
    limit_s = PROFILE.recovery.limit_s
    assert found.disturbed(healed + 2 * S, 2) == "recovery"
    assert found.disturbed(healed + round((limit_s + 1) * S), 2) is None
    found.add(FirstAfter(healed_ns=healed, kind=["fresh"], consumer=[1], at_ns=[healed + 2 * S]), T0)
    assert found.disturbed(healed + 2 * S, 2) is None
    found.add(step("y", "active", 5), T0)
    found.add(step("y", "not lifted", 6), T0)
    assert found.disturbed(T0 + 60 * S, 2) == "fault"
