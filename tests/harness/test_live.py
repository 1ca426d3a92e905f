"""Does the live page count what the records say?  Followers make what is owed; seconds keep their own figures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from loadtests.harness.leader import Leader
from loadtests.harness.live import _LATE_S, KEPT_S, OURS, LiveFold
from loadtests.model.codec import pack
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_S, SLICE_NS, pack_stream
from loadtests.model.live import Live
from loadtests.model.profile.reading import read_profile
from loadtests.model.records import (
    Consumed,
    Deviations,
    FaultStep,
    HarnessSecond,
    PathProbe,
    Published,
    PublishTimes,
    Record,
    RouteSet,
    Samples,
    ServiceEnded,
    Settled,
    Subscription,
)
from loadtests.tally.histogram import bucket_of

PROFILE = """
name = "tiny"
question = "Does the live fold count what is there?"
[run]
duration_s = 10
drain_s = 3
[[families]]
name = "patterns"
channel = "tickstock.events.patterns"
event = "pattern_detected"
keys = {pattern = ["Doji"], symbol = ["AAPL", "MSFT"]}
[[publishers]]
name = "feed"
families = ["patterns"]
shape = {kind = "constant", rate_per_s = 10}
[[consumers]]
name = "plain"
count = 2
[[thresholds]]
measure = "deliveries"
at_least = 1
"""


def folded(*records: Record) -> LiveFold:
    profile = read_profile(PROFILE, file="tiny.toml").profile
    fold = LiveFold("run", profile, Contract(profile))
    fold.take("worker-0", b"".join(pack(0, records)))
    return fold


def subscribed(consumer: int, step: str, at_ns: int = 0) -> Subscription:
    return Subscription(consumer=consumer, epoch=0, group=0, step=step, at_ns=at_ns, route_set=0)  # type: ignore[arg-type]


def published(route: int, first: int, last: int, due_slice: int) -> Published:
    stream = pack_stream(0, 0, route)
    return Published(
        stream=[stream], due_slice=[due_slice], sent_slice=[due_slice], first=[first], last=[last], bytes=[1]
    )


def told(at_s: float) -> HarnessSecond:
    return HarnessSecond(
        at_ns=round(at_s * NS_PER_S), cpu_percent=30.0, rss_bytes=80_000_000, hub_lag_p99_ns=0, hub_lag_max_ns=0,
        connected=2, publishing=1, messages=0, reads=0, read_delay_p99_ns=-1, saturated=False,
    )  # fmt: skip


def received(due_s: float, received_s: float, unique: int) -> Consumed:
    histogram = ([bucket_of(5_000_000)], [unique])
    due, at = (round(s * NS_PER_S) // SLICE_NS for s in (due_s, received_s))
    return Consumed(
        group=0, due_slice=due, received_slice=at, clock="read", unique=unique, repeated=0, bytes=1, latency=histogram,
        negative=0,
    )  # fmt: skip


BASE = {"state": "running", "phase": "baseline", "plan_s": 10.0, "planned": 2, "connected": 2, "publishing": 1}


def test_owed_counts_who_follows_the_route_when_it_is_published() -> None:
    fold = folded(
        RouteSet(index=0, routes=[0]),
        subscribed(0, "confirmed"),
        published(0, 0, 4, 10),
        subscribed(1, "confirmed"),
        published(0, 5, 6, 11),
        published(1, 0, 9, 11),  # a route that nobody follows
        subscribed(0, "leaving"),
        published(0, 7, 7, 12),
    )
    assert fold.published == 5 + 2 + 10 + 1
    assert fold.owed == 5 * 1 + 2 * 2 + 0 + 1 * 1


def test_deliveries_gaps_faults_and_samples_show() -> None:
    histogram = ([bucket_of(5_000_000)], [40])
    fold = folded(
        Consumed(
            group=0, due_slice=10, received_slice=10, clock="read", unique=40, repeated=2, bytes=1, latency=histogram,
            negative=0,
        ),
        Consumed(
            group=0, due_slice=10, received_slice=10, clock="kernel", unique=0, repeated=0, bytes=0, latency=histogram,
            negative=0,
        ),
        Deviations(
            kind=["gap", "filled"], consumer=[0, 0], epoch=[0, 0], stream=[1, 1], first=[3, 4], last=[6, 4],
            at_ns=[1, 2],
        ),
        PublishTimes(
            publishers=0, due_slice=10, sent=1, not_offered=3, own_lag=([], []), blocked=([], []), receivers_min=1,
            receivers_max=1, receivers_zero=0,
        ),
        FaultStep(name="cut", kind="down", link="gateway-redis", step="active", before_ns=0, after_ns=2 * NS_PER_S),
        FaultStep(name="cut", kind="down", link="gateway-redis", step="proved", before_ns=0, after_ns=2 * NS_PER_S),
        FaultStep(name="cut", kind="down", link="gateway-redis", step="lifted", before_ns=0, after_ns=3 * NS_PER_S),
        Samples(source="gateway", at_ns=NS_PER_S, metric=["rss_bytes", "cpu_percent"], value=[5e7, 12.5]),
        HarnessSecond(
            at_ns=NS_PER_S, cpu_percent=30.0, rss_bytes=80_000_000, hub_lag_p99_ns=0, hub_lag_max_ns=0, connected=2,
            publishing=1, messages=40, reads=40, read_delay_p99_ns=-1, saturated=False,
        ),
        told(2.1),
    )  # fmt: skip
    live = fold.live(round(2.5 * NS_PER_S), BASE)
    assert (live.delivered, live.repeated, live.lost_so_far, live.not_offered) == (40, 2, 3, 3)
    assert live.series["delivered"] == [0, 40]
    assert live.series["connected"] == [None, 2]
    assert live.memory_mb["gateway"] == 50.0
    assert (live.read_age_s["gateway"], live.age_s) == (1.5, 0.5)
    assert live.cpu_percent["load generator worker-0"] == 30.0
    assert [(f.name, f.state, f.from_s, f.to_s, f.proved) for f in live.faults] == [("cut", "healed", 2.0, 3.0, True)]
    assert live.latency_ms["p50"] is not None
    assert abs(live.latency_ms["p50"] - 5.0) < 0.05
    assert live.latency_ms["p99"] is None  # forty samples carry no 99th percentile


PER_S = NS_PER_S // SLICE_NS
FOLLOWED = (RouteSet(index=0, routes=[0]), subscribed(0, "confirmed"), subscribed(1, "confirmed"))


def test_what_is_replayed_after_a_cut_leaves_its_hole_and_makes_a_spike() -> None:
    fold = folded(
        *FOLLOWED,
        *(published(0, 10 * s, 10 * s + 9, s * PER_S) for s in range(6)),
        *(received(s, s, 20) for s in (0, 1, 4, 5)),
        *(received(s, 4, 20) for s in (2, 3)),
        *(told(s + 0.1) for s in range(1, 7)),
    )
    live = fold.live(round(6.5 * NS_PER_S), BASE)
    assert live.series["delivered"] == [20, 20, 0, 0, 60, 20]
    assert live.series["unseen"] == [0, 0, 20, 40, 0, 0]
    assert (live.owed, live.delivered, live.unseen, live.overdue) == (120, 120, 0, 0)


def test_what_is_late_no_more_is_unseen_no_more() -> None:
    """One message to two consumers never comes: it is owed, and unseen for the delivery limit of two seconds."""
    fold = folded(*FOLLOWED, published(0, 0, 9, 0), received(0, 0, 18), told(1.1))
    early = fold.live(round(1.5 * NS_PER_S), BASE)
    fold.take("worker-0", b"".join(pack(1, [told(s + 0.1) for s in range(2, 6)])))
    late = fold.live(round(5.5 * NS_PER_S), BASE)
    assert (early.owed, early.delivered, early.unseen, early.overdue) == (20, 18, 2, 0)
    assert (late.owed, late.delivered, late.unseen, late.overdue) == (20, 18, 0, 2)
    assert late.series["unseen"] == [2, 2, 0, 0, 0]


def test_a_failed_publish_is_owed_to_nobody_and_an_unknown_one_where_it_comes() -> None:
    stream = pack_stream(0, 0, 0)
    fold = folded(
        *FOLLOWED,
        published(0, 0, 9, 0),
        published(0, 10, 19, PER_S),
        Settled(stream=[stream], first=[8], last=[11], outcome=["FAILED"], at_ns=[NS_PER_S]),
        Settled(stream=[stream], first=[12], last=[13], outcome=["UNKNOWN"], at_ns=[NS_PER_S]),
        received(0, 0, 16),
        received(1, 1, 14),  # one of those whose outcome is unknown came all the same
        *(told(s + 0.1) for s in range(1, 7)),
    )
    live = fold.live(round(6.5 * NS_PER_S), BASE)
    assert (live.published, live.owed, live.delivered) == (20, 30, 30)
    assert (live.unseen, live.overdue, live.lost_so_far) == (0, 0, 0)


def test_a_second_is_known_once_every_process_has_told_of_it() -> None:
    fold = folded(*FOLLOWED, received(1, 1, 40), told(1.3), told(2.1))
    fold.take("worker-1", b"".join(pack(0, [told(1.3)])))
    links = ("client-gateway",)
    (link,), _ = fold.pipeline(round(2.5 * NS_PER_S), links)  # worker-1 may have something of it
    assert (link.rate_per_s, link.age_s) == (0, 1.5)
    assert fold.live(round(2.5 * NS_PER_S), BASE).series["delivered"] == [0, None]
    fold.take("worker-1", b"".join(pack(1, [told(2.3)])))
    (link,), _ = fold.pipeline(round(2.5 * NS_PER_S), links)
    assert (link.rate_per_s, link.age_s) == (40, 0.5)
    (link,), _ = fold.pipeline(9 * NS_PER_S, links)  # nobody has told for long
    assert (link.rate_per_s, link.delay_ms, link.age_s) == (None, None, None)
    (link,), services = fold.pipeline(None, links)  # the run is over
    assert (link.rate_per_s, link.probe) == (None, "")
    assert all(service.memory_mb is None for service in services)


def test_a_service_that_ended_has_no_figures_until_another_process_of_it_is_read() -> None:
    fold = folded(
        Samples(source="gateway", at_ns=NS_PER_S, metric=["rss_bytes", "cpu_percent"], value=[5e7, 12.5]),
        ServiceEnded(service="gateway", at_ns=2 * NS_PER_S, what="ended by SIGKILL"),
    )
    gateway = fold.pipeline(3 * NS_PER_S, ("client-gateway",))[1][0]
    assert (gateway.ended, gateway.memory_mb, gateway.read_age_s) == ("ended by SIGKILL", None, None)
    again = Samples(source="gateway", at_ns=4 * NS_PER_S, metric=["rss_bytes"], value=[6e7])
    fold.take("main", b"".join(pack(0, [again])))
    gateway = fold.pipeline(5 * NS_PER_S, ("client-gateway",))[1][0]
    assert (gateway.ended, gateway.memory_mb, gateway.read_age_s) == ("", 60.0, 1.0)


def test_a_long_run_keeps_what_is_drawn_and_forgets_the_rest() -> None:
    """Six kilobytes of buckets for each second of an hour would be a leak of our own."""
    histogram = ([bucket_of(n * 1_000_000) for n in range(1, 200)], [5] * 199)
    fold = folded()
    per_second, hour = NS_PER_S // SLICE_NS, 3600
    for second in range(hour):
        records: list[Record] = [
            Consumed(
                group=0, due_slice=second * per_second, received_slice=second * per_second, clock="read", unique=995,
                repeated=0, bytes=1, latency=histogram, negative=0,
            ),
            HarnessSecond(
                at_ns=second * NS_PER_S, cpu_percent=30.0, rss_bytes=80_000_000, hub_lag_p99_ns=0, hub_lag_max_ns=0,
                connected=2, publishing=1, messages=40, reads=40, read_delay_p99_ns=-1, saturated=False,
            ),
        ]  # fmt: skip
        fold.take("worker-0", b"".join(pack(second, records)))
    live = fold.live((hour - 1) * NS_PER_S, BASE)
    assert live.delivered == 995 * hour
    assert len(live.series["t"]) == KEPT_S + 1
    assert all(value == 995 for value in live.series["delivered"])
    assert all(value is not None for value in live.series["p95"])
    assert len(fold._latency) <= 2 * _LATE_S + 1
    assert max(map(len, (fold._delivered, fold._percentiles, fold._connected, fold._memory[f"{OURS}worker-0"]))) < 1000


def test_a_torn_file_is_trouble_that_shows() -> None:
    fold = folded()
    fold.take("worker-1", b"not a frame at all")
    assert any("worker-1" in text for text in fold.live(0, BASE).trouble)


def pinged(at_s: float, took_ms: float | None, seen: str = "answer", link: str = "gateway-redis") -> PathProbe:
    ok = took_ms is not None
    took_ns = round(took_ms * 1e6) if took_ms is not None else -1
    return PathProbe(what=f"link:{link}", at_ns=round(at_s * NS_PER_S), took_ns=took_ns, ok=ok, detail=seen)


def test_a_link_shows_its_last_ping_and_how_old_that_is() -> None:
    fold = folded(pinged(1, 1.5), pinged(2, 0.5), pinged(3, None, "refused", "client-gateway"))
    links = {link.name: link for link in fold.pipeline(7 * NS_PER_S, ("gateway-redis", "client-gateway", "odd"))[0]}
    asked = links["gateway-redis"]
    assert (asked.probe, asked.probe_ms) == ("answer", 0.5)
    assert asked.probe_age_s is not None
    assert abs(asked.probe_age_s - 4.9995) < 1e-9
    refused = links["client-gateway"]
    assert (refused.probe, refused.probe_ms, refused.probe_age_s) == ("refused", None, 4)
    assert (links["odd"].probe, links["odd"].probe_ms, links["odd"].probe_age_s) == ("", None, None)


def test_the_delay_of_a_link_is_a_series_with_holes_where_nothing_was_answered() -> None:
    live = folded(pinged(0.2, 1.5), pinged(1.2, None, "silent"), pinged(2.2, 2.5)).live(4 * NS_PER_S, BASE)
    assert live.series["link_delay_ms:gateway-redis"] == [1.5, None, 2.5, None]


def test_a_ping_through_a_link_says_nothing_of_the_health_page() -> None:
    health = PathProbe(what="health", at_ns=NS_PER_S, took_ns=2_000_000, ok=True)
    services = folded(health, pinged(2, None, "refused")).pipeline(3 * NS_PER_S, ("client-gateway",))[1]
    assert [(s.health_ms, s.healthy) for s in services if s.name == "gateway"] == [(2.0, True)]


def test_a_start_that_comes_to_nothing_is_told_and_so_is_one_under_way_beside_an_older_run() -> None:
    old = SimpleNamespace(state="done", live=lambda *, since_s: Live(state="done", run="old"))
    chosen = SimpleNamespace(loaded=SimpleNamespace(profile=SimpleNamespace(name="next")))

    def told(*, preparing: bool, run: object, failed: str = "") -> tuple[str, str, str, str]:
        leader: Any = SimpleNamespace(preparing=preparing, run=run, failed=failed, chosen=chosen)
        live = Leader.live(leader)
        return live.state, live.profile, live.run, live.problem

    assert told(preparing=False, run=None) == ("idle", "next", "", "")
    assert told(preparing=True, run=None) == told(preparing=True, run=old) == ("preparing", "next", "", "")
    assert told(preparing=False, run=None, failed="no stack") == ("idle", "next", "", "no stack")
    assert told(preparing=False, run=old, failed="no stack") == ("done", "", "old", "no stack")
