"""Does a consumer get just what another got before it?  Then its bytes are compared, and nothing in them is parsed.

Theory of operation.  Fan-out sends consumers of equal routes over one transport (*kin*) the same frames in the same
order.  The kin's leader has its messages parsed; they become the steps of the reference, a linked list whose frames
also stand end to end in one window of bytes.  A follower stands at a step.  Where the next bytes it reads equal the
window behind that step, it received exactly the messages of those steps, each the next of its stream: nothing lost,
duplicate or out of order.  So its account is its position, and a read costs one comparison of bytes.

Example: A, B and C got seq 0 of the one stream that they subscribed to; frames f1 to f4 hold seq 1 to 4.

    A founds the reference at step 0; B and C join it there.
    A reads f1, f2, f3, f4 first:  it leads; each is parsed and becomes a step:  0 -f1- 1 -f2- 2 -f3- 3 -f4- 4
    B reads f1 f2, then f3 f4:     both reads equal the window; B stands at step 4, and nothing was parsed
    C reads f1, then f3:           f3 is not f2: C leaves at step 1 with `last` = 1, f3 is parsed, and seq 2 is a gap

Invariants:
- A step is one whole unfragmented text frame with one message and nothing else in it.
- The messages of every stream are consecutive from step to step.
- A follower joins at a step only if its streams' last numbers are those of the reference there (or it never got
  anything of the stream).
- Leaving writes the steps since joining into the account (`settle`), which then is as if each message had been counted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice
from typing import Final

from loadtests.tally.batch import Batch, Message

NEVER: Final = -2
"""`last` of a stream of which nothing came yet: no `seq` follows it."""

STEPS: Final = 4096
WINDOW_BYTES: Final = 1 << 20
"""A reference that is longer is full: a new one begins, and the old one lives while a follower still stands in it."""

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
"""Where a follower stands that has no reference, or that is inside a frame; no step ever follows it."""


class Kin:
    """Consumers whose bytes may be compared, and the reference that they follow now."""

    __slots__ = ("barred", "key", "level", "members", "pause", "reference")

    def __init__(self, key: tuple[str, frozenset[int]]) -> None:
        self.key = key
        self.members: set[Follower] = set()
        self.reference: Reference | None = None
        self.level = 0  # references in a row that no member followed
        self.pause = 0  # reads to wait before another is tried
        self.barred: set[Follower] = set()  # founded one that no member followed: others' bytes may suit more


class Follower:
    """Where one consumer's connection stands in the reference of its kin.

    While it follows one, `last`, `first` and `taken` are those of its joining.
    """

    __slots__ = (
        "ahead",
        "at",
        "first",
        "held",
        "kin",
        "last",
        "led",
        "outrun",
        "pause",
        "reference",
        "refused",
        "routes",
        "since",
        "taken",
    )

    def __init__(self, *, routes: frozenset[int], kin: Kin) -> None:
        self.routes = routes
        self.kin = kin
        self.last: list[int] = []  # per stream index
        self.first: dict[int, int] = {}
        self.taken = 0  # messages that came, counted per read: the cross-check of the per-stream sums
        self.reference: Reference | None = None  # that it follows
        self.at: Step = NOWHERE  # the last step that came whole, where the next byte begins a frame
        self.held: tuple[Step, int] | None = None  # inside a frame: the last whole step, the bytes behind it
        self.ahead = b""  # the beginning of a frame that the reference does not have yet; then `held` is (step, 0)
        self.since = 0  # number of the step up to which the account is written
        self.led = 0  # steps that the reference has by its own reads since it joined
        self.refused = 0  # how often in a row it could not join, or joined and followed nothing
        self.outrun = 0  # reads in a row beyond all that the reference of its kin has
        self.pause = 0  # reads to wait before it tries to join again

    @property
    def place(self) -> tuple[Step, int]:
        """The last step that came whole, and the bytes of the next that came."""
        return self.held or (self.at, 0)

    @property
    def followed(self) -> int:
        """Steps since it joined that others had got before it."""
        return self.place[0].number - self.since - self.led if self.reference is not None else 0

    def wait(self, begun: bytes) -> bool:
        """Keep the beginning of a frame until its rest comes; False where it stands between no two frames."""
        at, held = self.place
        if self.reference is None or held:
            return False
        self.at, self.held, self.ahead = NOWHERE, (at, 0), begun
        return True

    def begun(self) -> bytes:
        """The bytes of the reference's frame that came so far."""
        at, held = self.place
        return at.next.frame[:held] if held and at.next is not None else b""


class Reference:
    """Frames in the order in which they came to kin, from one follower's state on."""

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

    def __init__(self, founder: Follower, place: Message) -> None:
        self.founder = founder
        self.standing = 0  # followers that stand in it
        self.followed = 0  # steps, by the followers that left
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
        """Bytes of a reference without steps that begins where a follower knows so many streams."""
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
        """The step behind which a follower stands that got this message last."""
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

    def join(self, follower: Follower, at: Step) -> bool:
        """Let a follower stand at a step; False where their streams differ there."""
        theirs = self._last if at is self.tail else self._last_at(at)
        mine = follower.last
        if mine != theirs and (
            any(own not in (last, NEVER) for own, last in zip(mine, theirs, strict=False))
            or any(own != NEVER for own in islice(mine, len(theirs), None))
        ):
            return False
        follower.reference = self
        follower.at = at
        follower.since = at.number
        follower.led = 0
        self.standing += 1
        return True

    def settle(self, follower: Follower, at: Step) -> None:
        """Write into its account what a follower got up to a step since it joined."""
        since = follower.since
        if at.number == since:
            return
        earliest, latest = self._walked(since, at.number)
        last, first = follower.last, follower.first
        beyond = max(latest) + 1 - len(last)
        if beyond > 0:
            last.extend([NEVER] * beyond)
        for index, seq in latest.items():
            if last[index] == NEVER:
                first[index] = earliest[index]
            last[index] = seq
        follower.taken += at.number - since
        follower.since = at.number

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
