"""Starts a broadcaster and a process of consumers, and compares what one did with what the other recorded."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from nursery import Child

from loadtests.model.records import Closing, Deviations, Record

HERE = Path(__file__).parent
RUN = "run-1"
R = TypeVar("R")


class Process(Child):
    """A child that takes orders, a line each, and whose last line is its report."""

    def __init__(self, script: str, plan: dict[str, Any]) -> None:
        super().__init__(HERE / f"{script}.py", plan)

    def ask(self, order: str) -> str:
        self.order(order)
        return self.line()

    def order(self, order: str) -> None:
        self.stdin.write(order.encode() + b"\n")

    def finish(self) -> Any:
        """Close its stdin; its last line is its report."""
        self.stdin.close()
        line = self.line()
        while line[:1] not in ("{", "["):
            line = self.line()
        report = json.loads(line)
        assert self.wait() == 0
        return report


def profile(consumers: list[dict[str, Any]], **parts: Any) -> dict[str, Any]:
    """A profile of one family without keys, hence one route."""
    return {
        "name": "test",
        "question": "does the account hold?",
        "run": {"duration_s": 10.0},
        "families": [
            {"name": "all", "channel": "tickstock.events.patterns", "event": "pattern_detected", "content": "unchecked"}
        ],
        "publishers": [{"name": "p", "families": ["all"], "shape": {"kind": "constant", "rate_per_s": 1.0}}],
        "consumers": consumers,
        "thresholds": [{"measure": "lost_defect", "at_most": 0.0}],
    } | parts


def records(path: Path) -> list[Record]:
    return msgspec.msgpack.decode(path.read_bytes(), type=list[Record])


def of(kind: type[R], found: Iterable[Any]) -> list[R]:
    return [r for r in found if isinstance(r, kind)]


Streams = dict[int, tuple[int, int, int, frozenset[int], int]]
"""Stream: first, last, unique, missing, repeats."""


def expected(sent: Iterable[tuple[int, int]]) -> Streams:
    """The account of one connection, by sets: slow and plain."""
    seen: dict[int, Counter[int]] = defaultdict(Counter)
    for stream, seq in sent:
        seen[stream][seq] += 1
    return {
        stream: (
            min(counts),
            max(counts),
            len(counts),
            frozenset(range(min(counts), max(counts) + 1)) - frozenset(counts),
            sum(counts.values()) - len(counts),
        )
        for stream, counts in seen.items()
    }


def accounts(found: Iterable[Record]) -> dict[tuple[int, int], Streams]:
    """(consumer, epoch) -> what the records say of it."""
    gaps: dict[tuple[int, int, int], set[int]] = defaultdict(set)
    repeats: Counter[tuple[int, int, int]] = Counter()
    found = list(found)
    for record in of(Deviations, found):
        columns = (record.kind, record.consumer, record.epoch, record.stream, record.first, record.last)
        for kind, consumer, epoch, stream, first, last in zip(*columns, strict=True):
            place = (consumer, epoch, stream)
            numbers = set(range(first, last + 1))
            if kind == "gap":
                assert not gaps[place] & numbers
                gaps[place] |= numbers
            elif kind == "filled":
                assert gaps[place] >= numbers
                gaps[place] -= numbers
            else:
                repeats[place] += len(numbers)
    result: dict[tuple[int, int], Streams] = defaultdict(dict)
    for record in of(Closing, found):
        for consumer, epoch in zip(record.consumer, record.epoch, strict=True):
            rows = zip(record.stream, record.first, record.last, record.unique, strict=True)
            for stream, first, last, unique in rows:
                place = (consumer, epoch, stream)
                assert unique == last - first + 1 - len(gaps[place])
                result[consumer, epoch][stream] = (first, last, unique, frozenset(gaps[place]), repeats[place])
    return dict(result)
