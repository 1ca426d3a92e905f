"""What does the terminal say at the end of a run?  Lines with a style tag; the console chooses colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loadtests.model.results import Away, Check, RecoveryResult, Results, Verdict
from loadtests.report.formats import bound, contents, plain, recovery_line, unit_of

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


def summary_lines(results: Results) -> list[TextLine]:
    """Verdict, its reasons in their order, other checks that did not pass, the numbers, recovery per fault."""
    run = results.run
    lines = [
        TextLine(text=f"{results.verdict.value}  {run.profile}  run {run.id}", style=_STYLE[results.verdict]),
    ]
    open_checks = {f"{c.name}: {c.summary}": c for c in results.checks if c.verdict is not Verdict.PASS}
    for reason in results.reasons:
        check = open_checks.pop(reason, None)
        lines.append(TextLine(text=f"  {reason}", style=_STYLE[results.verdict]) if check is None else _check(check))
    lines += [_check(check) for check in open_checks.values()]
    lines += [TextLine(text="Numbers", style="title"), *[TextLine(text=f"  {text}") for text in _numbers(results)]]
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


def _check(check: Check) -> TextLine:
    unit = unit_of(check.name)
    limit = "" if check.limit is None else f" (limit {bound(check.name)} {plain(check.limit, unit)})"
    return TextLine(
        text=f"  {check.verdict.value:<8} {check.name}: {check.summary}{limit}", style=_STYLE[check.verdict]
    )


def _numbers(results: Results) -> list[str]:
    d, lost, away = results.delivery, results.delivery.lost, results.delivery.away or NOT_KNOWN

    def n(value: float | None) -> str:
        return plain(value, "count")

    def t(value: float | None) -> str:
        return plain(value, "ms")

    calm, whole, slow = results.calm_latency_ms, results.latency_ms, d.slow_readers
    others = ""
    if slow is not None and slow.groups:
        others = f" (without slow readers {t(slow.others_latency_ms.p99)}, {t(slow.others_latency_ms.max)})"
    return [
        f"published   {n(d.published)}  (failed {n(d.failed)}, unknown {n(d.unknown)}, not offered {n(d.not_offered)})",
        f"offered     {n(d.offered)} = owed {n(d.owed)} + undecided {n(d.undecided)} + away {n(away.total)}",
        f"away        own plan {n(away.own_plan)}, charged to faults {n(away.charged)}, "
        f"our trouble {n(away.harness)}, disconnected by the target {n(away.disconnected)}",
        f"owed        {n(d.owed)} = delivered {n(d.delivered)} + lost {n(lost.total)}; delivery rate "
        f"{plain(d.rate, 'share')}, {plain(d.delivered_of_owed, 'share')} of the owed; "
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
