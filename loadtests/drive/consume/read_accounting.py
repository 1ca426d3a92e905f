"""What becomes of the bytes of one read, and which reads are samples?  Compared with a reference, else cut and decoded.

Theory of operation.  Consumers that receive the same frames share a reference (`tally.shared_prefix`).  `account_read`
first lets the account follow it: bytes that equal the reference are accounted by that comparison alone, also up to the
middle of a frame.  What is left is cut and decoded (`chunks`) and accounted message by message; then the account joins
the reference again, or lengthens it.  Where a read is just the next step, the epoll source accounts it itself.

Reads through it: the reference ends with frames f1 f2 f3; B and C stand behind f1.

    C reads f2 f3 f4a   f2 f3 equal the reference; f4a begins a text frame: the account keeps it, and nothing is cut
    C reads f4b         f4a f4b is f4, which the reference lacks: decoded, and the reference's next step; C leads now
    B reads f2 f3 f4    equal to the last byte: nothing is decoded
    B reads f6          f5 is missing: B leaves the reference, f6 is decoded, and the account finds the gap

Invariants:
- Each byte goes to the comparison or to the cutter, once.  Where a read leaves the reference inside a frame, the cutter
  gets the bytes of that frame that were equal before it gets the rest.
- A reference only skips work: what was lost, duplicate, reordered or foreign breaks the equality.
- A read counts as one read, also where its beginning was followed and its rest decoded (`Batch.rest`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Protocol

from loadtests.drive.consume.chunks import Chunks, Control
from loadtests.drive.consume.frames import begun
from loadtests.drive.consume.transport import Cutting
from loadtests.tally.account import Account
from loadtests.tally.accountant import Accountant
from loadtests.tally.batch import Batch


class ReadConnection(Protocol):
    """As much of a connection as its bytes concern."""

    account: Account
    cached: Callable[[bytes], Batch | None]
    chunks: Chunks
    clean: bool
    cutter: Cutting


def account_read(
    accountant: Accountant,
    connection: ReadConnection,
    chunk: bytes,
    now_ns: int,
    *,
    sampled: bool = False,
    kernel_ns: int | None = None,
) -> list[Control]:
    """Account a read that is not empty; returns what it said to the connection itself."""
    account = connection.account
    if account.ahead:
        chunk, account.ahead = account.ahead + chunk, b""
    followed, equal = accountant.follow(account, chunk, now_ns)
    if followed is not None and sampled:
        accountant.sampled(account, followed, now_ns, kernel_ns)
    if equal == len(chunk):
        return []
    rest = chunk[equal:] if equal else chunk
    if begun(rest) and account.wait(rest):
        return []
    cutter = connection.cutter
    inside = account.begun()
    if inside:
        accountant.leave(account)
        cutter.cut(inside)
        connection.clean = False
    batch = connection.cached(rest) if connection.clean else None
    controls: list[Control] = []
    if batch is None:
        batch, controls = connection.chunks.open(cutter, rest)
        connection.clean = cutter.clean
    if followed is not None:
        batch = batch.rest()
    if not (batch.messages or batch.strange) and connection.clean:
        return controls  # a ping, say: a follower stands where it stood
    if batch.frames:
        accountant.take_first(account, batch, now_ns)
        if not connection.clean and account.reference is not None:
            beginning = cutter.give_back()
            connection.clean = bool(beginning)
            if not beginning:
                accountant.leave(account)
            else:
                account.wait(beginning)
    else:
        accountant.leave(account)
        accountant.take(account, batch, now_ns)
    if sampled:
        accountant.sampled(account, batch, now_ns, kernel_ns)
    return controls


class SampleGaps:
    """How many reads to pass until the next sample: geometric with a given mean, from a seed.

    Each read is a sample with probability 1 / mean, whatever the others were, so that no rhythm of the load can hide
    from the samples or fill them.  A mean of 1 takes every read.
    """

    def __init__(self, mean: int, seed: str) -> None:
        self._random = random.Random(seed)
        self._scale = 0.0 if mean <= 1 else 1 / math.log1p(-1 / mean)

    def draw(self) -> int:
        """Reads up to and with the next sample, 1 at least."""
        return 1 + int(math.log(1.0 - self._random.random()) * self._scale)
