"""What is in a read of whole text frames that nobody else gets?  The short way for frames that differ per client.

Theory of operation.  Where a target writes a recipient's name into each frame, no bytes come twice: there is no
reference to follow (`tally.followers` gives up trying, for longer and longer), and every table of known frames misses.
While trying is given up, a read of nothing but whole text frames, each with one message, the next of its stream and as
it was sent, is accounted here: its JSON is read as far as the identity, whose text is that of a message that is known
already, one entry in the log. All else goes the whole way (`read_accounting`), which decodes it again: what this says
No to is a matter of time, never of the account.

Most frames need not even be decoded. What is a recipient's own is the same bytes in each of its frames, in one place.
So a message is known by what stands before and after that place (`_Shared`), and a frame that is just that, with this
recipient's own between, holds what a decoded one held. Which bytes are its own is learnt from frames that were decoded:
where those of two recipients differ, and some bytes before it, so that they stand in a frame only once. Where frames
differ otherwise (a number that counts in each, say), nothing is ever recognised, and trying is given up.

The whole way is also taken by the first frame of each message and by a random part of the others: their content is
checked there (`integrity`).

Example: 1,000 consumers, a frame with its recipient's name each, 20 messages a second.

    20 reads a second         the whole way: the first of each message
    about 80                  the whole way: one in 256, drawn at random
    the other 19,900          here; of each message one is decoded, the others are what that was with their own name
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec

from loadtests.drive.consume.chunks import FAR_SEQ
from loadtests.drive.consume.integrity import IntegritySampling
from loadtests.drive.consume.read_accounting import SampleGaps
from loadtests.model.kinds import TransportKind
from loadtests.model.profile.tables import Identity
from loadtests.tally.account import Account
from loadtests.tally.accountant import Accountant
from loadtests.tally.batch import Batch, message
from loadtests.tally.identity import ObjectIdentity, Seal, within

GIVEN_UP: Final = 2
"""Levels of a kin (`followers`) from which on its frames are taken to differ."""
ONE_IN: Final = 256
_TEXT, _TWO_BYTES, _TWO_BYTES_MOST = 0x81, 126, 0xFFFF
"""First byte of a whole text frame; the length that says that the true one follows in two bytes."""

_KNOWN: Final = 4096
_Known = tuple[int, int, Batch, bool]
"""A message whose identity's text is known: stream index, seq, the batch of it alone, whether content is checked."""

_CONTEXT: Final = 12
"""Bytes before the first that differs that count as a recipient's own."""
_RECENT: Final = 4
_CREDIT: Final = 1000
"""So many more frames may be decoded than were recognised; then recognising is given up."""
_COMPARED: Final = 7
"""Comparing two frames byte by byte takes as long as decoding so many."""

SingleFrame = Callable[[Account, bytes, int], bool]
"""(account, what a read returned, now in ns of the run clock): whether it is accounted. The account follows nothing."""


class _Shared:
    """What frames of one message have in common: all but a recipient's own, once it is known where that stands."""

    __slots__ = ("account", "after", "before", "body", "entry", "openings", "text")

    def __init__(self, account: Account, entry: _Known, text: bytes, body: bytes) -> None:
        self.account, self.entry, self.text, self.body = account, entry, text, body
        self.before = self.after = b""
        self.openings: dict[int, tuple[bytes, Batch]] = {}  # by the length of what is their own

    def cut(self, begin: int, end: int) -> None:
        """The recipient's own is from `begin` to `end` of the body."""
        self.account.own = self.body[begin:end]
        self.before, self.after = self.body[:begin], self.body[end:]
        self.openings.clear()

    def own(self, body: bytes) -> bytes:
        """Of another frame; empty where it differs elsewhere."""
        before, after = self.before, self.after
        if before and body.startswith(before) and body.endswith(after):
            return body[len(before) : len(body) - len(after)]
        return b""

    def differs(self, body: bytes) -> bytes:
        """The same, after the place was made as wide as this frame asks for."""
        mine = self.body
        most = min(len(mine), len(body))
        begin = next((at for at in range(most) if mine[at] != body[at]), most)
        end = next((at for at in range(most - begin) if mine[-1 - at] != body[-1 - at]), most - begin)
        begin = max(1, begin - _CONTEXT)
        self.cut(begin, len(mine) - end)
        return body[begin : len(body) - end]


def never(account: Account, chunk: bytes, now_ns: int) -> bool:
    """Of a transport whose frames this does not know."""
    del account, chunk, now_ns
    return False


def single_frame(
    transport: TransportKind,
    identity: Identity,
    run: str,
    accountant: Accountant,
    sampling: IntegritySampling,
    *,
    checked: Sequence[bool],
    most_bytes: int,
    seed: str,
) -> SingleFrame:
    """The short way of a transport's frames, compiled for a run's identity.

    `checked`: of each family, whether its content is; `most_bytes`: the longest message.
    """
    if not transport.stream or identity.form != "object":
        return never
    steps = (*transport.envelope, *identity.path.split("."))
    decode = msgspec.json.Decoder(within(steps, msgspec.Raw, needed=True)).decode
    identify = msgspec.json.Decoder(ObjectIdentity).decode
    leaf: Callable[[Any], Any] = attrgetter(".".join(["inner"] * len(steps)))
    prefix, skip = transport.prefix, len(transport.prefix)
    streams, seal, mark = accountant.streams, Seal(run), run.encode()
    newest = sampling.newest
    known: dict[tuple[bytes, int], _Known] = {}
    recent: list[_Shared] = []  # the newest first
    credit = _CREDIT
    gaps = SampleGaps(ONE_IN, seed)
    left = gaps.draw()

    def learn(text: bytes, size: int) -> _Known | None:
        """What an identity says, if it is as it was sent and somebody's frame of it went the whole way."""
        found = identify(text)
        index = streams.known(found.s)
        if index is None or found.r != run or found.q >= FAR_SEQ:
            return None
        if int(found.k, 16) != seal.of(found.s, found.q, found.d, found.t):
            return None
        family = streams.family[index]
        if checked[family] and (index >= len(newest) or found.q > newest[index]):
            return None
        made = message(index=index, seq=found.q, due_ns=found.d, sent_ns=found.t, family=family, size=size)
        if len(known) >= _KNOWN:
            known.clear()
        entry = known[text, size] = index, found.q, Batch.followed([made]), checked[family]
        return entry

    def opening(shared: _Shared, own_bytes: int) -> tuple[bytes, Batch]:
        """All that stands before so many bytes that are a recipient's own, and the batch of such a frame."""
        size = skip + len(shared.before) + own_bytes + len(shared.after)
        entry = known.get((shared.text, size)) or learn(shared.text, size)
        if entry is None or size > min(most_bytes, _TWO_BYTES_MOST):
            found = b"", shared.entry[2]  # which is the beginning of nothing
        else:
            length = bytes((size,)) if size < _TWO_BYTES else b"%c%b" % (_TWO_BYTES, size.to_bytes(2))
            found = b"%c%b%b%b" % (_TEXT, length, prefix, shared.before), entry[2]
        shared.openings[own_bytes] = found
        return found

    def compare(account: Account, entry: _Known, text: bytes, body: bytes) -> None:
        """Learn from a frame that was decoded what is this recipient's own, and what the message's frames share."""
        nonlocal credit
        credit -= 1
        shared = next((each for each in recent if each.text == text), None)
        if shared is None:
            shared = _Shared(account, entry, text, body)
            own = account.own
            if own and body.count(own) == 1:
                at = body.find(own)
                shared.cut(at, at + len(own))
            recent.insert(0, shared)
            del recent[_RECENT:]
        else:
            own = shared.own(body)
            if not own:
                own = shared.differs(body)
                credit -= _COMPARED
            account.own = own

    def account_single(account: Account, chunk: bytes, now_ns: int) -> bool:
        nonlocal left, credit
        left -= 1
        if left <= 0:
            left = gaps.draw()
            return False
        own = account.own
        if own:
            for shared in recent:
                begun, batch = shared.openings.get(len(own)) or opening(shared, len(own))
                if chunk == begun + own + shared.after and begun:
                    index, seq, _, is_checked = shared.entry
                    last = account.last
                    if index >= len(last) or last[index] + 1 != seq:
                        return False
                    last[index] = seq
                    if now_ns >= accountant.slice_end:
                        accountant.turn(now_ns)
                    account.taken += 1
                    sampling.passed += is_checked
                    log = account.cells.log
                    log += (account, now_ns, batch)
                    if credit < _CREDIT:
                        credit += 1
                    return True
        last, at, end = account.last, 0, len(chunk)
        before: list[_Known] = []  # where a read brings several
        try:
            while True:
                size, begin = chunk[at + 1], at + 2
                if size == _TWO_BYTES:
                    size, begin = chunk[at + 2] << 8 | chunk[at + 3], at + 4
                following = begin + size
                if chunk[at] != _TEXT or size > most_bytes or following > end or chunk[at + 1] > _TWO_BYTES:
                    break
                body = chunk[begin + skip : following]
                text = bytes(leaf(decode(body)))
                entry = known.get((text, size)) or learn(text, size)
                if entry is None or body.count(mark) != 1 or (skip and chunk[begin : begin + skip] != prefix):
                    break
                index, seq, batch, is_checked = entry
                if last[index] + 1 != seq:
                    break
                last[index] = seq
                if following == end:
                    if before:
                        batch, is_checked = several([*before, entry]), False
                    if now_ns >= accountant.slice_end:
                        accountant.turn(now_ns)
                    account.taken += batch.count
                    sampling.passed += is_checked
                    log = account.cells.log
                    log += (account, now_ns, batch)
                    if credit > 0 and not before:
                        compare(account, entry, text, body)
                    elif credit <= 0:
                        recent.clear()
                    return True
                before.append(entry)
                at = following
        except (msgspec.DecodeError, AttributeError, IndexError, TypeError, ValueError, RecursionError):
            pass
        for index, seq, _, _ in reversed(before):
            last[index] = seq - 1
        return False

    def several(entries: list[_Known]) -> Batch:
        sampling.passed += sum(is_checked for _, _, _, is_checked in entries)
        return Batch.followed([batch.messages[0] for _, _, batch, _ in entries])

    return account_single
