"""How much does the target carry, what ends it, and what is left above a plan?  Trials in, the answer of a session out;
no clock, no file.

The limit lies between the highest level that was good and **held** and the lowest that failed by majority.  It is told
only where load decides it: what is late far below the limit as well (a stall, a job that comes every minute) makes it
UNKNOWN, and so does everything else that more load would not change.  Costs and utilisations are straight lines through
good levels; nothing is told of loads that were not played.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from msgspec.structs import replace

from loadtests.model.capacity import (
    AtLoad,
    Bottleneck,
    Capacity,
    CapacityAsked,
    Cost,
    FoundLimit,
    Headroom,
    Judged,
    LoadLevel,
    Span,
    Trial,
    UnderFault,
)
from loadtests.model.results import Verdict

QUIET = 0.85
"""Up to this share of the result, lateness does not come from load."""
AS_PLANNED = 0.03
"""A level whose offered rate is within this of what its factor stands for stands at its factor."""
WIDEST = 2.0
"""A bracket wider than this is no answer."""
SAME = 1.2
"""Hold and search may differ by so much before the target is said to have changed."""
DELIVERED = 0.97
"""Less than this share of what was offered is no load that is carried."""
FAILED_HOLDS = 4
KNEE_WITHIN = 0.05
END, APART, NEAR = 90.0, 10.0, 70.0
"""Percent: a resource is named from END on; those less than APART below the first are named with it; below NEAR nothing
is near its end."""
DROPPED = 1.15
"""So far above what catching up allows, a backlog was not caught up but dropped."""
HOURS_A_MONTH = 730.0
_T90 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782, 1.771, 1.761, 1.753)
_Z90 = 1.7
_CONFIRMS = ("long", "planned")


def conclude(
    trials: Sequence[Trial],
    asked: CapacityAsked,
    *,
    ended: str = "decided",
    spent_s: float | None = None,
    faulted: Capacity | None = None,
    outage_s: float | None = None,
    recovery_s: float | None = None,
) -> Capacity:
    """What a session's trials say. `faulted`: what the same session found under `faulted.asked.under`, a fault that
    lasts `outage_s` and from which the target has to be back within `recovery_s`.
    """
    levels = levels_of(trials, asked)
    found = _whole(_found(trials, levels, asked, ended), asked, _who(levels, asked))
    bottleneck: list[Bottleneck] = []
    bottleneck_said = ""
    cost = _costs(trials, asked, found)
    if found.low is not None and found.confidence != "unknown":
        bottleneck = _bottleneck(trials, asked, _middle(found))
        bottleneck_said, ours = _said_of(bottleneck)
        if ours and found.confidence == "held":
            found = _at_least(found, asked, levels, bottleneck_said[0].lower() + bottleneck_said[1:])
    knee = _knee(levels)
    under = _under(found, faulted, outage_s, recovery_s) if faulted is not None else None
    headroom = _headroom(found, asked, under)
    advised, because = _advised(found, knee, under, levels)
    parts = [found.sentence]
    parts += [part.sentence for part in (under, headroom) if part is not None and part.sentence]
    parts += [bottleneck_said] if bottleneck_said and found.confidence == "held" else []
    capacity = Capacity(
        asked=asked,
        axis_unit=asked.axis_unit,
        low=found.low,
        high=found.high,
        confidence=found.confidence,
        sentence=" ".join(f"{part.rstrip('.')}." for part in parts),
        found=found,
        trials=list(trials),
        knee=knee,
        bottleneck=bottleneck,
        bottleneck_sentence=bottleneck_said,
        cost=cost,
        headroom=headroom,
        advised=advised,
        advised_because=because,
        under=under,
        ended=ended,
        spent_s=spent_s,
        levels=levels,
        at_loads=[
            expected(levels, load, what)
            for load, what in ((asked.plan, "plan"), (advised, "advised"))
            if load is not None
        ],
    )
    verdict = {0: Verdict.PASS, 1: Verdict.FAIL, 3: Verdict.UNKNOWN, 4: Verdict.ABORTED}[exit_status(capacity)]
    return replace(capacity, verdict=verdict.value)


def _whole(found: FoundLimit, asked: CapacityAsked, who: str) -> FoundLimit:
    """The limit, unless most of what it offers did not even arrive: limits that leave out loss do not see that."""
    offered, came = found.held_per_s, found.delivered_at_low
    if asked.under or offered is None or came is None or came >= DELIVERED * offered:
        return found
    why = f"of {said(offered)}/s {said(came)} came: the limits that bound it say nothing of what is lost"
    return replace(
        found, low=None, high=None, confidence="unknown", sentence=f"Unknown how much {who}: {why}", reasons=[why]
    )


def exit_status(capacity: Capacity) -> int:
    """0: a limit was found, not below the plan. 1: it is surely below the plan. 3: not known. 4: aborted."""
    if capacity.ended == "aborted":
        return 4
    low, high, plan = capacity.low, capacity.high, capacity.asked.plan
    if capacity.confidence == "unknown" or low is None:
        return 3
    if plan is None or plan <= low:
        return 0
    return 1 if capacity.confidence == "held" and high is not None and plan > high else 3


# -- levels


def levels_of(trials: Iterable[Trial], asked: CapacityAsked) -> list[LoadLevel]:
    """The levels that were played, by factor."""
    by_factor: dict[float, list[Trial]] = {}
    for trial in trials:
        if trial.kind != "settle-in":
            by_factor.setdefault(round(trial.factor, 9), []).append(trial)
    levels = [_level(by_factor[factor], asked) for factor in sorted(by_factor)]
    if asked.axis == "clients" or not levels:
        return levels
    # A hold of some seconds offers what the plan wants but for the chance of its bursts; all holds together have less
    # of that, and the ratio of two levels is that of their factors.
    usable = [t for t in trials if t.kind != "settle-in" and t.verdict != "UNUSABLE"]
    each = _mean([(t.offered_per_s / t.factor, t) for t in usable]) if usable else 0.0
    return [
        replace(level, load=each * level.factor)
        if abs(each * level.factor - level.offered_per_s) < AS_PLANNED * level.offered_per_s
        else level
        for level in levels
    ]


def _level(trials: Sequence[Trial], asked: CapacityAsked) -> LoadLevel:
    usable = [t for t in trials if t.verdict != "UNUSABLE"]
    shown = usable or trials
    held = [t.to_s - t.from_s for t in usable if t.kind in _CONFIRMS and t.verdict == "GOOD"]
    names = sorted({name for t in shown for name in t.latency_ms})
    resources = sorted({name for t in shown for name in t.resources})
    return LoadLevel(
        factor=trials[0].factor,
        load=_mean([(_load(t, asked), t) for t in shown]),
        verdict=_verdict(usable),
        good=sum(t.verdict == "GOOD" for t in trials),
        bad=sum(t.verdict == "BAD" for t in trials),
        unusable=len(trials) - len(usable),
        broke=sorted({text for t in shown if t.verdict != "GOOD" for text in t.broke}),
        held_s=max(held, default=None),
        clients=max(t.clients for t in shown),
        gateways=max(t.gateways for t in shown),
        offered_per_s=_mean([(t.offered_per_s, t) for t in shown]),
        delivered_per_s=_mean([(t.delivered_per_s, t) for t in shown]),
        latency_ms={
            name: median(known) if (known := [v for t in shown if (v := t.latency_ms.get(name)) is not None]) else None
            for name in names
        },
        resources={name: _mean([(t.resources[name], t) for t in shown if name in t.resources]) for name in resources},
    )


def _verdict(usable: Sequence[Trial]) -> Judged | None:
    """A long hold saw more than any short one; else by majority, and one success without a failure is enough."""
    decisive = [t for t in usable if t.kind == "long"] or usable
    good, bad = (sum(t.verdict == word for t in decisive) for word in ("GOOD", "BAD"))
    return "GOOD" if good > bad else "BAD" if bad > good else None


def _load(trial: Trial, asked: CapacityAsked) -> float:
    return float(trial.clients) if asked.axis == "clients" else trial.offered_per_s


def _mean(values: Sequence[tuple[float, Trial]]) -> float:
    whole = sum(t.to_s - t.from_s for _, t in values)
    return sum(v * (t.to_s - t.from_s) for v, t in values) / whole


# -- the limit


def _found(trials: Sequence[Trial], levels: Sequence[LoadLevel], asked: CapacityAsked, ended: str) -> FoundLimit:
    control_only = {t.factor for t in trials if t.kind == "control"} - {
        t.factor for t in trials if t.kind not in ("control", "settle-in")
    }
    voted = [level for level in levels if level.factor not in control_only]
    good = [level for level in voted if level.verdict == "GOOD"]
    bad = [level for level in voted if level.verdict == "BAD"]
    held = [level for level in good if level.held_s is not None]
    if not good:
        return _no_good(voted, bad, asked, ended)
    low = held[-1] if held else next((g for g in reversed(good) if not bad or g.factor < bad[0].factor), good[0])
    high = next((level for level in bad if level.factor > low.factor), None)
    long_holds = [t for t in trials if t.kind == "long" and t.verdict == "BAD"]
    above = low.load * high.factor / low.factor if high and high.load <= low.load else high.load if high else None
    reasons: list[str] = []
    if not held:
        if len(long_holds) >= FAILED_HOLDS:
            worst = min(long_holds, key=lambda t: t.factor)
            reasons.append(
                f"{len(long_holds)} holds of {asked.long_s:g} s failed, down to "
                f"{said(_load(worst, asked))} {asked.axis_unit} ({_broke(worst.broke)})"
            )
        else:
            why = _NOT_HELD.get(ended, "no hold was played")
            reasons.append(
                f"{said(low.load)} {asked.axis_unit} was good for {asked.hold_s:g} s, but was not held for "
                f"{asked.long_s:g} s: {'a hold failed, and ' if long_holds else ''}{why}"
            )
    late = _late_without_load(trials, low.factor, asked)
    reasons += [late] if late else []
    contradicting = [level for level in bad if level.factor < low.factor]
    if held and contradicting:
        reasons.append(
            f"{said(contradicting[0].load)} {asked.axis_unit} failed ({_broke(contradicting[0].broke)}) and "
            f"{said(low.load)} held: the levels contradict each other"
        )
    if above is not None and above > WIDEST * low.load:
        reasons.append(f"the bracket from {said(low.load)} to {said(above)} is wider than {WIDEST:g} x{_ended(ended)}")
    searched = _searched(trials, asked)
    if held and searched is not None and not 1 / SAME <= low.load / searched <= SAME:
        reasons.append(
            f"the search found {said(searched)} {asked.axis_unit}, the hold {said(low.load)}: "
            "the target changed meanwhile"
        )
    if reasons:
        return FoundLimit(
            low=None,
            high=above if not held and not late else None,
            confidence="unknown",
            sentence=f"Unknown how much {_who(voted, asked)}: {reasons[0]}",
            broke=_broke(high.broke) if high else "",
            reasons=reasons,
            not_excluded=_not_excluded(trials, low if held else None, asked),
        )
    holds = [t for t in trials if t.factor == low.factor and t.kind in _CONFIRMS and t.verdict == "GOOD"]
    found = FoundLimit(
        low=low.load,
        high=above,
        confidence="held",
        sentence="",
        broke=_broke(high.broke) if high else "",
        held_s=low.held_s,
        held_per_s=_mean([(t.offered_per_s, t) for t in holds]),
        delivered_at_low=_mean([(t.delivered_per_s, t) for t in holds]),
        reasons=[],
        not_excluded=_not_excluded(trials, low, asked),
    )
    if high is None or above is None:
        return _at_least(found, asked, levels, _why_no_end(levels, low, ended))
    wide = above / low.load > (1 + asked.tolerance) * 1.02
    middle = math.sqrt(low.load * above)
    text = (
        f"{_capital(_who(voted, asked))} {said(middle)} {asked.axis_unit} ({said(low.load)} held "
        f"{low.held_s:.0f} s, {said(above)} failed {_votes(high, trials)}; limit: {found.broke or 'not named'})"
    )
    if wide and ended not in ("decided", "range"):
        reasons = [f"not narrowed to {asked.tolerance:.0%}{_ended(ended)}"]
    return replace(found, sentence=text, reasons=reasons)


_NOT_HELD = {
    "budget": "the budget ended",
    "generator": "what was played said nothing of the target",
    "aborted": "the session was aborted",
}


def _ended(ended: str) -> str:
    return {"budget": ": the budget ended", "generator": ": the load generator was at its end"}.get(ended, "")


def _no_good(levels: Sequence[LoadLevel], bad: Sequence[LoadLevel], asked: CapacityAsked, ended: str) -> FoundLimit:
    first = bad[0] if bad and bad[0] is levels[0] else None
    if first is not None:
        why = (
            f"the lowest level, {said(first.load)} {asked.axis_unit}, fails already ({_broke(first.broke)}): "
            f"the limit lies below --from {asked.start:g}"
        )
    elif any(level.unusable for level in levels):
        told = sorted({text for level in levels if level.unusable for text in level.broke})
        why = f"no level said anything of the target ({_broke(told)})"
    else:
        why = f"no level was decided{_ended(ended)}"
    return FoundLimit(
        low=None,
        high=first.load if first else None,
        confidence="unknown",
        sentence=f"Unknown how much {_who(levels, asked)}: {why}",
        broke=_broke(first.broke) if first else "",
        reasons=[why],
    )


def _at_least(found: FoundLimit, asked: CapacityAsked, levels: Sequence[LoadLevel], why: str) -> FoundLimit:
    held = f"held {found.held_s:.0f} s" if found.held_s is not None else "not held"
    low = said(found.low or 0.0)
    return replace(
        found,
        high=None,
        confidence="at_least",
        sentence=f"{_capital(_who(levels, asked))} at least {low} {asked.axis_unit} ({held}): {why}",
        reasons=[why],
    )


def _why_no_end(levels: Sequence[LoadLevel], low: LoadLevel, ended: str) -> str:
    unusable = next(
        (level for level in levels if level.factor > low.factor and level.unusable and not level.good), None
    )
    if unusable is not None or ended == "generator":
        what = f" ({_broke(unusable.broke[:1])})" if unusable and unusable.broke else ""
        return f"the load generator's end, not the target's{what}"
    if ended in ("budget", "aborted"):
        return f"{_NOT_HELD[ended]} before the target's end was reached"
    return f"still good at {low.factor:.4g} x the profile's load, the highest that was played"


def _late_without_load(trials: Sequence[Trial], factor: float, asked: CapacityAsked) -> str:
    """Why lateness does not come from load; empty where it may."""
    quiet = [
        t
        for t in trials
        if t.kind != "settle-in" and t.verdict != "UNUSABLE" and t.factor <= QUIET * factor * (1 + 1e-9)
    ]
    slices = sum(t.slices for t in quiet)
    late = sum(max(0, t.late_slices - 1) for t in quiet)  # of a stretch, both ends are late in part only
    if slices and late / slices > asked.latency_share / 2:
        with_late = [t for t in quiet if t.late_slices]
        span = sum(t.to_s - t.from_s for t in quiet)
        return (
            f"{late / slices:.1%} of the slices at loads under {QUIET:.0%} of the result are late too: "
            f"stalls of about {median(t.longest_late_s for t in with_late):.1f} s each {span / len(with_late):.0f} s "
            f"decide this limit, not load"
        )
    control = next((t for t in trials if t.kind == "control" and t.verdict == "BAD"), None)
    if control is not None:
        return (
            f"the control hold at {control.factor / factor:.2g} x the result failed as well ({_broke(control.broke)}): "
            f"load does not decide this limit"
        )
    return ""


def _searched(trials: Sequence[Trial], asked: CapacityAsked) -> float | None:
    """Where the short trials alone have it."""
    levels = levels_of([t for t in trials if t.kind == "search"], asked)
    bad = next((level.factor for level in levels if level.verdict == "BAD"), math.inf)
    return next((g.load for g in reversed(levels) if g.verdict == "GOOD" and g.factor < bad), None)


def _not_excluded(trials: Sequence[Trial], low: LoadLevel | None, asked: CapacityAsked) -> list[str]:
    """What so short a time cannot show: nothing seen in T seconds may still come once in T / 3."""
    control = [t for t in trials if t.kind == "control" and t.verdict != "UNUSABLE"]
    of_low = [t for t in trials if low and t.factor == low.factor and t.kind in _CONFIRMS and t.verdict == "GOOD"]
    holds = of_low + control
    found = []
    if holds:
        calm = [t for t in holds if not t.late_slices] or holds
        span = sum(t.to_s - t.from_s for t in calm)
        worst = max(t.longest_late_s for t in calm)
        seen = "no stall" if not worst else f"nothing late for longer than {worst:.1f} s"
        longer = max(300.0, 5 * asked.long_s)
        found.append(
            f"{seen} in {span:.0f} s; stalls rarer than one in {span / 3:.0f} s are not excluded; --long {longer:g}"
        )
    if low is not None and not control and any(t.kind == "long" for t in trials):
        found.append("no control hold was played: what is late at the limit may be late without load as well")
    return found


def _votes(level: LoadLevel, trials: Sequence[Trial]) -> str:
    holds = [t for t in trials if t.factor == level.factor and t.kind == "long"]
    if holds:
        return f"a hold of {holds[-1].to_s - holds[-1].from_s:.0f} s"
    return f"{level.bad} of {level.good + level.bad}"


# -- what it costs, and what ends it


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """y = a + b x, and how sharp it is."""

    a: float
    b: float
    middle: float
    b_error: float
    at_middle_error: float
    t: float

    def at(self, x: float) -> Span:
        value = self.a + self.b * x
        off = self.t * math.hypot(self.at_middle_error, self.b_error * (x - self.middle))
        return Span(low=value - off, at=value, high=value + off)


def _line(points: Sequence[tuple[float, float, float]]) -> _Line | None:
    """Through (x, y, weight); None where there are too few, or x hardly differs."""
    if len(points) < 3:
        return None
    x, y, w = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    middle = float((w * x).sum() / w.sum())
    across = float((w * (x - middle) ** 2).sum())
    if x.max() < 1.1 * x.min() or across <= 0:
        return None
    b = float((w * (x - middle) * y).sum()) / across
    a = float((w * y).sum() / w.sum()) - b * middle
    freedom = len(points) - 2
    scatter = float((w * (y - a - b * x) ** 2).sum()) / freedom
    t = _T90[freedom - 1] if freedom <= len(_T90) else _Z90
    return _Line(
        a=a, b=b, middle=middle, b_error=math.sqrt(scatter / across),
        at_middle_error=math.sqrt(scatter / float(w.sum())), t=t,
    )  # fmt: skip


def _lines(trials: Sequence[Trial], x_of: Mapping[int, float], ending: str) -> dict[str, _Line]:
    """A line for each resource whose name ends so, over x of each good trial by its place."""
    names = sorted({name for t in trials for name in t.resources if name.endswith(ending)})
    found = {}
    for name in names:
        line = _line(
            [
                (x_of[i], t.resources[name], t.to_s - t.from_s)
                for i, t in enumerate(trials)
                if t.verdict == "GOOD" and t.kind != "settle-in" and name in t.resources
            ]
        )
        if line is not None:
            found[name] = line
    return found


def _bottleneck(trials: Sequence[Trial], asked: CapacityAsked, at: float) -> list[Bottleneck]:
    """Utilisation at the limit, the nearest to its end first; what is in MB has no end that is known."""
    found = []
    for name, line in _lines(trials, {i: _load(t, asked) for i, t in enumerate(trials)}, "").items():
        if name.endswith("memory"):
            continue
        span = line.at(at)
        assert span.low is not None
        assert span.at is not None
        assert span.high is not None
        found.append(Bottleneck(resource=name, at=span.at, low=span.low, high=span.high))
    return sorted(found, key=lambda one: (-one.at, one.resource))


def _said_of(found: Sequence[Bottleneck]) -> tuple[str, bool]:
    """What ends it, and whether that is ours."""
    if not found:
        return "", False
    first = found[0]
    if first.at < NEAR:
        return (
            f"Nothing watched is near its end ({_named(first)}): a limit inside the gateway, or something unwatched"
        ), False
    if first.at < END:
        return (
            f"{_capital(_named(first))} is the nearest to its end, and not at it: something else may be the limit",
            False,
        )
    near = [one for one in found if one.at >= END and one.at > first.at - APART]
    also = [one for one in found if one not in near and one.at > first.at - APART]
    ours = any(one.resource.startswith("generator") for one in near)
    if len(near + also) == 1:
        if ours:
            return f"The load generator is at its own end ({_named(first)})", True
        return f"{_capital(_resource(first.resource))} is the end ({first.at:.0f} %)", False
    names = " and ".join(_named(one) for one in near + also)
    return (
        f"{_capital(names)} are near their ends together{': one of them is the load generator' if ours else ''}",
        ours,
    )


def _resource(name: str) -> str:
    return name.replace(" cpu", " CPU").replace("cpu ", "CPU ")


def _named(one: Bottleneck) -> str:
    return f"{_resource(one.resource)} {one.at:.0f} %"


def _costs(trials: Sequence[Trial], asked: CapacityAsked, found: FoundLimit) -> list[Cost]:
    costs = []
    delivered = {i: t.delivered_per_s for i, t in enumerate(trials)}
    for name, line in _lines(trials, delivered, " cpu").items():
        off = line.t * line.b_error
        of = name.removesuffix(" cpu")
        costs.append(
            Cost(
                what=f"{of}: CPU seconds per million deliveries", unit="s",
                value=line.b * 1e4, low=(line.b - off) * 1e4, high=(line.b + off) * 1e4,
            )
        )  # fmt: skip
    clients = {i: float(t.clients) for i, t in enumerate(trials)}
    for name, line in _lines(trials, clients, " memory").items():
        off = line.t * line.b_error
        of = name.removesuffix(" memory")
        costs.append(
            Cost(what=f"{of}: memory per client", unit="MB", value=line.b, low=line.b - off, high=line.b + off)
        )
    if asked.price is not None and found.low and found.confidence != "unknown":
        per, what = (
            (1e6 / 3600, "price of a million deliveries at the limit")
            if asked.axis != "clients"
            else (1000 * HOURS_A_MONTH, "price of 1,000 clients, a month, at the limit")
        )
        gateways = max((t.gateways for t in trials), default=1)
        high = asked.price * gateways * per / found.low
        low = asked.price * gateways * per / (found.high or found.low)
        costs.append(Cost(what=what, unit="", value=math.sqrt(low * high), low=low, high=high))
    return costs


# -- knee, headroom, advice


def _knee(levels: Sequence[LoadLevel]) -> Span | None:
    """Kleinrock's power: the good level that delivers most for its latency, and its neighbours that do as well."""
    known = [
        (level.load, level.delivered_per_s / p95)
        for level in levels
        if level.verdict == "GOOD" and (p95 := level.latency_ms.get("p95")) is not None and p95 > 0
    ]
    if len(known) < 3:
        return None
    powers = [power for _, power in known]
    best = max(range(len(known)), key=powers.__getitem__)
    enough = powers[best] * (1 - KNEE_WITHIN)
    first = last = best
    while first > 0 and powers[first - 1] >= enough:
        first -= 1
    while last < len(known) - 1 and powers[last + 1] >= enough:
        last += 1
    return Span(low=known[first][0], at=known[best][0], high=known[last][0])


def _under(found: FoundLimit, faulted: Capacity, outage_s: float | None, recovery_s: float | None) -> UnderFault:
    fault, own = faulted.asked.under, faulted.found
    allowed = None
    if found.low is not None and outage_s and recovery_s:
        allowed = found.low * recovery_s / (recovery_s + outage_s)
    if own.low is None or own.confidence == "unknown":
        why = own.reasons[0] if own.reasons else "nothing was found"
        return UnderFault(
            fault=fault, found=own, ratio=None, closed_form=allowed, sentence=f"Under {fault} unknown: {why}"
        )
    ratio = own.low / found.low if found.low else None
    text = f"Under {fault} {'at least ' if own.confidence == 'at_least' else ''}{said(_middle(own))}"
    if allowed is not None:
        text += f" (catching up would allow {said(allowed)}"
        dropped = own.low > DROPPED * allowed
        text += ", so the backlog is dropped, not delivered)" if dropped else ")"
    return UnderFault(fault=fault, found=own, ratio=ratio, closed_form=allowed, sentence=text)


def _headroom(found: FoundLimit, asked: CapacityAsked, under: UnderFault | None) -> Headroom | None:
    plan = asked.plan
    if plan is None or found.low is None or found.confidence == "unknown":
        return None
    at_least = found.confidence == "at_least"
    low, high = 1 - plan / found.low, 1 - plan / found.high if found.high and not at_least else None
    if plan <= found.low:
        room = _from_to(low, high) if high is not None else f"at least {low:.0%}"
        text = f"Plan {said(plan)}: {room} headroom"
        if under is not None and under.found.low is not None and under.found.confidence != "unknown":
            left = 1 - plan / under.found.low
            text += f", {f'{left:.0%}' if left > 0 else 'none'} under {under.fault}"
        times = found.low / plan
        if times > 1:
            text += f"; it may grow by {times:.3g} x"
            if asked.growth:
                months = 12 * math.log(times) / math.log1p(asked.growth / 100)
                text += f", at {asked.growth:g} % a year in {months:.0f} months"
    elif at_least:
        text = f"Plan {said(plan)} is above what was offered: whether it is carried is not known"
    elif found.high is not None and plan <= found.high:
        text = f"Plan {said(plan)} lies within the bracket: whether it is carried is not known"
    else:
        text = f"Plan {said(plan)} is {plan / found.low:.3g} x what is carried"
    return Headroom(plan=plan, low=low, high=high, sentence=text)


def _from_to(low: float, high: float) -> str:
    a, b = f"{low:.0%}", f"{high:.0%}"
    return a if a == b else f"{low * 100:.0f} to {b}"


def _advised(
    found: FoundLimit, knee: Span | None, under: UnderFault | None, levels: Sequence[LoadLevel]
) -> tuple[float | None, str]:
    """The least of what one may run at, and which it was."""
    if found.low is None or found.confidence == "unknown":
        return None, ""
    ways = []
    if knee is not None and knee.at is not None:
        ways.append((knee.at, "the knee: more load costs more latency than it delivers"))
    if under is not None and under.found.low is not None and under.found.confidence != "unknown":
        ways.append((under.found.low, f"what is carried under {under.fault}"))
    gateways = max((level.gateways for level in levels), default=1)
    if gateways > 1:
        ways.append((found.low * (gateways - 1) / gateways, f"one of {gateways} gateways may be lost"))
    return min(ways, default=(None, ""))


# -- what if


def isotonic(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The nearest line through the points that never falls: neighbours that would fall are pooled."""
    pools: list[list[tuple[float, float]]] = []
    for point in sorted(points):
        pools.append([point])
        while len(pools) > 1 and _height(pools[-2]) > _height(pools[-1]):
            pools[-2:] = [pools[-2] + pools[-1]]
    return [(x, _height(pool)) for pool in pools for x, _ in pool]


def _height(pool: Sequence[tuple[float, float]]) -> float:
    return sum(y for _, y in pool) / len(pool)


def between(points: Sequence[tuple[float, float]], at: float) -> float | None:
    """The value at a load between measured ones; None beyond them: nothing is told of what was not played."""
    line = isotonic(points)
    if not line or not line[0][0] <= at <= line[-1][0]:
        return None
    return float(np.interp(at, [x for x, _ in line], [y for _, y in line]))


def expected(levels: Sequence[LoadLevel], load: float, what: str) -> AtLoad:
    """Latencies and resources at a load, from the good levels around it."""
    good = [level for level in levels if level.verdict == "GOOD"]
    latencies = sorted({name for level in good for name in level.latency_ms})
    resources = sorted({name for level in good for name in level.resources})
    return AtLoad(
        load=load,
        what=what,
        latency_ms={
            name: between([(g.load, v) for g in good if (v := g.latency_ms.get(name)) is not None], load)
            for name in latencies
        },
        resources={
            name: between([(g.load, g.resources[name]) for g in good if name in g.resources], load)
            for name in resources
        },
    )


# -- words


def said(value: float) -> str:
    """Three figures: 9,120; 0.25."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if abs(rounded) >= 100 else f"{rounded:g}"


def _middle(found: FoundLimit) -> float:
    assert found.low is not None
    return math.sqrt(found.low * found.high) if found.high is not None and found.confidence == "held" else found.low


def _broke(names: Sequence[str]) -> str:
    return ", ".join(name.replace("<=", " ≤ ").replace(">=", " ≥ ") for name in names)


def _who(levels: Sequence[LoadLevel], asked: CapacityAsked) -> str:
    gateways = max((level.gateways for level in levels), default=1)
    under = f"under {asked.under} " if asked.under else ""
    return f"{under}{'one gateway carries' if gateways == 1 else f'{gateways} gateways carry'}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
