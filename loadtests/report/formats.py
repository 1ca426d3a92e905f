"""How is one number written?  Units a reader expects, the same precision everywhere, an en dash for an unknown one.

Every number becomes a `<data>` element that also carries the value as it stands in `results.json`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Literal

from markupsafe import Markup

from loadtests.model.measures import AT_LEAST, MEASURES
from loadtests.model.results import ConsumerSpread, Delivery, FaultLimit, RecoveryResult

UNKNOWN = "–"
WHY_UNKNOWN = "the data cannot carry this number"

Number = float | int


def _digits(value: float) -> str:
    """Three figures where they matter: 0.123, 1.23, 12.3, 1,234."""
    size = abs(value)
    places = 3 if 0 < size < 1 else 2 if size < 10 else 1 if size < 100 else 0
    return "0" if value == 0 else f"{value:,.{places}f}".replace("-", "−")


def count(value: Number) -> str:
    """1,234,567; a part of one only where there is one."""
    return f"{value:,.0f}" if float(value).is_integer() else _digits(value)


def contents(delivery: Delivery) -> str:
    """How much of what came was compared with what was sent."""
    if delivery.contents is None or delivery.contents_checked is None:
        return "the integrity of the content was not tested"
    return f"content of {count(delivery.contents_checked)} of {count(delivery.contents)} distinct frames checked"


def ms(value: Number) -> str:
    """Milliseconds; microseconds below one, seconds from 10 s on."""
    if 0 < abs(value) < 1:
        return f"{_digits(value * 1000)} µs"
    return f"{_digits(value)} ms" if abs(value) < 10_000 else seconds(value / 1000)


def seconds(value: Number) -> str:
    """Seconds; minutes from 10 min on, hours from 2 h on."""
    if abs(value) < 600:
        return f"{_digits(value)} s"
    whole = round(value)
    if abs(value) < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def share(value: Number) -> str:
    """Percent with three decimals; never rounded up to all of it."""
    if value < 1 and round(value * 100, 3) >= 100:
        return "> 99.999 %"
    return "100 %" if value == 1 else "0 %" if value == 0 else f"{value * 100:,.3f} %"


def percent(value: Number) -> str:
    """What is in percent already, of one core."""
    return f"{_digits(value)} %"


def mb(value: Number) -> str:
    """Megabytes."""
    return f"{_digits(value)} MB"


def mb_change(value: Number) -> str:
    """Megabytes with their sign."""
    return f"{'+' if value > 0 else ''}{_digits(value)} MB"


def slope(value: Number) -> str:
    """Megabytes per hour with their sign."""
    return f"{'+' if value > 0 else ''}{_digits(value)} MB/h"


def mb_per_h(value: Number) -> str:
    """A limit in megabytes per hour."""
    return f"{_digits(value)} MB/h"


def per_second(value: Number) -> str:
    """Something per second."""
    return f"{_digits(value)} /s"


FORMATS: dict[str, Callable[[Number], str]] = {
    "count": count,
    "ms": ms,
    "s": seconds,
    "share": share,
    "percent": percent,
    "mb": mb,
    "mb_change": mb_change,
    "slope": slope,
    "mb_per_h": mb_per_h,
    "per_s": per_second,
}

_UNIT_OF_CONDITION = {
    "load offered as planned": "share",
    "little is undecided": "share",
    "clean coverage": "share",
    "own lag": "ms",
}
_MORE_IS_BETTER = ("clean coverage", "all connected at the start")


def words_of(check: str) -> list[str]:
    """The words of a check's name, whatever stands between them."""
    return [word for word in re.split(r"[^\w.+-]+", check) if word]


def measure_of(check: str) -> str:
    """The measure that a check is about: the first word of its name."""
    return next(iter(words_of(check)), "")


def unit_of(check: str) -> str:
    """Which format fits what a check measured: its measure's unit, or known of a condition of the harness."""
    row = MEASURES.get(measure_of(check))
    return row.unit if row is not None else _UNIT_OF_CONDITION.get(check, "count")


def bound(check: str) -> str:
    """On which side of its limit a check wants the value."""
    return "≥" if measure_of(check) in AT_LEAST or check in _MORE_IS_BETTER else "≤"


def plain(value: Number | None, unit: str) -> str:
    """The number as text; the dash for None and for what is no number."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return FORMATS[unit](value)


def number(value: Number | None, unit: str, sign: str = "") -> Markup:
    """The number as HTML, with its raw value."""
    if value is None or not math.isfinite(value):
        return Markup('<span class="none" title="{}">{}</span>').format(WHY_UNKNOWN, UNKNOWN)
    return Markup('<data class="n" value="{}">{}{}</data>').format(repr(value), sign, FORMATS[unit](value))


def came(spread: ConsumerSpread, which: Literal["p50", "p95", "max"]) -> Markup:
    """When so many of the clients had come back, as HTML; for those who had not, the limit that they lie beyond."""
    beyond = spread.beyond_s.get(which)
    if beyond is None:
        return number(getattr(spread, which), "s")
    return Markup('<span class="bad" title="did not come back within the limit">{}</span>').format(
        number(beyond, "s", "> ")
    )


def came_plain(spread: ConsumerSpread, which: Literal["p50", "p95", "max"]) -> str:
    """The same as text."""
    beyond = spread.beyond_s.get(which)
    return plain(getattr(spread, which), "s") if beyond is None else f"> {plain(beyond, 's')}"


def recovery_line(back: RecoveryResult) -> str:
    """One fault, its recovery and what judges it, as a sentence."""
    fresh = back.consumers.first_fresh
    limits = [f"{said_of(x)} {x.verdict.value}" for x in back.limits]
    return (
        f"{back.fault}: recovery {plain(back.recovery_s, 's')}, outage {plain(back.outage_s, 's')} "
        f"({''.join(f'{text}, ' for text in limits)}not recovered beyond {plain(back.limit_s, 's')}); "
        f"clients fresh p50 {came_plain(fresh, 'p50')}, p95 {came_plain(fresh, 'p95')}, "
        f"max {came_plain(fresh, 'max')}, not back {plain(back.consumers.steady.not_recovered, 'count')} "
        f"of {plain(back.consumers.steady.clients, 'count')}; {back.summary}"
    )


def said_of(judge: FaultLimit) -> str:
    """`recovery_s ≤ 5.00 s`."""
    return f"{judge.measure} {bound(judge.measure)} {plain(judge.limit, unit_of(judge.measure))}"


def limit(value: Number | None, unit: str, side: str = "≤") -> Markup:
    """A limit with its side; the dash says that none was set."""
    if value is None:
        return Markup('<span class="none" title="no limit was set">{}</span>').format(UNKNOWN)
    return number(value, unit, f"{side} ")


def anything(value: float | int | str | None) -> Markup:
    """A value whose unit stands in its key: numbers as they are, words as they are."""
    if isinstance(value, str):
        return Markup("{}").format(value)
    return number(value, "count")
