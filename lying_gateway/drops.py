"""Which connections are dropped, who is refused for how long, and what is kept for those who come back?"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final, Protocol

from lying_gateway.book import Book
from lying_gateway.client import Client, Name
from lying_gateway.event import Event
from lying_gateway.liar import Liar
from lying_gateway.outlet import Outlet
from lying_gateway.plan import LiePlan, Rule
from lying_gateway.rooms import Filter

DROPPED: Final = "dropped"
EVER_NS: Final = 1 << 62


class Ends(Protocol):
    """Who ends connections."""

    clients: set[Client]
    outlet: Outlet

    def end(self, client: Client, why: str, code: int) -> None:
        """Close a connection in good order."""


@dataclass(slots=True)
class _Kept:
    """What one consumer missed since it was dropped; newest last."""

    rule: Rule
    filter: Filter
    events: deque[tuple[Event, int]] = field(default_factory=deque)  # with the time when it was put there
    given_up: list[tuple[Event, int]] = field(default_factory=list)


class Drops:
    """Carries out the rules of kind dropped-connection, each once per run."""

    def __init__(self, plan: LiePlan, book: Book, ends: Ends, liar: Liar) -> None:
        self._rules = [rule for rule in plan.rules if rule.kind == "dropped-connection"]
        self._book = book
        self._ends = ends
        self._liar = liar
        self._done: set[tuple[int, str]] = set()
        self._refused: dict[int, int] = {}  # slot -> until when
        self._all_refused_ns = 0
        for rule in plan.rules:
            if rule.kind == "refused":
                self._refuse(rule, EVER_NS)
        self._kept: dict[int, _Kept] = {}  # by slot

    def act(self, event: Event) -> None:
        """Drop what is to be dropped before this message."""
        for rule in self._rules:
            key = (rule.index, event.run or "")
            if event.since_ns >= rule.from_ns and key not in self._done:
                self._done.add(key)
                self._drop(rule, event)

    def refuses(self, name: Name) -> bool:
        """Whether a consumer's upgrade is refused at present."""
        now_ns = time.monotonic_ns()
        until_ns = self._refused.get(name.consumer, 0) if name.consumer is not None else 0
        return now_ns < max(until_ns, self._all_refused_ns)

    def keep(self, event: Event) -> None:
        """A message that those who are away miss."""
        for kept in self._kept.values():
            if kept.filter.passes(event.channel, event.pattern, event.symbol):
                kept.events.append((event, time.monotonic_ns()))
                if len(kept.events) > kept.rule.replay_limit:
                    kept.given_up.append(kept.events.popleft())

    def back(self, client: Client) -> None:
        """A consumer has subscribed again: replay what was kept for it."""
        kept = self._kept.pop(client.number, None)
        if kept is None:
            return
        now_ns = time.monotonic_ns()
        age_ns = kept.rule.max_age_ns
        for event, at_ns in kept.given_up:
            self._note(kept.rule, client, event, at_ns, None, "limit")
        for event, at_ns in kept.events:
            if age_ns is not None and now_ns - at_ns > age_ns:
                self._note(kept.rule, client, event, at_ns, None, "age")
            else:
                out_ns = time.monotonic_ns()
                self._ends.outlet.put(client, event.frame(client.transport), event.n)
                self._note(kept.rule, client, event, at_ns, out_ns, "in time")

    def _note(self, rule: Rule, client: Client, event: Event, at_ns: int, out_ns: int | None, why: str) -> None:
        self._liar.note("replayed", rule.index, client, event, at_ns, out_ns=out_ns, after=0, why=why)

    def _refuse(self, rule: Rule, until_ns: int) -> None:
        if rule.consumers is None:
            self._all_refused_ns = max(self._all_refused_ns, until_ns)
        else:
            self._refused.update(dict.fromkeys(rule.consumers, until_ns))

    def _drop(self, rule: Rule, event: Event) -> None:
        self._refuse(rule, time.monotonic_ns() + rule.refuse_ns)
        for client in sorted(self._ends.clients, key=lambda client: client.connection):
            if client.state != "open" or not rule.concerns(client.name.consumer):
                continue
            if rule.replay_limit and client.room is not None:
                self._kept[client.number] = _Kept(rule, client.room.filter)
            name = client.name
            self._book.write(
                "lie", kind=rule.kind, rule=rule.index, connection=client.connection, consumer=name.consumer,
                epoch=name.epoch, n=event.n, stream=None, seq=None, at_ns=time.monotonic_ns(), code=rule.code,
            )  # fmt: skip
            self._ends.end(client, DROPPED, rule.code)
