"""What does the terminal say at the end of a run?  Lines with a style tag; who prints them chooses colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loadtests.model.results import Check, RecoveryResult, Results, Verdict
from loadtests.report.formats import bound, plain, unit_of

Style = Literal["pass", "fail", "unknown", "aborted", "title", "plain", "dim"]

_STYLE: dict[Verdict, Style] = {
    Verdict.PASS: "pass",
    Verdict.FAIL: "fail",
    Verdict.UNKNOWN: "unknown",
    Verdict.ABORTED: "aborted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line without a line feed; `style` is a word, never a colour."""

    text: str
    style: Style = "plain"


def summary_lines(results: Results) -> list[Line]:
    """Verdict and reasons, checks that did not pass, the numbers, recovery per fault, where the reports lie."""
    run = results.run
    lines = [
        Line(text=f"{results.verdict.value}  {run.profile}  run {run.id}", style=_STYLE[results.verdict]),
    ]
    open_checks = [c for c in results.checks if c.verdict is not Verdict.PASS]
    quoted = {f"{c.name}: {c.summary}" for c in open_checks}
    lines += [Line(text=f"  {r}", style=_STYLE[results.verdict]) for r in results.reasons if r not in quoted]
    lines += [_check(check) for check in open_checks]
    lines += [Line(text="Numbers", style="title"), *[Line(text=f"  {text}") for text in _numbers(results)]]
    if results.recovery:
        lines.append(Line(text="Recovery", style="title"))
        lines += [_recovery(back) for back in results.recovery]
    if beside := [i for i in results.interference if i.touched and not i.on_path]:
        lines.append(Line(text="Touched beside the faults", style="title"))
        lines += [Line(text=f"  {i.fault}: {i.summary}") for i in beside]
    if results.harness.trouble:
        lines.append(Line(text="Load generator", style="title"))
        lines += [Line(text=f"  {trouble}", style="unknown") for trouble in results.harness.trouble]
    return lines


def _check(check: Check) -> Line:
    unit = unit_of(check.name)
    limit = "" if check.limit is None else f" (limit {bound(check.name)} {plain(check.limit, unit)})"
    return Line(text=f"  {check.verdict.value:<8} {check.name}: {check.summary}{limit}", style=_STYLE[check.verdict])


def _numbers(results: Results) -> list[str]:
    d, lost = results.delivery, results.delivery.lost

    def n(value: float | None) -> str:
        return plain(value, "count")

    def t(value: float | None) -> str:
        return plain(value, "ms")

    calm, whole, clients = results.calm_latency_ms, results.latency_ms, results.slowest_clients
    slowest = clients.slowest[0] if clients is not None and clients.slowest else None
    own = f"; slowest client p95 {t(slowest.p95_ms)} (consumer {slowest.consumer})" if slowest is not None else ""
    return [
        f"published   {n(d.published)}  (failed {n(d.failed)}, unknown {n(d.unknown)}, not offered {n(d.not_offered)})",
        f"delivered   {n(d.unique)}: {plain(d.rate, 'share')} of the {n(d.owed)} owed; "
        f"{plain(d.received_per_s, 'per_s')}",
        f"lost        {n(lost.total)}: defect {n(lost.defect)}, disconnected {n(lost.disconnected)}, "
        f"charged to faults {n(lost.charged)} (in the injector at most {n(lost.injector_at_most)}), "
        f"broker {n(lost.broker)}",
        f"also        late {n(d.late)}, repeated {n(d.repeated)}, reordered {n(d.reordered)}, foreign {n(d.foreign)}, "
        f"undecided {n(d.undecided)}",
        f"latency     calm p50 {t(calm.p50)}, p95 {t(calm.p95)}, p99 {t(calm.p99)}; "
        f"whole run p99 {t(whole.p99)}, max {t(whole.max)}{own}",
        f"generator   clean coverage {plain(results.harness.clean_coverage, 'share')}, "
        f"own lag p99 {t(results.own_lag_ms.p99)}",
    ]


def _recovery(back: RecoveryResult) -> Line:
    fresh = back.consumers.first_fresh
    return Line(
        text=(
            f"  {back.verdict.value:<8} {back.fault}: recovery {plain(back.recovery_s, 's')} "
            f"(limit {plain(back.limit_s, 's')}), outage {plain(back.outage_s, 's')}; "
            f"clients fresh p50 {plain(fresh.p50, 's')}, p95 {plain(fresh.p95, 's')}, max {plain(fresh.max, 's')}, "
            f"not back {plain(fresh.not_recovered, 'count')}; {back.summary}"
        ),
        style=_STYLE[back.verdict],
    )
