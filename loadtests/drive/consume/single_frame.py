"""What is in a read of whole text frames that nobody else gets?  The short way for frames that differ per client.

Theory of operation.  Where a target writes a recipient's name into each frame, no bytes come twice: there is no
reference to follow (`tally.followers` gives up trying, for longer and longer), and every table of known frames misses.
While trying is given up, a read of nothing but whole text frames, each with one message, the next of its stream and as
it was sent, is accounted here: its JSON is read as far as the identity, whose text is that of a message that is known
already, one entry in the log. All else goes the whole way (`read_accounting`), which decodes it again: what this says
No to is a matter of time, never of the account.

The whole way is also taken by the first frame of each message and by a random part of the others: their content is
checked there (`integrity`).

Example: 1,000 consumers, a frame with its recipient's name each, 20 messages a second.

    20 reads a second         the whole way: the first of each message
    about 310                 the whole way: one in 64, drawn at random
    the other 19,670          here
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
ONE_IN: Final = 64
_TEXT, _TWO_BYTES = 0x81, 126
"""First byte of a whole text frame; the length that says that the true one follows in two bytes."""

_KNOWN: Final = 4096
_Known = tuple[int, int, Batch, bool]
"""A message whose identity's text is known: stream index, seq, the batch of it alone, whether content is checked."""

SingleFrame = Callable[[Account, bytes, int], bool]
"""(account, what a read returned, now in ns of the run clock): whether it is accounted. The account follows nothing."""


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

    def account_single(account: Account, chunk: bytes, now_ns: int) -> bool:
        nonlocal left
        left -= 1
        if left <= 0:
            left = gaps.draw()
            return False
        last, at, end = account.last, 0, len(chunk)
        taken: list[_Known] = []
        try:
            while at + 4 < end:
                size, begin = chunk[at + 1], at + 2
                if size == _TWO_BYTES:
                    size, begin = chunk[at + 2] << 8 | chunk[at + 3], at + 4
                following = begin + size
                if chunk[at] != _TEXT or size > most_bytes or following > end or chunk[at + 1] > _TWO_BYTES:
                    break
                body = chunk[begin + skip : following]
                text = bytes(leaf(decode(body)))
                entry = known.get((text, size)) or learn(text, size)
                if entry is None or body.count(mark) != 1:
                    break
                index, seq = entry[0], entry[1]
                if index >= len(last) or last[index] + 1 != seq or (skip and chunk[begin : begin + skip] != prefix):
                    break
                last[index] = seq
                taken.append(entry)
                at = following
        except (msgspec.DecodeError, AttributeError, TypeError, ValueError, RecursionError):
            at = -1
        if at != end or not taken:
            for index, seq, _, _ in reversed(taken):
                last[index] = seq - 1
            return False
        if now_ns >= accountant.slice_end:
            accountant.turn(now_ns)
        account.taken += len(taken)
        for _, _, _, is_checked in taken:
            sampling.passed += is_checked
        batch = taken[0][2] if len(taken) == 1 else Batch.followed([entry[2].messages[0] for entry in taken])
        log = account.cells.log
        log += (account, now_ns, batch)
        return True

    return account_single
