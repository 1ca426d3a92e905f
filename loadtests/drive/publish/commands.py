"""What are the bytes of the next message of a route?  Prepared commands of a publisher group, streams of one epoch."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat

from loadtests.drive.publish.resp import command_template
from loadtests.drive.publish.sink import sink_of
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_MS, pack_stream
from loadtests.model.profile.tables import Identity
from loadtests.plan.payload import Payload, Payloads
from loadtests.tally.identity import Seal, ending, template

Prepared = tuple[bytes, int]
"""Command with places for `% (payload length, timestamp, identity without its end)`; payload bytes without that."""


_Ready = tuple[list[int], int, int, bytes, tuple[Prepared, ...], str]


@dataclass(slots=True)
class BuiltCommands:
    """Commands to send and what they are, in order."""

    routes: list[int]
    commands: list[bytes]
    streams: list[int]
    seqs: list[int]
    sizes: list[int]
    channels: list[str]


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
        self.seal = Seal(run)
        self.sink = sink_of(spec.sink)
        self._payloads = Payloads(
            contract.routes,
            contract.profile.families,
            routes,
            seed=seed,
            identity=identity,
            payload_bytes=spec.payload_bytes,
        )
        self.of_route = lru_cache(maxsize=16_384)(self._of_route)

    def _of_route(self, route: int) -> tuple[Prepared, ...]:
        """Prepared commands of a route, to be used in turn."""
        return tuple(self._prepare(route, payload) for payload in self._payloads.of_route(route))

    def replayed(self, route: int, due_ns: int, fields: Mapping[str, object]) -> Prepared:
        """The command of one replayed row."""
        draw = random.Random(f"{self.seed}:replayed:{route}:{due_ns}")
        return self._prepare(route, self._payloads.one(route, draw, fields))

    def _prepare(self, route: int, payload: Payload) -> Prepared:
        channel = self.known[route].channel.encode()
        end = ending(self.identity.form, payload.content)
        text = command_template(
            self.sink.words(channel), payload.before, payload.between, end + payload.after, timed=payload.timed
        )
        return text, payload.size + len(end)

    def streams(self, slot: int, epoch: int) -> PublishStreams:
        """Fresh streams."""
        return PublishStreams(self, slot, epoch)


class PublishStreams:
    """The streams of one slot and epoch: their `seq`, gapless from 0 in the order of sending."""

    def __init__(self, commands: Commands, slot: int, epoch: int) -> None:
        self._commands, self._slot, self._epoch = commands, slot, epoch
        # route -> [next seq, packed stream, base of its check values, identity with four places, prepared, channel]
        self._ready: dict[int, _Ready] = {}
        self._taken = 0

    @property
    def used(self) -> bool:
        """Whether any `seq` was given out: then a new connection needs a new epoch."""
        return self._taken > 0

    def build(
        self, routes: list[int], due_ns: Sequence[int], sent_ns: int, rows: Sequence[Mapping[str, object]]
    ) -> BuiltCommands:
        """Commands of messages that leave together; `rows` is empty or as long as `routes`."""
        ready, stamp, seal = self._ready, self._commands.stamp.now(), self._commands.seal
        of_seq, of_due, of_sent = seal.of_seq, seal.of_due, sent_ns * seal.of_sent
        sent = b"%d" % sent_ns
        commands: list[bytes] = []
        streams: list[int] = []
        seqs: list[int] = []
        sizes: list[int] = []
        channels: list[str] = []
        for route, due, row in zip(routes, due_ns, rows or repeat(None), strict=False):
            counter, stream, base, places, prepared, channel = ready.get(route) or self._enter(route)
            seq = counter[0]
            counter[0] = seq + 1
            text, size = prepared[seq % len(prepared)]
            if row:
                text, size = self._commands.replayed(route, due, row)
            check = base + of_sent + seq * of_seq + due * of_due  # as `Seal.of`
            identity = places % (seq, due, sent, check)
            size += len(identity)
            commands.append(text % (size, stamp, identity))
            streams.append(stream)
            seqs.append(seq)
            sizes.append(size)
            channels.append(channel)
        self._taken += len(routes)
        return BuiltCommands(routes, commands, streams, seqs, sizes, channels)

    def take_back(self, made: BuiltCommands, kept: int) -> None:
        """Messages from `kept` on never went: their `seq` are free again, and `made` forgets them."""
        for route in made.routes[kept:]:
            self._ready[route][0][0] -= 1
        self._taken -= len(made.routes) - kept
        for column in (made.routes, made.commands, made.streams, made.seqs, made.sizes, made.channels):
            del column[kept:]

    def give_up(self, route: int) -> tuple[int, int, str]:
        """Stream, `seq` and channel of a message that will not be sent."""
        counter, stream, _, _, _, channel = self._ready.get(route) or self._enter(route)
        seq = counter[0]
        counter[0] += 1
        self._taken += 1
        return stream, seq, channel

    def _enter(self, route: int) -> _Ready:
        commands = self._commands
        stream = pack_stream(self._slot, self._epoch, route)
        places = template(commands.identity.form, commands.run, stream)
        base = commands.seal.base(stream)
        entry = ([0], stream, base, places, commands.of_route(route), commands.known[route].channel)
        self._ready[route] = entry
        return entry
