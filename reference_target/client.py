"""What is a client to the broadcaster?  Three abilities, whatever the transport."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from reference_target.events import Event
from reference_target.rooms import Filter

Id = int | str | float | None


class Client(Protocol):
    """One connected client."""

    wants_health: bool

    def deliver(self, frames: bytes, events: Sequence[Event]) -> bool:
        """Send events, whose joined frames for this transport are given. False where the client is gone."""

    def tell(self, event: str, data: object) -> None:
        """Send an answer or a health event."""

    def __hash__(self) -> int: ...


class BadRequestError(ValueError):
    """A request that the gateway answers with an `error` event."""

    def __init__(self, request_id: object, reason: str) -> None:
        super().__init__(reason)
        self.answer = {"id": request_id, "reason": reason}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request; Socket.IO clients name the action by the event's name instead."""

    action: str = ""
    id: Id = None
    channels: tuple[str, ...] | None = None
    patterns: tuple[str, ...] | None = None
    symbols: tuple[str, ...] | None = None
    health: bool = False

    @property
    def filter(self) -> Filter:
        """The filter that it asks for."""
        return Filter(
            channels=frozenset(self.channels or ()),
            patterns=frozenset(self.patterns or ()),
            symbols=frozenset(self.symbols or ()),
        )

    def confirmation(self) -> dict[str, object]:
        """The data of the `subscribed` answer."""
        return {
            "id": self.id,
            "channels": self.channels or (),
            "patterns": self.patterns or (),
            "symbols": self.symbols or (),
        }


def wanted_from_json(text: str) -> Wanted:
    """A plain client's request. Raises BadRequestError, with the request's id where it can be told."""
    try:
        body = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequestError(None, f"not JSON: {error}") from None
    return wanted_from_object(body)


def wanted_from_object(body: object) -> Wanted:
    """A request as an object. Raises BadRequestError."""
    try:
        return msgspec.convert(body, Wanted)
    except msgspec.ValidationError as error:
        given = body.get("id") if isinstance(body, dict) else None
        raise BadRequestError(given if isinstance(given, int | str | float) else None, str(error)) from None
