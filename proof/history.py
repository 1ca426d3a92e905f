"""What did the tool write down for each consumer, connection and stream?  Read from the stored records alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.model import records as r
from loadtests.model.codec import Frame, decode

Place = tuple[int, int]
"""Consumer slot and epoch."""

Stretch = tuple[int, int, int]
"""Consumer slot, epoch, packed stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """From when to when the tool held one connection's subscription, in ns of the run clock."""

    from_ns: int
    to_ns: int
    why: str


@dataclass(slots=True, kw_only=True)
class FoundAccount:
    """What the tool counted of one stream over one connection. Numbers are sets, so that order does not matter."""

    first: int = -1
    last: int = -1
    unique: int = 0
    skipped: set[int] = field(default_factory=set)  # in a gap at any time
    filled: Counter[int] = field(default_factory=Counter)
    repeated: Counter[int] = field(default_factory=Counter)

    @property
    def missing(self) -> set[int]:
        """Numbers between first and last that never came."""
        return self.skipped - self.filled.keys()


@dataclass(slots=True, kw_only=True)
class Sum:
    """Deliveries of one consumer group and route family."""

    unique: int = 0
    repeated: int = 0
    timed: int = 0  # deliveries with a latency


@dataclass(slots=True, kw_only=True)
class Found:
    """A run's records, as far as they account for deliveries."""

    origin_ns: int = 0
    accounts: dict[Stretch, FoundAccount] = field(default_factory=dict)
    closed: Counter[Place] = field(default_factory=Counter)  # connections with a closing account, and how many
    edges: dict[Place, Edge] = field(default_factory=dict)
    process_of: dict[Place, str] = field(default_factory=dict)
    strange: Counter[tuple[int, str]] = field(default_factory=Counter)  # consumer, kind
    sums: dict[int, Sum] = field(default_factory=dict)  # by group, as the records number them
    published: dict[int, set[int]] = field(default_factory=dict)  # stream -> seqs handed to Redis
    publisher_of: dict[int, str] = field(default_factory=dict)  # stream -> process
    not_ok: dict[int, set[int]] = field(default_factory=dict)  # stream -> seqs FAILED or UNKNOWN
    not_kept: int = 0
    at_least: set[Place] = field(default_factory=set)
    trouble: list[r.Trouble] = field(default_factory=list)
    processes: dict[str, r.Header] = field(default_factory=dict)
    torn: list[str] = field(default_factory=list)
    users: list[r.WantedUsers] = field(default_factory=list)

    def account(self, stretch: Stretch) -> FoundAccount:
        """The account of a stream; an empty one where the tool has none."""
        return self.accounts.get(stretch) or FoundAccount()

    def places(self) -> set[Place]:
        """Connections that the tool knows."""
        return {*self.edges, *self.closed}


def records_of(run: Path) -> Iterator[r.Record]:
    """Every record of a run's history."""
    for path in sorted((run / "history").glob("*.tsh")):
        for frame in decode(path.read_bytes()):
            if isinstance(frame, Frame):
                yield from frame.records


def read_history(run: Path) -> Found:
    """The accounts in a run's folder. Raises FileNotFoundError where it has no history."""
    paths = sorted((run / "history").glob("*.tsh"))
    if not paths:
        raise FileNotFoundError(f"{run.name} has no history")
    found = Found()
    steps: dict[Place, list[r.Subscription]] = {}
    for path in paths:
        process = path.stem
        for frame in decode(path.read_bytes()):
            if not isinstance(frame, Frame):
                found.torn.append(f"{process}: {frame.reason}")
                continue
            for record in frame.records:
                if isinstance(record, r.Subscription):
                    steps.setdefault((record.consumer, record.epoch), []).append(record)
                    found.process_of[record.consumer, record.epoch] = process
                else:
                    _add(found, process, record)
    for place, own in steps.items():
        _edge(found, place, own)
    return found


def _add(found: Found, process: str, record: r.Record) -> None:
    match record:
        case r.Header():
            found.processes[process] = record
            if record.role in ("standalone", "master"):
                found.origin_ns = record.origin_ns
        case r.Closing():
            _close(found, record)
        case r.Deviations():
            _deviate(found, record)
        case r.Strange():
            for kind, consumer, count in zip(record.kind, record.consumer, record.count, strict=True):
                found.strange[consumer, kind] += count
        case r.Consumed() if record.clock == "read":
            total = found.sums.setdefault(record.group, Sum())
            total.unique += record.unique
            total.repeated += record.repeated
            total.timed += sum(record.latency[1]) + record.negative
        case r.Published():
            for stream, first, last in zip(record.stream, record.first, record.last, strict=True):
                found.published.setdefault(stream, set()).update(range(first, last + 1))
                found.publisher_of[stream] = process
        case r.Settled():
            for stream, first, last in zip(record.stream, record.first, record.last, strict=True):
                found.not_ok.setdefault(stream, set()).update(range(first, last + 1))
        case r.Trouble():
            found.trouble.append(record)
        case r.WantedUsers():
            found.users.append(record)
        case _:
            pass


def _close(found: Found, closing: r.Closing) -> None:
    for place in zip(closing.consumer, closing.epoch, strict=True):
        found.closed[place] += 1
        if closing.at_least:
            found.at_least.add(place)
        for stream, first, last, unique in zip(
            closing.stream, closing.first, closing.last, closing.unique, strict=True
        ):
            account = found.accounts.setdefault((*place, stream), FoundAccount())
            account.first, account.last = first, last
            account.unique += unique  # a second closing of the same stretch shows as too many


def _deviate(found: Found, rows: r.Deviations) -> None:
    found.not_kept += rows.more
    columns = zip(rows.kind, rows.consumer, rows.epoch, rows.stream, rows.first, rows.last, strict=True)
    for kind, consumer, epoch, stream, first, last in columns:
        account = found.accounts.setdefault((consumer, epoch, stream), FoundAccount())
        numbers = range(first, last + 1)
        if kind == "gap":
            account.skipped.update(numbers)
        elif kind == "filled":
            account.filled.update(numbers)
        else:
            account.repeated.update(numbers)


def _edge(found: Found, place: Place, steps: list[r.Subscription]) -> None:
    began = [s.at_ns for s in steps if s.step == "confirmed"]
    ends = sorted((s.at_ns, s.why) for s in steps if s.step in ("leaving", "left"))
    why = next((s.why for s in steps if s.step == "left"), "")
    if began:
        found.edges[place] = Edge(from_ns=min(began), to_ns=ends[0][0] if ends else -1, why=why)
