"""How does a message say who it is?  The identity in a payload: packed by the publisher, found again by the consumer.

Form "object" is `{"r": run, "s": packed stream, "q": seq, "d": due ns, "t": sent ns}`; form "text" is the same five in
one string, joined by dots.  Times are nanoseconds of the run clock.  Decoders are compiled once per run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

Form = Literal["object", "text"]
Envelope = Literal["websocket", "socketio"]

_RUN = re.compile(r"[A-Za-z0-9_~:-]{1,120}")


class Identity(NamedTuple):
    """Which message a payload is."""

    run: str
    stream: int
    seq: int
    due_ns: int
    sent_ns: int


def template(form: Form, run: str, stream: int) -> bytes:
    """JSON fragment of one stream with three places for `% (seq, due_ns, sent_ns)`.

    Raises ValueError for a run id with anything but letters, digits and `_~:-`, because a dot would split the text form
    and a quote or percent sign would break the fragment.
    """
    if not _RUN.fullmatch(run):
        raise ValueError(f"run id {run!r} cannot travel in a message: letters, digits and _~:- only")
    if form == "object":
        return b'{"r":"%b","s":%d,"q":%%d,"d":%%d,"t":%%d}' % (run.encode(), stream)
    return b'"%b.%d.%%d.%%d.%%d"' % (run.encode(), stream)


def encode(form: Form, run: str, stream: int, seq: int, due_ns: int, sent_ns: int) -> bytes:
    """JSON fragment of one identity. Raises ValueError as `template` does."""
    return template(form, run, stream) % (seq, due_ns, sent_ns)


def probe_run(run: str) -> str:
    """Run id of a run's probe messages: nobody accounts them, the receiver only notes that they came."""
    return f"{run}~probe"


class _Object(msgspec.Struct, frozen=True):
    r: str
    s: Annotated[int, msgspec.Meta(ge=0, lt=1 << 48)]
    q: Annotated[int, msgspec.Meta(ge=0)]
    d: int
    t: int


Decode = Callable[[bytes], Identity | None]
"""Takes a message's JSON; None where it has no identity. Raises msgspec.DecodeError where it is no JSON."""


def decoder(form: Form, path: str, envelope: Envelope) -> Decode:
    """Compile the decoder of a profile's identity path below a transport's envelope.

    Envelope "websocket" is `{"data": payload}`, "socketio" is `["event", payload]`.
    """
    leaf: Any = _Object if form == "object" else str
    payload = leaf
    steps = path.split(".")
    if envelope == "websocket":
        steps.insert(0, "data")
    for step in reversed(steps):
        payload = msgspec.defstruct("Step", [("inner", payload | None, None)], rename={"inner": step}, frozen=True)
    depth = len(steps)
    if envelope == "socketio":
        payload = msgspec.defstruct("Packet", [("event", str), ("inner", payload | None, None)], array_like=True)
        depth += 1
    decode = msgspec.json.Decoder(payload).decode
    read = _from_object if form == "object" else _from_text

    def identity(message: bytes) -> Identity | None:
        try:
            found = decode(message)
        except msgspec.ValidationError:
            return None
        for _ in range(depth):
            found = found.inner
            if found is None:
                return None
        return read(found)

    return identity


def _from_object(found: _Object) -> Identity:
    return Identity(found.r, found.s, found.q, found.d, found.t)


def _from_text(found: str) -> Identity | None:
    parts = found.rsplit(".", 4)
    if len(parts) != 5:
        return None
    try:
        stream, seq, due, sent = map(int, parts[1:])
    except ValueError:
        return None
    if seq < 0 or not 0 <= stream < 1 << 48:
        return None
    return Identity(parts[0], stream, seq, due, sent)
