"""What are the bytes of the next message of a route?  Commands of a publisher group, streams of one epoch.

Theory of operation.  A message must cost less than a microsecond, so all but its numbers is prepared.  The text of a
command around its identity depends on the route, the variant of its payload and the length of the identity (the command
names the payload's length first); it is kept for all slots of the group.  A stream holds what it needs for its next
message: what stands before its numbers, the numbers, what follows, and a batch is one join of these.

As long as no number of a stream gains a digit, each of its messages has a length that is known beforehand.  So no
message is entered anywhere: the rows of the history (stream, slices, first, last, bytes) are made of the streams'
counters when the slice turns.

Example: a stream of two variants, 100 and 110 bytes with an identity in which `seq` has one digit.

    build: seq 8, 9      six pieces are joined; `seq` 10 has a digit more, and ends the batch
    build: seq 10        420 = 2 x (100 + 110) bytes are counted for 6 to 9, and the lengths are 101 and 111 from here
    the slice turns      the row 0..10 goes to the tally, with the bytes of all eleven
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, overload

import numpy as np

from loadtests.drive.publish.resp import head
from loadtests.drive.publish.sink import sink_of
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_MS, pack_stream
from loadtests.model.profile.tables import Identity
from loadtests.plan.payload import Payload, Payloads
from loadtests.tally.histogram import Times
from loadtests.tally.identity import Numbers, ending, template
from loadtests.tally.publishing import PublishTally


class Around(NamedTuple):
    """The bytes of a command around its timestamp, where it is `timed`, and its identity."""

    before: bytes
    timed: bool
    stamped: bytes  # between the timestamp and the identity
    after: bytes
    size: int  # bytes of the payload


class Variants(NamedTuple):
    """The commands of a route with an identity of one length, to be used in turn."""

    around: tuple[Around, ...]
    sizes: tuple[int, ...]  # of their payloads
    sum: int


class _Taken(NamedTuple):
    """What the next messages are made of, in order.

    Where all are of one stream, `around` holds what they use in turn, and `bases` one for all.
    """

    around: Sequence[Around]
    firsts: list[bytes]  # of each in `around`
    bases: list[int]
    seqs: Sequence[int]
    sizes: list[int]  # where a replay is among them


class Lines(Sequence[str]):
    """The commands of a batch, a character for each byte; they are put together only where somebody asks."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces  # three for each

    def __len__(self) -> int:
        return len(self._pieces) // 3

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[number] for number in range(len(self))[at]]
        number = range(len(self))[at]
        return b"".join(self._pieces[number * 3 : number * 3 + 3]).decode("latin-1")


@dataclass(slots=True)
class Batch:
    """Messages that leave together, in order: the bytes of their commands, and what they are."""

    data: bytes
    commands: Lines
    routes: list[int]
    seqs: list[int]
    sizes: list[int]  # of payloads that no stream's counter knows: where a replay is among them


class Stamp:
    """The wall clock as payloads show it: ISO 8601, UTC, milliseconds. For people only; nothing is measured by it."""

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def now(self) -> bytes:
        """24 bytes, such as 2026-01-02T03:04:05.678Z."""
        second, rest = divmod(time.time_ns() // NS_PER_MS, 1000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%b.%03dZ" % (self._text, rest)


class Commands:
    """The commands of one publisher group, shared by its slots."""

    def __init__(self, contract: Contract, group: int, *, run: str, identity: Identity, seed: int, routes: int) -> None:
        spec = contract.profile.publishers[group]
        self.run, self.identity, self.seed = run, identity, seed
        self.known = contract.routes
        self.stamp = Stamp()
        self.numbers = Numbers(identity.form, run)
        self.sink = sink_of(spec.sink)
        self._payloads = Payloads(
            contract.routes,
            contract.profile.families,
            routes,
            seed=seed,
            identity=identity,
            payload_bytes=spec.payload_bytes,
        )
        self.of_route = lru_cache(maxsize=16_384)(self.variants)

    def variants(self, route: int, identity_bytes: int) -> Variants:
        """The commands of a route with an identity of so many bytes, its end not counted."""
        around = tuple(self._around(route, payload, identity_bytes) for payload in self._payloads.of_route(route))
        sizes = tuple(each.size for each in around)
        return Variants(around, sizes, sum(sizes))

    def replayed(self, route: int, due_ns: int, fields: Mapping[str, object], identity_bytes: int) -> Around:
        """The command of one replayed row."""
        draw = random.Random(f"{self.seed}:replayed:{route}:{due_ns}")
        return self._around(route, self._payloads.one(route, draw, fields), identity_bytes)

    def _around(self, route: int, payload: Payload, identity_bytes: int) -> Around:
        end = ending(self.identity.form, payload.content)
        size = payload.size + len(end) + identity_bytes
        before = head(self.sink.words(self.known[route].channel.encode()), size) + payload.before
        after = self.numbers.behind + end + payload.after + b"\r\n"
        return Around(before, payload.timed, payload.between, after, size)

    def streams(self, slot: int, epoch: int, tally: PublishTally) -> PublishStreams:
        """Fresh streams, whose rows go to a tally."""
        return PublishStreams(self, slot, epoch, tally)


class _Stream:
    """One stream of a slot: what its next message needs, and what of it is in no row yet."""

    __slots__ = ("around", "base", "channel", "counted", "cycle", "first", "id", "identity_bytes", "row", "seq",
                 "seq_to", "size", "variants")  # fmt: skip

    def __init__(self, id_: int, base: int, first: bytes, channel: str) -> None:
        self.id, self.base, self.first, self.channel = id_, base, first, channel
        self.seq = 0
        self.variants, self.identity_bytes = Variants((), (), 0), 0
        self.around, self.cycle = self.variants.around, 0  # and how many there are
        self.seq_to = 0  # up to here the variants' length holds
        self.row = 0  # first `seq` that is in no row
        self.counted = 0  # the bytes of earlier ones are in `size`
        self.size = 0  # of the payloads from `row` on

    def count(self) -> None:
        """Add up the bytes of what was built since the last time."""
        count = self.seq - self.counted
        if count:
            sizes = self.variants.sizes
            whole, rest = divmod(count, len(sizes))
            self.size += whole * self.variants.sum
            self.size += sum(sizes[(self.counted + number) % len(sizes)] for number in range(rest))
            self.counted = self.seq


class PublishStreams:
    """The streams of one slot and epoch: their `seq`, gapless from 0 in the order of sending."""

    def __init__(self, commands: Commands, slot: int, epoch: int, tally: PublishTally) -> None:
        self._commands, self._slot, self._epoch, self._tally = commands, slot, epoch, tally
        self._streams: dict[int, _Stream] = {}  # by route
        self._channel_of: dict[int, str] = {}
        self._only_channel: str | None = None
        self._taken = 0
        self._digits = (0, 0)  # of due and sent
        self._slices = (0, 0)  # due and sent, of all that is in no row yet
        self._touched: set[int] = set()  # routes of that

    @property
    def used(self) -> bool:
        """Whether any `seq` was given out: then a new connection needs a new epoch."""
        return self._taken > 0

    def build(
        self,
        routes: list[int],
        due_ns: Sequence[int] | Times,
        sent_ns: int,
        rows: Sequence[Mapping[str, object]],
        slices: tuple[int, int],
    ) -> Batch:
        """Commands of messages that leave together, all of one due and sent slice.

        `rows` is empty or as long as `routes`. It may stop before the last one, but not before the first: where a
        number gains a digit.
        """
        times = np.asarray(due_ns, dtype=np.int64)
        first_due, last_due = int(times[0]), int(times[-1])
        digits = len(str(first_due)), len(str(sent_ns))
        if len(str(last_due)) != digits[0]:
            routes = routes[: int(times.searchsorted(10 ** digits[0]))]
        self._begin(slices, digits)
        taken = self._take_one(routes) if not rows else None
        around, firsts, bases, seqs, sizes = taken or self._take(routes, times, rows)
        count = len(seqs)
        if count < len(routes):
            routes = routes[:count]
        stamps = b"", self._commands.stamp.now()
        turn: list[bytes] = []
        for (before, timed, stamped, after, _), first in zip(around, firsts, strict=True):
            turn += before + stamps[timed] + stamped + first, b"", after
        pieces = turn if len(around) == count else (turn * -(-count // len(around)))[: 3 * count]
        pieces[1::3] = self._commands.numbers.texts(bases, seqs, times[:count], sent_ns)
        self._taken += count
        self._touched.update(routes if taken is None else routes[:1])
        return Batch(b"".join(pieces), Lines(pieces), routes, list(seqs), sizes)

    def _take_one(self, routes: list[int]) -> _Taken | None:
        """What messages of one route are made of; None: they are of several."""
        route, count = routes[0], len(routes)
        if routes.count(route) < count:
            return None
        stream = self._streams.get(route) or self._enter(route)
        seq = stream.seq
        if seq >= stream.seq_to:
            self._measure(stream, route)
        stream.seq = end = min(seq + count, stream.seq_to)
        at = seq % stream.cycle
        around = (stream.around[at:] + stream.around[:at])[: end - seq]
        return _Taken(around, [stream.first] * len(around), [stream.base], range(seq, end), [])

    def _take(self, routes: list[int], due_ns: Times, rows: Sequence[Mapping[str, object]]) -> _Taken:
        around: list[Around] = []
        firsts: list[bytes] = []
        bases: list[int] = []
        seqs: list[int] = []
        sizes: list[int] = []
        streams = self._streams
        for route in routes:
            stream = streams.get(route) or self._enter(route)
            seq = stream.seq
            if seq >= stream.seq_to:
                if route in routes[: len(seqs)]:
                    break
                self._measure(stream, route)
            found = stream.around[seq % stream.cycle]
            if rows:
                found = self._replayed(stream, route, int(due_ns[len(seqs)]), rows[len(seqs)])
                sizes.append(found.size)
            around.append(found)
            firsts.append(stream.first)
            bases.append(stream.base)
            seqs.append(seq)
            stream.seq = seq + 1
        return _Taken(around, firsts, bases, seqs, sizes)

    def take_back(self, made: Batch, kept: int) -> None:
        """Messages from `kept` on never went: their `seq` are free again, and `made` forgets them."""
        for number in range(kept, len(made.seqs)):
            stream = self._streams[made.routes[number]]
            stream.seq -= 1
            stream.seq_to = 0
            if made.sizes:
                stream.counted = stream.seq
                stream.size -= made.sizes[number]
        self._taken -= len(made.seqs) - kept
        for column in (made.routes, made.seqs, made.sizes):
            del column[kept:]

    def give_up(self, route: int, slices: tuple[int, int], count: int = 1) -> tuple[int, int, str]:
        """Stream, first `seq` and channel of messages that will not be sent: a row without bytes."""
        self._begin(slices, self._digits)
        stream = self._streams.get(route) or self._enter(route)
        stream.count()
        seq = stream.seq
        stream.seq = stream.counted = seq + count
        self._taken += count
        self._touched.add(route)
        return stream.id, seq, stream.channel

    def stream(self, route: int) -> tuple[int, str]:
        """The packed stream and the channel of a route that was built for."""
        stream = self._streams[route]
        return stream.id, stream.channel

    def channels(self, routes: Sequence[int]) -> dict[str, int]:
        """How many of these messages went to each channel."""
        only = self._only_channel
        return Counter(map(self._channel_of.__getitem__, routes)) if only is None else {only: len(routes)}

    def hand_rows(self) -> None:
        """Tell the tally of all that is in no row yet."""
        due_slice, sent_slice = self._slices
        for route in self._touched:
            stream = self._streams[route]
            stream.count()
            if stream.seq > stream.row:
                self._tally.row(stream.id, due_slice, sent_slice, stream.row, stream.seq - 1, stream.size)
            stream.row, stream.size = stream.seq, 0
        self._touched.clear()

    def _begin(self, slices: tuple[int, int], digits: tuple[int, int]) -> None:
        if slices != self._slices:
            self.hand_rows()
            self._slices = slices
        if digits != self._digits:
            self._digits = digits
            for stream in self._streams.values():
                stream.seq_to = 0
        if not self._touched:
            self._tally.follow(self)

    def _measure(self, stream: _Stream, route: int) -> None:
        """A number has a digit more: from here on the messages of a stream are longer."""
        stream.count()
        seq_digits = len(str(stream.seq))
        stream.seq_to = 10**seq_digits
        stream.identity_bytes = len(stream.first) + self._commands.numbers.size(seq_digits, *self._digits)
        stream.variants = self._commands.of_route(route, stream.identity_bytes)
        stream.around, stream.cycle = stream.variants.around, len(stream.variants.around)

    def _replayed(self, stream: _Stream, route: int, due: int, row: Mapping[str, object]) -> Around:
        """The command of a message in whose batch a replay is: its bytes are counted here, one by one."""
        stream.count()
        found = stream.around[stream.seq % stream.cycle]
        if row:
            found = self._commands.replayed(route, due, row, stream.identity_bytes)
        stream.counted += 1
        stream.size += found.size
        return found

    def _enter(self, route: int) -> _Stream:
        commands = self._commands
        id_ = pack_stream(self._slot, self._epoch, route)
        first = template(commands.identity.form, commands.run, id_).partition(b"%d")[0]
        stream = _Stream(id_, commands.numbers.seal.base(id_), first, commands.known[route].channel)
        self._streams[route], self._channel_of[route] = stream, stream.channel
        self._only_channel = stream.channel if len(self._streams) == 1 or self._only_channel == stream.channel else None
        return stream
