"""What did the target say when it refused, closed or failed?  Its words, grouped and bounded, most frequent first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from loadtests.measure.analysis import Offered
from loadtests.model.ids import NS_PER_S, SLICE_NS

GROUPS = 10
_TARGETS = frozenset({"connect failed", "refused", "peer closed", "error", "no heartbeat"})
"""Reasons of leaving that are not ours."""
_VARIES = re.compile(r"0x[0-9a-fA-F]+|[0-9a-fA-F]{8,}|\d+")
"""What differs between two sentences that say the same: numbers, ids. A status of HTTP stays."""
_STATUS = re.compile(r"HTTP/1\.\d \d{3}")

Word = tuple[int, str, int]
"""When, what, how often."""


def said(analysis: Offered, from_ns: int | None = None, to_ns: int | None = None) -> list[str]:
    """What consumers were told when a connection was refused or ended, from a moment until before another.

    A line for each of at most ten groups of sentences: the first of them, how many, and when it was.
    """
    return _grouped(analysis, _within(_connections(analysis), from_ns, to_ns))


def began(analysis: Offered, from_ns: int | None = None, to_ns: int | None = None) -> str:
    """What was said first, which explains the rest, and what was said most often; empty where nothing was."""
    groups = _groups(_within(_connections(analysis), from_ns, to_ns))
    return "; ".join(_line(analysis, g) for g in dict.fromkeys((min(groups), groups[0]))) if groups else ""


def all_said(analysis: Offered, from_ns: int | None = None, to_ns: int | None = None) -> list[str]:
    """The same, with what publishers and readers were told."""
    return [
        *said(analysis, from_ns, to_ns),
        *_grouped(analysis, _within(_publishes(analysis), from_ns, to_ns)),
        *_grouped(analysis, _within(_queries(analysis), from_ns, to_ns)),
    ]


def _connections(analysis: Offered) -> Iterator[Word]:
    for _, process in analysis.facts.each():
        for s in process.subscriptions:
            if s.step == "left" and s.why in _TARGETS:
                yield s.at_ns, f"{s.why}: {s.detail}" if s.detail else s.why, 1


def _publishes(analysis: Offered) -> Iterator[Word]:
    for _, process in analysis.facts.each():
        for (second, text), count in process.said.items():
            if text:
                yield second * NS_PER_S, f"publish: {text}", count


def _queries(analysis: Offered) -> Iterator[Word]:
    for _, process in analysis.facts.each():
        for q in process.queried:
            if q.failed:
                yield q.due_slice * SLICE_NS, f"query {q.query}: {q.example}", q.failed


def _within(words: Iterable[Word], from_ns: int | None, to_ns: int | None) -> list[Word]:
    return [w for w in words if (from_ns is None or w[0] >= from_ns) and (to_ns is None or w[0] < to_ns)]


def _grouped(analysis: Offered, words: list[Word]) -> list[str]:
    found = _groups(words)
    lines = [_line(analysis, group) for group in found[:GROUPS]]
    if len(found) > GROUPS:
        lines.append(f"and {len(found) - GROUPS} other answers, {sum(g[2] for g in found[GROUPS:])} times")
    return lines


def _groups(words: list[Word]) -> list[Word]:
    """The first of each group of sentences, and how often any of it was said; most frequent first."""
    groups: dict[str, Word] = {}
    for at_ns, text, count in sorted(words):
        key = _alike(text)
        first_ns, example, sum_ = groups.get(key, (at_ns, text, 0))
        groups[key] = first_ns, example, sum_ + count
    return sorted(groups.values(), key=lambda g: (-g[2], g[0], g[1]))


def _line(analysis: Offered, group: Word) -> str:
    at_ns, text, count = group
    return f"{text} ({f'{count} times, first' if count > 1 else 'once,'} at {analysis.times.seconds(at_ns):.1f} s)"


def _alike(text: str) -> str:
    """What sentences that say the same have in common."""
    status = _STATUS.search(text)
    return (status[0] if status else "") + _VARIES.sub("#", text)
