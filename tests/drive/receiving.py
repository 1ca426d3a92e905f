"""Starts a broadcaster and a process of consumers, and compares what one did with what the other recorded."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from nursery import nursery_of

from loadtests.model.records import Closing, Deviations, Record

RUN = "run-1"
R = TypeVar("R")


def pipe() -> tuple[FileIO, FileIO]:
    """The end to read from and the one to write to."""
    reads, writes = os.pipe()
    return FileIO(reads, "rb"), FileIO(writes, "wb")


class Process:
    """A child that speaks in lines; every wait has a deadline."""

    def __init__(self, script: str, plan: dict[str, Any]) -> None:
        theirs_in, self._stdin = pipe()
        self._stdout, theirs_out = pipe()
        self._held = b""
        self._nursery = nursery_of(script)
        self._ended: int | None = None
        with theirs_in, theirs_out:
            self._pid = self._nursery.start(plan, theirs_in.fileno(), theirs_out.fileno())

    def line(self, deadline_s: float = 30.0) -> str:
        until = time.monotonic() + deadline_s
        while b"\n" not in self._held:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._stdout], [], [], left)[0]:
                raise TimeoutError(f"nothing said within {deadline_s} s")
            piece = self._stdout.read(1 << 20)
            if not piece:
                raise EOFError(f"ended with {self._wait()}")
            self._held += piece
        first, _, self._held = self._held.partition(b"\n")
        return first.decode()

    def ask(self, order: str) -> str:
        self.order(order)
        return self.line()

    def order(self, order: str) -> None:
        self._stdin.write(order.encode() + b"\n")

    def finish(self) -> Any:
        """Close its stdin; its last line is its report."""
        self._stdin.close()
        line = self.line()
        while line[:1] not in ("{", "["):
            line = self.line()
        report = json.loads(line)
        assert self._wait() == 0
        return report

    def stop(self) -> None:
        if self._ended is None:
            os.kill(self._pid, signal.SIGKILL)
            self._wait()
        self._stdin.close()
        self._stdout.close()

    def _wait(self) -> int:
        if self._ended is None:
            self._ended = self._nursery.wait(self._pid)
        return self._ended


def profile(consumers: list[dict[str, Any]], **parts: Any) -> dict[str, Any]:
    """A profile of one family without keys, hence one route."""
    return {
        "name": "test",
        "question": "does the account hold?",
        "run": {"duration_s": 10.0},
        "families": [{"name": "all", "channel": "tickstock.events.patterns", "event": "pattern_detected"}],
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
