"""What does a publisher ask Redis to do with a message, and what does the reply say?  The port that a sink implements.

A sink is made once for a publisher group. It words the command of a channel beforehand, and reads a reply for as many
commands as were answered alike; nothing of it runs for each message. An example outside the tree:
tests/extensions/tickstorm_examples/stream_sink.py.
"""

from __future__ import annotations

from typing import Final, Protocol

from loadtests.drive.publish.resp import ErrorReply, Reply
from loadtests.model.kinds import part
from loadtests.model.registry import SINKS

DONE: Final = -1
"""The reply of a sink that names no receivers."""


class Sink(Protocol):
    """Where a publisher group writes."""

    def words(self, channel: bytes) -> tuple[bytes, ...]:
        """All of the command but its last argument, the payload."""
        ...

    def outcome(self, reply: Reply) -> int | ErrorReply | None:
        """How many receivers were named (`DONE`: not told), the refusal, or None for what answers no such command."""
        ...


def sink_of(name: str) -> Sink:
    """The sink of a publisher group, by the name that its profile has."""
    sink: Sink = part(SINKS[name].by)()
    return sink


class Publish:
    """PUBLISH on a channel; Redis answers how many receivers there were."""

    def words(self, channel: bytes) -> tuple[bytes, ...]:
        """As `Sink` has it."""
        return b"PUBLISH", channel

    def outcome(self, reply: Reply) -> int | ErrorReply | None:
        """As `Sink` has it."""
        return reply if isinstance(reply, int | ErrorReply) else None
