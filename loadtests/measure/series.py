"""What does a week say against the weeks before it? Rows of the store in, the whole of `series.json` out.

Who enters a baseline: every earlier week of the same lineage, on the same kind of machine and of the same epoch, that
has usable runs, is not excluded and did not fail; undecided ones too, since leaving out the high ones would let it
sink.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

import msgspec
import numpy as np

from loadtests.measure.gate import Evidence, Rule, Session, Weeks, changes, confirmed, judged, more_runs
from loadtests.measure.gateable import gated
from loadtests.model import series as shown
from loadtests.model.results import Verdict, worst
from loadtests.model.series import (
    Compared,
    Drift,
    MeasureResult,
    RunOfSeries,
    SeriesInfo,
    SeriesResult,
    Trend,
    TrendMeasure,
    TrendWeek,
)
from loadtests.model.store import SLOWER, History, RunRow, Value, Week, differing

ROLLING, ANCHOR = 8, 5
"""Weeks of the rolling reference, and of the anchor: the first of the epoch."""
LEAST_RUNS = 3
FLOOR = 4.0
"""Below so many times its error a figure is compared by difference, not by ratio."""
COVARIATES = ("kernel", "python", "redis", "tickstorm", "governor", "clock")
_WEEKS_A_YEAR = 52


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How a week is to be judged."""

    rule: Rule = field(default_factory=Rule)
    first: int = LEAST_RUNS
    most: int = 7
    may_be_first: bool = False  # an empty store is in order
    unconfirmed: bool = False  # a FAIL of one session alone is not believed
    budget_s: float | None = None
    spent_s: float | None = None
    ended: str = "stored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The weeks that a week is compared with, and why there are none."""

    rolling: tuple[Week, ...]
    anchor: tuple[Week, ...]
    why_none: str = ""
    first: bool = False  # nothing of this profile was there before
    paired: bool = False  # the other side of the same session


def series_of(history: History, name: str, asked: Asked = Asked(), told: Sequence[str] = ()) -> SeriesResult:
    """The judgement of one week. Raises KeyError where the store has no such series."""
    week = history.week(name)
    if week is None:
        raise KeyError(name)
    base = baseline_of(history, week)
    slower = _slower(week, base.rolling)
    measures = [_measure(name, week, base, asked, slower) for name in _gated(week, base)] if week.usable else []
    compared = sum(1 for m in measures if m.rolling is not None)
    verdict, reasons = _verdict(week, base, measures, compared, asked, slower)
    first = week.first
    return SeriesResult(
        schema=shown.SCHEMA,
        series=SeriesInfo(
            id=week.series,
            kind="weekly",
            profile=first.profile,
            lineage=first.lineage,
            started_at=first.started_at,
            machine=first.machine,
            target_version=first.target_version,
            seeds=sorted({run.seed for run in week.runs}),
            budget_s=asked.budget_s,
            spent_s=asked.spent_s,
            ended=asked.ended,
        ),
        verdict=verdict,
        reasons=reasons,
        compared=compared,
        runs=[_run(run) for run in week.runs],
        measures=measures,
        drift=list(drift_of(history, week)),
        told=list(told),
        family_false_a_year=_family(measures, asked) if compared else None,
        history_rows=sum(len(one.runs) for one in history.weeks),
    )


# -- which weeks are compared


def baseline_of(history: History, week: Week) -> Baseline:
    """The weeks that count, or why none does."""
    sides = tuple(run for run in week.runs if run.side == "a" and run.usable)
    if sides:
        other = Week(series=week.series, runs=tuple(_without_side(run) for run in sides))
        return Baseline(rolling=(other,), anchor=(), paired=True)
    before = history.before(week)
    if not before:
        return Baseline(rolling=(), anchor=(), why_none="the store has no earlier week", first=True)
    epoch = history.epoch(week)
    if week.accepted is not None:
        return Baseline(
            rolling=(), anchor=(), first=True, why_none=f"an epoch begins with it: {week.accepted.why or 'accepted'}"
        )
    first = week.first
    alike = [one for one in before if one.first.lineage == first.lineage]
    if not alike:
        last = before[-1].first
        what = differing(history.lineages.get(last.lineage, {}), history.lineages.get(first.lineage, {}))
        told = "; ".join(what) or f"{last.lineage} is not {first.lineage}"
        return Baseline(
            rolling=(), anchor=(), why_none=f"no week plays the same: {told}; an accepted week begins a new epoch"
        )
    here = [one for one in alike if one.first.machine_key == first.machine_key]
    if not here:
        what = differing(alike[-1].first.machine, first.machine)
        return Baseline(
            rolling=(), anchor=(),
            why_none=f"0 weeks on this machine, {len(alike)} on another: {'; '.join(what) or 'another key'}; "
            "`--against` compares two targets in one session",
        )  # fmt: skip
    counting = [one for one in here if one in history.weeks[epoch:] and counts(one)]
    if not counting:
        return Baseline(
            rolling=(), anchor=(),
            why_none=f"none of the {len(here)} earlier weeks counts: they failed, are excluded or have no usable runs",
        )  # fmt: skip
    rolling = tuple(counting[-ROLLING:])
    chosen = [one for one in counting if one.series == history.anchor]
    anchor = tuple(counting[counting.index(chosen[0]) :][:ANCHOR] if chosen else counting[:ANCHOR])
    return Baseline(rolling=rolling, anchor=() if set_of(anchor) <= set_of(rolling) else anchor)


def counts(week: Week) -> bool:
    """Whether a week may be in a baseline."""
    return week.excluded is None and not week.failed and len(week.usable) >= 2


def set_of(weeks: Sequence[Week]) -> frozenset[str]:
    """Their names."""
    return frozenset(week.series for week in weeks)


def _without_side(run: RunRow) -> RunRow:
    return msgspec.structs.replace(run, side="")


def _gated(week: Week, base: Baseline) -> list[str]:
    names: dict[str, None] = {}
    for one in (week, *base.rolling):
        for run in one.usable:
            names.update(dict.fromkeys(name for name, value in run.values.items() if value.value is not None))
    return gated(week.first.gated, list(names))


def _slower(week: Week, weeks: Sequence[Week]) -> float | None:
    """By which share this machine was slower than in the baseline; None: it was not, or nobody knows."""
    found = []
    for name in ("cpu_ms", "loopback_us"):
        now = week.speed(name)
        then = [speed for one in weeks if one.series != week.series and (speed := one.speed(name)) is not None]
        if now is not None and then:
            found.append(now / median(then) - 1)
    worst_of = max(found, default=0.0)
    return worst_of if worst_of > SLOWER else None


# -- one measure


def _measure(name: str, week: Week, base: Baseline, asked: Asked, slower: float | None) -> MeasureResult:
    values = [run.values.get(name) for run in week.usable]
    known = [value for value in values if value is not None and value.value is not None]
    sample = next((v for one in (week, *base.rolling) for run in one.usable if (v := run.values.get(name))), None)
    unit, better = ("count", "less") if sample is None else (sample.unit, sample.better)
    runs = [None if value is None else value.value for value in values]
    this = median([float(v) for v in runs if v is not None]) if known else None

    def result(verdict: Verdict, sentence: str, **more: object) -> MeasureResult:
        return MeasureResult(
            name=name, unit=unit, better=better, verdict=verdict, sentence=sentence, value=this, runs=runs,
            runs_used=len(known), **more,  # type: ignore[arg-type]
        )  # fmt: skip

    if len(known) < len(values) or this is None:
        return result(Verdict.UNKNOWN, f"missing in {len(values) - len(known)} of {len(values)} runs: nothing is not 0")
    if not base.rolling:
        return result(Verdict.UNKNOWN, f"not compared: {base.why_none}")
    if len(known) < asked.first:
        return result(Verdict.UNKNOWN, f"{len(known)} usable runs, {asked.first} are needed", open=True)
    having = [one for one in base.rolling if any(_usable(run, name) for run in one.usable)]
    if not having:
        return result(Verdict.UNKNOWN, "no earlier week has this figure")
    error = max((value.error or 0.0) for value in known)
    middle = median([float(v.value or 0) for one in having for run in one.usable if (v := _usable(run, name))])
    smallest = min(float(v) for v in [*runs, middle] if v is not None)
    if smallest <= 0 or min(this, middle) < FLOOR * error:
        return _by_difference(result, this, middle, error, unit, having, better, slower)
    return _by_ratio(result, name, week, base, having, asked, slower, error, this)


def _usable(run: RunRow, name: str) -> Value | None:
    value = run.values.get(name)
    return value if value is not None and value.value is not None else None


def _by_difference(
    result: Callable[..., MeasureResult], this: float, middle: float, error: float, unit: str,
    weeks: Sequence[Week], better: str, slower: float | None,
) -> MeasureResult:  # fmt: skip
    if error <= 0:
        return result(
            Verdict.UNKNOWN, "a figure of 0 has no ratio, and its error is not known: limit it by a threshold"
        )
    off = (this - middle) * (1 if better == "less" else -1)
    fails = off > FLOOR * error
    sentence = (
        f"{this:.3g} against {middle:.3g} {unit}: too near its error of {error:.2g} for a ratio; "
        f"{'worse' if fails else 'not worse'} by more than {FLOOR:g} times the error"
    )
    verdict = Verdict.FAIL if fails else Verdict.PASS
    if fails and slower is not None:
        verdict, sentence = Verdict.UNKNOWN, f"{sentence}; this machine was {slower:.0%} slower"
    reference = Compared(
        value=middle, weeks=[one.series for one in weeks], ratio=this / middle if middle > 0 else 1.0,
        low=1.0, high=1.0, verdict=verdict,
    )  # fmt: skip
    return result(verdict, sentence, rolling=reference, error=error)


def _by_ratio(
    result: Callable[..., MeasureResult], name: str, week: Week, base: Baseline, having: Sequence[Week], asked: Asked,
    slower: float | None, error: float, this: float,
) -> MeasureResult:  # fmt: skip
    sign = -1.0 if _first_value(week, name).better == "more" else 1.0
    share = error / this
    found, holds = _against(week, having, name, asked.rule, sign, share, paired=base.paired)
    open_ = not bool(found.fails[0] | found.passes[0])
    rolling, sentence = _said(found, open_, week, having, name, asked, sign)
    anchored: Compared | None = None
    verdict = rolling.verdict
    old = [one for one in base.anchor if any(_usable(run, name) for run in one.usable)]
    if old:
        far, far_holds = _against(week, old, name, asked.rule, sign, share)
        anchored = _reference(far, old, week, name, sign)
        holds = holds if verdict is Verdict.FAIL else far_holds
        if anchored.verdict is Verdict.FAIL and verdict is not Verdict.FAIL:
            verdict = Verdict.FAIL
            sentence = f"no week stands out, but {anchored.ratio - 1:+.0%} since {old[0].label} (the anchor)"
    first_only = _first_session(week)
    if first_only is not week:
        alone = [_against(first_only, part, name, asked.rule, sign, share)[0] for part in (having, old) if part]
        failed = any(bool(one.fails[0]) for one in alone)
        if failed and not (verdict is Verdict.FAIL and holds):
            verdict, open_ = Verdict.UNKNOWN, False
            sentence = f"worse in the first session, not in the second: {sentence}"
    if verdict is Verdict.FAIL and slower is not None:
        verdict = Verdict.UNKNOWN
        sentence = f"{sentence}; but this machine was {slower:.0%} slower: nothing can be charged to the target"
    elif verdict is Verdict.FAIL and asked.unconfirmed and first_only is week:
        verdict, sentence = Verdict.UNKNOWN, f"{sentence}; not confirmed in a second session"
    return result(
        verdict,
        sentence,
        rolling=rolling,
        anchor=anchored,
        llr=float(found.evidence[0]),
        fail_above=asked.rule.worse,
        pass_below=asked.rule.fine,
        within=math.sqrt(float(found.within[0])),
        between=math.sqrt(float(found.between[0])),
        error=error,
        smallest_seen_90=float(found.smallest(asked.most)[0]),
        power_25=float(found.power(asked.most)[0]),
        open=open_,
    )


def _first_value(week: Week, name: str) -> Value:
    return next(value for run in week.usable if (value := _usable(run, name)))


def _first_session(week: Week) -> Week:
    """The week without its confirmation; the same object where there was none."""
    first = min(run.session for run in week.usable)
    if all(run.session == first for run in week.usable):
        return week
    return Week(series=week.series, runs=tuple(run for run in week.runs if run.session == first))


def _against(
    week: Week, weeks: Sequence[Week], name: str, rule: Rule, sign: float, error: float, *, paired: bool = False
) -> tuple[Evidence, bool]:
    """The evidence, and whether a second session, if there was one, bears it out."""
    seeds = sorted({run.seed for one in (week, *weeks) for run in one.usable})
    of = {seed: index for index, seed in enumerate(seeds)}
    now = [run for run in week.usable if _usable(run, name)]
    past = [[run for run in one.usable if _usable(run, name)] for one in weeks]
    times = max(len(_of(run, name)) for run in [*now, *(run for one in past for run in one)])
    widest = max(len(one) for one in past)
    values = np.full((1, len(past), widest, times), np.nan)
    kinds = np.full((len(past), widest), len(seeds), dtype=np.int64)
    for i, runs in enumerate(past):
        for k, run in enumerate(runs):
            values[0, i, k] = _logs(run, name, times, sign)
            kinds[i, k] = of[run.seed]
    before = Weeks(values=values, seeds=kinds)
    session = Session(
        values=np.stack([_logs(run, name, times, sign) for run in now])[None],
        seeds=np.array([of[run.seed] for run in now], dtype=np.int64),
        stacks=np.array([run.session for run in now], dtype=np.int64),
    )
    found = judged(before, session, rule, error=error, paired=paired)
    several = min((session.stacks == stack).sum() for stack in np.unique(session.stacks)) > 1
    return found, not several or bool(confirmed(before, session, rule, error=error)[0])


def _of(run: RunRow, name: str) -> list[float | None]:
    value = run.values[name]
    return value.of or [value.value]


def _logs(run: RunRow, name: str, times: int, sign: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Logarithms of what was seen of each occurrence; NaN for what was not."""
    found = np.full(times, np.nan)
    for index, value in enumerate(_of(run, name)):
        if value is not None and value > 0:
            found[index] = sign * math.log(value)
    return found


def _reference(found: Evidence, weeks: Sequence[Week], week: Week, name: str, sign: float) -> Compared:
    verdict = Verdict.FAIL if found.fails[0] else Verdict.PASS if found.passes[0] else Verdict.UNKNOWN
    ratio = math.exp(sign * float(found.shift[0]))
    ends = sorted((float(found.low[0]) ** sign, float(found.high[0]) ** sign))
    this = median([float(value.value or 0) for run in week.usable if (value := _usable(run, name))])
    return Compared(
        value=this / ratio, weeks=[one.series for one in weeks], ratio=ratio, low=ends[0], high=ends[1], verdict=verdict
    )


def _said(
    found: Evidence, open_: bool, week: Week, weeks: Sequence[Week], name: str, asked: Asked, sign: float
) -> tuple[Compared, str]:
    reference = _reference(found, weeks, week, name, sign)
    span = f"{reference.ratio - 1:+.0%}, between {reference.low - 1:+.0%} and {reference.high - 1:+.0%}"
    power, smallest = float(found.power(asked.most)[0]), float(found.smallest(asked.most)[0])
    store = (
        f"{_many(len(weeks), 'week')}: this store sees +{asked.rule.size:.0%} with {power:.0%}, "
        f"and +{smallest:.0%} with 90 %"
    )
    if not open_:
        word = {Verdict.FAIL: "worse", Verdict.PASS: "not worse"}[reference.verdict]
        if reference.verdict is Verdict.PASS and bool(found.better[0]):
            word = "better"
        return reference, f"{word}: {span}; {store}"
    more = more_runs(found, len(week.usable))
    if more is None:
        way = (
            f"no number of runs would do: sessions differ by {math.sqrt(float(found.between[0])):.0%}; "
            "`--against` compares in one session"
        )
    else:
        way = f"{_many(more, 'more run')} would do"
    return reference, f"undecided: {span}; {way}; {store}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


# -- the week as a whole


def _verdict(
    week: Week, base: Baseline, measures: Sequence[MeasureResult], compared: int, asked: Asked, slower: float | None
) -> tuple[Verdict, list[str]]:
    reasons: list[str] = []
    notes: list[str] = []  # beside what decided
    found: list[Verdict] = []
    for run in week.runs:
        if run.side == "a":
            continue
        if run.verdict in (Verdict.FAIL, Verdict.ABORTED):
            found.append(run.verdict)
            reasons.append(f"run {run.index + 1} is {run.verdict}: {'; '.join(run.checks[:3]) or 'see its report'}")
        elif not run.usable:
            notes.append(f"run {run.index + 1} cannot be used: {'; '.join(run.why_not[:2])}")
    if len(week.usable) < asked.first:
        found.append(Verdict.UNKNOWN)
        reasons.append(f"{len(week.usable)} of {len(week.runs)} runs can be used, {asked.first} are needed")
    limits = [run for run in week.usable if run.verdict is Verdict.UNKNOWN]
    if limits:
        found.append(Verdict.UNKNOWN)
        reasons.append(f"the limits of {_many(len(limits), 'run')} are UNKNOWN: {'; '.join(limits[0].checks[:2])}")
    overrides = {key for run in week.usable for key in run.overrides}
    had = {key for one in base.rolling for run in one.usable for key in run.overrides}
    if base.rolling and overrides - had:
        found.append(Verdict.UNKNOWN)
        reasons.append(f"limits are relaxed that were not before: {', '.join(sorted(overrides - had))}")
    if base.rolling:
        found += [m.verdict for m in measures]
        order = (Verdict.FAIL, Verdict.ABORTED, Verdict.UNKNOWN)
        reasons += [f"{m.name}: {m.sentence}" for v in order for m in measures if m.verdict is v]
        if not compared:
            found.append(Verdict.UNKNOWN)
            reasons.append("nothing was compared: no gated measure has a figure both now and before")
        elif not found or worst(found) is Verdict.PASS:
            reasons.append(
                f"{_many(compared, 'measure')} compared with {_many(len(base.rolling), 'week')}: none is worse"
            )
    elif base.first and asked.may_be_first:
        reasons.append(f"nothing was compared: {base.why_none}")
    else:
        found.append(Verdict.UNKNOWN)
        reasons.append(f"nothing was compared: {base.why_none}")
    if slower is not None:
        notes.append(f"this machine was {slower:.0%} slower than in the weeks before")
    return (worst(found) if found else Verdict.PASS), reasons + notes


def _family(measures: Sequence[MeasureResult], asked: Asked) -> float:
    """False FAILs to be expected in a year of weeks without a change, without confirmation: at most alpha each."""
    return asked.rule.alpha * sum(1 for m in measures if m.llr is not None) * _WEEKS_A_YEAR


def _run(run: RunRow) -> RunOfSeries:
    return RunOfSeries(
        run=run.run,
        session=run.session,
        side=run.side,
        seed=run.seed,
        verdict=run.verdict,
        usable=run.usable,
        why_not=run.why_not,
        checks=run.checks,
        cpu_ms=run.speed[-1].cpu_ms if run.speed else None,
        report=run.report,
    )


# -- drift


def week_values(weeks: Sequence[Week], name: str) -> list[tuple[int, float]]:
    """(index of the week, median of its runs) of the weeks that have a figure above 0."""
    found = []
    for index, week in enumerate(weeks):
        known = [float(value.value or 0) for run in week.usable if (value := _usable(run, name))]
        if known and median(known) > 0:
            found.append((index, median(known)))
    return found


def drift_of(history: History, week: Week) -> Iterator[Drift]:
    """Changes of level up to a week, over all weeks that play the same; what a machine change explains says so."""
    upto = [one for one in (*history.before(week), week) if one.first.lineage == week.first.lineage]
    upto = [one for one in upto if one.excluded is None]
    for name in gated(week.first.gated, list(week.first.values)):
        points = week_values(upto, name)
        kept = [upto[index] for index, _ in points]
        breaks = [
            index
            for index in range(1, len(kept))
            if kept[index].first.machine_key != kept[index - 1].first.machine_key or kept[index].accepted is not None
        ]
        for change in changes([value for _, value in points], breaks=breaks):
            yield Drift(
                measure=name, at=kept[change.at].series, label=kept[change.at].label, ratio=change.ratio, p=change.p,
                explained_by=_explained(kept, change.at),
            )  # fmt: skip


def _explained(weeks: Sequence[Week], at: int) -> str:
    """What else changed within a week of it."""
    for index in range(max(at - 1, 1), min(at + 2, len(weeks))):
        was, now = weeks[index - 1], weeks[index]
        for name in COVARIATES:
            if was.first.machine.get(name) != now.first.machine.get(name):
                return f"{name} {was.first.machine.get(name, 'unknown')} -> {now.first.machine.get(name, 'unknown')}"
        before, after = was.speed("cpu_ms"), now.speed("cpu_ms")
        if before and after and abs(after / before - 1) > SLOWER:
            return f"the machine's speed {after / before - 1:+.0%}"
    return ""


# -- all weeks, for the trend page


def trend_of(history: History, asked: Asked | None = None) -> Trend:
    """Every week judged against those before it, as it would be judged now."""
    asked = asked or Asked(may_be_first=True)
    judged_weeks = [series_of(history, week.series, asked) for week in history.weeks]
    names = list(dict.fromkeys(m.name for one in judged_weeks for m in one.measures))
    last = judged_weeks[-1] if judged_weeks else None
    return Trend(
        profile=history.weeks[-1].first.profile if history.weeks else "",
        weeks=[_trend_week(week, one, names) for week, one in zip(history.weeks, judged_weeks, strict=True)],
        measures=[_trend_measure(name, history, judged_weeks) for name in names],
        drift=last.drift if last else [],
        breaks=_breaks(history.weeks),
        last=last,
    )


def _trend_week(week: Week, series: SeriesResult, names: Sequence[str]) -> TrendWeek:
    said = week.decision
    of = {m.name: m.value for m in series.measures}
    return TrendWeek(
        series=week.series,
        label=week.label,
        started_at=week.first.started_at,
        verdict=said.verdict if said else series.verdict,
        sentence=said.sentence if said else (series.reasons or [""])[0],
        version=week.first.target_version,
        machine=week.first.machine_key,
        excluded=(week.excluded.why or "excluded") if week.excluded else "",
        accepted=(week.accepted.why or "accepted") if week.accepted else "",
        cpu_ms=week.speed("cpu_ms"),
        loopback_us=week.speed("loopback_us"),
        runs=len(week.usable),
        figures={name: of.get(name) for name in names},
    )


def _trend_measure(name: str, history: History, judged_weeks: Sequence[SeriesResult]) -> TrendMeasure:
    found = [next((m for m in one.measures if m.name == name), None) for one in judged_weeks]
    known = [m for m in found if m is not None]
    seen: list[float | None] = []
    for m in found:
        if m is None or m.rolling is None or m.smallest_seen_90 is None:
            seen.append(None)
        else:
            factor = 1 + m.smallest_seen_90
            seen.append(m.rolling.value * factor if m.better == "less" else m.rolling.value / factor)
    last = known[-1]
    return TrendMeasure(
        name=name,
        unit=last.unit,
        better=last.better,
        runs=[
            [float(value.value or 0) for run in week.usable if (value := _usable(run, name))] for week in history.weeks
        ],
        value=[m.value if m else None for m in found],
        reference=[m.rolling.value if m and m.rolling else None for m in found],
        seen_from=seen,
        verdict=[m.verdict if m else Verdict.UNKNOWN for m in found],
        sentence=[m.sentence if m else "no figure" for m in found],
        anchor=last.anchor.value if last.anchor else None,
    )


def _breaks(weeks: Sequence[Week]) -> dict[int, str]:
    found: dict[int, str] = {}
    for index in range(1, len(weeks)):
        was, now = weeks[index - 1].first, weeks[index].first
        told = []
        if was.machine_key != now.machine_key:
            told.append("another machine")
        if was.lineage != now.lineage:
            told.append("another plan")
        if (accepted := weeks[index].accepted) is not None:
            told.append(f"accepted: {accepted.why}")
        if told:
            found[index] = ", ".join(told)
    return found
