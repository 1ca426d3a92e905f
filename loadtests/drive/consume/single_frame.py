"""What is in a read of whole text frames that nobody else gets?  The short way for frames that differ per client.

Theory of operation.  Where a target writes a recipient's name into each frame, no bytes come twice: there is no
reference to follow (`tally.followers` gives up trying, for longer and longer), and every table of known frames misses.
While trying is given up, a read of nothing but whole text frames, each with one message, the next of its stream and as
it was sent, is accounted here: a decode and a comparison for each, one entry in the log. All else goes the whole way
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

from loadtests.drive.consume.chunks import FAR_SEQ
from loadtests.drive.consume.integrity import IntegritySampling
from loadtests.drive.consume.read_accounting import SampleGaps
from loadtests.model.ids import SLICE_NS
from loadtests.model.kinds import TransportKind
from loadtests.model.profile.tables import Identity
from loadtests.tally.account import Account
from loadtests.tally.accountant import Accountant
from loadtests.tally.batch import FAMILY_BITS, Batch, Message
from loadtests.tally.identity import ObjectIdentity, Seal, within

GIVEN_UP: Final = 2
"""Levels of a kin (`followers`) from which on its frames are taken to differ."""
ONE_IN: Final = 64
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
    of_seq, of_due, of_sent = seal.of_seq, seal.of_due, seal.of_sent
    newest = sampling.newest
    known: dict[int, tuple[int, int, int, bool]] = {}  # stream -> index, base of its check values, family, checked
    gaps = SampleGaps(ONE_IN, seed)
    left = gaps.draw()

    def learn(stream: int) -> None:
        index = streams.known(stream)
        if index is not None:
            family = streams.family[index]
            known[stream] = index, seal.base(stream), family, checked[family]

    def account_single(account: Account, chunk: bytes, now_ns: int) -> bool:
        nonlocal left
        left -= 1
        if left <= 0:
            left = gaps.draw()
            return False
        last, at, end = account.last, 0, len(chunk)
        messages: list[Message] = []
        before: list[tuple[int, int]] = []
        passed = 0
        while at + 4 < end:
            size, begin = chunk[at + 1], at + 2
            if size == _TWO_BYTES:
                size, begin = chunk[at + 2] << 8 | chunk[at + 3], at + 4
            following = begin + size
            if chunk[at] != _TEXT or size > most_bytes or following > end or chunk[at + 1] > _TWO_BYTES:
                break
            body = chunk[begin + skip : following]
            try:
                found = leaf(decode(body))
                stream, seq, due, sent = found.s, found.q, found.d, found.t
                if found.r != run or seq >= FAR_SEQ or body.count(mark) != 1:
                    break
                of_stream = known.get(stream)
                if of_stream is None:  # whoever gets it first goes the whole way
                    learn(stream)
                    break
                index, base, family, is_checked = of_stream
                if int(found.k, 16) != base + seq * of_seq + due * of_due + sent * of_sent:
                    break
                if index >= len(last) or last[index] + 1 != seq or (skip and chunk[begin : begin + skip] != prefix):
                    break
                if is_checked and (index >= len(newest) or seq > newest[index]):
                    break
            except (msgspec.DecodeError, AttributeError, TypeError, ValueError, RecursionError):
                break
            passed += is_checked
            before.append((index, seq - 1))
            last[index] = seq
            messages.append((index, seq, due, (due // SLICE_NS) << FAMILY_BITS | family, size, sent))
            at = following
        if at != end or not messages:
            for index, seq in reversed(before):
                last[index] = seq
            return False
        if now_ns >= accountant.slice_end:
            accountant.turn(now_ns)
        account.taken += len(messages)
        sampling.passed += passed
        log = account.cells.log
        log += (account, now_ns, Batch.followed(messages))
        return True

    return account_single
