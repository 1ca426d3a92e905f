"""Does a guard speak after its time and not before, and does the next fault wait for the recovery, or for its limit?"""

from __future__ import annotations

from typing import Any

from loadtests.harness.live import LiveFold
from loadtests.harness.triggers import AbortGuards, FaultChain
from loadtests.model.codec import pack
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_S, pack_stream
from loadtests.model.profile.profile import Profile
from loadtests.model.records import (
    Consumed,
    FirstAfter,
    HarnessSecond,
    Published,
    Record,
    RouteSet,
    Samples,
    Settled,
    Subscription,
)
from loadtests.plan.schedule import planned_faults
from loadtests.tally.histogram import bucket_of
from tests.measure.simulate import profile

S = NS_PER_S


class Told:
    """A live fold that is told whole seconds."""

    def __init__(self, profile_: Profile) -> None:
        self.fold = LiveFold("run", profile_, Contract(profile_))
        self._number = 0
        self.tell(RouteSet(index=0, routes=[0]), *[_confirmed(c) for c in range(5)])

    def tell(self, *records: Record) -> None:
        self.fold.take("main", b"".join(pack(self._number, records)))
        self._number += 1

    def second(self, second: int, *, delivered: int = 50, connected: int = 5, ms: float = 5.0, failed: int = 0) -> None:
        stream = pack_stream(0, 0, 0)
        settled = Settled(
            stream=[stream] * bool(failed), first=[0] * bool(failed), last=[failed - 1] * bool(failed),
            outcome=["FAILED"] * bool(failed), at_ns=[second * S] * bool(failed),
        )  # fmt: skip
        due = second * 10
        self.tell(
            Published(stream=[stream], due_slice=[due], sent_slice=[due], first=[0], last=[9], bytes=[9]),
            settled,
            Consumed(
                group=0, due_slice=due, received_slice=due, clock="read", unique=delivered, repeated=0, bytes=1,
                latency=([bucket_of(round(ms * 1e6))], [max(delivered, 1)] if delivered else [0]), negative=0,
            ),
            HarnessSecond(
                at_ns=second * S, cpu_percent=1.0, rss_bytes=9_000_000_000, hub_lag_p99_ns=0, hub_lag_max_ns=0,
                connected=connected, publishing=1, messages=1, reads=1, read_delay_p99_ns=-1, saturated=False,
            ),
        )  # fmt: skip


def _confirmed(consumer: int) -> Subscription:
    return Subscription(consumer=consumer, epoch=0, group=0, step="confirmed", at_ns=0, route_set=0)


def guards(told: Told, guard: dict[str, Any], free: list[float]) -> tuple[AbortGuards, list[Samples]]:
    kept: list[Samples] = []
    made = AbortGuards(profile(aborts=[guard]), told.fold, free_mb=lambda: free[0], emit=kept.append)
    return made, kept


def test_a_guard_needs_its_time_without_a_break() -> None:
    told, free = Told(profile()), [50.0]
    made, kept = guards(told, {"measure": "host_free_memory_mb", "at_least": 100.0, "for_s": 2.0}, free)
    assert made.look(10 * S) is None
    free[0] = 100.0
    assert made.look(11 * S) is None  # the break
    free[0] = 99.0
    assert made.look(12 * S) is None
    assert made.look(14 * S - 1) is None
    assert made.look(14 * S) == "host_free_memory_mb < 100 for 2 s: it was 99 at the end of 2.0 s"
    assert [sample.value for sample in kept][:2] == [[50e6], [100e6]]


def test_the_targets_memory_is_a_process_or_the_sum_and_never_ours() -> None:
    told = Told(profile())
    told.second(9)  # our own nine gigabytes
    for source, mb in (("gateway", 300.0), ("redis", 250.0)):
        told.tell(Samples(source=source, at_ns=10 * S, metric=["rss_bytes"], value=[mb * 1e6]))
    for guard, speaks in (
        ({"at_most": 549.0}, True),
        ({"at_most": 551.0}, False),
        ({"at_most": 260.0, "process": "redis"}, False),
        ({"at_most": 240.0, "process": "redis"}, True),
    ):
        made, _ = guards(told, {"measure": "target_memory_mb", "for_s": 0.0, **guard}, [0.0])
        assert (made.look(11 * S) is not None) == speaks, guard
        assert made.look(60 * S) is None, "an old reading holds nothing"


def test_failed_publishes_and_missing_deliveries_are_shares_of_their_second() -> None:
    told = Told(profile())
    for second in range(20):
        told.second(second, failed=8 if second >= 10 else 0, delivered=10 if second >= 10 else 50)
    for measure, first in (("error_share", 12), ("lost_share", 13)):  # the second one waits for the delivery limit
        made, _ = guards(told, {"measure": measure, "at_most": 0.7, "for_s": 0.0}, [0.0])
        spoke = next(second for second in range(30) if made.look(second * S) is not None)
        assert spoke == first, measure


FAULTS = [
    {"name": "first", "kind": "down", "link": "gateway-redis", "at_s": 10.0, "for_s": 2.0},
    {"name": "next", "kind": "down", "link": "client-gateway", "at_s": 3.0, "for_s": 1.0, "after": "first"},
    {"name": "last", "kind": "down", "link": "client-gateway", "at_s": 3.0, "for_s": 1.0, "after": "next"},
]
RUN = {"duration_s": 120.0, "warm_up_s": 1.0, "drain_s": 2.0, "late_s": 0.5}


def chain() -> tuple[Told, FaultChain]:
    made = profile(faults=FAULTS, run=RUN, recovery={"limit_s": 20.0}, steady={"hold_s": 2.0})
    told = Told(made)
    for second in range(11):
        told.second(second)
    return told, FaultChain(made, told.fold, planned_faults(made, 0), 5)


def test_the_next_comes_when_all_are_fresh_and_steady() -> None:
    told, following = chain()
    for second in range(11, 30):
        told.second(second, delivered=0 if second < 13 else 20 if second < 15 else 50)
    following.lifted("first", 13 * S)
    assert following.look(19 * S) == [], "nobody is fresh yet"
    told.tell(FirstAfter(healed_ns=13 * S, kind=["fresh"] * 4 + ["byte"], consumer=[0, 1, 2, 3, 4], at_ns=[14 * S] * 5))
    assert following.look(19 * S) == [], "one is not fresh yet"
    told.tell(FirstAfter(healed_ns=13 * S, kind=["fresh"], consumer=[4], at_ns=[14 * S]))
    assert following.look(17 * S) == [], "one of the two seconds was not in band"
    ((why, (planned,)),) = following.look(18 * S)
    assert why == 'fault "first" was recovered from within 5.0 s, as the live figures show it; now planned: "next"'
    assert (planned.name, planned.at_ns, planned.until_ns) == ("next", 21 * S, 22 * S)
    assert following.look(30 * S) == [], "each but once"


def test_slow_or_absent_consumers_are_no_recovery() -> None:
    for spoilt in ({"ms": 400.0}, {"connected": 4}, {"delivered": 40}):
        told, following = chain()
        for second in range(13, 30):
            told.second(second, **spoilt)  # type: ignore[arg-type]
        told.tell(FirstAfter(healed_ns=13 * S, kind=["fresh"] * 5, consumer=[0, 1, 2, 3, 4], at_ns=[14 * S] * 5))
        following.lifted("first", 13 * S)
        assert following.look(25 * S) == [], spoilt


def test_one_that_does_not_recover_is_given_up() -> None:
    _, following = chain()
    following.lifted("first", 13 * S)
    assert following.look(35 * S - 1) == []
    ((why, planned),) = following.look(35 * S)
    assert "was given up" in why
    assert [p.name for p in planned] == ["next"]
    ((why, planned),) = following.look(35 * S + 4 * S + 22 * S)
    assert "nothing says that it was lifted" in why
    assert [p.name for p in planned] == ["last"]
