"""What does a week say against the weeks before it? Rows of the store in, the whole of `series.json` out.

Who enters a baseline: every earlier week of the same lineage, on the same kind of machine and of the same epoch, that
has usable runs, is not excluded and did not fail; undecided ones too, since leaving out the high ones would let it
sink.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

import msgspec
import numpy as np

from loadtests.measure.gate import Evidence, Rule, Session, Weeks, changes, confirmed, judged, more_runs
from loadtests.measure.gateable import gated
from loadtests.model import series as shown
from loadtests.model.measures import TIMES, GatedFigure, figure_of, is_timed
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
SURE = 2.0
"""So many errors may lie between two figures that are equal: each is off by its own."""
LEAST_SESSION = 2
"""Usable runs without which a session says nothing: how runs differ is not known."""
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
    counting: tuple[Week, ...] = ()  # all of the epoch that may be in a baseline
    first: bool = False  # nothing of this profile was there before
    paired: bool = False  # the other side of the same session


def series_of(history: History, name: str, asked: Asked = Asked(), told: Sequence[str] = ()) -> SeriesResult:
    """The judgement of one week. Raises KeyError where the store has no such series."""
    week = history.week(name)
    if week is None:
        raise KeyError(name)
    base = baseline_of(history, week)
    names = dict.fromkeys(_gated(week, base.rolling), "") if week.usable else {}
    measures = [_measure(name, week, base, asked, left) for name, left in (names | _left(names, base)).items()]
    compared = sum(1 for m in measures if m.rolling is not None)
    excused = {run.run: why for run in week.tested if (why := _excused(run, base.rolling))}
    verdict, reasons = _verdict(week, base, measures, compared, asked, excused, [*_torn(week), *doubts(history, week)])
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
        runs=[_run(run, excused) for run in week.runs],
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
    alike = [one for one in before if one.first.lineage == first.lineage and not one.mixed({})]
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
            why_none=f"none of the {len(here)} earlier weeks counts: they failed, are excluded, have torn rows or no "
            "usable runs",
        )  # fmt: skip
    rolling = tuple(counting[-ROLLING:])
    chosen = [one for one in counting if one.series == history.anchor]
    anchor = tuple(counting[counting.index(chosen[0]) :][:ANCHOR] if chosen else counting[:ANCHOR])
    return Baseline(
        rolling=rolling, anchor=() if set_of(anchor) <= set_of(rolling) else anchor, counting=tuple(counting)
    )


def counts(week: Week) -> bool:
    """Whether a week may be in a baseline."""
    return week.excluded is None and not week.failed and not week.torn and len(week.usable) >= 2


def set_of(weeks: Sequence[Week]) -> frozenset[str]:
    """Their names."""
    return frozenset(week.series for week in weeks)


def _without_side(run: RunRow) -> RunRow:
    return msgspec.structs.replace(run, side="")


def _gated(week: Week, weeks: Sequence[Week]) -> list[str]:
    names: dict[str, None] = {}
    for one in (week, *weeks):
        for run in one.usable:
            names.update(dict.fromkeys(name for name, value in run.values.items() if value.value is not None))
    return gated(week.first.gated, list(names))


def _left(names: Collection[str], base: Baseline) -> dict[str, str]:
    """Figures that are no longer gated, and the week of this epoch in which each was gated for the last time."""
    found: dict[str, str] = {}
    for index, one in enumerate(base.counting):
        for name in _gated(one, base.counting[max(index - ROLLING, 0) : index]):
            if name not in names and _values(one.usable, name):
                found[name] = one.label
    return found


def _torn(week: Week) -> list[str]:
    return [f"{text}; it may have been of this week: delete the line once you know what it held" for text in week.torn]


def doubts(history: History, week: Week) -> Iterator[str]:
    """Why its rows are not all there is of it, or not of one week: so it cannot be PASS."""
    lacking = sorted(set(range(max(run.index for run in week.runs) + 1)) - {run.index for run in week.runs})
    if lacking:
        yield f"the store lacks run {', '.join(str(index + 1) for index in lacking[:5])} of this week"
    yield from week.mixed(history.lineages)


def _excused(run: RunRow, weeks: Sequence[Week]) -> str:
    """Why limits that a run broke say nothing of the target; empty: they do, or it broke none. Only limits of time: a
    lost message is lost on a slow machine too.
    """
    broken = run.broken or run.checks
    if run.verdict is not Verdict.FAIL or not broken or not all(is_timed(name) for name in broken):
        return ""
    slower = _slower(Week(series=run.series, runs=(run,)), weeks)
    if slower is not None:
        return f"this machine was {slower:.0%} slower"
    return "" if run.usable else f"it cannot be used: {'; '.join(run.why_not[:2])}"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What the runs say against one reference."""

    compared: Compared
    sentence: str
    open: bool = False  # more runs may decide it
    holds: bool = True  # each session after the first bears a FAIL out
    doubted: bool = False  # it was FAIL, and something speaks against it
    evidence: Evidence | None = None  # None: compared by difference


def _measure(name: str, week: Week, base: Baseline, asked: Asked, left: str) -> MeasureResult:
    """`left`: the week in which it was last gated, where it no longer is."""
    values = [run.values.get(name) for run in week.usable]
    runs = [None if value is None else value.value for value in values]
    known = [value for value in runs if value is not None]
    this = median(known) if known else None
    figure = figure_of(name)

    def result(verdict: Verdict, sentence: str, **more: object) -> MeasureResult:
        return MeasureResult(
            name=name, unit=figure.unit if figure else "count", better=figure.better if figure else "less",
            verdict=verdict, sentence=sentence, value=this, runs=runs, runs_used=len(known), **more,  # type: ignore[arg-type]
        )  # fmt: skip

    if left:
        return result(
            Verdict.UNKNOWN, f"gated before (last in {left}), not now: `tickstorm history accept` begins a new epoch"
        )
    if figure is None:
        return result(Verdict.UNKNOWN, "this version does not know such a figure")
    if len(known) < len(values) or this is None:
        return result(Verdict.UNKNOWN, f"missing in {len(values) - len(known)} of {len(values)} runs: nothing is not 0")
    if not base.rolling:
        return result(Verdict.UNKNOWN, f"not compared: {base.why_none}")
    if len(known) < asked.first:
        return result(Verdict.UNKNOWN, f"{len(known)} usable runs, {asked.first} are needed", open=True)
    rolling = _against(week, base.rolling, name, figure, asked, paired=base.paired)
    if rolling is None:
        return result(Verdict.UNKNOWN, "no earlier week has this figure")
    if figure.unit in TIMES and min(*known, rolling.compared.value) <= 0:
        return result(Verdict.UNKNOWN, "a time of 0 has no ratio: limit it by a threshold")
    far = _against(week, base.anchor, name, figure, asked, anchor=True)
    decides = rolling
    if far is not None and (
        (far.compared.verdict is Verdict.FAIL and rolling.compared.verdict is not Verdict.FAIL)
        or (far.doubted and rolling.compared.verdict is Verdict.PASS)
    ):
        decides = far
    more: dict[str, object] = {}
    if (found := rolling.evidence) is not None:
        more = {
            "llr": float(found.evidence[0]),
            "fail_above": asked.rule.worse,
            "pass_below": asked.rule.fine,
            "within": math.sqrt(float(found.within[0])),
            "between": math.sqrt(float(found.between[0])),
            "smallest_seen_90": float(found.smallest(asked.most)[0]),
            "power_25": float(found.power(asked.most)[0]),
        }
    return result(
        decides.compared.verdict,
        decides.sentence,
        rolling=rolling.compared,
        anchor=far.compared if far else None,
        error=max(_error(week.usable, name), _error(_runs(base.rolling), name)),
        open=decides.open,
        **more,
    )


def _runs(weeks: Sequence[Week]) -> list[RunRow]:
    return [run for one in weeks for run in one.usable]


def _usable(run: RunRow, name: str) -> Value | None:
    value = run.values.get(name)
    return value if value is not None and value.value is not None else None


def _values(runs: Sequence[RunRow], name: str) -> list[float]:
    return [float(value.value or 0) for run in runs if (value := _usable(run, name))]


def _error(runs: Sequence[RunRow], name: str) -> float:
    """Of one run's figure: the median, since a single run may be far off; 0 where nobody knows it."""
    return median([value.error or 0.0 for run in runs if (value := _usable(run, name))] or [0.0])


def _against(
    week: Week, weeks: Sequence[Week], name: str, figure: GatedFigure, asked: Asked, *, paired: bool = False,
    anchor: bool = False,
) -> _Look | None:  # fmt: skip
    """What is said of one reference; a FAIL only where each session bears it out and this machine was no slower."""
    having = [one for one in weeks if any(_usable(run, name) for run in one.usable)]
    if not having:
        return None
    look = _look(week, having, name, figure, asked, paired=paired)
    verdict, sentence = look.compared.verdict, look.sentence
    if anchor and not look.doubted:
        sentence = f"no week stands out, but {look.compared.ratio - 1:+.0%} since {having[0].label} (the anchor)"
    sessions = _sessions(week)
    fails = verdict is Verdict.FAIL
    if not fails and len(sessions) > 1 and len(sessions[0].usable) > 1:
        fails = _look(sessions[0], having, name, figure, asked, paired=paired).compared.verdict is Verdict.FAIL
    why, but = _unconfirmed(week, asked), ""
    if fails and len(sessions) > 1 and not why and not (verdict is Verdict.FAIL and look.holds):
        sentence = f"worse in the first session, not in the second: {sentence}"
    elif fails and (slower := _slower(week, weeks)) is not None:
        but = f"; but this machine was {slower:.0%} slower: nothing can be charged to the target"
    elif fails and why:
        but = f"; not confirmed in a second session: {why}"
    else:
        return replace(look, sentence=sentence)
    unknown = msgspec.structs.replace(look.compared, verdict=Verdict.UNKNOWN)
    return replace(look, compared=unknown, sentence=f"{sentence}{but}", open=False, doubted=True)


def _sessions(week: Week) -> list[Week]:
    """The week by its sessions, of which those after the first confirm; those without usable runs among them."""
    numbers = sorted({run.session for run in week.tested})
    return [replace(week, runs=tuple(run for run in week.runs if run.session == number)) for number in numbers]


def _unconfirmed(week: Week, asked: Asked) -> str:
    """Why no second session can bear a FAIL out, though one was wanted; empty: it can, or none was."""
    sessions = _sessions(week)
    if len(sessions) == 1:
        wanted = asked.unconfirmed or (week.decision is not None and week.decision.unconfirmed)
        return "the budget did not allow it" if wanted else ""
    few = next((one for one in sessions if len(one.usable) < LEAST_SESSION), None)
    if few is None:
        return ""
    return f"{len(few.usable)} of {_many(len(few.tested), 'run')} of one can be used, {LEAST_SESSION} are needed"


def _look(week: Week, weeks: Sequence[Week], name: str, figure: GatedFigure, asked: Asked, *, paired: bool) -> _Look:
    """By ratio, or by difference where a figure is too near 0 or its error; without doubts about the FAIL."""
    past = _runs(weeks)
    this, middle = median(_values(week.usable, name)), median(_values(past, name))
    now_error, past_error = _error(week.usable, name), _error(past, name)
    seen = [one for run in (*week.usable, *past) if _usable(run, name) for one in _of(run, name) if one is not None]
    sign = -1.0 if figure.better == "more" else 1.0
    if len(week.usable) < LEAST_SESSION:
        ratio = this / middle if middle > 0 else 1.0
        unknown = Compared(
            value=middle, weeks=[one.series for one in weeks], ratio=ratio, low=ratio, high=ratio,
            verdict=Verdict.UNKNOWN,
        )  # fmt: skip
        return _Look(compared=unknown, sentence="one run says nothing of how runs differ")
    if min(seen) > 0 and (share := max(now_error / this, past_error / middle)) <= 1 / FLOOR:
        look = _by_ratio(week, weeks, name, asked, sign, share, paired=paired)
    else:
        look = _by_difference(week, weeks, name, figure, asked, sign, max(now_error, past_error))
    lost, lost_before = _unrecovered(week.usable, name), _unrecovered(past, name)
    if look.compared.verdict is Verdict.PASS and lost > lost_before:
        unknown = msgspec.structs.replace(look.compared, verdict=Verdict.UNKNOWN)
        sentence = f"{lost:.0%} of the occurrences never recovered, {lost_before:.0%} before: see the runs' reports"
        look = replace(look, compared=unknown, sentence=sentence, doubted=True)
    return look


def _unrecovered(runs: Sequence[RunRow], name: str) -> float:
    """Share of the occurrences."""
    of = [one for run in runs if name in run.values for one in _of(run, name)]
    return sum(one is None for one in of) / max(len(of), 1)


def _by_difference(
    week: Week, weeks: Sequence[Week], name: str, figure: GatedFigure, asked: Asked, sign: float, error: float
) -> _Look:
    middle = median(_values(_runs(weeks), name))
    places = [median(of_it) for one in _sessions(week) if (of_it := _values(one.usable, name))]
    offs = [sign * (place - middle) for place in places]
    this, off, size = sum(places) / len(places), sum(offs) / len(offs), asked.rule.size * abs(middle)
    told = f"{this:.3g} against {middle:.3g} {figure.unit}: too near 0 or its error of {error:.2g} for a ratio; "
    if error <= 0:
        verdict = Verdict.UNKNOWN
        told = "a figure of 0 has no ratio, and its error is not known: limit it by a threshold"
    elif off > FLOOR * error:
        verdict, told = Verdict.FAIL, f"{told}worse by more than {FLOOR:g} times the error"
    elif off + SURE * error < size:
        verdict, told = Verdict.PASS, f"{told}not worse by {asked.rule.size:.0%}, whatever the errors"
    else:
        verdict = Verdict.UNKNOWN
        told += (
            f"{asked.rule.size:.0%} more ({size:.2g}) is within {SURE:g} errors and cannot be excluded: limit it by a "
            "threshold, and leave it out of `[gate] measures`"
        )
    ends = sorted((this + by) / middle for by in (-SURE * error, SURE * error)) if middle > 0 else [1.0, 1.0]
    compared = Compared(
        value=middle, weeks=[one.series for one in weeks], ratio=this / middle if middle > 0 else 1.0, low=ends[0],
        high=ends[1], verdict=verdict,
    )  # fmt: skip
    return _Look(compared=compared, sentence=told, holds=all(one > FLOOR * error / 2 for one in offs[1:]))


def _by_ratio(
    week: Week, weeks: Sequence[Week], name: str, asked: Asked, sign: float, error: float, *, paired: bool
) -> _Look:
    """`error`: as a share."""
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
    found = judged(before, session, asked.rule, error=error, paired=paired)
    several = min((session.stacks == stack).sum() for stack in np.unique(session.stacks)) > 1
    open_ = not bool(found.fails[0] | found.passes[0])
    compared = _reference(found, weeks, week, name, sign)
    return _Look(
        compared=compared,
        sentence=_said(found, compared, open_, len(week.usable), asked),
        open=open_,
        holds=several and bool(confirmed(before, session, asked.rule, error=error)[0]),
        evidence=found,
    )


def _of(run: RunRow, name: str) -> list[float | None]:
    value = run.values[name]
    return value.of or [value.value]


def _logs(run: RunRow, name: str, times: int, sign: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Logarithms of each occurrence: infinite, so worse than all, where it did not recover; NaN where none was."""
    found = np.full(times, np.nan)
    for index, value in enumerate(_of(run, name)):
        found[index] = math.inf if value is None else sign * math.log(value)
    return found


def _reference(found: Evidence, weeks: Sequence[Week], week: Week, name: str, sign: float) -> Compared:
    verdict = Verdict.FAIL if found.fails[0] else Verdict.PASS if found.passes[0] else Verdict.UNKNOWN
    ratio = math.exp(sign * float(found.shift[0]))
    ends = sorted((float(found.low[0]) ** sign, float(found.high[0]) ** sign))
    this = median(_values(week.usable, name))
    return Compared(
        value=this / ratio, weeks=[one.series for one in weeks], ratio=ratio, low=ends[0], high=ends[1], verdict=verdict
    )


def _said(found: Evidence, reference: Compared, open_: bool, runs: int, asked: Asked) -> str:
    span = f"{reference.ratio - 1:+.0%}, between {reference.low - 1:+.0%} and {reference.high - 1:+.0%}"
    power, smallest = float(found.power(asked.most)[0]), float(found.smallest(asked.most)[0])
    store = (
        f"{_many(len(reference.weeks), 'week')}: this store sees +{asked.rule.size:.0%} with {power:.0%}, "
        f"and +{smallest:.0%} with 90 %"
    )
    if not open_:
        word = {Verdict.FAIL: "worse", Verdict.PASS: "not worse"}[reference.verdict]
        if reference.verdict is Verdict.PASS and bool(found.better[0]):
            word = "better"
        return f"{word}: {span}; {store}"
    more = more_runs(found, runs)
    if more is None:
        way = (
            f"no number of runs would do: sessions differ by {math.sqrt(float(found.between[0])):.0%}; "
            "`--against` compares in one session"
        )
    else:
        way = f"{_many(more, 'more run')} would do"
    return f"undecided: {span}; {way}; {store}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


# -- the week as a whole


def _verdict(
    week: Week, base: Baseline, measures: Sequence[MeasureResult], compared: int, asked: Asked,
    excused: Mapping[str, str], doubts: Sequence[str],
) -> tuple[Verdict, list[str]]:  # fmt: skip
    reasons = list(doubts)
    notes: list[str] = []  # beside what decided
    found = [Verdict.UNKNOWN] * len(doubts)
    for run in week.tested:
        if why := excused.get(run.run):
            found.append(Verdict.UNKNOWN)
            reasons.append(f"run {run.index + 1} broke limits of time alone, and {why}: {'; '.join(run.checks[:2])}")
        elif run.verdict in (Verdict.FAIL, Verdict.ABORTED):
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
    if (slower := _slower(week, base.rolling)) is not None:
        notes.append(f"this machine was {slower:.0%} slower than in the weeks before")
    return (worst(found) if found else Verdict.PASS), reasons + notes


def _family(measures: Sequence[MeasureResult], asked: Asked) -> float:
    """False FAILs to be expected in a year of weeks without a change, without confirmation: at most alpha each."""
    return asked.rule.alpha * sum(1 for m in measures if m.llr is not None) * _WEEKS_A_YEAR


def _run(run: RunRow, excused: Mapping[str, str]) -> RunOfSeries:
    return RunOfSeries(
        run=run.run,
        session=run.session,
        side=run.side,
        seed=run.seed,
        verdict=Verdict.UNKNOWN if run.run in excused else run.verdict,
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
        known = _values(week.usable, name)
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
        runs=[_values(week.usable, name) for week in history.weeks],
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
