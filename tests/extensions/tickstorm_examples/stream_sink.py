"""A sink: each message becomes an entry of a Redis stream, under the name of its channel."""

from __future__ import annotations

from loadtests.drive.publish.resp import ErrorReply, Reply
from loadtests.drive.publish.sink import DONE


class Stream:
    """XADD; Redis answers the entry's id, which names no receiver."""

    def words(self, channel: bytes) -> tuple[bytes, ...]:
        """The entry has one field, `event`."""
        return b"XADD", channel, b"*", b"event"

    def outcome(self, reply: Reply) -> int | ErrorReply | None:
        """An id is `milliseconds-number`."""
        if isinstance(reply, bytes) and reply.count(b"-") == 1:
            return DONE
        return reply if isinstance(reply, ErrorReply) else None
