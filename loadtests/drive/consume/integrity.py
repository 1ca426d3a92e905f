"""Did a message arrive as it was sent?  Looks at the check values of what was decoded; no account, no socket.

The identity's own numbers are checked in each frame that is decoded.  The content is checked in the first frame of each
message; of frames that differ per client a random part is, drawn by a seed, so that the work of checking follows the
number of messages and not that of clients.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from loadtests.model.content import Shape, check_value
from loadtests.tally.identity import NO_VALUE, Envelope, MessageIdentity, within

_WINDOW: Final = 1024
"""Frames after which the drawn part is set anew."""
_AGAIN: Final = 4
"""Frames of one message that are checked beyond its first, on average."""
_KNOWN: Final = 4096
_KNOWN_BYTES: Final = 4 << 20


class IntegritySampling:
    """Which frames have their content checked, and how many did so far; shared by all transports of a process."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(f"{seed}:content").random
        self.newest: list[int] = []
        """Per stream index, the greatest seq that was checked."""
        self.passed = 0
        """Frames whose content is of a kind that is checked, and that were no sample, since the last `take`."""
        self._first = self._again = 0  # of this window
        self._share = 1.0
        self._frames = self._checked = 0

    def take(self) -> tuple[int, int]:
        """Frames whose content could have been checked since the last call, and those whose content was."""
        taken = self._frames + self.passed, self._checked
        self._frames = self._checked = self.passed = 0
        return taken

    def counts(self, *, checked: bool) -> None:
        """A frame that is no sample."""
        self._frames += 1
        self._checked += checked

    def takes(self, index: int, seq: int) -> bool:
        """Whether to check this frame of a message."""
        self._frames += 1
        if self._first + self._again >= _WINDOW:
            self._share = min(1.0, _AGAIN * max(1, self._first) / max(1, self._again))
            self._first = self._again = 0
        newest = self.newest
        if index >= len(newest):
            newest.extend([-1] * (index + 1 - len(newest)))
        if seq > newest[index]:
            newest[index] = seq
            self._first += 1
        else:
            self._again += 1
            if self._draw() >= self._share:
                return False
        self._checked += 1
        return True


class Integrity:
    """The contents of one transport's frames."""

    def __init__(self, shapes: Sequence[Shape], envelope: Envelope, sampling: IntegritySampling) -> None:
        self._sampling = sampling
        self._contents = [_content(shape, envelope) if shape else None for shape in shapes]

    def altered(self, identity: MessageIdentity, index: int, family: int, body: bytes, *, sealed: bool) -> bool:
        """Whether the content of a frame was looked at and is not what was sent; `body` is the frame's JSON.

        `sealed`: the identity is as it was sent, so that its number can be relied upon.
        """
        content = self._contents[family]
        if content is None:
            return False
        if not sealed:
            known = identity.content != NO_VALUE
            self._sampling.counts(checked=known)
            return known and content(body) != identity.content
        return self._sampling.takes(index, identity.seq) and content(body) != identity.content


def _content(shape: Shape, envelope: Envelope) -> Callable[[bytes], int | None]:
    """Compile what finds the check value of a frame's content; None for a content that cannot be read.

    Few contents are in use at a time, and a target that passes them on leaves their bytes as they are: so their values
    are kept by those bytes.
    """
    names = list(shape)
    fields = [(f"f{at}", msgspec.Raw, msgspec.Raw(b"")) for at in range(len(names))]
    rename = {f"f{at}": name for at, name in enumerate(names)}
    payload: Any = msgspec.defstruct("Payload", fields, rename=rename, frozen=True)
    decode, parts = msgspec.json.Decoder(within(envelope, payload, needed=True)).decode, msgspec.structs.astuple
    known: dict[bytes, int] = {}
    size = 0

    def value(body: bytes) -> int | None:
        nonlocal size
        try:
            found_in = decode(body)
            for _ in envelope:
                found_in = found_in.inner
            raw = parts(found_in)
            key = b"\0".join(raw)
            found = known.get(key)
            if found is None:
                event = {name: msgspec.json.decode(part) for name, part in zip(names, raw, strict=True) if bytes(part)}
                found = check_value(event, shape)
                size += len(key)
                if len(known) >= _KNOWN or size > _KNOWN_BYTES:
                    known.clear()
                    size = len(key)
                known[key] = found
        except (msgspec.DecodeError, RecursionError):
            return None
        return found

    return value
