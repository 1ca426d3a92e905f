"""Which accounts may be compared, who founds a reference, who leaves it, and what may all of them cost?

A reference pays where others follow it.  Where they do not, because bytes differ for each recipient, say, trying is
given up for longer and longer: per account where it alone gains nothing, per kin where nobody does.  What all
references of a run take in this process is bounded; whoever pins an old one too long is made to leave.  Nothing here
changes what is counted: leaving settles an account.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from loadtests.tally.batch import Batch, Message
from loadtests.tally.shared_prefix import NOWHERE, Reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loadtests.tally.account import Account

BUDGET_BYTES: Final = 32 << 20
"""Of all references of one run in one process."""
_LEAST_BYTES: Final = 64 << 10
"""A reference that may not be longer is not worth founding: so many kin are parsed."""
_GENERATIONS: Final = 3
"""References of the same kin that may live; who stands in an older one lags far behind or has stalled."""
_REFUSALS: Final = 4
_REFUSALS_OF_EACH: Final = 2
_PAUSE_READS: Final = 256
_STREAMS_A_STEP: Final = 64
"""Joining compares all streams: that pays only where as many steps are followed as one for so many of them."""
_OUTRUN: Final = 4
_OUTRUN_IF_BARRED: Final = 4096
"""Reads in a row beyond all that the reference has: whoever leads it is behind, and can never be followed."""
_LEVELS: Final = 12


class Kin:
    """Consumers whose bytes may be compared, and the reference that they follow now."""

    __slots__ = ("barred", "key", "level", "members", "pause", "reference")

    def __init__(self, key: tuple[str, frozenset[int]]) -> None:
        self.key = key
        self.members: set[Account] = set()
        self.reference: Reference | None = None
        self.level = 0  # references in a row that nobody followed
        self.pause = 0  # reads to wait before another is tried
        self.barred: set[Account] = set()  # founded one that nobody followed: others' bytes may suit more


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

    def enter(self, account: Account) -> None:
        """An account was opened: its kin may be worth another try."""
        kin = account.kin
        kin.members.add(account)
        kin.pause = kin.level = 0
        if len(kin.members) == 2:
            self._divide(self._pairs + 1)

    def depart(self, account: Account) -> None:
        """An account was closed; nothing of it is kept here, nor of its kin with the last of them."""
        self.leave(account)
        kin = account.kin
        kin.members.discard(account)
        kin.barred.discard(account)
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

    def lead(self, account: Account, batch: Batch, route: Sequence[int]) -> bool:
        """Lengthen the reference by a read of the account at its tail; False where it cannot."""
        reference = account.reference
        if (
            reference is None
            or not self.leads(account)
            or reference.full(self._share)
            or not reference.continues(batch.messages, route, account.routes)
        ):
            return False
        before = reference.bytes
        if batch.count == batch.reads:
            reference.extend(batch.frames[0], batch)
        else:
            for frame, message in zip(batch.frames, batch.messages, strict=True):  # chunks pair them
                reference.extend(frame, Batch.followed([message]))
        account.at, account.held = reference.tail, None
        account.led += batch.count
        self.bytes += reference.bytes - before
        self._keep_within()
        return True

    @staticmethod
    def leads(account: Account) -> bool:
        """Whether an account stands at the tail of its kin's reference."""
        reference = account.reference
        return reference is not None and reference is account.kin.reference and account.place == (reference.tail, 0)

    def leave(self, account: Account) -> None:
        """Follow the reference no further; bytes of a frame that is not whole are the caller's care."""
        reference = account.reference
        if reference is None:
            return
        followed = account.followed
        reference.settle(account, account.place[0])
        account.reference, account.at, account.held = None, NOWHERE, None
        reference.standing -= 1
        reference.followed += followed
        if followed and followed * _STREAMS_A_STEP >= len(account.last):
            account.refused = 0
        else:
            _refuse(account)
        kin = account.kin
        if reference is not kin.reference:
            if not reference.standing:
                self._forget(reference)
        elif not followed:
            reference.refusals += 1
            if reference.refusals >= _REFUSALS_OF_EACH * len(kin.members):
                reference.refusals = 0
                if not _useful(reference, kin):
                    self._retire(kin)

    def stand(self, account: Account, batch: Batch, *, in_order: bool, led: bool) -> None:
        """Found, join or give up a reference after a read that was accounted message by message.

        `led`: the account stood at the tail of its kin's reference when the read came.
        """
        kin = account.kin
        if len(kin.members) < 2:
            return
        if kin.pause:
            kin.pause -= 1
            return
        newest = batch.messages[-1]
        latest = kin.reference
        if latest is None or latest.full(self._share):
            if in_order:
                account.outrun += 1
                self._found(account, newest)
            return
        if led:
            self._retire(kin)  # nobody else can lead over what is missing here; the next in order begins anew
            return
        at = latest.place(newest)
        if at is None:
            if in_order and latest.passed(newest):
                account.outrun += 1
                if not latest.standing or account.outrun > _OUTRUN:
                    self._found(account, newest)
            return
        account.outrun = 0
        if account.pause:
            account.pause -= 1
        elif not latest.join(account, at):
            _refuse(account)

    def _found(self, account: Account, newest: Message) -> None:
        kin = account.kin
        if account in kin.barred and account.outrun <= _OUTRUN_IF_BARRED:
            return
        account.outrun = 0
        self._retire(kin)
        if kin.pause or 2 * Reference.least(len(account.last)) > self._share:
            return
        for old in self._of(kin)[: 1 - _GENERATIONS]:
            self._end(old)
        reference = kin.reference = Reference(account, newest)
        self._living[reference] = kin
        self.bytes += reference.bytes
        reference.join(account, reference.tail)
        self._keep_within()

    def _retire(self, kin: Kin) -> None:
        """Let those who stand in the reference follow it to its end, and nobody else."""
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
            for account in kin.members:
                account.refused = account.pause = 0  # it was not their bytes alone
        if not reference.standing:
            self._forget(reference)

    def _of(self, kin: Kin) -> list[Reference]:
        return [reference for reference, whose in self._living.items() if whose is kin]

    def _keep_within(self) -> None:
        while self.bytes > self._budget:
            self._end(next(iter(self._living)))

    def _end(self, reference: Reference) -> None:
        """Make everybody leave, so that it can be freed."""
        kin = self._living[reference]
        if kin.reference is reference:
            kin.reference = None
        for account in kin.members:
            if account.reference is reference:
                begun = account.begun()
                self.leave(account)
                account.ahead = begun or account.ahead
        self._forget(reference)

    def _forget(self, reference: Reference) -> None:
        if self._living.pop(reference, None) is not None:
            self.bytes -= reference.bytes


def _useful(reference: Reference, kin: Kin) -> bool:
    """Whether anybody followed it."""
    return reference.followed > 0 or any(a.reference is reference and a.followed > 0 for a in kin.members)


def _refuse(account: Account) -> None:
    """Note that the account gained nothing; from the fifth time in a row on it waits, longer and longer."""
    account.refused += 1
    if account.refused > _REFUSALS:
        account.pause = min(1 << (account.refused - _REFUSALS), _PAUSE_READS)
