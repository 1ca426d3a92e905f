"""Does a consumer get just what another got before it?  Then its bytes are compared, and nothing in them is parsed.

Consumers of equal routes over one transport are kin: calm fan-out sends them the same frames in the same order.
Whoever is first has its messages parsed; they become the steps of the reference.  A consumer that stands at a step, and
whose bytes equal the frames behind it, has received exactly those messages, each the next of its stream: nothing lost,
repeated or out of order.  Its account is then its place in the reference.

Invariants: a step is one whole unfragmented text frame with one message and nothing else in it; the messages of every
stream are consecutive from step to step; an account stands at a step only if its streams' last numbers are those of the
reference there (or it never got anything of the stream).  Whatever else comes makes it leave, with its account as if it
had been kept message by message.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from loadtests.tally.batch import Batch, Message

if TYPE_CHECKING:
    from loadtests.tally.account import Account

NEVER: Final = -2
"""`last` of a stream of which nothing came yet: no `seq` follows it."""

STEPS: Final = 4096
WINDOW_BYTES: Final = 1 << 20
"""A reference that is longer is full: a new one begins, and the old one lives while somebody still stands in it."""

STEP_BYTES: Final = 700
"""What a step takes beside its frame, which is kept twice: alone and in the window."""
_STREAM_BYTES: Final = 8
_SPANNED: Final = 1024
_SPAN: Final = 32  # a span beside its messages, in the place that a message takes


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


class Reference:
    """Frames in the order in which they came to kin, from one account's state on."""

    __slots__ = (
        "_first",
        "_last",
        "_places",
        "_spanned",
        "_spans",
        "_steps",
        "_walk",
        "_window",
        "bytes",
        "followed",
        "founder",
        "refusals",
        "standing",
        "tail",
    )

    def __init__(self, founder: Account, place: Message) -> None:
        self.founder = founder
        self.standing = 0  # accounts that stand in it
        self.followed = 0  # steps, by those who left
        self.refusals = 0  # how many left before they followed one
        self._last = list(founder.last)  # per stream index, at the tail
        self._first: dict[int, int] = {}  # of the streams that began in this reference
        self.tail = Step(b"", NOTHING, 0, 0)
        self._steps = [self.tail]
        self._window = bytearray()
        self._spans: dict[tuple[int, int], Batch] = {}  # so that kin that read alike share what they read
        self._spanned = 0
        self._walk: tuple[int, int, dict[int, int], dict[int, int]] = (0, 0, {}, {})
        self._places = {(place[0], place[1]): self.tail}
        self.bytes = self.least(len(self._last))
        """About what it takes in memory."""

    @staticmethod
    def least(streams: int) -> int:
        """Bytes of a reference without steps that begins where an account knows so many streams."""
        return STEP_BYTES + _STREAM_BYTES * (streams + _SPANNED)

    def full(self, most_bytes: int) -> bool:
        """Whether a new one should begin."""
        return self.bytes > most_bytes or len(self._steps) > STEPS or len(self._window) > WINDOW_BYTES

    def continues(self, messages: Sequence[Message], route: Sequence[int], routes: frozenset[int]) -> bool:
        """Whether each is the next of its stream behind the tail, or the first of one that the kin's routes have."""
        last = self._last
        come: dict[int, int] = {}
        for index, seq, *_ in messages:
            before = come.get(index)
            if before is None:
                before = last[index] if index < len(last) else NEVER
            if before == NEVER:
                if route[index] not in routes:
                    return False
            elif seq != before + 1:
                return False
            come[index] = seq
        return True

    def extend(self, frame: bytes, batch: Batch) -> None:
        """Add a frame that came behind the tail, and its one message, which continues it."""
        index, seq = batch.messages[0][:2]
        last = self._last
        if index >= len(last):
            last.extend([NEVER] * (index + 1 - len(last)))
        if last[index] == NEVER:
            self._first[index] = seq
        last[index] = seq
        self._window += frame
        step = Step(frame, batch, len(self._steps), len(self._window))
        self._steps.append(step)
        self._places[index, seq] = step
        self.bytes += STEP_BYTES + 2 * len(frame)
        self.tail.next = step
        self.tail = step

    def passed(self, message: Message) -> bool:
        """Whether a message is beyond what the reference has of its stream."""
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
            if self._spanned > _SPANNED + 4 * len(self._steps):
                self._spans.clear()
                self._spanned = 0
            steps = self._steps[at.number + 1 : to.number + 1]
            batch = self._spans[span] = Batch.followed([step.batch.messages[0] for step in steps])
            self._spanned += len(steps) + _SPAN
        return batch

    def join(self, account: Account, at: Step) -> bool:
        """Let an account stand at a step; False where their streams differ there."""
        theirs = self._last if at is self.tail else self._last_at(at)
        mine = account.last
        if mine != theirs and (
            any(own not in (last, NEVER) for own, last in zip(mine, theirs, strict=False))
            or any(own != NEVER for own in islice(mine, len(theirs), None))
        ):
            return False
        account.reference = self
        account.at = at
        account.since = at.number
        account.led = 0
        self.standing += 1
        return True

    def settle(self, account: Account, at: Step) -> None:
        """Write into an account what it got up to a step since it joined."""
        since = account.since
        if at.number == since:
            return
        earliest, latest = self._walked(since, at.number)
        last, first = account.last, account.first
        beyond = max(latest) + 1 - len(last)
        if beyond > 0:
            last.extend([NEVER] * beyond)
        for index, seq in latest.items():
            if last[index] == NEVER:
                first[index] = earliest[index]
            last[index] = seq
        account.taken += at.number - since
        account.since = at.number

    def _walked(self, since: int, to: int) -> tuple[dict[int, int], dict[int, int]]:
        """Per stream of some steps its first and last number; kin that came together leave together, so one is kept."""
        kept_since, kept_to, earliest, latest = self._walk
        if (kept_since, kept_to) != (since, to):
            came = [step.batch.messages[0][:2] for step in self._steps[since + 1 : to + 1]]
            latest = dict(came)
            came.reverse()
            earliest = dict(came)
            self._walk = since, to, earliest, latest
        return earliest, latest

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
