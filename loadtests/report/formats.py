"""How is one number written?  Units a reader expects, the same precision everywhere, an en dash for an unknown one.

Every number becomes a `<data>` element that also carries the value as it stands in `results.json`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal

from markupsafe import Markup

from loadtests.model.measures import AT_LEAST, MEASURES
from loadtests.model.results import ConsumerSpread, Delivery, FaultLimit, RecoveryResult
from loadtests.model.words import printable

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


def exact(value: Number | None, unit: str) -> str:
    """A number that somebody chose, such as a limit: `5 s`, not `5.00 s`."""
    return re.sub(r"\.(\d*?)0+(?!\d)", lambda found: f".{found[1]}" if found[1] else "", plain(value, unit))


def number(value: Number | None, unit: str, sign: str = "", *, chosen: bool = False) -> Markup:
    """The number as HTML, with its raw value; `chosen` by somebody rather than measured."""
    if value is None or not math.isfinite(value):
        return Markup('<span class="none" title="{}">{}</span>').format(WHY_UNKNOWN, UNKNOWN)
    shown = exact(value, unit) if chosen else plain(value, unit)
    return Markup('<data class="n" value="{}">{}{}</data>').format(repr(value), sign, shown)


def came(spread: ConsumerSpread, which: Literal["p50", "p95", "max"]) -> Markup:
    """When so many of the clients had come back, as HTML; for those who had not, the limit that they lie beyond."""
    beyond = spread.beyond_s.get(which)
    if beyond is None:
        return number(getattr(spread, which), "s")
    return Markup('<span class="bad" title="did not come back within the limit">{}</span>').format(
        number(beyond, "s", "> ", chosen=True)
    )


def came_plain(spread: ConsumerSpread, which: Literal["p50", "p95", "max"]) -> str:
    """The same as text."""
    beyond = spread.beyond_s.get(which)
    return plain(getattr(spread, which), "s") if beyond is None else f"> {exact(beyond, 's')}"


_TOLD_ABOVE = re.compile(r"^out of its limits for [\d.]+ s, steady [\d.]+ s after it was healed(?:[,;] )?")
"""The begin of a recovery's summary, of whose two times a line has told already."""


def recovery_line(back: RecoveryResult) -> str:
    """One fault, its recovery and what judges it, as a sentence."""
    fresh = back.consumers.first_fresh
    limits = [f"{said_of(x)} {x.verdict.value}" for x in back.limits]
    beyond = _TOLD_ABOVE.sub("", back.summary.removeprefix(f"{back.fault}: "))
    why = f"; {beyond}" if beyond else ""
    return (
        f"{back.fault}: recovery {plain(back.recovery_s, 's')}, outage {plain(back.outage_s, 's')} "
        f"({''.join(f'{text}, ' for text in limits)}not recovered beyond {exact(back.limit_s, 's')}); "
        f"clients fresh p50 {came_plain(fresh, 'p50')}, p95 {came_plain(fresh, 'p95')}, "
        f"max {came_plain(fresh, 'max')}, not back {plain(back.consumers.steady.not_recovered, 'count')} "
        f"of {plain(back.consumers.steady.clients, 'count')}{why}"
    )


def said_of(judge: FaultLimit) -> str:
    """`recovery_s ≤ 5 s`."""
    return f"{judge.measure} {bound(judge.measure)} {exact(judge.limit, unit_of(judge.measure))}"


def limit(value: Number | None, unit: str, side: str = "≤") -> Markup:
    """A limit with its side; the dash says that none was set."""
    if value is None:
        return Markup('<span class="none" title="no limit was set">{}</span>').format(UNKNOWN)
    return number(value, unit, f"{side} ", chosen=True)


# -- words


LABELS: Mapping[str, str] = {
    "deliveries": "messages delivered",
    "published": "messages published",
    "delivery_rate": "delivery rate",
    "received_per_s": "messages received per second",
    "lost_defect": "messages lost by a defect",
    "lost_disconnected": "messages missed because the target had ended the connection",
    "lost_not_replayed": "messages owed at a return and not replayed",
    "lost_charged": "messages lost to a fault",
    "lost_total": "messages lost",
    "repeated": "messages repeated",
    "missing_copies": "copies missing",
    "undecodable": "messages that could not be decoded",
    "protocol": "breaches of the protocol",
    "altered": "messages whose content was changed",
    "restamped": "messages whose times were changed",
    "reordered": "messages out of order",
    "foreign": "messages for somebody else",
    "unasked": "messages to clients that had left or not yet come",
    "not_admitted": "clients never let in",
    "publish_failed": "publishes refused",
    "publish_unknown": "publishes of unknown outcome",
    "late": "messages later than the delivery limit",
    "latency_mean_ms": "mean latency",
    "latency_p50_ms": "latency p50",
    "latency_p95_ms": "latency p95",
    "latency_p99_ms": "latency p99",
    "latency_max_ms": "longest latency",
    "slowest_client_p95_ms": "latency p95 of the slowest client",
    "service_p95_ms": "service time p95",
    "service_p99_ms": "service time p99",
    "own_lag_p99_ms": "our own lag p99",
    "query_mean_ms": "mean time of a query",
    "query_p95_ms": "time of a query p95",
    "query_max_ms": "longest query",
    "query_failed": "queries failed",
    "recovery_s": "slowest recovery from a fault",
    "outage_s": "longest outage",
    "not_recovered": "faults not recovered from",
    "clients_not_back": "clients not back after a fault",
    "growth_mb": "memory growth of a process",
    "growth_mb_per_h": "memory growth of a process",
    "cpu_mean_percent": "mean CPU of a process",
    "health_ms": "answer of the health page",
    "clean_coverage": "calm time in which the load generator kept up",
    "connected": "clients connected",
    "stray": "frames that are no message",
}
"""What a reader calls a measure; a condition of the harness has words for its name already."""

_THRESHOLD = re.compile(r"^(?P<measure>\w+)(?:<=|>=)\S+(?: (?P<where>.*))?$")


def label_of(check: str) -> str:
    """What a check is about, in words."""
    found = _THRESHOLD.match(check)
    return LABELS.get(found["measure"], found["measure"].replace("_", " ")) if found else check


def where_of(check: str) -> str:
    """The phases and parts that a threshold is confined to, in words; nothing where it is about the whole run."""
    found = _THRESHOLD.match(check)
    phases, _, only = (found["where"] or "" if found else "").partition(" ")
    if (row := MEASURES.get(measure_of(check))) is not None and "faults" in row.needs:
        phases = ""  # a recovery is looked for in calm phases, and is of a fault
    times = {"": "", "all": "", "calm": "in calm phases"}.get(phases, f"in the phases {phases.replace('+', ', ')}")
    return ", ".join(filter(None, (times, only)))


def when(started: str | None) -> str:
    """`2026-11-28T11:34:38.343+00:00` as a date for people; what is no such date as it is."""
    try:
        at = datetime.fromisoformat(started or "")
    except ValueError:
        return started or UNKNOWN
    return f"{at.day} {at:%B %Y, %H:%M:%S %Z}".strip()


_RECEIVE = {
    "hub-epoll": "all connections of a worker by one wait of the kernel for whichever has something (hub-epoll)",
    "greenlet": "a green thread for each connection (greenlet)",
    "library": "through the libraries that the target's protocol needs (library)",
}


def receiving(receive: str) -> str:
    """How the load generator read what came, in words."""
    return "; ".join(_RECEIVE.get(name, name) for name in receive.split(", ") if name) or UNKNOWN


_UNITS = (
    ("_kb_per_s", "kB/s"),
    ("_bytes_per_s", "B/s"),
    ("_per_s", "/s"),
    ("_ms", "ms"),
    ("_us", "µs"),
    ("_s", "s"),
    ("_mb", "MB"),
    ("_kb", "kB"),
    ("_bytes", "bytes"),
    ("_percent", "%"),
)
_NAMES = {
    "latency_ms": "added delay",
    "added_rtt_ms": "round trip longer by",
    "calm_rtt_ms": "round trip before",
    "p50_ms": "added delay p50",
    "p99_ms": "added delay p99",
    "spread_ms": "spread of the delay",
    "average_size_bytes": "pieces of about",
    "limit_bytes": "cut after",
    "connections_hit": "connections that it acted on",
    "connections_before": "connections before",
    "connections_closed": "connections closed",
    "traffic_connections": "connections of the run or the target met",
    "traffic_closed": "of these closed",
    "connects": "connections tried",
    "refused": "of these refused",
    "rtt_ms": "round trip after it was lifted",
    "start_to_ready_ms": "from its start to ready",
    "down_s": "down for",
    "call_ms": "the call took",
}
_SENTENCES = {
    ("clean", 1): "nothing of it was left after it was lifted",
    ("clean", 0): "something of it was left after it was lifted",
    ("probe", "answer"): "a probe was answered after it was lifted",
    ("touched", "acted"): "it met traffic of the run or the target",
    ("touched", "nothing"): "it met no traffic",
    ("touched", "not observable"): "whether it met traffic could not be seen",
    ("connect", "refused"): "new connections were refused",
    ("directions", "downstream"): "only from the server to who connected",
    ("directions", "upstream"): "only to the server",
    ("direction", "downstream"): "only from the server to who connected",
    ("direction", "upstream"): "only to the server",
    ("direction", "both"): "",
    ("directions", "both"): "",
    ("process", "gone"): "its process was gone",
    ("process", "stopped"): "its process stood still",
    ("ping", "silent"): "it answered no ping",
}


def in_words(values: Mapping[str, Number | str | None]) -> list[Markup]:
    """What was asked of a fault, or what acted, one phrase for each fact; who it was for a computer is left out."""
    phrases: list[Markup] = []
    delays: set[Number] = set()
    for key, value in values.items():
        if value is None or key.endswith("pid"):
            continue
        if (said := _SENTENCES.get((key, value))) is not None:
            phrases += [Markup("{}").format(said)] if said else []
        elif isinstance(value, str):
            phrases.append(Markup("{}: {}").format(key.replace("_", " "), value))
        elif key in ("latency_ms", "added_rtt_ms", "p50_ms") and value in delays:
            continue  # the same figure under another name
        else:
            delays.add(value)
            suffix, unit = next(((s, u) for s, u in _UNITS if key.endswith(s)), ("", ""))
            name = _NAMES.get(key, key.removesuffix(suffix).replace("_", " "))
            shown = Markup('<data class="n" value="{}">{}</data>').format(repr(value), _with_unit(value, unit))
            phrases.append(Markup("{} {}").format(name, shown))
    return phrases


def _with_unit(value: Number, unit: str) -> str:
    known = {"ms": ms, "s": seconds, "MB": mb, "%": percent}.get(unit)
    return known(value) if known else f"{count(value)} {unit}".strip()


def unbroken(text: str) -> str:
    """The text with each number and its unit on one line."""
    return re.sub(r"(?<=\d) (?=(?:s|ms|µs|MB|%|/s|MB/h|min|h)\b|%)", "\u00a0", text)


def markdown_cell(text: str) -> str:
    """A text of others as one cell of a Markdown table: printable, on one line, and no markup."""
    kept = printable(text.replace("\n", " ")).replace("\\", "\\\\")
    for sign in "|<>[]`*_":
        kept = kept.replace(sign, f"\\{sign}")
    return kept
