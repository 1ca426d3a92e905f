"""What did the lying gateway write down?  Its book: messages, connections, planted lies, the times of each send."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadtests.model import records as r
from loadtests.model.errors import HarnessError
from proof.history import records_of


class BookError(HarnessError):
    """The book is not whole, or says what cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """One message as Redis brought it; `due_ns` and `sent_ns` are of the run clock, as its publisher wrote them."""

    n: int
    channel: str
    run: str  # empty: it has no identity, and the four numbers are -1
    stream: int
    seq: int
    due_ns: int
    sent_ns: int
    got_ns: int  # monotonic
    pattern: str | None
    symbol: str | None
    forwarded: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lie:
    """One thing done otherwise than an honest gateway would."""

    kind: str
    n: int
    stream: int  # -1: it is about the connection
    seq: int
    at_ns: int  # monotonic
    never: bool  # the message was not sent
    out_ns: int  # when it was sent after all; -1: in its turn, or never
    after: int  # how many successors of its stream had been sent by then
    times: int  # of repeated
    why: str


@dataclass(slots=True, kw_only=True)
class LoggedConnection:
    """One connection of a consumer, with the events from `first` to before `end` that it was subscribed for."""

    number: int
    run: str
    consumer: int
    epoch: int
    transport: str
    opened_ns: int
    subscribed_ns: int = -1
    closed_ns: int = -1
    first: int = -1  # index of the first event owed; -1: never subscribed
    end: int = -1  # index after the last; -1: never left
    why: str = ""
    channels: frozenset[str] = frozenset()
    patterns: frozenset[str] = frozenset()
    symbols: frozenset[str] = frozenset()
    lies: list[Lie] = field(default_factory=list)
    unsent: Counter[int] = field(default_factory=Counter)  # n of frames that never left

    @property
    def place(self) -> tuple[int, int]:
        """Consumer slot and epoch."""
        return self.consumer, self.epoch


@dataclass(slots=True, kw_only=True)
class GroundTruthLog:
    """A complete book."""

    events: list[LoggedEvent]
    connections: dict[int, LoggedConnection]
    deliveries: int  # frames with a message sent, as the gateway counted them itself
    ended_ns: int

    def planted(self) -> Counter[str]:
        """How many lies of each kind."""
        return Counter(lie.kind for c in self.connections.values() for lie in c.lies)

    def of_run(self, run: str) -> list[LoggedEvent]:
        """Messages of one run, in their order."""
        return [event for event in self.events if event.run == run]


NEVER_SENT = frozenset({"lost", "held", "silent"})


def read_book(lines: Path | Iterable[str]) -> GroundTruthLog:
    """A book from its file, or from its lines. Raises BookError where it is torn, has no end, or contradicts itself."""
    if isinstance(lines, Path):
        with lines.open(encoding="utf-8") as file:
            return read_book(list(file))
    book = GroundTruthLog(events=[], connections={}, deliveries=-1, ended_ns=-1)
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            _add(book, line)
        except (ValueError, KeyError, TypeError) as error:
            raise BookError(f"line {number} of the book: {type(error).__name__} {error}: {text[:200]!r}") from None
    if book.deliveries < 0:
        raise BookError("the book has no end")
    if [event.n for event in book.events] != list(range(len(book.events))):
        raise BookError("the book's events are not numbered one by one from 0")
    return book


def _add(book: GroundTruthLog, line: dict[str, Any]) -> None:
    if book.deliveries >= 0:
        raise ValueError("a line behind the end")
    match line["book"]:
        case "event":
            book.events.append(_event(line))
        case "open":
            if line["connection"] in book.connections:
                raise ValueError("opened twice")
            book.connections[line["connection"]] = LoggedConnection(
                number=line["connection"],
                run=line["run"] or "",
                consumer=-1 if line["consumer"] is None else line["consumer"],
                epoch=-1 if line["epoch"] is None else line["epoch"],
                transport=line["transport"],
                opened_ns=line["at_ns"],
            )
        case "subscribed":
            at = book.connections[line["connection"]]
            if at.first >= 0:
                raise ValueError("subscribed twice")
            at.subscribed_ns, at.first = line["at_ns"], line["from"]
            at.channels, at.patterns, at.symbols = (frozenset(line[key]) for key in ("channels", "patterns", "symbols"))
        case "unsubscribed":
            book.connections[line["connection"]].end = line["to"]
        case "closed":
            at = book.connections[line["connection"]]
            at.closed_ns, at.why = line["at_ns"], line["why"]
            at.unsent.update(line["unsent"])
        case "lie":
            book.connections[line["connection"]].lies.append(_lie(line))
        case "end":
            book.deliveries, book.ended_ns = line["deliveries"], line["at_ns"]
        case "redis" if line["state"] == "lost" and any(c.end < 0 <= c.first for c in book.connections.values()):
            raise ValueError("the gateway lost Redis: what was published meanwhile is in no book")
        case _:
            pass  # "run", "refused", "leak" and "sends" are for others


def _event(line: dict[str, Any]) -> LoggedEvent:
    known = line["run"] is not None
    return LoggedEvent(
        n=line["n"],
        channel=line["channel"],
        run=line["run"] if known else "",
        stream=line["stream"] if known else -1,
        seq=line["seq"] if known else -1,
        due_ns=line["due"] if known else -1,
        sent_ns=line["sent"] if known else -1,
        got_ns=line["got_ns"],
        pattern=line.get("pattern"),
        symbol=line.get("symbol"),
        forwarded=line.get("forwarded", True),
    )


def _lie(line: dict[str, Any]) -> Lie:
    out_ns = line.get("out_ns", -1)
    return Lie(
        kind=line["kind"],
        n=line["n"],
        stream=-1 if line["stream"] is None else line["stream"],
        seq=-1 if line["seq"] is None else line["seq"],
        at_ns=line["at_ns"],
        never=line["kind"] in NEVER_SENT or out_ns is None or line.get("instead", False),
        out_ns=-1 if out_ns is None else out_ns,
        after=line.get("after") or 0,
        times=line["times"] if line["kind"] == "repeated" else 0,
        why=line.get("why", ""),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """One frame with a message of the run: the truth lies between the two moments, in ns of the run clock."""

    event: LoggedEvent
    before_ns: int
    after_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A book that recorded its sends, of one run."""

    book: GroundTruthLog
    origin_ns: int  # monotonic time at run-clock 0
    of: dict[int, list[Send]]  # by connection number, in the order of the sends

    def of_consumer(self, consumer: int) -> list[Send]:
        """All sends to a consumer over its connections, in order of time."""
        own = [number for number, c in self.book.connections.items() if c.consumer == consumer]
        return sorted((send for number in own for send in self.of.get(number, ())), key=lambda send: send.before_ns)


def read_sends(book: Path, run: Path) -> Sent:
    """The sends of a run's messages. Raises BookError where the book is torn, or names what it does not have."""
    lines = book.read_text(encoding="utf-8").splitlines()
    return sends_of(lines, run=run.name, origin_ns=origin_of(run))


def sends_of(lines: Iterable[str], *, run: str, origin_ns: int) -> Sent:
    """As above, from the book's lines."""
    kept = list(lines)
    book = read_book(kept)
    found: dict[int, list[Send]] = {}
    for text in kept:
        line = json.loads(text)
        if line["book"] != "sends":
            continue
        sends = found.setdefault(line["connection"], [])
        for n, before_ns, after_ns in zip(line["n"], line["before_ns"], line["after_ns"], strict=True):
            if not 0 <= n < len(book.events):
                raise BookError(f"a send of message {n}, which never came")
            event = book.events[n]
            if event.run == run:
                sends.append(Send(event=event, before_ns=before_ns - origin_ns, after_ns=after_ns - origin_ns))
    return Sent(book=book, origin_ns=origin_ns, of=found)


def origin_of(run: Path) -> int:
    """Monotonic time at run-clock 0. Raises BookError where no header says it."""
    for record in records_of(run):
        if isinstance(record, r.Header):
            return record.origin_ns
    raise BookError(f"{run.name} has no header")
