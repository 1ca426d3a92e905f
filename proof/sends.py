"""When did the lying gateway hand each frame to the kernel?  Its own times around every send, on the run clock."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from loadtests.model import records as r
from loadtests.model.codec import Frame, decode
from proof.ground_truth_log import Book, BookError, Event, read_book


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """One frame with a message of the run: the truth lies between the two moments, in ns of the run clock."""

    event: Event
    before_ns: int
    after_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A book that recorded its sends, of one run."""

    book: Book
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


def records_of(run: Path) -> Iterator[r.Record]:
    """Every record of a run's history."""
    for path in sorted((run / "history").glob("*.tsh")):
        for frame in decode(path.read_bytes()):
            if isinstance(frame, Frame):
                yield from frame.records


def origin_of(run: Path) -> int:
    """Monotonic time at run-clock 0. Raises BookError where no header says it."""
    for record in records_of(run):
        if isinstance(record, r.Header):
            return record.origin_ns
    raise BookError(f"{run.name} has no header")
