"""How are the figures told?  performance.md for people, performance.json from which it is written.  Pure text.

A benchmark of a few rows replaces these rows and keeps the others, each with its own date, unless the machine or the
software is another one: figures of two machines never stand in one table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from benchmarks.figures import Outcome, Row, met_text, value_text
from benchmarks.rows import ROWS

PLOT = "performance.svg"


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """All that the document is written from."""

    machine: str
    versions: str
    outcomes: list[Outcome] = []
    bars: dict[str, float] = {}  # client -> CPU-s per million deliveries at 1,000 x 20/s
    curve: list[tuple[float, float]] = []  # (deliveries per second, CPU percent)


def to_json(figures: Figures) -> bytes:
    """Equal figures give equal bytes."""
    return msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n"


def from_json(data: bytes) -> Figures:
    """Raises msgspec.ValidationError."""
    return msgspec.json.decode(data, type=Figures)


def merged(old: Figures | None, new: Figures) -> Figures:
    """New rows in place of old ones of the same machine; rows in the order of the table."""
    if old is None or old.machine != new.machine:
        old = Figures(machine=new.machine, versions=new.versions)
    outcomes = {o.key: o for o in old.outcomes} | {o.key: o for o in new.outcomes}
    return Figures(
        machine=new.machine,
        versions=new.versions,
        outcomes=[outcomes[row.key] for row in ROWS if row.key in outcomes],
        bars=old.bars | new.bars,
        curve=new.curve or old.curve,
    )


def table(outcomes: Iterable[Outcome]) -> list[tuple[Row, Outcome]]:
    """Rows with their outcomes, in the order of the table."""
    found = {o.key: o for o in outcomes}
    return [(row, found[row.key]) for row in ROWS if row.key in found]


def to_markdown(figures: Figures) -> str:
    """The whole page."""
    rows = table(figures.outcomes)
    judged = [o for r, o in rows if o.met is not None]
    lines = [
        "# How fast Tickstorm is",
        "",
        "Written by `python -m benchmarks` (`make bench`); do not edit. Every figure is a ratio or a count taken on",
        "one machine, and the programs that are compared ran one after the other in the same benchmark.",
        "",
        f"- Machine: {figures.machine}. Loopback only.",
        f"- Software: {figures.versions}.",
        f"- Measured: {_dates(outcome.date for _, outcome in rows)}.",
        f"- Targets met: {sum(o.met is True for o in judged)} of {len(judged)} measured.",
        "",
    ]
    for section, of_it in _sections(rows).items():
        lines += [
            f"## {section}",
            "",
            "| figure | target | measured: median (least to greatest) | met |",
            "|---|---|---|---|",
        ]
        for row, outcome in of_it:
            measured, met = value_text(outcome, row.unit), met_text(outcome, row.limit)
            lines.append(f"| {row.name} | {row.target} | {measured} | {met} |")
        lines += ["", *_notes(of_it), ""]
    if figures.bars or figures.curve:
        lines += ["## Plot", "", f"![CPU for a delivery, and CPU against the rate]({PLOT})", ""]
    return "\n".join([*lines, _METHOD])


QUOTED = ("delivery-100", "delivery-20", "flat", "flat-rate", "ceiling", "publish", "memory-consumer", "connections")
"""Rows of which the README tells."""
_BEGIN, _END = "<!-- figures -->\n", "<!-- /figures -->"


def quoting(readme: str, figures: Figures) -> str:
    """The README with the present figures between its two marks; without the marks it stays as it is."""
    before, begin, rest = readme.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        return readme
    rows = [(row, outcome) for row, outcome in table(figures.outcomes) if row.key in QUOTED]
    newest = max((outcome.date for _, outcome in rows), default="nothing yet")
    lines = [
        f"| figure ({figures.machine}; {newest}) | target | measured: median (least to greatest) | met |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row.name} | {row.target} | {value_text(found, row.unit)} | {met_text(found, row.limit)} |"
        for row, found in rows
    ]
    return before + begin + "\n".join(lines) + "\n" + end + after


def _sections(rows: list[tuple[Row, Outcome]]) -> Mapping[str, list[tuple[Row, Outcome]]]:
    found: dict[str, list[tuple[Row, Outcome]]] = {}
    for row, outcome in rows:
        found.setdefault(row.section, []).append((row, outcome))
    return found


def _notes(rows: list[tuple[Row, Outcome]]) -> list[str]:
    lines = []
    for row, outcome in rows:
        parts = [part.rstrip(".") for part in (outcome.detail, outcome.reason) if part]
        if parts:
            lines.append(f"- **{row.name}** ({outcome.date}): {'. '.join(parts)}.")
    return lines


def _dates(dates: Iterable[str]) -> str:
    found = sorted(set(dates))
    if not found:
        return "nothing yet"
    return found[0] if len(found) == 1 else f"{found[0]} to {found[-1]}, each row with its date below"


_METHOD = """\
## Method and noise

- The receiver runs on core 0; sender, Redis and Toxiproxy on core 1. `benchmarks/sender.c` broadcasts frames of about
  270 bytes, one `send()` per message and connection unless a row says otherwise.
- Tickstorm runs as its user starts it: `tickstorm run` with a profile, in real Locust, with everything on: planning,
  publishing through Redis to the sender, accounts, histograms, sampled kernel stamps, history. CPU is that of its
  process over the plan, the publishers' share included; start-up, connecting and warm-up are not.
- The floor is `benchmarks/floor.c`: epoll, cut frames, find the identity, compare its number, one histogram. The
  peers (`benchmarks/peers/`) do the same; Python peers decode by msgspec, the fastest way they have. Their CPU is
  their own `getrusage` over the window after a warm-up of 1 s; k6's is read from outside.
- Two that are compared run in turn (A B A B); the ratio is taken pair by pair, and the median, the least and the
  greatest are told. Each window is 4 s, so equal runs differ by 15 to 20 % on a virtual machine, now and then
  by more: a difference below that means nothing.
- A peer that is marked saturated received less than it was sent: its cost is that of reading many messages at once,
  which flatters it.
- Resident memory is that of the process; what the kernel holds for sockets is not in it.
"""
