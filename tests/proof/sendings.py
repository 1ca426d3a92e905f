"""How does a test write a book with sends?  Messages each 50 ms on two streams; who got which, and when."""

from __future__ import annotations

import json
from typing import Any

from proof.ground_truth_log import Sent, sends_of

RUN = "run-1"
ORIGIN = 7_000_000_000_000
MS = 1_000_000
S = 1_000_000_000


class Sendings:
    """A book in the making; times are of the run clock."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.rest: list[dict[str, Any]] = []
        self.sends: dict[int, list[tuple[int, int, int]]] = {}
        self.frames = 0
        self.connections = 0

    def messages(self, from_ns: int, to_ns: int, every_ns: int, pattern: str = "Doji") -> list[int]:
        """Messages due from then to then, in turn on two streams; their numbers."""
        found = []
        for number, due in enumerate(range(from_ns, to_ns, every_ns)):
            n = len(self.events)
            stream = number % 2
            self.events.append(
                {"book": "event", "n": n, "channel": "c", "run": RUN, "stream": stream, "seq": number // 2, "due": due,
                 "sent": due, "got_ns": due + ORIGIN, "pattern": pattern, "symbol": "A"}
            )  # fmt: skip
            found.append(n)
        return found

    def connect(self, consumer: int, at_ns: int, *, epoch: int = 0, closed_ns: int | None = None) -> int:
        """A connection that is subscribed at once."""
        number, self.connections = self.connections, self.connections + 1
        who = {"connection": number, "consumer": consumer, "epoch": epoch}
        self.rest.append({"book": "open", **who, "run": RUN, "transport": "plain", "at_ns": at_ns + ORIGIN})
        self.rest.append(
            {"book": "subscribed", **who, "from": 0, "channels": [], "patterns": [], "symbols": [],
             "at_ns": at_ns + ORIGIN}
        )  # fmt: skip
        if closed_ns is not None:
            at = closed_ns + ORIGIN
            self.rest.append({"book": "unsubscribed", **who, "to": len(self.events), "why": "closed", "at_ns": at})
            self.rest.append({"book": "closed", **who, "why": "dropped", "code": 1006, "unsent": [], "at_ns": at})
        return number

    def send(self, connection: int, n: int, at_ns: int, took_ns: int = 10_000) -> None:
        """One message to one connection."""
        self.sends.setdefault(connection, []).append((n, at_ns + ORIGIN, at_ns + took_ns + ORIGIN))
        self.frames += 1

    def lie(self, kind: str, connection: int, consumer: int, n: int, at_ns: int) -> None:
        """A message that was kept back."""
        event = self.events[n]
        self.rest.append(
            {"book": "lie", "kind": kind, "rule": 0, "connection": connection, "consumer": consumer, "epoch": 0, "n": n,
             "stream": event["stream"], "seq": event["seq"], "at_ns": at_ns + ORIGIN}
        )  # fmt: skip

    def due(self, n: int) -> int:
        due: int = self.events[n]["due"]
        return due

    def sent(self) -> Sent:
        """The book as the oracle reads it."""
        lines = [*self.events, *self.rest]
        for connection, rows in self.sends.items():
            n, before, after = (list(column) for column in zip(*rows, strict=True))
            lines.append({"book": "sends", "connection": connection, "n": n, "before_ns": before, "after_ns": after})
        lines.append({"book": "end", "deliveries": self.frames, "at_ns": ORIGIN})
        return sends_of([json.dumps(line) for line in lines], run=RUN, origin_ns=ORIGIN)
