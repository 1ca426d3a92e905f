"""What was in one received chunk?  Its messages with everything precomputed that does not depend on who received it.

Fan-out sends the same bytes to many consumers, so one batch is accounted many times: it is immutable and shared.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from loadtests.model.ids import SLICE_NS

FAMILY_BITS: Final = 6
MAX_FAMILIES: Final = 1 << FAMILY_BITS

Message = tuple[int, int, int, int, int, int]
"""Stream index, seq, due ns, cell key, bytes, sent ns."""


class Odd(NamedTuple):
    """Something for a `Strange` record: its kind, an example of at most 120 characters, the family (-1: not known)."""

    kind: str
    example: str
    family: int = -1


def message(*, index: int, seq: int, due_ns: int, sent_ns: int, family: int, size: int) -> Message:
    """One message of a batch; its cell key joins due slice and family in one integer."""
    return index, seq, due_ns, (due_ns // SLICE_NS) << FAMILY_BITS | family, size, sent_ns


def key_parts(key: int) -> tuple[int, int]:
    """Due slice and family of a cell key."""
    return key >> FAMILY_BITS, key & (MAX_FAMILIES - 1)


class Batch:
    """The messages of one chunk and the strange things beside them; `frames` holds theirs where nothing else came."""

    __slots__ = ("count", "frames", "messages", "reads", "strange", "width")

    def __init__(
        self, messages: Iterable[Message], strange: Iterable[Odd] = (), *, frames: Iterable[bytes] = ()
    ) -> None:
        self.messages = tuple(messages)
        self.strange = tuple(strange)
        self.frames = tuple(frames)
        self.count = len(self.messages)
        self.reads = 1  # 0 where another batch of the same read was accounted before
        self.width = max((m[0] for m in self.messages), default=-1) + 1

    @classmethod
    def followed(cls, messages: list[Message]) -> Batch:
        """Messages that a reference vouches for: their streams are not asked for again."""
        batch = cls.__new__(cls)
        batch.messages = tuple(messages)
        batch.strange = batch.frames = ()
        batch.count = len(messages)
        batch.reads = 1
        batch.width = 0
        return batch

    def rest(self) -> Batch:
        """The same, where the first messages of the read were accounted before."""
        batch = Batch(self.messages, self.strange, frames=self.frames)
        batch.reads = 0
        return batch

    @property
    def greatest_due_ns(self) -> int:
        """Due time of the message that is due last; 0 without messages."""
        return self.messages[0][2] if self.count == 1 else max((m[2] for m in self.messages), default=0)

    @property
    def least_due_ns(self) -> int:
        """Due time of the message that is due first; 0 without messages."""
        return self.messages[0][2] if self.count == 1 else min((m[2] for m in self.messages), default=0)
