"""What does the terminal say at the end of a run?  Lines with a style tag; the console chooses colours."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from loadtests.model.results import Away, Check, RecoveryResult, Results, Verdict
from loadtests.report.formats import (
    bound,
    contents,
    exact,
    label_of,
    measure_of,
    plain,
    recovery_line,
    unit_of,
    where_of,
)

Style = Literal["pass", "fail", "unknown", "aborted", "title", "plain", "dim"]

NOT_KNOWN = Away(own_plan=None, charged=None, harness=None, disconnected=None)
_STYLE: dict[Verdict, Style] = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "fail",
    Verdict.UNKNOWN: "unknown",
    Verdict.ABORTED: "aborted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLine:
    """One line without a line feed; `style` is a word, never a colour."""

    text: str
    style: Style = "plain"


def verdict_lines(results: Results) -> list[TextLine]:
    """Verdict, its reasons in their order, other checks that did not pass."""
    run = results.run
    lines = [
        TextLine(text=f"{results.verdict.value}  {run.profile}  run {run.id}", style=_STYLE[results.verdict]),
        TextLine(text=f"  {answer(results)}", style=_STYLE[results.verdict]),
    ]
    for reason in told(results):
        if reason.check is not None:
            lines.append(_check(reason.check))
        else:
            lines.append(TextLine(text=f"  {reason.text}", style=_STYLE[results.verdict]))
        lines += [TextLine(text=f"    {c.name}: {c.summary}", style="dim") for _, c in reason.folded]
    return lines


def summary_lines(results: Results) -> list[TextLine]:
    """All of the verdict's, the numbers, recovery per fault."""
    lines = verdict_lines(results)
    lines += [TextLine(text="Numbers", style="title"), *[TextLine(text=f"  {text}") for text in _numbers(results)]]
    if results.capacity is not None:
        lines += [TextLine(text="Levels", style="title"), TextLine(text=f"  {results.capacity.sentence}")]
    if results.recovery:
        lines.append(TextLine(text="Recovery", style="title"))
        lines += [_recovery(back) for back in results.recovery]
    if beside := [i for i in results.interference if i.touched and not i.on_path]:
        lines.append(TextLine(text="Touched beside the faults", style="title"))
        lines += [TextLine(text=f"  {i.fault}: {i.summary}") for i in beside]
    if results.harness.trouble:
        lines.append(TextLine(text="Load generator", style="title"))
        lines += [TextLine(text=f"  {trouble}", style="unknown") for trouble in results.harness.trouble]
    return lines


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One reason of a verdict; a check that it quotes with its place, or the checks that only follow from others."""

    text: str
    check: Check | None = None
    index: int | None = None
    folded: tuple[tuple[int, Check], ...] = ()


CONSEQUENCE = re.compile(r"^(in consequence \d+ checks have too little to measure): ")


def told(results: Results) -> list[Reason]:
    """The verdict's reasons in their order, then the checks that did not pass and that none quotes.

    What only lacks data because of a cause that is told is folded into one reason.
    """
    left = {f"{c.name}: {c.summary}": (i, c) for i, c in enumerate(results.checks) if c.verdict is not Verdict.PASS}
    found: list[Reason] = []
    for text in results.reasons:
        if (quoted := left.pop(text, None)) is not None:
            found.append(Reason(text=text, index=quoted[0], check=quoted[1]))
        elif (follows := CONSEQUENCE.match(text)) is not None:
            folded = [said for said in left if said in text]
            found.append(Reason(text=follows[1], folded=tuple(left.pop(said) for said in folded)))
        else:
            found.append(Reason(text=text))
    return found + [Reason(text=text, index=i, check=c) for text, (i, c) in left.items()]


# -- the answer


MOST = 3
"""So many reasons are told at once."""
_YES_OR_NO = re.compile(r"(is|are|was|were|do|does|did|can|could|will|would|has|have|had|may|must|should)\b", re.I)
_NUMBERS = ("no", "the", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_STARTED = "all connected at the start"


def answer(results: Results) -> str:
    """One sentence that answers the profile's question by what was measured."""
    yes_or_no = _YES_OR_NO.match(results.run.question) is not None
    match results.verdict:
        case Verdict.PASS:
            return f"{'Yes' if yes_or_no else 'Every limit held'}: {'; '.join(_held(results))}."
        case Verdict.FAIL:
            broken = [r.check for r in told(results) if r.check is not None and r.check.verdict is Verdict.FAIL]
            said = [_broken(results, c) for c in broken[:1]] or results.reasons[:1]
            more = len(broken) - 1
            said += [f"{more} more limit{'s are' if more > 1 else ' is'} broken"] if more > 0 else []
            passed = sum(c.verdict is Verdict.PASS for c in results.checks)
            said += [f"the other {passed} checks passed"] if broken and passed + 1 == len(results.checks) > 2 else []
            return f"{'No' if yes_or_no else 'Not every limit held'}: {'; '.join(said)}."
        case Verdict.ABORTED:
            return f"Not known, for the run was cut short: {_cause(results)}."
        case Verdict.UNKNOWN:
            return f"Not known: {_cause(results)}."


def _cause(results: Results) -> str:
    first = next(iter(told(results)), None)
    if first is None:
        return "no reason is told"
    if first.check is None:
        return first.text
    _, found, why = first.check.summary.partition(" allowed; ")
    if found and first.check.measured is not None:
        return f"{why}; {_measured(first.check)}"
    label = label_of(first.check.name)  # a condition is named by what should be, and its summary says what is
    return first.check.summary if label == first.check.name else f"{label}: {first.check.summary}"


def _held(results: Results) -> list[str]:
    """What of a run that passed answers best: who got what, then the faults, or else the latency."""
    said = [_served(results)]
    if results.faults:
        said.append(_overcome(results))
        if lost := results.delivery.lost.charged:
            said.append(f"lost to faults, as the limits allow: {plain(lost, 'count')}")
    elif timed := next((c for c in results.checks if measure_of(c.name).startswith("latency_")), None):
        said.append(_measured(timed))
    return said


def _served(results: Results) -> str:
    d = results.delivery
    start = _check_of(results, _STARTED)
    who = (
        "the clients" if start is None else f"{plain(start.measured, 'count')} of {plain(start.limit, 'count')} clients"
    )
    slow = d.slow_readers.groups if d.slow_readers is not None else []
    apart = f" (slow readers apart: {', '.join(slow)})" if slow else ""
    rate = _check_of(results, "delivery_rate", "in calm phases")
    if rate is not None and rate.measured == 1:
        return f"{who} got every event in calm times{apart}"
    if rate is not None:
        return f"{who} were served, and {_measured(rate)}{apart}"
    judged = [r for r in results.routes if not r.expect_slow]
    if judged and all(r.calm_lost == 0 for r in judged):
        return f"{who} lost no event in calm times{apart}"
    return (
        f"{who} got {plain(d.delivered, 'count')} of the {plain(d.owed, 'count')} events that were owed to them{apart}"
    )


def _overcome(results: Results) -> str:
    count = len(results.faults)
    number = _NUMBERS[count] if count < len(_NUMBERS) else str(count)
    each = "the fault" if count == 1 else f"each of {number} faults"
    times = [back.recovery_s for back in results.recovery]
    longest = max((t for t in times if t is not None), default=None)
    if longest is None or None in times:
        return f"{each} acted and was lifted"
    limits = [x.limit for back in results.recovery for x in back.limits if x.measure == "recovery_s"]
    limits = limits or [back.limit_s for back in results.recovery]
    within = f"within {plain(longest, 's')}" if longest else "as soon as it was lifted"
    said = f"{each} was overcome {within} (limit {exact(min(limits), 's')})"
    fresh = [back.consumers.first_fresh.max for back in results.recovery]
    if None in fresh:
        return said
    last = plain(max(t for t in fresh if t is not None), "s")
    return f"{said}, and every client had something fresh within {last}"


def _check_of(results: Results, label: str, where: str = "") -> Check | None:
    return next(
        (c for c in results.checks if label in (c.name, measure_of(c.name)) and where_of(c.name) == where), None
    )


def _measured(check: Check) -> str:
    """`latency p95 12.1 ms (in calm phases, limit 100 ms)`, `1 client never let in (in calm phases, limit 0)`."""
    unit, label = unit_of(check.name), label_of(check.name)
    side = "at least " if bound(check.name) == "≥" else ""
    limit = "" if check.limit is None else f"limit {side}{exact(check.limit, unit)}"
    inside = ", ".join(filter(None, (where_of(check.name), limit)))
    value = plain(check.measured, unit)
    said = f"{value} {_one(label) if check.measured == 1 else label}" if unit == "count" else f"{label} {value}"
    return f"{said} ({inside})" if inside else said


def _one(label: str) -> str:
    """A label that begins with a word in the plural, of one."""
    first, space, rest = label.partition(" ")
    return re.sub(r"(?:(ies)|(?<=[cs]h)es|s)$", lambda found: "y" if found[1] else "", first) + space + rest


def _broken(results: Results, check: Check) -> str:
    if label_of(check.name) == check.name:
        return check.summary
    if check.measured is None or check.limit is None:
        return f"{label_of(check.name)}: {check.summary}"
    after = ", ".join(faults_of(results, check))
    return f"{_measured(check)}{f', after {after}' if after else ''}"


def faults_of(results: Results, check: Check) -> list[str]:
    """The faults by which a check that failed is broken."""
    measure = measure_of(check.name)
    return [
        back.fault
        for back in results.recovery
        if any(x.measure == measure and x.verdict is Verdict.FAIL for x in back.limits)
    ]


_ALLOWED = re.compile(r", at (?:most|least) [\d.,]*\d allowed")
"""A limit in the summary of a check, told once more behind it with its unit."""


def _check(check: Check) -> TextLine:
    unit = unit_of(check.name)
    limit = "" if check.limit is None else f" (limit {bound(check.name)} {exact(check.limit, unit)})"
    summary = _ALLOWED.sub("", check.summary) if limit else check.summary
    return TextLine(text=f"  {check.verdict.value:<8} {check.name}: {summary}{limit}", style=_STYLE[check.verdict])


def _numbers(results: Results) -> list[str]:
    d, lost, away = results.delivery, results.delivery.lost, results.delivery.away or NOT_KNOWN

    def n(value: float | None) -> str:
        return plain(value, "count")

    def t(value: float | None) -> str:
        return plain(value, "ms")

    calm, whole, slow = results.calm_latency_ms, results.latency_ms, d.slow_readers
    others, of_owed = "", f", {plain(d.delivered_of_owed, 'share')} of the owed"
    if slow is not None and slow.groups:
        others = f" (without slow readers {t(slow.others_latency_ms.p99)}, {t(slow.others_latency_ms.max)})"
    return [
        f"published   {n(d.published)}  (failed {n(d.failed)}, unknown {n(d.unknown)}, not offered {n(d.not_offered)})",
        f"offered     {n(d.offered)} = owed {n(d.owed)} + undecided {n(d.undecided)} + away {n(away.total)}",
        f"away        own plan {n(away.own_plan)}, charged to faults {n(away.charged)}, "
        f"our trouble {n(away.harness)}, disconnected by the target {n(away.disconnected)}",
        f"owed        {n(d.owed)} = delivered {n(d.delivered)} + lost {n(lost.total)}; delivery rate "
        f"{plain(d.rate, 'share')}{'' if d.rate == d.delivered_of_owed else of_owed}; "
        f"{plain(d.received_per_s, 'per_s')}",
        f"lost        {n(lost.total)}{_by_slow(slow.lost if slow else None)}: defect {n(lost.defect)}, "
        f"charged to faults {n(lost.charged)} (in the injector at most {n(lost.injector_at_most)}), "
        f"not replayed {n(lost.not_replayed)}, broker {n(lost.broker)}, unattributed {n(lost.unattributed)}",
        f"also        late {n(d.late)}{_by_slow(slow.late if slow else None)}, "
        f"repeated {n(d.repeated)}{_by_slow(slow.repeated if slow else None)}, "
        f"reordered {n(d.reordered)}{_by_slow(slow.reordered if slow else None)}, foreign {n(d.foreign)}, "
        f"unasked {n(d.unasked)}",
        f"content     stray {n(d.stray)}, undecodable {n(d.undecodable)}, protocol {n(d.protocol)}, "
        f"restamped {n(d.restamped)}, altered {n(d.altered)}; {contents(d)}",
        f"latency     calm p50 {t(calm.p50)}, p95 {t(calm.p95)}, p99 {t(calm.p99)}; "
        f"whole run p99 {t(whole.p99)}, max {t(whole.max)}{others}; "
        f"slowest client p95 {t(results.slowest_client_p95_ms)}",
        f"generator   clean coverage {plain(results.harness.clean_coverage, 'share')}, "
        f"own lag p99 {t(results.own_lag_ms.p99)}",
    ]


def _by_slow(count: int | None) -> str:
    """The part of a count that belongs to readers that the profile expects to be slow."""
    return f" (of these {plain(count, 'count')} by slow readers, who are expected to be)" if count else ""


def _recovery(back: RecoveryResult) -> TextLine:
    verdict = back.judged or back.verdict
    return TextLine(text=f"  {verdict.value:<8} {recovery_line(back)}", style=_STYLE[verdict])
