"""What did each consumer truly get, and what must the delivery block of `results.json` say?

The book's events and lies are laid over one connection at a time, and the figures are recomputed from the book by the
definitions of the measures. When a subscription began and ended is a fact of its consumer, so there the tool's own
edges are taken (and compared with the book elsewhere); everything else comes from the book.

An oracle: plain loops over sets, nothing shared with what the tool counts by.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from loadtests.model.contract import Contract, Route
from loadtests.model.ids import SLICE_NS, unpack_stream
from proof.ground_truth_log import BookError, GroundTruthLog, Lie, LoggedConnection, LoggedEvent
from proof.history import Edge, FoundAccount, Place

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
NO_MESSAGE = {
    "foreign": frozenset({"foreign-run", "foreign-route"}),
    "stray": frozenset({"no-identity"}),
    "undecodable": frozenset({"undecodable", "truncated"}),
    "protocol": frozenset({"protocol"}),
    "altered": frozenset({"altered"}),
    "restamped": frozenset({"restamped"}),
}
"""Number of the results -> lies that it counts."""

OWN_CHOICE = frozenset({"own", "end", "moved"})
"""Reasons of leaving that are no loss of the connection."""

DROPPED = "dropped"
"""The book's word for a connection that the gateway ended by a lie."""

NEAR_NS = 1_000_000_000
"""What was sent so shortly before a limit may have been read in time or not, should the machine stall: nobody can tell
from outside, and a plan that wants exact numbers sends nothing then."""

GRAIN = 1.005
"""Latencies are counted with an error of half a percent: a limit is one of at most so much more."""

LOST = ("defect", "not_replayed")
NUMBERS = ("owed", "unique", "repeated", "reordered", "late", *LOST, "disconnected", "own_plan", "undecided")


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


@dataclass(slots=True, kw_only=True)
class ExpectedDelivery:
    """Expected numbers, by (name of the group as in the results, number)."""

    published: int = 0
    no_message: dict[str, int] = field(default_factory=dict)
    of: Counter[tuple[str, str]] = field(default_factory=Counter)
    near: Counter[str] = field(default_factory=Counter)  # group -> deliveries that may or may not have been late

    def total(self, number: str) -> int:
        """Sum over all groups."""
        return sum(count for (_, name), count in self.of.items() if name == number)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stay:
    """One subscription in slices of the time of sending."""

    connection: LoggedConnection
    may_from: int
    owed_from: int
    owed_to: int
    may_to: int
    own: bool  # its end was our own choice
    from_ns: int
    to_ns: int

    def owes(self, sent: int) -> bool:
        return self.owed_from <= sent < self.owed_to

    def may(self, sent: int) -> bool:
        return self.may_from <= sent < self.may_to


def expected(
    truth: Truth,
    edges: dict[Place, Edge],
    *,
    origin_ns: int,
    but: frozenset[int] = frozenset(),
    not_ok: Mapping[int, Collection[int]] = {},
    told: Mapping[int, Collection[int]] | None = None,
) -> ExpectedDelivery:
    """The numbers of a run without faults, but for some consumers.

    `not_ok`: seqs by stream that Redis did not answer well: whoever sees them has them, nobody is owed them.
    `told`: seqs by stream that publishers told of, where one of them was killed before it told of all: who sees another
    has it, and nothing more is said.  Raises BookError where the book leaves a number open.
    """
    block = ExpectedDelivery(
        published=sum(len(s.events) for s in truth.streams.values()),
        no_message={
            name: sum(count for (_, kind), count in truth.strange().items() if kind in lies)
            for name, lies in NO_MESSAGE.items()
        },
    )
    for consumer, connections in truth.consumers().items():
        if consumer not in but:
            _Consumer(truth, block, consumer, connections, edges, origin_ns, not_ok, told).add()
    return block


class _Consumer:
    def __init__(
        self,
        truth: Truth,
        block: ExpectedDelivery,
        consumer: int,
        connections: list[LoggedConnection],
        edges: dict[Place, Edge],
        origin_ns: int,
        not_ok: Mapping[int, Collection[int]],
        told: Mapping[int, Collection[int]] | None,
    ) -> None:
        self.contract: Contract = truth.contract
        self.truth, self.block, self.origin_ns, self.not_ok, self.told = truth, block, origin_ns, not_ok, told
        self.run = self.contract.profile.run
        self.group = self.contract.consumer_group(consumer)[0]
        self.late_ns = round(self.run.late_s * 1e9)
        self.connections = connections
        self.stays = [self._stay(c, edges[c.place]) for c in connections if c.place in edges]

    def _stay(self, connection: LoggedConnection, edge: Edge) -> _Stay:
        settle_ns = self.run.settle_ms * 1_000_000
        to_ns = edge.to_ns if edge.to_ns >= 0 else 2**62
        return _Stay(
            connection=connection,
            may_from=edge.from_ns // SLICE_NS,
            owed_from=-(-(edge.from_ns + settle_ns) // SLICE_NS),
            owed_to=(to_ns - settle_ns) // SLICE_NS,
            may_to=-(-to_ns // SLICE_NS),
            own=edge.to_ns < 0 or (edge.why in OWN_CHOICE and connection.why != DROPPED),
            from_ns=edge.from_ns,
            to_ns=to_ns,
        )

    def add(self) -> None:
        gots: dict[int, list[Got]] = {}
        for connection in self.connections:
            for got in self.truth.got(connection):
                gots.setdefault(got.stream.packed, []).append(got)
        for packed, found in gots.items():
            self._stream(self.truth.streams[packed], found)

    def _stream(self, stream: TrueStream, gots: list[Got]) -> None:
        name = self.contract.group_name(self.contract.group_index(stream.route.family, self.group))
        count = self.block.of
        seen: Counter[int] = Counter()
        replaced: set[int] = set()
        for got in gots:
            seen.update(event.seq for event in got.came)
            replaced |= self._replaced(got)
            count[name, "repeated"] += got.account.repeated.total()
            count[name, "reordered"] += got.account.filled.total()
            self._late(name, got)
        count[name, "unique"] += len(seen)
        count[name, "repeated"] += seen.total() - len(seen)  # seen again over another connection
        family = self.contract.profile.families[stream.route.family]
        replays, latest = family.offline == "replayed", family.mode == "latest"
        unsure = self.not_ok.get(stream.packed, ())
        told = None if self.told is None else self.told.get(stream.packed, ())
        for event in stream.events:
            if told is not None and event.seq not in told:
                continue
            sent = event.sent_ns // SLICE_NS
            if event.seq in seen:
                count[name, "owed"] += 1
            elif event.seq in unsure:
                continue
            elif any(stay.owes(sent) for stay in self.stays):
                if event.seq not in replaced:
                    count[name, "owed"] += 1
                    count[name, "defect"] += 1
            elif any(stay.may(sent) for stay in self.stays):
                count[name, "disconnected" if not (replays or latest) and self._shut_out(sent) else "undecided"] += 1
            elif replays and (between := self._between(sent)) is not None:
                if between:
                    count[name, "owed"] += 1
                    count[name, "not_replayed"] += 1
                else:
                    count[name, "undecided"] += 1
            elif not latest:
                count[name, "own_plan" if self._left_by_plan(sent) else "disconnected"] += 1

    def _between(self, sent: int) -> bool | None:
        """Whether what was sent between two connections must be replayed for sure; None: it was not between two."""
        settle = -(-self.run.settle_ms * 1_000_000 // SLICE_NS)
        for a, b in itertools.pairwise(self.stays):
            if a.may_to <= sent < b.may_from:
                return a.may_to + settle <= sent < b.may_from - settle
        return None

    def _shut_out(self, sent: int) -> bool:
        """Whether a slice holds a part of the time after the target ended a connection, until the next one."""
        for at, stay in enumerate(self.stays):
            back_ns = self.stays[at + 1].from_ns if at + 1 < len(self.stays) else 2**62
            if not stay.own and stay.to_ns < back_ns and stay.to_ns // SLICE_NS <= sent < -(-back_ns // SLICE_NS):
                return True
        return False

    def _left_by_plan(self, sent: int) -> bool:
        """Whether the end of the connection before a moment was our own choice, or there was none before it."""
        before = [stay for stay in self.stays if stay.may_to <= sent]
        return not before or max(before, key=lambda stay: stay.may_to).own

    def _replaced(self, got: Got) -> set[int]:
        """Messages of which the contract wants only the newest, and a newer one came in time."""
        family = self.contract.profile.families[got.stream.route.family]
        if family.mode != "latest" or not got.account.missing:
            return set()
        within_ns = round(family.latest_within_s * 1e9)
        came = {event.seq: event for event in got.came}
        found: set[int] = set()
        newer = came[got.account.last]
        for event in reversed(got.stream.events[got.account.first : got.account.last]):
            if event.seq in came:
                newer = event
                continue
            behind = self._out_ns(got, newer) - event.due_ns // SLICE_NS * SLICE_NS
            if behind + NEAR_NS <= within_ns:
                found.add(event.seq)
            elif behind <= within_ns:
                raise BookError(f"stream {event.stream} seq {event.seq}: a newer one came too near to the limit")
        return found

    def _out_ns(self, got: Got, event: LoggedEvent) -> int:
        """When a message was sent to its consumer, in ns of the run clock."""
        return got.out_ns.get(event.n, event.got_ns) - self.origin_ns

    def _late(self, name: str, got: Got) -> None:
        for event in got.came:
            behind = self._out_ns(got, event) - event.due_ns
            if behind > self.late_ns - NEAR_NS:
                times = 1 + got.account.repeated[event.seq]
                if behind > self.late_ns * GRAIN:
                    self.block.of[name, "late"] += times
                else:
                    self.block.near[name] += times


def strange_of(truth: Truth) -> Counter[tuple[int, str]]:
    """Expected counts per consumer and kind of record."""
    found: Counter[tuple[int, str]] = Counter()
    for (consumer, lie), count in truth.strange().items():
        found[consumer, STRANGE[lie]] += count
    return found
