"""Are the pings through the links drawn, and is nothing judged by them?"""

from __future__ import annotations

from loadtests.measure.judge import judge
from loadtests.model import records as r
from tests.measure.simulate import MS, S, World, profile

LINK = "gateway-redis"


def ping(at_ns: int, took_ms: float | None) -> r.PathProbe:
    ok = took_ms is not None
    took_ns = round(took_ms * MS) if took_ms is not None else -1
    return r.PathProbe(what=f"{r.LINK_PROBE}{LINK}", at_ns=at_ns, took_ns=took_ns, ok=ok, detail="" if ok else "silent")


def test_a_ping_through_a_link_is_drawn_and_an_unanswered_one_is_a_hole() -> None:
    world = World(profile()).calm()
    world.extra += [ping(world.warm + S, 1.5), ping(world.warm + 2 * S, None), ping(world.warm + 3 * S, 2.5)]
    drawn = judge(world.profile, world.history()).timeline.series[f"link_delay_ms:{LINK}"]
    assert [value for value in drawn if value is not None] == [1.5, 2.5]


def test_no_check_is_moved_by_them() -> None:
    plain, pinged = World(profile()).calm(), World(profile()).calm()
    pinged.extra += [ping(pinged.warm + n * S, 900.0 if n % 2 else None) for n in range(4)]
    without, with_pings = (judge(world.profile, world.history()) for world in (plain, pinged))
    assert with_pings.checks == without.checks
    assert with_pings.verdict is without.verdict
    assert with_pings.reasons == without.reasons
