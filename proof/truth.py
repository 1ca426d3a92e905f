"""What did each consumer truly get?  The book's events and lies laid over one connection at a time.

An oracle: plain loops over sets, nothing shared with what the tool counts by.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from loadtests.model.contract import Contract, Route
from loadtests.model.ids import unpack_stream
from proof.ground_truth_log import BookError, GroundTruthLog, Lie, LoggedConnection, LoggedEvent
from proof.history import FoundAccount, Place

STRANGE = {
    "foreign-run": "foreign run",
    "foreign-route": "foreign route",
    "no-identity": "no identity",
    "undecodable": "undecodable",
    "truncated": "undecodable",
    "protocol": "protocol",
    "altered": "altered",
    "restamped": "restamped",
}
"""Lies that are a frame of no account, or a message that was changed -> kind of the record that must count it."""


@dataclass(slots=True, kw_only=True)
class TrueStream:
    """One stream of the run as it came from Redis, in order."""

    packed: int
    route: Route
    events: list[LoggedEvent] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)  # n of the events


@dataclass(slots=True, kw_only=True)
class Got:
    """What one connection got of one stream, and how."""

    stream: TrueStream
    came: list[LoggedEvent]  # once each, in the order of `seq`
    account: FoundAccount
    lies: list[Lie]
    out_ns: dict[int, int]  # n of those that were not sent in their turn -> when they were


class Truth:
    """One run as the book has it."""

    def __init__(self, book: GroundTruthLog, contract: Contract, run: str) -> None:
        self.book, self.contract, self.run = book, contract, run
        self.streams: dict[int, TrueStream] = {}
        for event in book.of_run(run):
            stream = self.streams.get(event.stream)
            if stream is None:
                route = contract.routes[unpack_stream(event.stream).route]
                stream = self.streams[event.stream] = TrueStream(packed=event.stream, route=route)
            stream.events.append(event)
            stream.numbers.append(event.n)
        for stream in self.streams.values():
            if [event.seq for event in stream.events] != list(range(len(stream.events))):
                raise BookError(f"stream {stream.packed} did not come to the gateway gapless from 0")
        self.connections: dict[Place, LoggedConnection] = {}
        for connection in book.connections.values():
            if connection.run == run and connection.first >= 0:
                if connection.place in self.connections:
                    raise BookError(f"two connections call themselves consumer {connection.place}")
                self.connections[connection.place] = connection

    def consumers(self) -> dict[int, list[LoggedConnection]]:
        """Each consumer's subscribed connections, by epoch."""
        found: dict[int, list[LoggedConnection]] = {}
        for place in sorted(self.connections):
            found.setdefault(place[0], []).append(self.connections[place])
        return found

    def strange(self) -> Counter[tuple[int, str]]:
        """How often a consumer was sent what belongs to no account, by the kind of lie."""
        return Counter(
            (connection.consumer, lie.kind)
            for connection in self.connections.values()
            for lie in connection.lies
            if lie.kind in STRANGE
        )

    def got(self, connection: LoggedConnection) -> Iterator[Got]:
        """Each stream of which a connection was owed or sent anything."""
        lies: dict[int, list[Lie]] = {}
        for lie in connection.lies:
            lies.setdefault(lie.n, []).append(lie)
        replayed: dict[int, list[int]] = {}
        for lie in connection.lies:
            if lie.kind == "replayed":
                replayed.setdefault(lie.stream, []).append(lie.n)
        end = len(self.book.events) if connection.end < 0 else connection.end
        for stream in self.streams.values():
            if matches(connection, stream.route.channel, stream.route.key("pattern"), stream.route.key("symbol")):
                low, high = (bisect_left(stream.numbers, n) for n in (connection.first, end))
                again = [stream.events[bisect_left(stream.numbers, n)] for n in replayed.get(stream.packed, ())]
                if low < high or again:
                    yield _got(stream, again + stream.events[low:high], lies, connection.unsent)

    def check(self) -> int:
        """Deliveries of this run. Raises BookError where all of the book are not what the gateway counted itself."""
        of_run = others = 0
        for connection in self.book.connections.values():
            if connection.first < 0:
                continue
            end = len(self.book.events) if connection.end < 0 else connection.end
            mine = connection.place in self.connections and self.connections[connection.place] is connection
            if mine:
                of_run += sum(len(got.came) + got.account.repeated.total() for got in self.got(connection))
            others += sum(
                event.forwarded
                and not (mine and event.stream in self.streams and event.run == self.run)
                and matches(connection, event.channel, event.pattern, event.symbol)
                for event in self.book.events[connection.first : end]
            )
        if len(self.runs()) == 1 and of_run + others != self.book.deliveries:
            raise BookError(f"{of_run} + {others} deliveries by the book's lines, {self.book.deliveries} by its end")
        return of_run

    def runs(self) -> set[str]:
        """Runs of which the book has messages, probe messages apart."""
        return {event.run for event in self.book.events if event.run and not event.run.endswith("~probe")}


def matches(connection: LoggedConnection, channel: str, pattern: str | None, symbol: str | None) -> bool:
    """The target's rule: every filter is empty or names the event's own value."""
    return (
        (not connection.channels or channel in connection.channels)
        and (not connection.patterns or pattern in connection.patterns)
        and (not connection.symbols or symbol in connection.symbols)
    )


def _got(stream: TrueStream, owed: list[LoggedEvent], lies: dict[int, list[Lie]], unsent: Counter[int]) -> Got:
    got = Got(stream=stream, came=[], account=FoundAccount(), lies=[], out_ns={})
    account = got.account
    for event in owed:
        times = 1
        for lie in lies.get(event.n, ()):
            got.lies.append(lie)
            times = 0 if lie.never else times + lie.times
            if lie.after and not lie.never:
                account.filled[event.seq] += 1
            if lie.out_ns >= 0:
                got.out_ns[event.n] = lie.out_ns
        times -= unsent[event.n]
        if times > 0:
            got.came.append(event)
            if times > 1:
                account.repeated[event.seq] += times - 1
        else:
            del account.filled[event.seq]
    if got.came:
        numbers = {event.seq for event in got.came}
        account.first, account.last, account.unique = min(numbers), max(numbers), len(numbers)
        account.skipped = set(range(account.first, account.last + 1)) - numbers | account.filled.keys()
    return got
