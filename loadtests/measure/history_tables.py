"""Which records does a history hold, sorted by kind and kept small?  A fold with `add` and `merge`; judges nothing."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from loadtests.model import records as r
from loadtests.model.codec import Frame, Torn
from loadtests.model.ids import NS_PER_S

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


class Columns:
    """Columns of integers that grow together; eight bytes a value whatever the history's length."""

    __slots__ = ("parts",)

    def __init__(self, width: int) -> None:
        self.parts = tuple(array("q") for _ in range(width))

    def extend(self, *columns: Iterable[int]) -> None:
        """Append rows, one iterable per column. Raises ValueError where the number of columns differs."""
        for part, column in zip(self.parts, columns, strict=True):
            part.extend(column)

    def append(self, *values: int) -> None:
        """Append one row."""
        for part, value in zip(self.parts, values, strict=True):
            part.append(value)

    def merge(self, other: Columns) -> None:
        """Append another's rows."""
        self.extend(*other.parts)

    def __len__(self) -> int:
        return len(self.parts[0])

    def numpy(self) -> Ints:
        """One array of shape (columns, rows)."""
        return np.array([np.array(part, dtype=np.int64) for part in self.parts], dtype=np.int64).reshape(
            len(self.parts), len(self)
        )


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
        self.client_latency: list[r.ClientLatency] = []
        self.route_sets: dict[int, tuple[int, ...]] = {}
        self.subscriptions: list[r.Subscription] = []
        self.deviations = Columns(7)  # kind, consumer, epoch, stream, first, last, at
        self.deviations_not_kept = 0
        self.strange: list[tuple[int, str, int, int, str, int]] = []  # at, kind, consumer, count, example, family
        self.touched = Columns(8)  # slice, consumer, count, first, last, greatest due, worst latency, last late one
        self.first_after = Columns(4)  # healed, kind, consumer, at
        self.closings: list[r.Closing] = []
        self.queried: list[r.Queried] = []
        self.requested: list[r.Requested] = []
        self.probes: list[r.PathProbe] = []
        self.fault_steps: list[r.FaultStep] = []
        self.chosen_users: list[r.ChosenUsers] = []
        self.marks: list[r.PhaseMark] = []
        self.samples: dict[tuple[str, str], list[tuple[int, float]]] = {}
        self.seconds: list[r.HarnessSecond] = []
        self.users: list[r.WantedUsers] = []
        self.trouble: list[r.Trouble] = []
        self.services_ended: list[r.ServiceEnded] = []
        self.notes: list[r.Note] = []
        self.finishes: list[r.Finish] = []

    def add(self, record: r.Record) -> None:
        """Take in one record."""
        match record:
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
            case r.Consumed():
                self._add_consumed(record)
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
                self.touched.extend(
                    [record.received_slice] * len(record.consumer),
                    record.consumer,
                    record.count,
                    record.first_ns,
                    record.last_ns,
                    record.greatest_due_ns,
                    record.worst_latency_ns,
                    record.late_ns or [LATE_NOT_TOLD] * len(record.consumer),
                )
            case r.FirstAfter():
                kinds = [FIRST_CODE[k] for k in record.kind]
                self.first_after.extend([record.healed_ns] * len(kinds), kinds, record.consumer, record.at_ns)
            case r.Samples():
                for metric, value in zip(record.metric, record.value, strict=True):
                    self.samples.setdefault((record.source, metric), []).append((record.at_ns, value))
            case _:
                self._add_rare(record)

    def _add_rare(self, record: r.Record) -> None:
        match record:
            case r.Header():
                self.headers.append(record)
            case r.Effective():
                self.effective.append(record)
            case r.Subscription():
                self.subscriptions.append(record)
            case r.ClientLatency():
                self.client_latency.append(record)
            case r.Closing():
                self.closings.append(record)
            case r.Queried():
                self.queried.append(record)
            case r.Requested():
                self.requested.append(record)
            case r.PathProbe():
                self._add_probe(record)
            case r.FaultStep():
                self.fault_steps.append(record)
            case r.ChosenUsers():
                self.chosen_users.append(record)
            case r.PhaseMark():
                self.marks.append(record)
            case r.HarnessSecond():
                self.seconds.append(record)
            case r.WantedUsers():
                self.users.append(record)
            case r.Trouble():
                self.trouble.append(record)
            case r.ServiceEnded():
                self.services_ended.append(record)
            case r.Note():
                self.notes.append(record)
            case r.Finish():
                self.finishes.append(record)
            case _:
                raise TypeError(f"no fold for {type(record).__name__}")

    def _add_probe(self, record: r.PathProbe) -> None:
        if not record.what.startswith(r.LINK_PROBE):
            self.probes.append(record)
        elif record.ok:  # of a link only the times are drawn; nothing is judged by them
            link = record.what.removeprefix(r.LINK_PROBE)
            self.samples.setdefault((link, LINK_DELAY), []).append((record.at_ns, float(record.took_ns)))

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
            len(p.own_lag[0]),
            len(p.blocked[0]),
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
            len(c.latency[0]),
            len(c.service[0]),
            len(c.read_delay[0]),
            len(c.sampled_read[0]),
        )

    def merge(self, other: ProcessFacts) -> None:
        """Add what another shard of the same process holds."""
        for name, mine in vars(self).items():
            theirs = getattr(other, name)
            match mine:
                case Columns():
                    mine.merge(theirs)
                case list():
                    mine.extend(theirs)
                case dict() if name == "samples":
                    for key, values in theirs.items():
                        self.samples.setdefault(key, []).extend(values)
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


class HistoryTables:
    """What all processes wrote."""

    def __init__(self) -> None:
        self.processes: dict[str, ProcessFacts] = {}

    def add(self, process: str, part: Frame | Torn) -> None:
        """Take in one frame of a process, or the place where its file is torn."""
        facts = self.processes.setdefault(process, ProcessFacts())
        if isinstance(part, Torn):
            facts.torn.append(part)
            return
        again = part.number in facts.known
        facts.numbers.append(part.number)
        facts.known.add(part.number)
        if not again:  # what is there twice counts once, and is named
            for record in part.records:
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


def fold(history: Iterable[tuple[str, Frame | Torn]]) -> HistoryTables:
    """All of a history."""
    facts = HistoryTables()
    for process, part in history:
        facts.add(process, part)
    return facts
