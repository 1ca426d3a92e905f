"""Does a consumer get just what another got before it?  Then its bytes are compared, and nothing in them is parsed.

Consumers of equal routes over one transport are kin: calm fan-out sends them the same frames in the same order.
Whoever is first has its messages parsed and accounted one by one; they become the steps of the reference.  A consumer
that stands at a step, and whose bytes equal the frames behind it, has received exactly those messages, each the next of
its stream: nothing lost, repeated or out of order.  Its account is then its place in the reference.

Invariants: a step is one whole unfragmented text frame with one message and nothing else in it; the messages of every
stream are consecutive from step to step; an account stands at a step only if its streams' last numbers are those of the
reference there (or it never got anything of the stream).  Whatever else comes makes it leave, with its account as if it
had been kept message by message.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Final

from loadtests.tally.batch import Batch, Message

if TYPE_CHECKING:
    from loadtests.tally.account import Account

NEVER: Final = -2
"""`last` of a stream of which nothing came yet: no `seq` follows it."""

STEPS: Final = 4096
WINDOW_BYTES: Final = 1 << 20
"""A reference that is longer is full: a new one begins, and the old one lives while somebody still stands in it."""

_SPANS_KEPT: Final = 1024


class Step:
    """One frame of a reference, and what is known once it has come."""

    __slots__ = ("batch", "end", "frame", "next", "number")

    next: Step | None

    def __init__(self, frame: bytes, batch: Batch, number: int, end: int) -> None:
        self.frame = frame
        self.batch = batch
        self.number = number  # of the step; 0 is the place before the first
        self.end = end  # where it ends in the window
        self.next = None


NOTHING: Final = Batch(())
NOWHERE: Final = Step(b"", NOTHING, 0, 0)
"""Where an account stands that follows no reference, or that is inside a frame; no step ever follows it."""


class Kin:
    """Consumers whose bytes may be compared, and the reference that they follow now."""

    __slots__ = ("members", "reference")

    def __init__(self) -> None:
        self.members = 0
        self.reference: Reference | None = None


class Reference:
    """Frames in the order in which they came to kin, from one account's state on."""

    __slots__ = ("_first", "_last", "_places", "_spans", "_steps", "_window", "tail")

    def __init__(self, account: Account, place: Message) -> None:
        self._last = list(account.last)  # per stream index, at the tail
        self._first: dict[int, int] = {}  # of the streams that began in this reference
        self.tail = Step(b"", NOTHING, 0, 0)
        self._steps = [self.tail]
        self._window = bytearray()
        self._spans: dict[tuple[int, int], Batch] = {}  # so that kin that read alike share what they read
        self._places = {(place[0], place[1]): self.tail}

    @property
    def full(self) -> bool:
        """Whether a new one should begin."""
        return len(self._steps) > STEPS or len(self._window) > WINDOW_BYTES

    def extend(self, frame: bytes, message: Message) -> bool:
        """Add what came behind the tail; False where it is not the next message of its stream."""
        index, seq = message[0], message[1]
        last = self._last
        if index >= len(last):
            last.extend([NEVER] * (index + 1 - len(last)))
        if last[index] == NEVER:
            self._first[index] = seq
        elif seq != last[index] + 1:
            return False
        last[index] = seq
        self._window += frame
        step = Step(frame, Batch((message,)), len(self._steps), len(self._window))
        self._steps.append(step)
        self._places[index, seq] = step
        self.tail.next = step
        self.tail = step
        return True

    def passed(self, message: Message) -> bool:
        """Whether a message is beyond what the reference has of its stream: nobody extends it any more."""
        index, seq = message[0], message[1]
        return index >= len(self._last) or seq > self._last[index]

    def place(self, message: Message) -> Step | None:
        """The step behind which an account stands that got this message last."""
        return self._places.get((message[0], message[1]))

    def follow(self, at: Step, held: int, chunk: bytes) -> tuple[Step, int, int]:
        """How far a chunk equals what comes behind `held` bytes of the step after `at`.

        Returns the last step that is whole then, the bytes held of the next, and how many bytes of the chunk were
        equal: all of them, all that the window has, or none.
        """
        window = self._window
        begin = at.end + held
        equal = len(chunk)
        if not window.startswith(chunk, begin):
            equal = len(window) - begin
            if equal <= 0 or equal >= len(chunk) or not chunk.startswith(window[begin:]):
                return at, held, 0
        end = begin + equal
        last = self._steps[self._whole_at(at, end)]
        return last, end - last.end, equal

    def _whole_at(self, at: Step, end: int) -> int:
        return bisect_right(self._steps, end, lo=at.number, key=_end_of) - 1

    def between(self, at: Step, to: Step) -> Batch:
        """What came with the steps behind `at` up to `to`."""
        if at.next is to:
            return to.batch
        span = (at.number, to.number)
        batch = self._spans.get(span)
        if batch is None:
            if len(self._spans) >= _SPANS_KEPT:
                self._spans.clear()
            steps = self._steps[at.number + 1 : to.number + 1]
            batch = self._spans[span] = Batch.followed([step.batch.messages[0] for step in steps])
        return batch

    def join(self, account: Account, at: Step) -> bool:
        """Let an account stand at a step; False where their streams differ there."""
        theirs = self._last if at is self.tail else self._last_at(at)
        mine = account.last
        fresh: dict[int, int] = {}
        if mine != theirs:
            for index in range(max(len(mine), len(theirs))):
                own = mine[index] if index < len(mine) else NEVER
                last = theirs[index] if index < len(theirs) else NEVER
                if own == last:
                    continue
                if own != NEVER:
                    return False
                fresh[index] = last + 1
        account.reference = self
        account.at = at
        account.since = at.number
        account.fresh = fresh
        return True

    def settle(self, account: Account, at: Step) -> None:
        """Write into an account what it got up to a step since it joined."""
        count = at.number - account.since
        if not count:
            return
        account.since = at.number
        account.taken += count
        last = list(self._last) if at is self.tail else self._last_at(at)
        first = account.first
        for index, seq in account.fresh.items():
            if last[index] >= seq:
                first[index] = seq
            else:
                last[index] = NEVER
        for index, seq in self._first.items():
            if index not in first and last[index] != NEVER:
                first[index] = seq
        account.last = last

    def _last_at(self, at: Step) -> list[int]:
        last = list(self._last)
        for step in self._steps[at.number + 1 :]:
            index = step.batch.messages[0][0]
            last[index] -= 1
        for index, seq in self._first.items():
            if last[index] < seq:
                last[index] = NEVER
        return last


def _end_of(step: Step) -> int:
    return step.end
