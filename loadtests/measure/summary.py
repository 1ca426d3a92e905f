"""What are the figures of the whole run?  Puts a case's folds into the parts of the results; applies no limit."""

from __future__ import annotations

import numpy as np

from loadtests.measure.attribution import BROKER, CHARGED, DEFECT, DISCONNECTED
from loadtests.measure.case import Case
from loadtests.measure.deliveries import bars, latency_spread, spread_of
from loadtests.measure.facts import Bools, Ints
from loadtests.measure.figures_delivery import FOREIGN, late, reordered, repeated
from loadtests.measure.figures_time import publish_table, service_spread
from loadtests.measure.phases import CALM
from loadtests.model.ids import NS_PER_S, SLICE_NS
from loadtests.model.results import (
    Bars,
    Delivery,
    EffectiveValue,
    FaultResult,
    Lost,
    RouteResult,
    RunInfo,
    Spread,
    UserNote,
)
from loadtests.tally.histogram import BUCKETS, bucket_of


def run_info(case: Case) -> RunInfo:
    """Which run this is, as the main process's header says."""
    headers = [h for _, p in case.facts.each() for h in p.headers]
    main = sorted(headers, key=lambda h: (h.role not in ("standalone", "master"), h.process))
    finishes = sorted((f.at_ns, f.reason) for _, p in case.facts.each() for f in p.finishes)
    first = main[0] if main else None
    versions = {key: value for h in reversed(main) for key, value in sorted(h.versions.items())}
    return RunInfo(
        id=first.run if first else "",
        profile=case.profile.name,
        question=case.profile.question,
        profile_sha256=first.profile_sha256 if first else "",
        seed=case.profile.seed,
        started_at=first.started_at or None if first else None,
        duration_s=case.times.seconds(finishes[-1][0]) if finishes and case.times.started else None,
        workers=max((h.workers for h in headers), default=0),
        versions=dict(sorted(versions.items())),
        machine=next((h.machine for h in main if h.machine), ""),
        finish=finishes[-1][1] if finishes else None,
    )


def _lost(case: Case, lost: Ints, injector: int | None) -> Lost:
    """`lost` per category."""
    broker = int(lost[BROKER]) if case.blame.broker_known else None
    return Lost(
        total=int(lost.sum()),
        defect=int(lost[DEFECT]),
        disconnected=int(lost[DISCONNECTED]),
        charged=int(lost[CHARGED]),
        injector_at_most=injector,
        broker=broker,
    )


_NO_LOSS = Lost(total=None, defect=None, disconnected=None, charged=None, injector_at_most=None, broker=None)


def delivery(case: Case) -> Delivery:
    """The account over the whole run."""
    ledger, table, came = case.ledger, case.table, case.came
    publish, _, _ = publish_table(case)
    groups = list(range(len(case.profile.consumers)))
    known = bool(ledger.judged)
    all_rows: Bools = np.ones(len(came.due), dtype=np.bool_)
    owed, lost = int(ledger.owed.sum()), int(ledger.lost_rows.sum())
    seconds = case.phases.seconds_of(None)
    published = len(table.start) > 0
    strange = sum(s[3] for _, p in case.facts.each() for s in p.strange if s[1] in FOREIGN)
    return Delivery(
        published=table.published.size if published else None,
        failed=table.failed.size if published else None,
        unknown=table.unknown.size if published else None,
        not_offered=int(publish[3].sum()) if publish.shape[1] else None,
        offered=int(case.plan.offered_rows.sum()) if published else None,
        owed=owed if known else None,
        unique=int(ledger.unique.sum()) if known else None,
        repeated=repeated(case, all_rows, np.ones(len(table.start), dtype=np.int64), groups, None),
        reordered=reordered(case, groups, None, None),
        foreign=strange,
        undecided=int(ledger.undecided.sum()) if known else None,
        late=late(case, all_rows) if came.counts.any() else None,
        lost=_lost(case, ledger.lost().sum(axis=1), ledger.injector_at_most) if known else _NO_LOSS,
        rate=round((owed - lost) / owed, 9) if owed else None,
        received_per_s=round(int(came.unique.sum()) / seconds, 3) if seconds and came.counts.any() else None,
        rpo_s=ledger.longest_run_slices * SLICE_NS / NS_PER_S if known else None,
    )


def _calm(case: Case) -> Bools:
    calm: Bools = case.phases.codes(case.came.due, case.came.received) == CALM
    return calm & case.clean


def _calm_of_the_judged(case: Case) -> Bools:
    """As the thresholds take it: without the groups that are expected to be slow, unless there are no others."""
    groups = case.profile.consumers
    judged = [i for i, g in enumerate(groups) if not g.expect_slow] or list(range(len(groups)))
    rows: Bools = _calm(case) & np.isin(case.came.consumers, judged)
    return rows


def spreads(case: Case) -> dict[str, Spread]:
    """Distributions over the whole run; what came while a process was saturated, or left no reading, is left out."""
    _, lag, blocked = publish_table(case)
    return {
        "latency": latency_spread(case.came, case.clean, case.slow_read),
        "calm latency": latency_spread(case.came, _calm_of_the_judged(case), case.slow_read),
        "service": service_spread(case, case.clean),
        "own lag": spread_of(lag.all()),
        "blocked": spread_of(blocked.all()),
        "read delay": spread_of(case.came.read_delay.all()),
    }


def histograms(case: Case) -> dict[str, Bars]:
    """Distributions for drawing."""
    _, lag, _ = publish_table(case)
    rows = case.came.counts & case.clean
    fresh = np.zeros(BUCKETS, dtype=np.int64)
    for recovery in case.recovery:
        for seconds in recovery.consumers.distribution.get("first_fresh", []):
            fresh[bucket_of(round(seconds * NS_PER_S))] += 1
    return {
        "latency": bars(case.came.latency.dense(rows)),
        "calm latency": bars(case.came.latency.dense(rows & _calm_of_the_judged(case))),
        "service": bars(case.came.service.dense(case.clean)),
        "own lag": bars(lag.all()),
        "recovery first fresh": bars(fresh),
    }


def queries(case: Case) -> dict[str, dict[str, Spread]]:
    """Database reads per query."""
    held: dict[str, tuple[Ints, Ints]] = {}
    for _, process in case.facts.each():
        for q in process.queried:
            pair = held.setdefault(q.query, (np.zeros(BUCKETS, dtype=np.int64), np.zeros(BUCKETS, dtype=np.int64)))
            for dense, (bucket, count) in zip(pair, (q.connect, q.latency), strict=True):
                dense[bucket] += np.array(count, dtype=np.int64)
    return {name: {"connect": spread_of(c), "query": spread_of(q)} for name, (c, q) in sorted(held.items())}


def faults(case: Case) -> list[FaultResult]:
    """Every fault as it acted."""
    at = case.times.seconds
    return [
        FaultResult(
            name=a.name,
            kind=a.kind,
            link=a.link,
            asked=a.asked,
            effective=a.effective,
            injected_s=None if a.injected_ns is None else at(a.injected_ns),
            healed_s=None if a.healed_ns is None else at(a.healed_ns),
            error_s=None if a.error_ns is None else round(a.error_ns / NS_PER_S, 6),
            proved=a.proved,
            lifted_by=a.lifted_by,
            detail=a.detail,
            lost_charged=None if a.injected_ns is None else case.ledger.charged_to.get(a.name, 0),
        )
        for a in case.acts
    ]


def routes(case: Case) -> list[RouteResult]:
    """Each route family x consumer group that was planned or seen."""
    ledger, came, table = case.ledger, case.came, case.table
    calm_rows = (case.phases.codes(table.due) == CALM).astype(np.int64)
    found = []
    for family in range(len(case.profile.families)):
        of_family = (table.row_family == family).astype(np.int64)
        for group in range(len(case.profile.consumers)):
            rows = (came.family == family) & (came.consumers == group)
            if not (int(ledger.owed[family, group]) or rows.any() or int(case.plan.offered_rows[group] @ of_family)):
                continue
            lost = ledger.lost(of_family)[:, group]
            known = bool(ledger.judged)
            found.append(
                RouteResult(
                    group=case.contract.group_name(case.contract.group_index(family, group)),
                    owed=int(ledger.owed[family, group]) if known else None,
                    unique=int(ledger.unique[family, group]) if known else None,
                    repeated=repeated(case, rows, of_family, [group], None, family),
                    reordered=reordered(case, [group], family, None),
                    late=late(case, rows),
                    lost=_lost(case, lost, int(ledger.injector_rows[group] @ of_family)) if known else _NO_LOSS,
                    calm_lost=int(ledger.lost(of_family * calm_rows)[:, group].sum()) if known else None,
                    latency_ms=latency_spread(came, rows & case.clean, case.slow_read),
                    calm_latency_ms=latency_spread(came, rows & _calm(case), case.slow_read),
                )
            )
    return found


def effective_values(case: Case) -> list[EffectiveValue]:
    """Effective values as the main process recorded them, each once."""
    found: dict[str, EffectiveValue] = {}
    for _, process in case.facts.each():
        for e in process.effective:
            for key, value, source, relaxed in zip(e.key, e.value, e.source, e.relaxed, strict=True):
                found.setdefault(key, EffectiveValue(key=key, value=value, source=source, relaxed=relaxed))
    return list(found.values())


def user_notes(case: Case) -> list[UserNote]:
    """What the user wrote down."""
    notes = sorted((n.at_ns, n.text) for _, p in case.facts.each() for n in p.notes if n.by == "user")
    return [UserNote(at_s=case.times.seconds(at_ns), text=text) for at_ns, text in notes]


def log(case: Case) -> list[str]:
    """Notes, what was strange, escalations and connections that were lost, in order of time."""
    at = case.times.seconds
    lines: list[tuple[int, str]] = [
        (n.at_ns, f"noted by the {n.by}: {n.text}" if n.by else n.text) for _, p in case.facts.each() for n in p.notes
    ]
    for _, process in case.facts.each():
        lines += [(s[0], f"{s[3]} x {s[1]} at consumer {s[2]}: {s[4]}") for s in process.strange[:50]]
        for step in process.fault_steps:
            if step.step in ("not in force", "not proved", "not lifted", "failed") or step.by.startswith("escalation"):
                text = f"fault {step.name}: {step.step} {step.by} {step.detail}"
                lines.append((step.after_ns, " ".join(text.split())))
    ends: dict[tuple[int, str], list[int]] = {}
    for (consumer, _), (at_ns, why) in case.subs.left.items():
        if why not in ("own", "end", "moved", ""):
            ends.setdefault((at_ns // NS_PER_S, why), []).append(consumer)
    lines += [
        (second * NS_PER_S, f"{len(who)} connections ended: {why} (first consumer {min(who)})")
        for (second, why), who in ends.items()
    ]
    against = latency_spread(case.came, case.clean, case.slow_read).contradicted
    lines += [(case.times.t0_ns, f"latency: {against}")] if against else []
    lines += [(0, f"{n}: {hole}") for n, p in case.facts.each() for hole in p.holes()]
    return [f"{at(when):.1f} s: {text}" for when, text in sorted(lines)]
