"""Does the page see each fault as far as it has come, and how fresh everything is since its healing?"""

from __future__ import annotations

from pathlib import Path

from loadtests.harness.live_pipeline import LiveFaults, links_and_services
from loadtests.model.injectwire import PlannedFault
from loadtests.model.profile.reading import read_profile
from loadtests.model.records import FaultStep, FirstAfter, Note

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
    links, services = links_and_services(
        ("publisher-redis", "gateway-redis", "client-gateway", "gateway-postgres", "odd"),
        {"published": 10.0, "received": 90.0},
        1.5,
        {"gateway": 70.0},
        {},
        (2.0, True),
        2,
    )
    assert [(link.rate_per_s, link.delay_ms) for link in links] == [
        (10.0, None),
        (10.0, None),
        (90.0, 1.5),
        (None, None),
        (None, None),
    ]
    shown = {service.name: service for service in services}
    assert set(shown) == {"redis", "gateway", "postgres", "odd", "toxiproxy"}
    assert (shown["gateway"].memory_mb, shown["gateway"].health_ms, shown["redis"].health_ms) == (70.0, 2.0, None)
    assert shown["postgres"].cpu_percent is None
