"""What are the figures of the whole run?  Puts an analysis's folds into the parts of the results; applies no limit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from loadtests.measure.absences import CAUSES
from loadtests.measure.analysis import Analysis
from loadtests.measure.attribution import BROKER, CHARGED, DEFECT, NOT_REPLAYED, UNATTRIBUTED
from loadtests.measure.deliveries import bars, latency_spread, spread_of
from loadtests.measure.fault_windows import escalated
from loadtests.measure.history_tables import Bools, Ints
from loadtests.measure.measures_delivery import STRANGE, contents, late, reordered, repeated, strange_rows
from loadtests.measure.measures_time import publish_table, service_spread, slowest
from loadtests.measure.phases import CALM
from loadtests.measure.target_words import all_said
from loadtests.model.ids import NS_PER_S, SLICE_NS
from loadtests.model.records import ACTED, TOUCHED, Queried, Requested
from loadtests.model.results import (
    Away,
    Bars,
    Delivery,
    EffectiveValue,
    FaultResult,
    Lost,
    RouteResult,
    RunInfo,
    SlowReaders,
    Spread,
    UserNote,
)
from loadtests.tally.histogram import BUCKETS, bucket_of


def run_info(analysis: Analysis) -> RunInfo:
    """Which run this is, as the main process's header says."""
    headers = [h for _, p in analysis.facts.each() for h in p.headers]
    main = sorted(headers, key=lambda h: (h.role not in ("standalone", "master"), h.process))
    finishes = sorted((f.at_ns, f.reason) for _, p in analysis.facts.each() for f in p.finishes)
    first = main[0] if main else None
    versions = {key: value for h in reversed(main) for key, value in sorted(h.versions.items())}
    return RunInfo(
        id=first.run if first else "",
        profile=analysis.profile.name,
        question=analysis.profile.question,
        profile_sha256=first.profile_sha256 if first else "",
        seed=analysis.profile.seed,
        started_at=first.started_at or None if first else None,
        duration_s=analysis.times.seconds(finishes[-1][0]) if finishes and analysis.times.started else None,
        workers=max((h.workers for h in headers), default=0),
        versions=dict(sorted(versions.items())),
        machine=next((h.machine for h in main if h.machine), ""),
        finish=finishes[-1][1] if finishes else None,
        apart=_apart(analysis),
    )


def _apart(analysis: Analysis) -> bool | None:
    """Whether no process ever had publishers and consumers, as its readings say; None where not both were seen."""
    held = {
        (any(s.publishing for s in p.seconds), any(s.connected for s in p.seconds)) for _, p in analysis.facts.each()
    }
    published, received = (any(of) for of in zip(*held, strict=True)) if held else (False, False)
    return (True, True) not in held if published and received else None


def _lost(analysis: Analysis, lost: Ints, injector: int | None) -> Lost:
    """`lost` per category."""
    broker = int(lost[BROKER]) if analysis.blame.broker_known else None
    return Lost(
        total=int(lost.sum()),
        defect=int(lost[DEFECT]),
        charged=int(lost[CHARGED]),
        injector_at_most=injector,
        broker=broker,
        unattributed=int(lost[UNATTRIBUTED]),
        not_replayed=int(lost[NOT_REPLAYED]),
    )


_NO_LOSS = Lost(total=None, defect=None, charged=None, injector_at_most=None, broker=None)


def _away(counts: Ints) -> Away:
    """`counts` per cause."""
    return Away(**{cause: int(n) for cause, n in zip(CAUSES, counts, strict=True)})


def delivered_share(delivered: int, owed: int, away: Away) -> float | None:
    """Delivered of what was offered, but for what our plan or our trouble kept from consumers and what is undecided."""
    due = owed + (away.charged or 0) + (away.disconnected or 0)
    return round(delivered / due, 9) if due else None


def delivery(analysis: Analysis) -> Delivery:
    """The account over the whole run."""
    ledger, table, came = analysis.ledger, analysis.table, analysis.came
    publish, _, _ = publish_table(analysis)
    groups = list(range(len(analysis.profile.consumers)))
    known = bool(ledger.judged)
    all_rows: Bools = np.ones(len(came.due), dtype=np.bool_)
    owed, delivered = int(ledger.owed_rows.sum()), int(ledger.delivered_rows.sum())
    away = _away(ledger.away_rows.sum(axis=(1, 2)))
    seconds = analysis.phases.seconds_of(None)
    published = len(table.start) > 0
    strange = {name: sum(row[3] for row in strange_rows(analysis, name)) for name in STRANGE}
    looked_at = contents(analysis)
    integrity = looked_at is not None and any(f.content != "unchecked" for f in analysis.profile.families)
    return Delivery(
        published=table.published.size if published else None,
        failed=table.failed.size if published else None,
        unknown=table.unknown.size if published else None,
        not_offered=int(publish[3].sum()) if publish.shape[1] else None,
        offered=int(ledger.offered_rows.sum()) if published and not ledger.unjudged else None,
        owed=owed if known else None,
        unique=int(ledger.unique.sum()) if known else None,
        repeated=repeated(analysis, all_rows, np.ones(len(table.start), dtype=np.int64), groups, None),
        reordered=reordered(analysis, groups, None, None),
        foreign=strange["foreign"],
        undecided=int(ledger.undecided_rows.sum()) if known else None,
        late=late(analysis, all_rows) if came.counts.any() else None,
        lost=_lost(analysis, ledger.lost().sum(axis=1), ledger.injector_at_most) if known else _NO_LOSS,
        rate=delivered_share(delivered, owed, away) if known else None,
        received_per_s=round(int(came.unique.sum()) / seconds, 3) if seconds and came.counts.any() else None,
        rpo_s=ledger.longest_run_slices * SLICE_NS / NS_PER_S if known else None,
        away=away if known else None,
        delivered=delivered if known else None,
        delivered_of_owed=round(delivered / owed, 9) if owed else None,
        unasked=int(ledger.unasked_rows.sum()) if known else None,
        superseded=ledger.superseded if known else None,
        stray=strange["stray"],
        undecodable=strange["undecodable"],
        protocol=strange["protocol"],
        altered=strange["altered"] if integrity else None,
        restamped=strange["restamped"] if looked_at is not None else None,
        contents_checked=looked_at[0] if integrity and looked_at else None,
        contents=looked_at[1] if integrity and looked_at else None,
        slow_readers=_slow_readers(analysis, known=known),
    )


def _slow_readers(analysis: Analysis, *, known: bool) -> SlowReaders:
    """The part of the groups that the profile expects to be slow."""
    ledger, came = analysis.ledger, analysis.came
    slow = [i for i, g in enumerate(analysis.profile.consumers) if g.expect_slow]
    rows: Bools = np.isin(came.consumers, slow)
    published = np.ones(len(analysis.table.start), dtype=np.int64)
    return SlowReaders(
        groups=[analysis.profile.consumers[i].name for i in slow],
        owed=int(ledger.owed_rows[slow].sum()) if known else None,
        unique=int(ledger.unique[:, slow].sum()) if known else None,
        repeated=repeated(analysis, rows, published, slow, None),
        reordered=reordered(analysis, slow, None, None),
        late=late(analysis, rows) if came.counts.any() else None,
        lost=int(ledger.lost()[:, slow].sum()) if known else None,
        others_latency_ms=latency_spread(came, ~rows & analysis.clean, analysis.slow_read),
    )


def _calm(analysis: Analysis) -> Bools:
    calm: Bools = analysis.phases.codes(analysis.came.due, analysis.came.received) == CALM
    return calm & analysis.clean


def _calm_of_the_judged(analysis: Analysis) -> Bools:
    """As the thresholds take it: without the groups that are expected to be slow, unless there are no others."""
    rows: Bools = _calm(analysis) & np.isin(analysis.came.consumers, _judged_groups(analysis))
    return rows


def spreads(analysis: Analysis) -> dict[str, Spread]:
    """Distributions over the whole run; what came while a process was saturated, or left no reading, is left out."""
    _, lag, blocked = publish_table(analysis)
    return {
        "latency": latency_spread(analysis.came, analysis.clean, analysis.slow_read),
        "calm latency": latency_spread(analysis.came, _calm_of_the_judged(analysis), analysis.slow_read),
        "service": service_spread(analysis, analysis.clean),
        "own lag": spread_of(lag.all()),
        "blocked": spread_of(blocked.all()),
        "read delay": spread_of(analysis.came.read_delay.all()),
    }


def slowest_client_p95_ms(analysis: Analysis) -> float | None:
    """The greatest p95 of a consumer in calm phases, of the groups that are not expected to be slow."""
    judged = slowest(analysis, _judged_groups(analysis), {CALM}).judged
    return round((judged[0][1] + judged[0][2]) / 2, 6) if judged else None


def _judged_groups(analysis: Analysis) -> list[int]:
    groups = analysis.profile.consumers
    return [i for i, g in enumerate(groups) if not g.expect_slow] or list(range(len(groups)))


def histograms(analysis: Analysis) -> dict[str, Bars]:
    """Distributions for drawing."""
    _, lag, _ = publish_table(analysis)
    rows = analysis.came.counts & analysis.clean
    fresh = np.zeros(BUCKETS, dtype=np.int64)
    for recovery in analysis.recovery:
        for seconds in recovery.consumers.distribution.get("first_fresh", []):
            fresh[bucket_of(round(seconds * NS_PER_S))] += 1
    return {
        "latency": bars(analysis.came.latency.dense(rows)),
        "calm latency": bars(analysis.came.latency.dense(rows & _calm_of_the_judged(analysis))),
        "service": bars(analysis.came.service.dense(analysis.clean)),
        "own lag": bars(lag.all()),
        "recovery first fresh": bars(fresh),
    }


def queries(analysis: Analysis) -> dict[str, dict[str, Spread]]:
    """Database reads per query."""
    cells = _added((q.query, q) for _, process in analysis.facts.each() for q in process.queried)
    return {name: {"connect": c, "query": q} for name, (c, q) in cells.items()}


def requests(analysis: Analysis) -> dict[str, dict[str, Spread]]:
    """Requests of the users of extensions, per kind, group and name."""
    cells = _added(
        (f"{q.kind} {q.group} {q.name}", q) for _, process in analysis.facts.each() for q in process.requested
    )
    return {name: {"connect": c, "request": q} for name, (c, q) in cells.items()}


def _added(cells: Iterable[tuple[str, Queried | Requested]]) -> dict[str, tuple[Spread, Spread]]:
    """Connecting and answering of all cells of a name, by name."""
    held: dict[str, tuple[Ints, Ints]] = {}
    for name, q in cells:
        pair = held.setdefault(name, (np.zeros(BUCKETS, dtype=np.int64), np.zeros(BUCKETS, dtype=np.int64)))
        for dense, (bucket, count) in zip(pair, (q.connect, q.latency), strict=True):
            dense[bucket] += np.array(count, dtype=np.int64)
    return {name: (spread_of(c), spread_of(q)) for name, (c, q) in sorted(held.items())}


def faults(analysis: Analysis) -> list[FaultResult]:
    """Every fault as it acted."""
    at = analysis.times.seconds
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
            lost_charged=None if a.injected_ns is None else analysis.ledger.charged_to.get(a.name, 0),
        )
        for a in analysis.fault_windows
    ]


def routes(analysis: Analysis) -> list[RouteResult]:
    """Each route family x consumer group that was planned or seen."""
    ledger, came, table = analysis.ledger, analysis.came, analysis.table
    calm_rows = (analysis.phases.codes(table.due) == CALM).astype(np.int64)
    owed_rows, offered_rows = ledger.owed_rows, ledger.offered_rows
    found = []
    for family in range(len(analysis.profile.families)):
        of_family = (table.row_family == family).astype(np.int64)
        for group in range(len(analysis.profile.consumers)):
            rows = (came.family == family) & (came.consumers == group)
            offered, owed, delivered = (
                int(c[group] @ of_family) for c in (offered_rows, owed_rows, ledger.delivered_rows)
            )
            if not (offered or rows.any() or int(analysis.plan.offered_rows[group] @ of_family)):
                continue
            lost = ledger.lost(of_family)[:, group]
            known = bool(ledger.judged)
            found.append(
                RouteResult(
                    group=analysis.contract.group_name(analysis.contract.group_index(family, group)),
                    owed=owed if known else None,
                    unique=int(ledger.unique[family, group]) if known else None,
                    repeated=repeated(analysis, rows, of_family, [group], None, family),
                    reordered=reordered(analysis, [group], family, None),
                    late=late(analysis, rows),
                    lost=_lost(analysis, lost, int(ledger.injector_rows[group] @ of_family)) if known else _NO_LOSS,
                    calm_lost=int(ledger.lost(of_family * calm_rows)[:, group].sum()) if known else None,
                    latency_ms=latency_spread(came, rows & analysis.clean, analysis.slow_read),
                    calm_latency_ms=latency_spread(came, rows & _calm(analysis), analysis.slow_read),
                    offered=offered if known else None,
                    undecided=int(ledger.undecided_rows[group] @ of_family) if known else None,
                    away=_away(ledger.away_rows[:, group] @ of_family) if known else None,
                    delivered=delivered if known else None,
                    expect_slow=analysis.profile.consumers[group].expect_slow,
                )
            )
    return found


def effective_values(analysis: Analysis) -> list[EffectiveValue]:
    """Effective values as the main process recorded them, each once."""
    found: dict[str, EffectiveValue] = {}
    for _, process in analysis.facts.each():
        for e in process.effective:
            for key, value, source, relaxed in zip(e.key, e.value, e.source, e.relaxed, strict=True):
                found.setdefault(key, EffectiveValue(key=key, value=value, source=source, relaxed=relaxed))
    return list(found.values())


def user_notes(analysis: Analysis) -> list[UserNote]:
    """What the user wrote down."""
    notes = sorted((n.at_ns, n.text) for _, p in analysis.facts.each() for n in p.notes if n.by == "user")
    return [UserNote(at_s=analysis.times.seconds(at_ns), text=text) for at_ns, text in notes]


def log(analysis: Analysis) -> list[str]:
    """Notes, what was strange, escalations and connections that were lost, in order of time."""
    at = analysis.times.seconds
    lines: list[tuple[int, str]] = [
        (n.at_ns, f"noted by the {n.by}: {n.text}" if n.by else n.text)
        for _, p in analysis.facts.each()
        for n in p.notes
    ]
    for _, process in analysis.facts.each():
        lines += [(s[0], f"{s[3]} x {s[1]} at consumer {s[2]}: {s[4]}") for s in process.strange[:50]]
        for step in process.fault_steps:
            missed = step.effective.get(TOUCHED, ACTED) != ACTED
            if missed or step.step in ("not in force", "not proved", "not lifted", "failed") or escalated(step.by):
                text = f"fault {step.name}: {step.step} {step.by} {step.detail}"
                lines.append((step.after_ns, " ".join(text.split())))
    ends = analysis.subs.ends
    told = ends.last & ~ends.because(("own", "end", "moved", ""))
    second, who = ends.at_ns[told] // NS_PER_S, ends.consumer[told]
    kinds, of, count = np.unique(second * len(ends.words) + ends.why[told], return_inverse=True, return_counts=True)
    first = np.full(len(kinds), 2**62, dtype=np.int64)
    np.minimum.at(first, of, who)
    if words := all_said(analysis):
        lines.append((analysis.times.end_ns, f"what the target said: {' | '.join(words)}"))
    lines += [
        (at * NS_PER_S, f"{n} connections ended: {ends.words[why]} (first consumer {consumer})")
        for n, consumer, (at, why) in zip(
            count.tolist(), first.tolist(), (divmod(kind, len(ends.words)) for kind in kinds.tolist()), strict=True
        )
    ]
    lines += [(0, line) for line in analysis.damage.lines]
    return [f"{at(when):.1f} s: {text}" for when, text in sorted(lines)]
