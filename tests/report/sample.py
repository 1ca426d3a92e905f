"""What does a plausible run look like?  Results with three faults, a proven defect, unknowns and every kind of gap."""

from __future__ import annotations

import math
import random

from loadtests.model.results import (
    SCHEMA,
    Away,
    Bars,
    Check,
    ConsumerRecovery,
    ConsumerSpread,
    Delivery,
    EffectiveValue,
    FaultLimit,
    FaultResult,
    Growth,
    HarnessResult,
    Interference,
    Lost,
    PhaseSpan,
    RecoveryResult,
    RepeatedResult,
    Results,
    RouteResult,
    RunInfo,
    Series,
    SlowReaders,
    Spread,
    Verdict,
)

FAULTS = (
    ("redis-cut", "down", "gateway-redis", 30.0, 35.02),
    ("slow-clients", "latency", "client-gateway", 60.01, 70.04),
    ("db-black-hole", "black-hole", "gateway-postgres", 95.0, 100.01),
)
END = 128.0


def spread(middle: float, count: int = 500_000) -> Spread:
    """A distribution around a median, in ms."""
    return Spread(
        count=count,
        mean=middle * 1.213,
        p50=middle,
        p90=middle * 1.71,
        p95=middle * 2.13,
        p99=middle * 4.37,
        p999=middle * 11.9,
        max=middle * 61.3,
        negative=0,
    )


NOTHING = Spread(
    count=0, mean=None, p50=None, p90=None, p95=None, p99=None, p999=None, max=None, negative=0
)  # no sample at all
THIN = Spread(count=37, mean=1.93, p50=1.81, p90=None, p95=None, p99=None, p999=None, max=4.41, negative=2)


def lost(total: int | None = 0, defect: int | None = 0, **more: int | None) -> Lost:
    """Losses and their attribution."""
    rest = {"charged": 0, "injector_at_most": 0, "broker": 0, **more}
    return Lost(total=total, defect=defect, **rest)


def consumers(rng: random.Random, middle: float, left_out: int = 0) -> ConsumerRecovery:
    """How 200 clients came back."""

    def times(around: float) -> list[float]:
        return sorted(round(rng.lognormvariate(math.log(around), 0.35), 3) for _ in range(200 - left_out))

    def over(values: list[float]) -> ConsumerSpread:
        everybody: list[float | None] = [*values, *[None] * left_out]
        found = {"p50": everybody[99], "p95": everybody[189], "max": everybody[199]}
        beyond = {name: 10.0 for name, value in found.items() if value is None}
        return ConsumerSpread(**found, not_recovered=left_out, clients=200, back=len(values), beyond_s=beyond)

    fresh, steady = times(middle), times(middle * 1.6)
    return ConsumerRecovery(
        detected=over(times(0.21)),
        first_byte=over(times(middle * 0.9)),
        first_fresh=over(fresh),
        steady=over(steady),
        distribution={"first_fresh": fresh, "steady": steady},
        slowest=[f"consumer {17 + i} (plain): first fresh {v:.2f} s" for i, v in enumerate(reversed(fresh[-10:]))],
    )


def timeline(rng: random.Random) -> Series:
    """Half-second slices that show the faults."""
    series: dict[str, list[float | None]] = {}
    for i in range(int(END * 2)):
        t = i / 2
        cut, slow = 30 <= t < 35, 60 <= t < 70
        back = 35 <= t < 37
        published = 100 + rng.gauss(0, 2)
        delivered = 0.0 if cut else published * 200 * (1.6 if back else 1)
        put = {
            "published_per_s": round(published, 1),
            "delivered_per_s": round(delivered, 1),
            "unseen": round(published * 200 * (t - 30) if cut else rng.uniform(5, 40) * (30 if slow else 1)),
            "lost_per_s": round(published * 100) if cut else 0,
            "latency_p50_ms": None if cut else round(rng.uniform(1.4, 1.7) + (180 if slow else 0), 2),
            "latency_p95_ms": None if cut else round(rng.uniform(3.0, 3.6) + (230 if slow else 0), 2),
            "latency_p99_ms": None
            if cut or i % 37 == 0
            else round(rng.uniform(6, 9) + (260 if slow else 0) + (900 if back else 0), 2),
            "own_lag_p99_ms": round(rng.uniform(0.1, 0.3), 3),
            "repeated": 2.0 if i == 75 else 0.0,
            "connected": 188 if back else 200,
            "memory_mb:gateway": round(81 + t / 30 + rng.uniform(-0.3, 0.3), 2),
            "memory_mb:redis": round(12.3 + (4 if cut else 0), 2),
            "memory_mb:producer": round(38.4 + rng.uniform(-0.1, 0.1), 2),
            "cpu:gateway": round(22 + rng.uniform(-3, 3) + (30 if back else 0), 1),
            "cpu:redis": round(4 + rng.uniform(-1, 1), 1),
            "cpu:load generator": None if i == 9 else round(31 + rng.uniform(-4, 4), 1),
        }
        for name, value in put.items():
            series.setdefault(name, []).append(value)
    return Series(slice_s=0.5, from_s=0.0, series=series)


def bars(rng: random.Random, middle: float, total: int) -> Bars:
    """A log-shaped histogram."""
    upper = [round(0.05 * 1.25**i, 4) for i in range(48)]
    weights = [math.exp(-((math.log(u / middle)) ** 2) / 0.5) for u in upper]
    return Bars(upper_ms=upper, count=[round(total * w / sum(weights) * rng.uniform(0.9, 1.1)) for w in weights])


def sample(verdict: Verdict = Verdict.FAIL) -> Results:
    """Results of a run of 128 s with three faults; equal for every call."""
    rng = random.Random(7)
    phases = [("warm-up", 0.0, 5.0), ("baseline", 5.0, 30.0)]
    for i, (_, _, _, start, end) in enumerate(FAULTS):
        after = FAULTS[i + 1][3] if i + 1 < len(FAULTS) else 123.0
        phases += [("fault", start, end), ("recovery", end, end + 8), ("baseline", end + 8, after)]
    phases.append(("drain", 123.0, END))
    checks = [
        Check(
            name="lost_defect<=0 calm",
            verdict=Verdict.FAIL,
            summary="12 lost on connected clients with every link free of faults, 0 allowed",
            limit=0,
            measured=12,
            phases=["calm"],
            evidence=[
                f"consumer {40 + i} (plain) stream 3.0.17: seq {900 + i} lost, due 81.{i:02d} s" for i in range(12)
            ],
        ),
        Check(
            name="latency_p95_ms<=50 calm",
            verdict=Verdict.PASS,
            summary="p95 is 3.32 ms",
            limit=50,
            measured=3.3228,
            phases=["calm"],
            evidence=[],
        ),
        Check(
            name="latency_p99_ms<=100 calm browsers",
            verdict=Verdict.UNKNOWN,
            summary="fewer than ten samples lie beyond it",
            limit=100,
            measured=None,
            phases=["calm"],
            evidence=["37 samples"],
        ),
        Check(
            name="delivery_rate>=0.999 calm",
            verdict=Verdict.PASS,
            summary="99.994 % of owed",
            limit=0.999,
            measured=0.99994,
            phases=["calm"],
            evidence=[],
        ),
        Check(
            name="recovery_s<=10 all redis-cut",
            verdict=Verdict.PASS,
            summary="steady 2.01 s after healed",
            limit=10,
            measured=2.01,
            phases=["all"],
            evidence=[],
        ),
        Check(
            name="recovery_s<=10 all slow-clients",
            verdict=Verdict.FAIL,
            summary="not recovered (> 10 s): 3 clients stay without fresh messages <plain>",
            limit=10,
            measured=None,
            phases=["all"],
            evidence=[],
        ),
        Check(
            name="growth_mb_per_h<=20 all gateway",
            verdict=Verdict.UNKNOWN,
            summary="the interval straddles the limit: run longer",
            limit=20,
            measured=31.2,
            phases=["all"],
            evidence=["12 blocks of 10.0 s"],
        ),
        Check(
            name="own lag",
            verdict=Verdict.PASS,
            summary="own lag p99 is 0.192 ms",
            limit=50,
            measured=0.192,
            phases=["all"],
            evidence=[],
        ),
    ]
    faults = [
        FaultResult(
            name=name,
            kind=kind,
            link=link,
            asked={"latency_ms": 200, "jitter_ms": 20} if kind == "latency" else {},
            effective={"delay_ms": 211.4, "closed": None} if kind == "latency" else {"connections_closed": 1},
            injected_s=start,
            healed_s=end,
            error_s=0.104,
            proved=kind != "black-hole",
            lifted_by="schedule",
            detail="" if kind != "black-hole" else "no connection was open, so nothing could be seen to stop",
        )
        for name, kind, link, start, end in FAULTS
    ]
    recovery = [
        RecoveryResult(
            fault="redis-cut",
            verdict=Verdict.PASS,
            outage_s=7.03,
            recovery_s=2.01,
            limit_s=10,
            error_s=0.204,
            summary="steady 2.01 s after healed; the gateway's reconnection dominates",
            consumers=consumers(rng, 0.6),
            limits=[
                FaultLimit(measure="recovery_s", limit=1.5, measured=2.01, verdict=Verdict.FAIL),
                FaultLimit(measure="clients_not_back", limit=0, measured=0, verdict=Verdict.PASS, default=True),
            ],
            judged=Verdict.FAIL,
        ),
        RecoveryResult(
            fault="slow-clients",
            verdict=Verdict.FAIL,
            outage_s=None,
            recovery_s=None,
            limit_s=10,
            error_s=0.204,
            summary="not recovered (> 10 s)",
            consumers=consumers(rng, 1.9, left_out=160),
        ),
        RecoveryResult(
            fault="db-black-hole",
            verdict=Verdict.UNKNOWN,
            outage_s=None,
            recovery_s=None,
            limit_s=10,
            error_s=None,
            summary="no visible impact, and no proof that the fault acted",
            consumers=ConsumerRecovery(
                detected=EMPTY,
                first_byte=EMPTY,
                first_fresh=EMPTY,
                steady=EMPTY,
                distribution={"first_fresh": [], "steady": []},
                slowest=[],
            ),
        ),
    ]
    routes = [
        RouteResult(
            group="patterns/plain",
            owed=1_843_112,
            unique=1_794_503,
            repeated=0,
            reordered=0,
            late=114,
            lost=lost(48_609, 12, charged=48_396, injector_at_most=611),
            calm_lost=12,
            latency_ms=spread(1.72),
            calm_latency_ms=spread(1.56),
        ),
        RouteResult(
            group="patterns/browsers",
            owed=614_102,
            unique=598_201,
            repeated=2,
            reordered=1,
            late=9,
            lost=lost(15_901, 0, charged=15_901, injector_at_most=204),
            calm_lost=0,
            latency_ms=spread(1.98),
            calm_latency_ms=THIN,
        ),
        RouteResult(
            group="jobs/browsers",
            owed=None,
            unique=None,
            repeated=None,
            reordered=None,
            late=None,
            lost=lost(None, None, charged=None, injector_at_most=None, broker=None),
            calm_lost=None,
            latency_ms=NOTHING,
            calm_latency_ms=NOTHING,
        ),
    ]
    return Results(
        schema=SCHEMA,
        run=RunInfo(
            id="20260105-093012-resilience-7f3a",
            profile="resilience",
            question="What do a cut of Redis, slow clients and a silent database cost, and how fast is it back?",
            profile_sha256="9c2f1f0b" * 8,
            seed=4711,
            started_at="2026-01-05T09:30:12Z",
            duration_s=END,
            workers=2,
            versions={
                "tickstorm": "0.1.0",
                "locust": "2.47.0",
                "valkey": "9.1.0",
                "toxiproxy": "2.12.0",
                "python": "3.11.9",
            },
            machine="linux x86_64, 2 cores, 8 GB",
            finish="the plan was done",
        ),
        verdict=verdict,
        reasons=[f"{checks[0].name}: {checks[0].summary}", "two workers were lost at 90 s"],
        checks=checks,
        phases=[PhaseSpan(phase=p, from_s=a, to_s=b) for p, a, b in phases],
        delivery=Delivery(
            published=12_283,
            failed=5,
            unknown=19,
            not_offered=0,
            offered=2_460_014,  # owed, 88 undecided, 2,712 away
            owed=2_457_214,
            unique=2_392_704,
            repeated=2,
            reordered=1,
            foreign=0,
            undecided=88,
            late=123,
            lost=lost(64_510, 12, charged=64_297, injector_at_most=815, broker=None),
            rate=0.973747,
            received_per_s=19_213.44,
            rpo_s=4.93,
            away=Away(own_plan=1_000, charged=1_511, harness=0, disconnected=201),
            delivered=2_392_704,
            delivered_of_owed=0.973747,
            slow_readers=SlowReaders(
                groups=["browsers"],
                owed=614_102,
                unique=598_201,
                repeated=2,
                reordered=0,
                late=77,
                lost=15_901,
                others_latency_ms=spread(1.66, 1_794_503),
            ),
        ),
        latency_ms=spread(1.81, 2_392_704),
        service_ms=spread(1.62, 37_386),
        own_lag_ms=spread(0.044, 12_283),
        blocked_ms=spread(0.0031, 12_283),
        read_delay_ms=THIN,
        calm_latency_ms=spread(1.56, 1_603_211),
        queries={
            "recent_events": {"connect": THIN, "query": spread(3.1, 1200)},
            "symbols": {"connect": NOTHING, "query": spread(0.81, 1200)},
        },
        faults=faults,
        recovery=recovery,
        growth=[
            Growth(
                process="gateway",
                metric="rss",
                verdict="UNKNOWN",
                slope_mb_per_h=31.2,
                low=-3.4,
                high=61.9,
                growth_mb=1.21,
                samples=118,
                around_faults=[{"fault": f[0], "before_mb": 81.9, "during_mb": 83.2, "after_mb": None} for f in FAULTS],
            ),
            Growth(
                process="redis",
                metric="used_memory",
                verdict="CLEAN",
                slope_mb_per_h=0.4,
                low=-1.2,
                high=1.9,
                growth_mb=0.02,
                samples=118,
                around_faults=[],
            ),
            Growth(
                process="producer",
                metric="rss",
                verdict="LEAK",
                slope_mb_per_h=88.1,
                low=61.0,
                high=99.4,
                growth_mb=3.04,
                samples=118,
                around_faults=[],
            ),
            Growth(
                process="postgres",
                metric="rss",
                verdict="UNKNOWN",
                slope_mb_per_h=None,
                low=None,
                high=None,
                growth_mb=None,
                samples=4,
                around_faults=[],
            ),
        ],
        routes=routes,
        timeline=timeline(rng),
        histograms={
            "latency": bars(rng, 1.8, 2_392_704),
            "calm latency": bars(rng, 1.5, 1_603_211),
            "service": bars(rng, 1.6, 37_386),
            "own lag": bars(rng, 0.07, 12_283),
        },
        effective=[
            EffectiveValue(key="run.duration_s", value="120", source="profile", relaxed=False),
            EffectiveValue(key="thresholds[2].at_most", value="100", source="-o on the command line", relaxed=True),
            EffectiveValue(key="target.redis", value="127.0.0.1:16379", source="local stack", relaxed=False),
        ],
        harness=HarnessResult(
            receive="epoll, kernel stamps for one read in 64",
            saturated_s=0.0,
            clean_coverage=0.9981,
            cpu_percent={"worker 1": 41.27, "worker 2": 38.8, "injector": None},
            rss_mb={"worker 1": 96.4, "worker 2": 95.9},
            trouble=["worker 2, 44.1 s to 44.3 s: hub lag 214 ms, above 200 ms"],
        ),
        log=[
            "12.000 s override: thresholds[2].at_most = 100 (was 50)",
            "70.04 s slow-clients: lifted on the second try </script><b>x</b>",
        ],
        repeated=[
            RepeatedResult(
                fault="redis-cut",
                times=3,
                recovered=2,
                recovery_s=[1.231, None, 2.482],
                median_s=2.482,
                max_s=None,
                mean_s=None,
            )
        ],
        interference=[
            Interference(
                fault="db-black-hole",
                what="stream",
                name="patterns",
                on_path=False,
                before=spread(1.52),
                during=spread(77.1),
                after=spread(1.61),
                lost=17,
                touched=True,
                summary="stream patterns: 17 lost while it was in force",
            ),
            Interference(
                fault="db-black-hole",
                what="query",
                name="symbols",
                on_path=True,
                before=spread(3.12),
                during=NOTHING,
                after=THIN,
                lost=41,
                touched=True,
                summary="query symbols: 41 failed while it was in force",
            ),
            Interference(
                fault="redis-cut",
                what="query",
                name="symbols",
                on_path=False,
                before=THIN,
                during=NOTHING,
                after=NOTHING,
                lost=0,
                touched=None,
                summary="query symbols: too little is known before or during it to compare",
            ),
        ],
    )


EMPTY = ConsumerSpread(p50=None, p95=None, max=None, not_recovered=None)


def nothing_known() -> Results:
    """A run that died before anything could be measured: every number unknown, every list empty."""
    nobody = Delivery(
        published=None,
        failed=None,
        unknown=None,
        not_offered=None,
        offered=None,
        owed=None,
        unique=None,
        repeated=None,
        reordered=None,
        foreign=None,
        undecided=None,
        late=None,
        rate=None,
        received_per_s=None,
        rpo_s=None,
        lost=lost(None, None, charged=None, injector_at_most=None, broker=None),
    )
    return Results(
        schema=SCHEMA,
        run=RunInfo(
            id="r-empty",
            profile="smoke",
            question="Does it run at all?",
            profile_sha256="0" * 64,
            seed=1,
            started_at=None,
            duration_s=None,
            workers=0,
            versions={},
            machine="",
            finish=None,
        ),
        verdict=Verdict.UNKNOWN,
        reasons=["the history holds no finish"],
        checks=[],
        phases=[],
        delivery=nobody,
        latency_ms=NOTHING,
        service_ms=NOTHING,
        own_lag_ms=NOTHING,
        blocked_ms=NOTHING,
        read_delay_ms=NOTHING,
        calm_latency_ms=NOTHING,
        queries={},
        faults=[],
        recovery=[],
        growth=[],
        routes=[],
        timeline=Series(slice_s=0.5, from_s=0.0, series={}),
        histograms={},
        effective=[],
        harness=HarnessResult(
            receive="none", saturated_s=None, clean_coverage=None, cpu_percent={}, rss_mb={}, trouble=[]
        ),
        log=[],
    )
