"""What did one consumer get of each stream over one connection?  Gapless counting; exact ranges where it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtests.tally.cells import GroupCells
from loadtests.tally.gaps import Gaps
from loadtests.tally.shared_prefix import NOWHERE, Reference, Step

if TYPE_CHECKING:
    from loadtests.tally.followers import Kin

_EXTRA_KEPT = 4096


class Account:
    """One epoch of one consumer. While it follows a reference, `last`, `first` and `taken` are those of its joining."""

    __slots__ = (
        "ahead",
        "at",
        "at_least",
        "cells",
        "consumer",
        "epoch",
        "extra",
        "first",
        "gaps",
        "held",
        "kin",
        "last",
        "led",
        "not_unique",
        "outrun",
        "pause",
        "reference",
        "refused",
        "routes",
        "since",
        "taken",
    )

    def __init__(self, *, consumer: int, epoch: int, routes: frozenset[int], cells: GroupCells, kin: Kin) -> None:
        self.consumer = consumer
        self.epoch = epoch
        self.routes = routes
        self.cells = cells
        self.last: list[int] = []
        self.first: dict[int, int] = {}
        self.gaps: dict[int, Gaps] = {}
        self.extra: dict[tuple[int, int], int] = {}  # stream index, seq -> repeats, where the contract allows copies
        self.taken = 0  # messages that came, counted per read: the cross-check of the per-stream sums
        self.not_unique = 0  # of them, repeated or strange
        self.at_least = False
        self.kin = kin
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

    def within_copies(self, index: int, seq: int, copies: int) -> bool:
        """Note one more copy of a message; True while the contract allows that many."""
        times = self.extra.pop((index, seq), 0) + 1
        self.extra[index, seq] = times
        if len(self.extra) > _EXTRA_KEPT:
            del self.extra[next(iter(self.extra))]
        return times < copies

    def missing(self, index: int) -> int:
        """Numbers of a stream between its first and last that did not come."""
        gaps = self.gaps.get(index)
        return 0 if gaps is None else gaps.missing  # also where no range of them was kept

    def vector(self) -> tuple[tuple[int, int, int, int], ...]:
        """Per stream that came: index, first, last, unique; by index."""
        last = self.last
        return tuple(
            (index, first, last[index], last[index] - first + 1 - self.missing(index))
            for index, first in sorted(self.first.items())
        )

    def adds_up(self) -> bool:
        """Whether the streams' unique counts sum to what the reads brought."""
        return sum(unique for *_, unique in self.vector()) == self.taken - self.not_unique
