"""Which followers share a reference, which of them founds, joins and leaves it, and what may all references cost?

A reference (`shared_prefix`) pays where others follow it.  Where they do not, because bytes differ for each recipient,
say, trying is given up for longer and longer: per follower where it alone gains nothing, per kin where no follower
does.  What all references of a run take in this process is bounded; a follower that pins an old one too long is made to
leave.  Nothing here changes what is counted: leaving settles the follower's account.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from loadtests.tally.batch import Batch, Message
from loadtests.tally.shared_prefix import NOWHERE, Follower, Kin, Reference

BUDGET_BYTES: Final = 32 << 20
"""Of all references of one run in one process."""
_LEAST_BYTES: Final = 64 << 10
"""A reference that may not be longer is not worth founding: the consumers of so many kin are parsed."""
_GENERATIONS: Final = 3
"""References of the same kin that may live; a follower in an older one lags far behind or has stalled."""
_REFUSALS: Final = 4
_REFUSALS_OF_EACH: Final = 2
_PAUSE_READS: Final = 256
_STREAMS_A_STEP: Final = 64
"""Joining compares all streams: that pays only where as many steps are followed as one for so many of them."""
_OUTRUN: Final = 4
_OUTRUN_IF_BARRED: Final = 4096
"""Reads in a row beyond all that the reference has: its leader is behind, and can never be followed."""
_LEVELS: Final = 12


class Kinship:
    """All kin of one run in one process."""

    def __init__(self, budget_bytes: int = BUDGET_BYTES) -> None:
        self._kin: dict[tuple[str, frozenset[int]], Kin] = {}
        self._living: dict[Reference, Kin] = {}  # in the order of their founding
        self._budget = budget_bytes
        self._pairs = 0  # kin with two members or more
        self._share = 0
        self.bytes = 0
        """About what all living references take."""

    def __len__(self) -> int:
        return len(self._kin)

    def of(self, transport: str, routes: frozenset[int]) -> Kin:
        """The kin of a transport and a set of routes."""
        key = (transport, routes)
        kin = self._kin.get(key)
        if kin is None:
            kin = self._kin[key] = Kin(key)
        return kin

    def enter(self, follower: Follower) -> None:
        """An account was opened: its kin may be worth another try."""
        kin = follower.kin
        kin.members.add(follower)
        kin.pause = kin.level = 0
        if len(kin.members) == 2:
            self._divide(self._pairs + 1)

    def depart(self, follower: Follower) -> None:
        """An account was closed; nothing of it is kept here, nor of its kin with the last of them."""
        self.leave(follower)
        kin = follower.kin
        kin.members.discard(follower)
        kin.barred.discard(follower)
        if len(kin.members) == 1:
            self._divide(self._pairs - 1)
            for reference in self._of(kin):
                self._end(reference)
        elif not kin.members:
            for reference in self._of(kin):
                self._end(reference)
            del self._kin[kin.key]

    def _divide(self, pairs: int) -> None:
        self._pairs = pairs
        self._share = self._budget // (2 * max(1, pairs))
        if self._share < _LEAST_BYTES:
            self._share = _LEAST_BYTES if pairs * _LEAST_BYTES <= self._budget else 0

    def lead(self, follower: Follower, batch: Batch, route: Sequence[int]) -> bool:
        """Lengthen the reference by a read of the follower at its tail; False where it cannot."""
        reference = follower.reference
        if (
            reference is None
            or not self.leads(follower)
            or reference.full(self._share)
            or not reference.continues(batch.messages, route, follower.routes)
        ):
            return False
        before = reference.bytes
        if batch.count == batch.reads:
            reference.extend(batch.frames[0], batch)
        else:
            for frame, message in zip(batch.frames, batch.messages, strict=True):  # chunks pair them
                reference.extend(frame, Batch.followed([message]))
        follower.at, follower.held = reference.tail, None
        follower.led += batch.count
        self.bytes += reference.bytes - before
        self._keep_within()
        return True

    @staticmethod
    def leads(follower: Follower) -> bool:
        """Whether a follower stands at the tail of its kin's reference."""
        reference = follower.reference
        return reference is not None and reference is follower.kin.reference and follower.place == (reference.tail, 0)

    def leave(self, follower: Follower) -> None:
        """Follow the reference no further; bytes of a frame that is not whole are the caller's care."""
        reference = follower.reference
        if reference is None:
            return
        followed = follower.followed
        reference.settle(follower, follower.place[0])
        follower.reference, follower.at, follower.held = None, NOWHERE, None
        reference.standing -= 1
        reference.followed += followed
        if followed and followed * _STREAMS_A_STEP >= len(follower.last):
            follower.refused = 0
        else:
            _refuse(follower)
        kin = follower.kin
        if reference is not kin.reference:
            if not reference.standing:
                self._forget(reference)
        elif not followed:
            reference.refusals += 1
            if reference.refusals >= _REFUSALS_OF_EACH * len(kin.members):
                reference.refusals = 0
                if not _useful(reference, kin):
                    self._retire(kin)

    def stand(self, follower: Follower, batch: Batch, *, in_order: bool, led: bool) -> None:
        """Found, join or give up a reference after a read that was accounted message by message.

        `led`: the follower stood at the tail of its kin's reference when the read came.
        """
        kin = follower.kin
        if len(kin.members) < 2:
            return
        if kin.pause:
            kin.pause -= 1
            return
        newest = batch.messages[-1]
        latest = kin.reference
        if latest is None or latest.full(self._share):
            if in_order:
                follower.outrun += 1
                self._found(follower, newest)
            return
        if led:
            self._retire(kin)  # no other can lead over what is missing here; the next in order begins anew
            return
        at = latest.place(newest)
        if at is None:
            if in_order and latest.passed(newest):
                follower.outrun += 1
                if not latest.standing or follower.outrun > _OUTRUN:
                    self._found(follower, newest)
            return
        follower.outrun = 0
        if follower.pause:
            follower.pause -= 1
        elif not latest.join(follower, at):
            _refuse(follower)

    def _found(self, follower: Follower, newest: Message) -> None:
        kin = follower.kin
        if follower in kin.barred and follower.outrun <= _OUTRUN_IF_BARRED:
            return
        follower.outrun = 0
        self._retire(kin)
        if kin.pause or 2 * Reference.least(len(follower.last)) > self._share:
            return
        for old in self._of(kin)[: 1 - _GENERATIONS]:
            self._end(old)
        reference = kin.reference = Reference(follower, newest)
        self._living[reference] = kin
        self.bytes += reference.bytes
        reference.join(follower, reference.tail)
        self._keep_within()

    def _retire(self, kin: Kin) -> None:
        """Let the followers that stand in the reference follow it to its end, and let no other join."""
        reference = kin.reference
        if reference is None:
            return
        kin.reference = None
        if _useful(reference, kin):
            kin.level = 0
        else:
            kin.level = min(kin.level + 1, _LEVELS)
            kin.pause = len(kin.members) << kin.level
            kin.barred = (kin.barred | {reference.founder}) & kin.members
            if kin.barred == kin.members:
                kin.barred = set()
            for follower in kin.members:
                follower.refused = follower.pause = 0  # it was not their bytes alone
        if not reference.standing:
            self._forget(reference)

    def _of(self, kin: Kin) -> list[Reference]:
        return [reference for reference, whose in self._living.items() if whose is kin]

    def _keep_within(self) -> None:
        while self.bytes > self._budget:
            self._end(next(iter(self._living)))

    def _end(self, reference: Reference) -> None:
        """Make every follower leave, so that it can be freed."""
        kin = self._living[reference]
        if kin.reference is reference:
            kin.reference = None
        for follower in kin.members:
            if follower.reference is reference:
                begun = follower.begun()
                self.leave(follower)
                follower.ahead = begun or follower.ahead
        self._forget(reference)

    def _forget(self, reference: Reference) -> None:
        if self._living.pop(reference, None) is not None:
            self.bytes -= reference.bytes


def _useful(reference: Reference, kin: Kin) -> bool:
    """Whether any follower followed it."""
    return reference.followed > 0 or any(a.reference is reference and a.followed > 0 for a in kin.members)


def _refuse(follower: Follower) -> None:
    """Note that the follower gained nothing; from the fifth time in a row on it waits, longer and longer."""
    follower.refused += 1
    if follower.refused > _REFUSALS:
        follower.pause = min(1 << (follower.refused - _REFUSALS), _PAUSE_READS)
