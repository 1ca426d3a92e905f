"""What could we not take, though the target may send it?  Trouble of ours, of single consumers, from when to when.

It begins with what we could not take and lasts until the connection is over; where we ended it for that, until the
consumer is back. Told in groups, so that what happens to all is told once.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Final, Protocol

_OUR_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


class TellTrouble(Protocol):
    """Records harness trouble of this process."""

    def __call__(self, from_ns: int, to_ns: int, what: str, consumers: Sequence[int] = (), /) -> None:
        """`to_ns` -1: to the end; no consumers: all of the process."""
        ...


def is_ours(error: OSError) -> bool:
    """Whether we lack what a connection needs: descriptors, ports, memory."""
    return error.errno in _OUR_RESOURCES


class Inabilities:
    """What the consumers of one process and run could not take."""

    def __init__(self, trouble: TellTrouble) -> None:
        self._trouble = trouble
        self._open: dict[int, tuple[int, str]] = {}
        self._over: dict[str, tuple[int, int, set[int]]] = {}

    def begin(self, consumer: int, at_ns: int, what: str) -> None:
        """From now on we do not have all that a consumer was sent; the first reason counts until it is over."""
        self._open.setdefault(consumer, (at_ns, what))

    def end(self, consumer: int, at_ns: int) -> None:
        """A connection of the consumer is over, or a new one carries."""
        begun = self._open.pop(consumer, None)
        if begun is not None:
            from_ns, what = begun
            first, last, who = self._over.get(what, (from_ns, at_ns, set()))
            self._over[what] = min(first, from_ns), max(last, at_ns), who | {consumer}

    def tell(self, *, final: bool = False) -> None:
        """Report what is over; at the end also what is not."""
        over, self._over = self._over, {}
        for what, (from_ns, to_ns, consumers) in sorted(over.items()):
            self._trouble(from_ns, to_ns, what, sorted(consumers))
        if final:
            left: dict[str, list[int]] = {}
            for consumer, (_, what) in sorted(self._open.items()):
                left.setdefault(what, []).append(consumer)
            for what, who in sorted(left.items()):
                self._trouble(min(self._open[consumer][0] for consumer in who), -1, what, who)
            self._open.clear()
