"""What of a history is missing, contradicts itself or cannot be true, and which findings may rest on it?

Damage has a scope: the process whose file it is.  A failure stands only on records that lie outside of it.  What is
damaged of the leading process's file may be a fault, a phase or our own trouble, which excuse whatever others saw.

A history may come from a stranger.  Its times span the arrays of the judge: one time a month away costs gigabytes, and
one a thousand years away more memory than there is.  So a record with numbers that no run can have is damage.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from loadtests.measure.history_tables import HistoryTables, ProcessFacts, ints
from loadtests.model.codec import BUCKET, BULK, COLUMN_BYTES, Bounds, columns_of, values
from loadtests.model.ids import NS_PER_S, SLICE_NS, unpack_stream
from loadtests.model.measures import MEASURES
from loadtests.model.profile.profile import Profile
from loadtests.model.records import Header, Record, Trouble
from loadtests.model.results import Check, Verdict
from loadtests.tally.client_latency import COARSE
from loadtests.tally.histogram import BUCKETS

LEADING = "main"
"""The process whose file holds phases, faults, samples and every process's trouble."""
BUT = "but records are missing"
_STANDS = {name for name, row in MEASURES.items() if row.stands} | {"the target's services lived"}
"""Measures and conditions that fail by what was seen, not by what is absent: no record that is missing excuses them,
as long as the leading process's file is whole.  (Consumers of a damaged process have no account of what they lost.)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Of which processes records are missing, or cannot be believed."""

    of: dict[str, list[str]]  # process -> what is wrong with its file, in sentences
    strangers: frozenset[str]  # processes whose file belongs to another run: nothing in it counts
    endless: bool  # the leading process did not tell the end of the run

    @property
    def lines(self) -> list[str]:
        """All of it, the leading process's first."""
        names = sorted(self.of, key=lambda name: (name != LEADING, name))
        return [f"{name}: {line}" for name in names for line in self.of[name]]

    def doubts(self, name: str) -> bool:
        """Whether a failure of a measure or condition may rest on what is missing, or on files of another run."""
        if self.endless or self.strangers or LEADING in self.of:
            return True
        return bool(self.of) and name not in _STANDS


def damage(facts: HistoryTables) -> Damage:
    """What is wrong with the files of a history. A process that is known to be lost has no damage by that alone."""
    of: dict[str, list[str]] = {}
    main = facts.processes.get(LEADING, ProcessFacts())
    run = next(((h.run, h.profile_sha256) for h in main.headers), None)
    lost = {t.process for t in facts.lost()}
    strangers = set()
    for name, process in facts.each():
        lines = process.holes()
        if not process.headers:
            lines.append("its file has no header")
        found = [line for h in process.headers if (line := _not_its_own(h, name, run))]
        if found:
            strangers.add(name)
        lines += found[:1] + _jumps(process) + _end(process, may_lack=name in lost or not main.finishes)
        if lines:
            of[name] = lines
    if LEADING not in facts.processes:
        of[LEADING] = ["its file is missing"]
    told = [(name, number) for f in main.finishes for name, number in f.frames.items()]
    for name, number in sorted(told):
        have = max(facts.processes[name].known, default=-1) + 1 if name in facts.processes else 0
        if have < number:
            of.setdefault(name, []).append(f"frames {have} to {number - 1} at its end are missing")
    expected = max((h.workers for h in main.headers), default=0)
    there = {name for name in lost if name.startswith("worker-")} | {
        h.process for _, p in facts.each() for h in p.headers if h.role == "worker"
    }
    if len(there) < expected:
        of["workers"] = [f"{expected - len(there)} of {expected} left no file"]
    return Damage(of=of, strangers=frozenset(strangers), endless=not main.finishes)


def _not_its_own(header: Header, name: str, run: tuple[str, str] | None) -> str:
    if header.process != name:
        return f"its header names {header.process}"
    if run is not None and header.run != run[0]:
        return f"it belongs to another run: {header.run}"
    if run is not None and header.profile_sha256 != run[1]:
        return "it ran another profile"
    return ""


def _jumps(process: ProcessFacts) -> list[str]:
    """The first stream of which it published numbers that do not follow each other: rows between them are missing."""
    stream, _, _, first, last, _ = process.published.numpy()
    order = np.lexsort((first, stream))
    stream, first, last = stream[order], first[order], last[order]
    expected = np.zeros_like(first)
    expected[1:] = np.where(stream[1:] == stream[:-1], last[:-1] + 1, 0)
    bad = np.flatnonzero(first > expected)
    if not len(bad):
        return []
    of = unpack_stream(int(stream[bad[0]]))
    what = f"publisher {of.slot} epoch {of.epoch} route {of.route}"
    return [f"{what} has no seq {int(expected[bad[0]])} to {int(first[bad[0]]) - 1}, and goes on behind"]


def _end(process: ProcessFacts, *, may_lack: bool) -> list[str]:
    """What is wrong at the end of a file whose header promises a last frame."""
    count = max((h.frames for h in process.headers), default=-1)
    if count == 0 and not may_lack:
        return ["its last frame is missing"]
    have = len(process.known)
    return [f"it has {have} frames, and its last one says {count}"] if count > 0 and have != count else []


def believed(facts: HistoryTables, found: Damage) -> HistoryTables:
    """Facts without those of strangers; a process with damage is in trouble for all of the run."""
    if not found.of:
        return facts
    kept = HistoryTables()
    for name, process in facts.each():
        kept.processes[name] = _unread(process) if name in found.strangers else copy.copy(process)
        if name != LEADING and name in found.of:
            what = f"its file is damaged: {found.of[name][0]}"
            kept.processes[name].trouble = [*process.trouble, Trouble(process=name, from_ns=0, to_ns=-1, what=what)]
    return kept


def _unread(process: ProcessFacts) -> ProcessFacts:
    found = ProcessFacts()
    found.headers, found.numbers, found.known, found.torn = (
        process.headers, process.numbers, process.known, process.torn,
    )  # fmt: skip
    return found


def outside(check: Check, found: Damage) -> Check:
    """The check; UNKNOWN where it failed, and its evidence may rest on what is missing."""
    measure = check.name.partition("<=")[0].partition(">=")[0]
    if check.verdict is not Verdict.FAIL or not found.doubts(measure):
        return check
    why = found.lines[0] if found.of else "the history has no end"
    return msgspec.structs.replace(check, verdict=Verdict.UNKNOWN, summary=f"{check.summary}; {BUT}: {why}")


MARGIN_S = 3600.0
"""A run that overran its plan by more has had no machine to run on."""
MOST = 1 << 53
"""Messages, bytes, and whatever else is counted: what a float can count exactly."""
MOST_OF_A_CROWD = 10_000_000
"""Consumers, users, processes, frames, epochs."""

_ABSOLUTE = frozenset({"origin_ns", "origin_unix_ns", "clock_offset_ns", "stream"})
"""Any number of 63 bits: times of the machine's own clocks, and between those of two; a stream is three in one."""
_CROWD = frozenset({"consumer", "consumers", "epoch", "group", "publishers", "workers", "frames", "wanted", "index",
                    "routes", "route_set", "buckets"})  # fmt: skip
_MEASURED = frozenset({"asked", "effective"})
"""Whatever a kind of fault measures: nothing is counted by it."""
_BUCKETED = frozenset({"own_lag", "blocked", "latency", "service", "read_delay", "sampled_read"})


def longest_ns(profile: Profile) -> int:
    """No time of a run of this profile lies further from its origin."""
    run = profile.run
    return round((run.connect_s + run.length_s + MARGIN_S) * NS_PER_S)


def bounds(longest: int) -> Bounds:
    """What each field may hold, for a `codec.Reader`."""

    def of(name: str) -> tuple[int, int] | None:
        return (0, BUCKETS - 1) if name == BUCKET else None if name in _MEASURED else _bounds(name, longest)

    return of


def columns_hold(records: Iterable[Record], longest: int) -> bool:
    """Whether the columns that are bytes surely are within their bounds; else ask `implausible` of each record."""
    wide: list[bytes] = []  # columns of buckets that need not be within the scale
    for record in records:
        looks = _LOOKS.get(type(record).__base__)
        if looks is None:
            continue
        columns, histograms = looks
        for name in columns:
            held = getattr(record, name)
            if isinstance(held, bytes) and not _holds(held, _bounds(name, longest)):
                return False
        if histograms is None:
            continue
        for bucket, count in histograms(record):
            if bucket.__class__ is list:
                if count.__class__ is not list or len(bucket) != len(count):
                    return False
                continue
            if count.__class__ is list or not _fit(bucket[:1], len(bucket), count[:1], len(count)):
                return False
            if bucket[0] == _WIDE:
                wide.append(bucket[1:])
    return not wide or int(np.frombuffer(b"".join(wide), "<u2").max()) < BUCKETS


@lru_cache(maxsize=16_384)  # few differ; to look one up is a third of working it out
def _fit(bucket: bytes, bucket_length: int, count: bytes, count_length: int) -> bool:
    """Whether columns with these letters and lengths are a histogram's."""
    if bucket not in _SCALE or count not in _COUNTS:
        return False
    rows, part = divmod(bucket_length - 1, COLUMN_BYTES[bucket])
    return not part and count_length == 1 + rows * COLUMN_BYTES[count]


def _holds(stored: bytes, within: tuple[int, int]) -> bool:
    """Whether a column is one, and within bounds."""
    size = COLUMN_BYTES.get(stored[:1], 0)
    if not size or len(stored) % size != 1 % size:
        return False
    if size < 8 and within[0] <= 0 and within[1] >= 1 << 8 * size:
        return True
    found = ints(stored)
    return not len(found) or (within[0] <= int(found.min()) and int(found.max()) <= within[1])


def _looks(kind: type[Record]) -> tuple[tuple[str, ...], Callable[[Any], Any] | None]:
    columns = columns_of(kind)
    pairs = [name for name, paired in columns if paired]
    return tuple(name for name, paired in columns if not paired), attrgetter(*pairs) if len(pairs) > 1 else None


_LOOKS: dict[type[Any] | None, tuple[tuple[str, ...], Callable[[Any], Any] | None]] = {k: _looks(k) for k in BULK}
"""Kinds whose columns may be bytes: the names of them, and what gives the pairs of a record."""
_SCALE, _WIDE = (b"B", b"H"), ord("H")
_COUNTS = (b"B", b"H", b"I")
"""Letters of columns whose values are surely within bounds, or nearly."""


def implausible(record: Record, longest: int) -> str:
    """The field that cannot be true, with what it holds; empty where all can. `longest`: no time is further away."""
    for name, stored in zip(_fields(type(record)), msgspec.structs.astuple(record), strict=True):
        if name in _MEASURED:
            continue
        try:
            value = _listed(stored)
        except ValueError as error:
            return f"{type(record).__name__}.{name}, {error},"
        if isinstance(stored, tuple) and len({len(column) for column in value}) > 1:
            return f"{type(record).__name__}.{name} with columns of two lengths"
        if name in _BUCKETED and (wrong := _of_many(value[0], 0, BUCKETS - 1)) is not None:
            return f"{type(record).__name__}.{name} of {wrong}"
        low, high = _bounds(name, longest)
        if (wrong := _beyond(value, low, high)) is not None:
            return f"{type(record).__name__}.{name} of {wrong}"
    return ""


def _listed(stored: Any) -> Any:
    """The value of a field, with lists for columns that are bytes."""
    if isinstance(stored, tuple):
        return tuple(map(_listed, stored))
    return values(stored) if isinstance(stored, bytes) else stored


@cache
def _fields(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in msgspec.structs.fields(kind))


@cache
def _bounds(name: str, longest: int) -> tuple[int, int]:
    if name in _ABSOLUTE:
        return -(1 << 63), (1 << 63) - 1
    if name == "bucket":
        return 0, COARSE - 1
    if name in _CROWD:
        return -1, MOST_OF_A_CROWD
    if name in _BUCKETED:
        return 0, MOST
    if name.endswith("_ns"):
        return -longest, longest
    if name.endswith("_slice"):
        return -longest // SLICE_NS, longest // SLICE_NS
    return -1, MOST


def _beyond(value: Any, low: int, high: int) -> int | None:
    """The first number out of bounds in a value of whatever shape; texts and fractions have no bounds."""
    if type(value) is int:
        return None if low <= value <= high else value
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return None
    return _of_many(value, low, high)


def _of_many(values: Iterable[Any], low: int, high: int) -> int | None:
    many = list(values)
    if not many:
        return None
    if type(many[0]) is not int:
        return next((wrong for part in many if (wrong := _beyond(part, low, high)) is not None), None)
    least, most = min(many), max(many)
    return least if least < low else most if most > high else None
