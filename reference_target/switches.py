"""Which defects were switched on?  They exist to be found by a checker; every one is counted exactly."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct

from reference_target.events import Event

Every = Annotated[int, Meta(ge=0, le=1_000_000_000)]
C = TypeVar("C", bound=Hashable)


class SwitchValues(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is switched on; 0 is off."""

    drop_every: Every = 0  # every n-th delivery is not sent
    duplicate_every: Every = 0  # every n-th delivery is sent twice
    leak_bytes_per_message: Annotated[int, Meta(ge=0, le=10_000_000)] = 0  # kept for ever, per message received
    fail_every: Every = 0  # the handler fails on every n-th event, for all clients
    delay_ms: Annotated[int, Meta(ge=0, le=600_000)] = 0  # between receiving and delivering
    reorder_every: Every = 0  # every n-th event of a client is sent after its successor

    @property
    def per_delivery(self) -> bool:
        """Whether single deliveries must be looked at."""
        return bool(self.drop_every or self.duplicate_every or self.reorder_every)


def parse_switches(text: str | bytes, base: SwitchValues) -> SwitchValues:
    """`base` with the values in a JSON object. Raises ValueError with what does not fit."""
    try:
        changes = msgspec.json.decode(text, type=dict[str, int])
        return msgspec.convert(msgspec.structs.asdict(base) | changes, SwitchValues)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None


class Switches(Generic[C]):
    """The switches with their counters. A counter starts anew when its switch is set."""

    def __init__(self) -> None:
        self.now = SwitchValues()
        self.dropped = 0
        self.duplicated = 0
        self.failed = 0
        self.reordered = 0
        self.leaked_bytes = 0
        self._leak: list[bytes] = []
        self._deliveries = 0
        self._sent = 0
        self._events = 0
        self._of_client: dict[C, int] = {}
        self._held: dict[C, tuple[Event, bool]] = {}  # (event, whether to send it twice)

    def set(self, values: SwitchValues) -> None:
        """Switch; what `held_of` still holds should be taken by the caller first."""
        self.now = values
        self._deliveries = self._sent = self._events = 0
        self._of_client.clear()

    def leak(self, messages: int) -> None:
        """Keep memory for so many received messages, for ever."""
        size = self.now.leak_bytes_per_message
        for _ in range(messages):
            self._leak.append(b"\x01" * size)  # written to, or the kernel would not back it
        self.leaked_bytes += messages * size

    def fails(self) -> bool:
        """Whether the handler fails on this event."""
        self._events += 1
        if self.now.fail_every and self._events % self.now.fail_every == 0:
            self.failed += 1
            return True
        return False

    def deliveries(self, client: C, event: Event) -> Iterator[Event]:
        """What to send to a client now that this event matches: nothing, it, it twice, it and one held before."""
        now = self.now
        self._deliveries += 1
        if now.drop_every and self._deliveries % now.drop_every == 0:
            self.dropped += 1
            return
        self._sent += 1
        twice = bool(now.duplicate_every) and self._sent % now.duplicate_every == 0
        if twice:
            self.duplicated += 1
        if now.reorder_every:
            number = self._of_client[client] = self._of_client.get(client, 0) + 1
            if number % now.reorder_every == 0 and client not in self._held:
                self._held[client] = (event, twice)
                self.reordered += 1
                return
        yield event
        if twice:
            yield event
        yield from self.held_of(client)

    def held_of(self, client: C) -> Iterator[Event]:
        """What is held back for a client; afterwards nothing is."""
        held = self._held.pop(client, None)
        if held is not None:
            event, twice = held
            yield event
            if twice:
                yield event

    def holders(self) -> list[C]:
        """Clients for which an event is held back."""
        return list(self._held)

    def forget(self, client: C) -> None:
        """A client is gone."""
        self._held.pop(client, None)
        self._of_client.pop(client, None)
