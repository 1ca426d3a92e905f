"""What did the target say when it refused, closed or failed?  Its words, grouped and bounded, most frequent first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np

from loadtests.measure.analysis import Offered
from loadtests.model.ids import NS_PER_S, SLICE_NS

GROUPS = 10
_TARGETS = frozenset({"connect failed", "refused", "peer closed", "error", "no heartbeat"})
"""Reasons of leaving that are not ours."""
_VARIES = re.compile(r"0x[0-9a-fA-F]+|[0-9a-fA-F]{8,}|\d+")
"""What differs between two sentences that say the same: numbers, ids. A status of HTTP stays."""
_STATUS = re.compile(r"HTTP/1\.\d \d{3}")

_EVER = 2**62

Word = tuple[int, str, int]
"""When, what, how often."""


def said(analysis: Offered, from_ns: int | None = None, to_ns: int | None = None) -> list[str]:
    """What consumers were told when a connection was refused or ended, from a moment until before another.

    A line for each of at most ten groups of sentences: the first of them, how many, and when it was.
    """
    return _grouped(analysis, list(_connections(analysis, from_ns, to_ns)))


def began(analysis: Offered, from_ns: int | None = None, to_ns: int | None = None) -> str:
    """What was said first, which explains the rest, and what was said most often; empty where nothing was."""
    groups = _groups(list(_connections(analysis, from_ns, to_ns)))
    return "; ".join(_line(analysis, g) for g in dict.fromkeys((min(groups), groups[0]))) if groups else ""


def all_said(analysis: Offered, from_ns: int | None = None, to_ns: int | None = None) -> list[str]:
    """The same, with what publishers and readers were told."""
    return [
        *said(analysis, from_ns, to_ns),
        *_grouped(analysis, _within(_publishes(analysis), from_ns, to_ns)),
        *_grouped(analysis, _within(_queries(analysis), from_ns, to_ns)),
    ]


def _connections(analysis: Offered, from_ns: int | None, to_ns: int | None) -> Iterator[Word]:
    ends = analysis.subs.ends
    low, high = (-_EVER if from_ns is None else from_ns), (_EVER if to_ns is None else to_ns)
    there = ends.because(_TARGETS) & (ends.at_ns >= low) & (ends.at_ns < high)
    at_ns, why, detail = (column[there] for column in (ends.at_ns, ends.why, ends.detail))
    kinds, of, counts = np.unique(why * len(ends.words) + detail, return_inverse=True, return_counts=True)
    first = np.full(len(kinds), _EVER, dtype=np.int64)
    np.minimum.at(first, of, at_ns)
    for kind, since_ns, count in zip(kinds.tolist(), first.tolist(), counts.tolist(), strict=True):
        said, more = (ends.words[n] for n in divmod(kind, len(ends.words)))
        yield since_ns, f"{said}: {more}" if more else said, count


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
