"""What are the bytes of a message around its identity?  Payloads built beforehand, with two places left open.

A message must cost about a microsecond, so its values come from a small pool of prebuilt variants per route; only the
timestamp and the identity are new in each.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from loadtests.model.catalogue import KEY_FIELDS
from loadtests.model.content import Shape, check_value, checked, joined, shape_of
from loadtests.model.contract import Contract, Route
from loadtests.model.profile.tables import Identity
from loadtests.model.profile.workload import Family
from loadtests.plan import market

if TYPE_CHECKING:
    from loadtests.plan.replay import Replayed

_TIME = "@@timestamp@@"
_WHO = "@@identity@@"
LEFT_OPEN = (_TIME, _WHO)
"""What a payload's places look like while it is built."""
TIMESTAMP_BYTES = 24
"""Length of a timestamp such as 2026-01-02T03:04:05.678Z."""
_IDENTITY_BYTES = 130
_POOL = 4096
_PADDING = "padding"
VARIANTS = 8


@dataclass(frozen=True, slots=True)
class Payload:
    """JSON text before the timestamp, between it and the identity, and after; no timestamp where `timed` is false."""

    before: bytes
    between: bytes
    after: bytes
    timed: bool
    content: int
    """Check value over the fields that must arrive as they are."""

    @property
    def size(self) -> int:
        """Bytes without the identity."""
        stamp = TIMESTAMP_BYTES if self.timed else 0
        return len(self.before) + len(self.between) + len(self.after) + stamp

    def fill(self, timestamp: bytes, identity: bytes) -> bytes:
        """The whole JSON text."""
        return self.before + (timestamp if self.timed else b"") + self.between + identity + self.after


class IdentityPathError(ValueError):
    """The identity's path does not fit into the event."""


def payload(
    event: market.Event, identity: Identity, pad_to: int, content: str | Collection[str] = "checked"
) -> Payload:
    """Leave the places open in an event.  Raises IdentityPathError where the path does not fit into it."""
    event = dict(event)
    shape = shape_of(event)  # without the objects that the identity's path may need
    timed = identity.path != "timestamp" and "timestamp" in event
    if timed:
        event["timestamp"] = _TIME
    *steps, last = identity.path.split(".")
    inner = event
    for step in steps:
        below = inner.get(step, {})
        if not isinstance(below, dict):
            raise IdentityPathError(f"identity.path: {step!r} of {identity.path!r} is no object in this event")
        inner[step] = dict(below)
        inner = inner[step]  # type: ignore[assignment]  # just made
    if isinstance(inner.get(last), dict | list):
        raise IdentityPathError(f"identity.path: {last!r} would replace a part of the event")
    inner[last] = _WHO
    pad = pad_to - len(msgspec.json.encode(event)) - _IDENTITY_BYTES if pad_to else 0
    if pad > 0:
        shape[_PADDING] = {}
        event[_PADDING] = "x" * pad
    text = msgspec.json.encode(event)
    before, stamp, rest = text.partition(_TIME.encode()) if timed else (b"", b"", text)
    between, found, after = rest.partition(b'"%b"' % _WHO.encode())
    if not found or (timed and not stamp) or _WHO.encode() in after or _TIME.encode() in rest:
        raise IdentityPathError("an event's own value looks like a place that is left open")
    value = check_value(event, checked(shape, identity.path, content))
    return Payload(before, between, after, timed, value)


def content_shapes(contract: Contract, replays: Mapping[str, Sequence[Replayed]]) -> list[Shape]:
    """Per family, the names of the fields that must arrive as they were published, by whatever publisher.

    `replays` holds the parsed file of each publisher group (by name) that replays one.
    """
    profile = contract.profile
    found: list[Shape] = []
    for index, family in enumerate(profile.families):
        known = contract.routes[contract.routes_of_family[index][0]]
        shape = shape_of(_event(known, random.Random(0)))
        for group in profile.publishers:
            if family.name not in group.families:
                continue
            if group.payload_bytes:
                shape = joined((shape, {_PADDING: {}}))
            if family.content != "unchecked":
                shape = joined((shape, *_shapes(row.fields for row in replays.get(group.name, ()))))
        found.append(checked(shape, profile.identity.path, family.content))
    return found


def _shapes(rows: Iterable[Mapping[str, object]]) -> list[Shape]:
    """The shapes of rows, those of flat ones that have the same columns once."""
    flat: set[tuple[str, ...]] = set()
    found: list[Shape] = []
    for row in rows:
        if any(type(value) in (dict, list) for value in row.values()):
            found.append(shape_of(dict(row)))
        else:
            flat.add(tuple(row))
    found += [{name: {} for name in names} for names in flat]
    return found


def _event(route: Route, draw: random.Random) -> market.Event:
    return market.build(route.event, draw, timestamp="", keys=dict(route.keys), channel=route.channel)


class Payloads:
    """The pool of one publisher group; a route's variants are built when it is first used, equal in every process."""

    def __init__(
        self,
        routes: tuple[Route, ...],
        families: Sequence[Family],
        count: int,
        *,
        seed: int,
        identity: Identity,
        payload_bytes: int,
    ) -> None:
        self._routes, self._families, self._seed = routes, families, seed
        self._identity, self._bytes = identity, payload_bytes
        # Many routes share the room of the pool: variety comes from the routes then.
        self.variants = max(1, min(VARIANTS, _POOL // max(1, count)))
        self.of_route = lru_cache(maxsize=_POOL * 4)(self._build)

    def _build(self, route: int) -> tuple[Payload, ...]:
        """Payloads of a route, to be used in turn."""
        return tuple(
            self.one(route, random.Random(f"{self._seed}:payload:{route}:{variant}"))
            for variant in range(self.variants)
        )

    def one(self, route: int, draw: random.Random, fields: Mapping[str, object] = {}) -> Payload:
        """One payload of a route, with fields of a replayed row instead of those drawn."""
        known = self._routes[route]
        event = _event(known, draw)
        own = {KEY_FIELDS[key] for key, _ in known.keys} | {"event_type"}
        event.update((k, v) for k, v in fields.items() if k not in own)
        return payload(event, self._identity, self._bytes, self._families[known.family].content)
