"""Which records does a history hold, sorted by kind and kept small?  A fold with `add` and `merge`; judges nothing."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from loadtests.model import records as r
from loadtests.model.codec import COLUMN_BYTES, Frame, Torn
from loadtests.model.ids import NS_PER_S
from loadtests.tally.client_latency import COARSE

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

KIND_CODE = {"gap": 0, "filled": 1, "repeated": 2}
FIRST_CODE = {"byte": 0, "fresh": 1}
OUTCOME_CODE = {"FAILED": 0, "UNKNOWN": 1}
STEP_ORDER = {"asked": 0, "confirmed": 1, "leaving": 2, "left": 3}
KERNEL, READ = 0, 1
LATE_NOT_TOLD = -1
LINK_DELAY = "link_delay_ns"
"""Metric under which the times of pings through a link stand, with the link as their source."""
FOREVER = 2**40
"""A slice beyond every run."""
NOT_KEPT_TEXT = "{}: {} rows of exceptions were not kept"


def sums_at(index: Ints, weight: Ints, length: int) -> Ints:
    """An array of sums: each weight is added at its index."""
    found = np.zeros(length, dtype=np.int64)
    np.add.at(found, index, weight)
    return found


def ints(stored: bytes | Iterable[int]) -> Ints:
    """A column of a record, whether it is bytes (`codec.thin`) or a list."""
    if not isinstance(stored, bytes):
        return np.fromiter(stored, dtype=np.int64)
    return np.frombuffer(stored, _TYPES[stored[:1]], offset=1).astype(np.int64)


def _as_it_came(stored: bytes | Iterable[int]) -> npt.NDArray[Any]:
    if isinstance(stored, bytes):
        return np.frombuffer(stored, _TYPES[stored[:1]], offset=1)
    return np.fromiter(stored, dtype=np.int64)


_TYPES = {code: f"<{'i' if size == 8 else 'u'}{size}" for code, size in COLUMN_BYTES.items()}


def _length(stored: bytes | list[int]) -> int:
    return (len(stored) - 1) // COLUMN_BYTES[stored[:1]] if isinstance(stored, bytes) else len(stored)


_NARROW = (np.uint8, np.uint16, np.uint32)
_ROWS = 8192
"""Rows that are kept as they came, before they are made narrow together."""


def narrow(values: npt.NDArray[Any], low: int | None = None) -> tuple[int, npt.NDArray[Any]]:
    """Integers as a least one and what each is beyond it, in as few bytes as that takes."""
    least, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    low = least if low is None else low
    kind = next((k for k in _NARROW if high - low <= np.iinfo(k).max), None)
    return (0, values.copy()) if kind is None else (low, (values - low).astype(kind))


class Columns:
    """Columns of integers that grow together.  What is behind is kept narrow: a few bytes a value.

    Rows come one by one into `_parts`, or many at once, as bytes, into `_held`, which is before `_parts`.
    """

    __slots__ = ("_behind", "_held", "_length", "_parts", "_waiting")

    def __init__(self, width: int) -> None:
        self._parts = tuple(array("q") for _ in range(width))
        self._held: tuple[list[npt.NDArray[Any]], ...] = tuple([] for _ in range(width))
        self._behind: tuple[list[tuple[int, npt.NDArray[Any]]], ...] = tuple([] for _ in range(width))
        self._length = 0  # of what is behind
        self._waiting = 0  # rows held

    def extend(self, *columns: bytes | Iterable[int]) -> None:
        """Append rows, one column each. Raises ValueError where the number of columns differs."""
        if any(isinstance(column, bytes | np.ndarray) for column in columns):
            self._hold()
            for held, column in zip(self._held, columns, strict=True):
                held.append(column if isinstance(column, np.ndarray) else _as_it_came(column))
            self._waiting += len(self._held[0][-1])
        else:
            for part, column in zip(self._parts, columns, strict=True):
                part.extend(column)
        self._settle()

    def append(self, *values: int) -> None:
        """Append one row."""
        for part, value in zip(self._parts, values, strict=True):
            part.append(value)
        self._settle()

    def merge(self, other: Columns) -> None:
        """Append another's rows."""
        for rows in other.pieces():
            self.extend(*rows)

    def _hold(self) -> None:
        count = len(self._parts[0])
        if count:
            for held, part in zip(self._held, self._parts, strict=True):
                held.append(np.array(part, dtype=np.int64))
            self._parts = tuple(array("q") for _ in self._parts)
            self._waiting += count

    def _settle(self, least: int = _ROWS) -> None:
        if self._waiting + len(self._parts[0]) >= least:
            self._hold()
            for behind, held in zip(self._behind, self._held, strict=True):
                behind.append(narrow(np.concatenate(held)))
                held.clear()
            self._length += self._waiting
            self._waiting = 0

    def __len__(self) -> int:
        return self._length + self._waiting + len(self._parts[0])

    def pieces(self) -> Iterator[Ints]:
        """Arrays of shape (columns, rows), one after the other."""
        self._settle(least=1)
        for columns in zip(*self._behind, strict=True):
            yield np.array([low + values.astype(np.int64) for low, values in columns])

    def between(self, index: int, first: int, last: int) -> Ints:
        """Rows of which one column is from a number to before another, of shape (columns, rows)."""
        self._settle(least=1)
        found = [np.zeros((len(self._parts), 0), dtype=np.int64)]
        for columns in zip(*self._behind, strict=True):
            low, values = columns[index]
            if low < last and low + int(values.max()) >= first:
                found.append(np.array([least + held.astype(np.int64) for least, held in columns]))
        rows = np.concatenate(found, 1)
        return rows[:, (rows[index] >= first) & (rows[index] < last)]

    def column(self, index: int) -> Ints:
        """One column of all rows."""
        self._settle(least=1)
        found = np.empty(len(self), dtype=np.int64)
        at = 0
        for low, values in self._behind[index]:
            found[at : at + len(values)] = values
            found[at : at + len(values)] += low
            at += len(values)
        return found

    def joined(self) -> list[npt.NDArray[Any]]:
        """Each column of all rows, as narrow as its values are, none of which is negative."""
        self._settle(least=1)
        for behind in self._behind:
            arrays = [values if low == 0 else narrow(low + values.astype(np.int64), 0)[1] for low, values in behind]
            behind[:] = [(0, np.concatenate(arrays))] if arrays else []
        return [behind[0][1] if behind else np.zeros(0, dtype=np.uint8) for behind in self._behind]

    def numpy(self) -> Ints:
        """One array of shape (columns, rows)."""
        found = np.empty((len(self._parts), len(self)), dtype=np.int64)
        for index in range(len(self._parts)):
            found[index] = self.column(index)
        return found


_R = TypeVar("_R", r.Subscription, r.PathProbe, r.HarnessSecond)


class Rows(Generic[_R]):
    """Records of one kind whose fields are numbers and words, kept as columns; they are made again one by one."""

    __slots__ = ("_columns", "_fields", "_kind", "_numbers", "_waiting")

    def __init__(self, kind: type[_R]) -> None:
        self._kind: type[_R] = kind
        self._fields = tuple((field.name, field.type) for field in msgspec.structs.fields(kind))
        self._columns = Columns(len(self._fields))
        self._waiting: list[_R] = []
        self._numbers: dict[str, int] = {}

    def append(self, record: _R) -> None:
        """Keep one more."""
        self._waiting.append(record)
        if len(self._waiting) >= _ROWS:
            self._settle()

    def extend(self, records: Iterable[_R]) -> None:
        """Keep several."""
        for record in records:
            self.append(record)

    def _settle(self) -> None:
        held, self._waiting = self._waiting, []
        if held:
            columns = zip(*[[getattr(record, name) for name, _ in self._fields] for record in held], strict=True)
            self._columns.extend(
                *[self._as_numbers(kind, c) for (_, kind), c in zip(self._fields, columns, strict=True)]
            )

    def _as_numbers(self, kind: Any, values: tuple[Any, ...]) -> Iterable[int]:
        if kind is float:
            bits: list[int] = np.array(values, dtype=np.float64).view(np.int64).tolist()
            return bits
        if kind in (int, bool):
            return values
        return [self._numbers.setdefault(word, len(self._numbers)) for word in values]

    @property
    def words(self) -> list[str]:
        """What the numbers in a column of words stand for."""
        self._settle()
        return list(self._numbers)

    def column(self, name: str) -> Ints:
        """Numbers of one field, in the order of the records; of words, places in `words`."""
        self._settle()
        return self._columns.column(next(i for i, (known, _) in enumerate(self._fields) if known == name))

    def __len__(self) -> int:
        return len(self._columns) + len(self._waiting)

    def __iter__(self) -> Iterator[_R]:
        words = self.words
        for rows in self._columns.pieces():
            columns = [self._values(kind, column, words) for (_, kind), column in zip(self._fields, rows, strict=True)]
            for values in zip(*columns, strict=True):
                yield self._kind(**{name: value for (name, _), value in zip(self._fields, values, strict=True)})

    def _values(self, kind: Any, column: Ints, words: list[str]) -> list[Any]:
        stored = column.view(np.float64) if kind is float else column.astype(np.bool_) if kind is bool else column
        found: list[Any] = stored.tolist()
        return found if kind in (int, float, bool) else [words[at] for at in found]


class Readings:
    """Moments with what was read at them, in the order in which they came."""

    __slots__ = ("at_ns", "value")

    def __init__(self) -> None:
        self.at_ns, self.value = array("q"), array("d")

    def append(self, at_ns: int, value: float) -> None:
        """Keep one more."""
        self.at_ns.append(at_ns)
        self.value.append(value)

    def extend(self, other: Readings) -> None:
        """Keep another's."""
        self.at_ns.extend(other.at_ns)
        self.value.extend(other.value)

    def __len__(self) -> int:
        return len(self.at_ns)

    def __iter__(self) -> Iterator[tuple[int, float]]:
        return zip(self.at_ns, self.value, strict=True)


class ClientHistograms(NamedTuple):
    """A `ClientLatency` record in arrays; `bucket` and `counts` are as narrow as they came."""

    first_slice: int
    last_slice: int
    consumer: Ints
    buckets: Ints
    bucket: npt.NDArray[Any]
    counts: npt.NDArray[Any]

    @classmethod
    def of(cls, record: r.ClientLatency) -> ClientHistograms:
        """The arrays of a record."""
        return cls(
            record.first_slice,
            record.last_slice,
            ints(record.consumer),
            ints(record.buckets),
            *(_as_it_came(column) for column in (record.bucket, record.count)),
        )


class ClientSums:
    """Histograms of single consumers, added up over records."""

    __slots__ = ("_counts", "_row")

    def __init__(self) -> None:
        self._row: dict[int, int] = {}  # by consumer
        self._counts = np.zeros((0, COARSE), dtype=np.int64)

    def add(self, one: ClientHistograms) -> None:
        """Add what one record tells of each of its consumers."""
        who = one.consumer.tolist()
        rows = np.array([self._row.setdefault(c, len(self._row)) for c in who], dtype=np.int64)
        if len(self._row) > len(self._counts):
            more = np.zeros((2 * len(self._row) - len(self._counts), COARSE), dtype=np.int64)
            self._counts = np.concatenate((self._counts, more))
        at = np.repeat(rows, one.buckets) * COARSE + one.bucket
        np.add.at(self._counts.reshape(-1), at, one.counts.astype(np.int64))

    def sums(self) -> tuple[Ints, Ints]:
        """Consumers in ascending order, and their histograms, of shape (consumers, COARSE)."""
        order = sorted(self._row.items())
        consumers = np.array([consumer for consumer, _ in order], dtype=np.int64)
        return consumers, self._counts[[row for _, row in order]]


class ProcessFacts:
    """What one process wrote."""

    def __init__(self) -> None:
        self.headers: list[r.Header] = []
        self.numbers: list[int] = []
        self.known: set[int] = set()  # the same numbers, each once
        self.torn: list[Torn] = []
        self.effective: list[r.Effective] = []
        self.published = Columns(6)  # stream, due, sent, first, last, bytes
        self.settled = Columns(5)  # stream, first, last, outcome, at
        self.said: Counter[tuple[int, str]] = Counter()  # second, what was said to publishes: messages
        self.publish = Columns(
            9
        )  # publishers, due, sent, not offered, receivers min, max, zero, lag and blocked lengths
        self.own_lag = Columns(2)  # bucket, count
        self.blocked = Columns(2)
        self.consumed = Columns(13)  # group, due, received, clock, unique, repeated, bytes, negative, reads, 4 lengths
        self.latency = Columns(2)
        self.service = Columns(2)
        self.read_delay = Columns(2)
        self.sampled_read = Columns(2)
        self.client_latency: list[ClientHistograms] = []
        self.route_sets: dict[int, tuple[int, ...]] = {}
        self.subscriptions = Rows(r.Subscription)
        self.deviations = Columns(7)  # kind, consumer, epoch, stream, first, last, at
        self.deviations_not_kept = 0
        self.strange: list[tuple[int, str, int, int, str, int]] = []  # at, kind, consumer, count, example, family
        self.touched = Columns(8)  # slice, consumer, count, first, last, greatest due, worst latency, last late one
        self.first_after = Columns(4)  # healed, kind, consumer, at
        self.closings: list[r.Closing] = []
        self.queried: list[r.Queried] = []
        self.requested: list[r.Requested] = []
        self.probes = Rows(r.PathProbe)
        self.fault_steps: list[r.FaultStep] = []
        self.chosen_users: list[r.ChosenUsers] = []
        self.marks: list[r.PhaseMark] = []
        self.samples: dict[tuple[str, str], Readings] = {}
        self.seconds = Rows(r.HarnessSecond)
        self.levels: list[r.Level] = []
        self.users: list[r.WantedUsers] = []
        self.trouble: list[r.Trouble] = []
        self.services_ended: list[r.ServiceEnded] = []
        self.notes: list[r.Note] = []
        self.finishes: list[r.Finish] = []

    def add(self, record: r.Record) -> None:
        """Take in one record."""
        name = _KEPT.get(type(record)) or _KEPT.get(type(record).__base__)
        if name is not None:
            getattr(self, name).append(record)
            return
        match record:
            case r.Samples():
                for metric, value in zip(record.metric, record.value, strict=True):
                    self.reading(record.source, metric, record.at_ns, value)
            case r.PathProbe():
                self._add_probe(record)
            case r.Consumed():
                self._add_consumed(record)
            case r.Published():
                self.published.extend(
                    record.stream, record.due_slice, record.sent_slice, record.first, record.last, record.bytes
                )
            case r.Settled():
                codes = [OUTCOME_CODE[o] for o in record.outcome]
                self.settled.extend(record.stream, record.first, record.last, codes, record.at_ns)
                if record.said:
                    for first, last, at_ns, said in zip(
                        record.first, record.last, record.at_ns, record.said, strict=True
                    ):
                        self.said[at_ns // NS_PER_S, said] += (last - first + 1) if said else 0
            case r.PublishTimes():
                self._add_publish_times(record)
            case r.RouteSet():
                self.route_sets[record.index] = tuple(sorted(record.routes))
            case r.Deviations():
                kinds = [KIND_CODE[k] for k in record.kind]
                self.deviations.extend(
                    kinds, record.consumer, record.epoch, record.stream, record.first, record.last, record.at_ns
                )
                self.deviations_not_kept += record.more
            case r.Strange():
                family = record.family or [-1] * len(record.kind)
                self.strange.extend(
                    zip(record.at_ns, record.kind, record.consumer, record.count, record.example, family, strict=True)
                )
            case r.Touched():
                of = _length(record.consumer)
                self.touched.extend(
                    [record.received_slice] * of,
                    record.consumer,
                    record.count,
                    record.first_ns,
                    record.last_ns,
                    record.greatest_due_ns,
                    record.worst_latency_ns,
                    record.late_ns or [LATE_NOT_TOLD] * of,
                )
            case r.FirstAfter():
                kinds = [FIRST_CODE[k] for k in record.kind]
                self.first_after.extend([record.healed_ns] * len(kinds), kinds, record.consumer, record.at_ns)
            case r.ClientLatency():
                self.client_latency.append(ClientHistograms.of(record))
            case _:
                raise TypeError(f"no fold for {type(record).__name__}")

    def _add_probe(self, record: r.PathProbe) -> None:
        if not record.what.startswith(r.LINK_PROBE):
            self.probes.append(record)
        elif record.ok:  # of a link only the times are drawn; nothing is judged by them
            link = record.what.removeprefix(r.LINK_PROBE)
            self.reading(link, LINK_DELAY, record.at_ns, float(record.took_ns))

    def reading(self, source: str, metric: str, at_ns: int, value: float) -> None:
        """Take in one reading."""
        kept = self.samples.get((source, metric))
        if kept is None:
            kept = self.samples[source, metric] = Readings()
        kept.append(at_ns, value)

    def _add_publish_times(self, p: r.PublishTimes) -> None:
        self.own_lag.extend(*p.own_lag)
        self.blocked.extend(*p.blocked)
        self.publish.append(
            p.publishers,
            p.due_slice,
            p.sent,
            p.not_offered,
            p.receivers_min,
            p.receivers_max,
            p.receivers_zero,
            _length(p.own_lag[0]),
            _length(p.blocked[0]),
        )

    def _add_consumed(self, c: r.Consumed) -> None:
        self.latency.extend(*c.latency)
        self.service.extend(*c.service)
        self.read_delay.extend(*c.read_delay)
        self.sampled_read.extend(*c.sampled_read)
        self.consumed.append(
            c.group,
            c.due_slice,
            c.received_slice,
            KERNEL if c.clock == "kernel" else READ,
            c.unique,
            c.repeated,
            c.bytes,
            c.negative,
            c.reads,
            _length(c.latency[0]),
            _length(c.service[0]),
            _length(c.read_delay[0]),
            _length(c.sampled_read[0]),
        )

    def merge(self, other: ProcessFacts) -> None:
        """Add what another shard of the same process holds."""
        for name, mine in vars(self).items():
            theirs = getattr(other, name)
            match mine:
                case Columns():
                    mine.merge(theirs)
                case list() | Rows():
                    mine.extend(theirs)
                case dict() if name == "samples":
                    for key, values in theirs.items():
                        self.samples.setdefault(key, Readings()).extend(values)
                case dict() | set():
                    mine.update(theirs)
                case int():
                    setattr(self, name, mine + theirs)

    def holes(self) -> list[str]:
        """What is missing of the file's frames, which are numbered from 0 without holes."""
        found = [f"bytes that are no frame at offset {t.offset}: {t.reason}" for t in sorted(self.torn)]
        numbers = sorted(self.numbers)
        expected = 0
        for number in numbers:
            if number > expected:
                found.append(f"frames {expected} to {number - 1} are missing")
            elif number < expected:
                found.append(f"frame {number} is there twice")
            expected = number + 1
        return found


_KEPT: Final[Mapping[type[Any] | None, str]] = {
    r.Subscription: "subscriptions",
    r.Header: "headers",
    r.Effective: "effective",
    r.Closing: "closings",
    r.Queried: "queried",
    r.Requested: "requested",
    r.FaultStep: "fault_steps",
    r.ChosenUsers: "chosen_users",
    r.PhaseMark: "marks",
    r.HarnessSecond: "seconds",
    r.Level: "levels",
    r.WantedUsers: "users",
    r.Trouble: "trouble",
    r.ServiceEnded: "services_ended",
    r.Note: "notes",
    r.Finish: "finishes",
}
"""Records that are kept as they are, and where; as a reader has them, they are of kinds derived from these."""


class HistoryTables:
    """What all processes wrote."""

    def __init__(self) -> None:
        self.processes: dict[str, ProcessFacts] = {}

    def add(self, process: str, part: Frame | Torn, coarser: Coarser | None = None) -> None:
        """Take in one frame of a process, or the place where its file is torn."""
        facts = self.processes.get(process)
        if facts is None:
            facts = self.processes[process] = ProcessFacts()
        if isinstance(part, Torn):
            facts.torn.append(part)
            return
        again = part.number in facts.known
        facts.numbers.append(part.number)
        facts.known.add(part.number)
        if not again:  # what is there twice counts once, and is named
            for record in part.records:
                if coarser is None or not coarser.take(process, facts, record):
                    facts.add(record)

    def merge(self, other: HistoryTables) -> None:
        """Add another shard of the history."""
        for process, facts in other.processes.items():
            self.processes.setdefault(process, ProcessFacts()).merge(facts)

    @property
    def names(self) -> list[str]:
        """Processes in the order of their names."""
        return sorted(self.processes)

    def each(self) -> list[tuple[str, ProcessFacts]]:
        """Processes with what they wrote, in the order of their names."""
        return [(name, self.processes[name]) for name in self.names]

    def lost(self) -> list[r.Trouble]:
        """Trouble of whole processes that lasts to the end: each of them was lost, or its work ended, back then."""
        return [t for _, p in self.each() for t in p.trouble if t.to_ns < 0 and not t.consumers]


class Coarser(Protocol):
    """Adds up records before they become rows."""

    def take(self, process: str, facts: ProcessFacts, record: r.Record) -> bool:
        """Whether it took a record of a process over; it adds rows to its facts when they are whole."""
        ...

    def hand_over(self) -> None:
        """Add the rows that are left."""
        ...


def fold(history: Iterable[tuple[str, Frame | Torn]], coarser: Coarser | None = None) -> HistoryTables:
    """All of a history."""
    facts = HistoryTables()
    for process, part in history:
        facts.add(process, part, coarser)
    if coarser is not None:
        coarser.hand_over()
    return facts
