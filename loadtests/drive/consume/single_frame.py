"""What is in a read of one whole text frame that nobody else gets?  The short way for frames that differ per client.

Theory of operation.  Where a target writes a recipient's name into each frame, no bytes come twice: there is no
reference to follow (`tally.followers` gives up trying, for longer and longer), and every table of known frames misses.
While trying is given up, a read that is exactly one text frame with one message, the next of its stream, as it was
sent, is accounted here: one decode, one comparison, one entry in the log. All else goes the whole way
(`read_accounting`), which decodes it again: what this says No to is a matter of time, never of the account.

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

from loadtests.drive.consume.integrity import IntegritySampling
from loadtests.drive.consume.read_accounting import SampleGaps
from loadtests.model.ids import SLICE_NS
from loadtests.model.kinds import TransportKind
from loadtests.model.profile.tables import Identity
from loadtests.tally.account import Account
from loadtests.tally.accountant import Accountant
from loadtests.tally.batch import FAMILY_BITS, Batch
from loadtests.tally.identity import ObjectIdentity, Seal, within

GIVEN_UP: Final = 2
"""Levels of a kin (`followers`) from which on its frames are taken to differ."""
ONE_IN: Final = 64
_FAR: Final = 1 << 32
_TEXT, _TWO_BYTES = 0x81, 126
"""First byte of a whole text frame; the length that says that the true one follows in two bytes."""

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
    decode = msgspec.json.Decoder(within(steps, ObjectIdentity)).decode
    leaf: Callable[[Any], Any] = attrgetter(".".join(["inner"] * len(steps)))
    prefix, skip = transport.prefix, len(transport.prefix)
    streams, seal, mark = accountant.streams, Seal(run), run.encode()
    index_of, family, base = streams.index_of, streams.family, seal.base
    of_seq, of_due, of_sent = seal.of_seq, seal.of_due, seal.of_sent
    newest = sampling.newest
    gaps = SampleGaps(ONE_IN, seed)
    left = gaps.draw()
    new = Batch.__new__

    def account_single(account: Account, chunk: bytes, now_ns: int) -> bool:
        nonlocal left
        left -= 1
        if left <= 0:
            left = gaps.draw()
            return False
        size, begin = chunk[1] if len(chunk) > 4 else 0, 2
        if size == _TWO_BYTES:
            size, begin = chunk[2] << 8 | chunk[3], 4
        elif size > _TWO_BYTES:
            return False
        if chunk[0] != _TEXT or begin + size != len(chunk) or size > most_bytes:
            return False
        if skip and chunk[begin : begin + skip] != prefix:
            return False
        body = chunk[begin + skip :]
        try:
            found = leaf(decode(body))
            stream, seq, due, sent = found.s, found.q, found.d, found.t
            whole = found.r == run and int(found.k, 16) == base(stream) + seq * of_seq + due * of_due + sent * of_sent
        except (msgspec.DecodeError, AttributeError, TypeError, ValueError, RecursionError):
            return False
        if not whole or seq >= _FAR or body.count(mark) != 1:
            return False
        index = index_of(stream)
        last = account.last
        if not 0 <= index < len(last) or last[index] + 1 != seq:
            return False
        of = family[index]
        if checked[of]:
            if index >= len(newest) or seq > newest[index]:
                return False
            sampling.passed += 1
        if now_ns >= accountant.slice_end:
            accountant.turn(now_ns)
        last[index] = seq
        account.taken += 1
        batch = new(Batch)
        batch.messages = ((index, seq, due, (due // SLICE_NS) << FAMILY_BITS | of, size, sent),)
        batch.strange = batch.frames = ()
        batch.count = batch.reads = 1
        batch.width = 0
        log = account.cells.log
        log += (account, now_ns, batch)
        return True

    return account_single
