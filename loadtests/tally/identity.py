"""How does a message say who it is?  The identity in a payload: packed by the publisher, found again by the consumer.

Form "object" is `{"r": run, "s": packed stream, "q": seq, "d": due ns, "t": sent ns, "k": check value, "c": check value
of the content}`; form "text" is the same seven in one string, joined by dots.  Times are nanoseconds of the run clock;
check values are hexadecimal text, which no JSON library rounds.  Decoders are compiled once per run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
import numpy as np

from loadtests.tally.histogram import Times

Form = Literal["object", "text"]
Envelope = tuple[str | int, ...]
"""Where a transport puts a payload in a message's JSON: names of keys, or places of a list."""

_RUN = re.compile(r"[A-Za-z0-9_~:-]{1,120}")


NO_VALUE: Final = -1
"""A check value that is not there, or no number."""


class MessageIdentity(NamedTuple):
    """Which message a payload is."""

    run: str
    stream: int
    seq: int
    due_ns: int
    sent_ns: int
    check: int = NO_VALUE
    content: int = NO_VALUE


_MASK: Final = (1 << 64) - 1
CHECK_DIGITS: Final = 16
"""Of every check value."""
_FEW: Final = 40
"""So many messages are not worth arrays."""
_PLACE = re.compile(rb"%(?:d|b|016x)")
Letters = np.ndarray[Any, np.dtype[np.uint8]]
Words = np.ndarray[Any, np.dtype[np.uint64]]
_WORDS: Final = np.array([b"%04d" % number for number in range(10_000)]).view(np.uint32)
"""Four digits of text each."""


class Seal:
    """The check value over a message's stream, number, due and sent, keyed by the run.

    It is `base(stream) + seq * of_seq + due * of_due + sent * of_sent` modulo 2**64.  A change of one number always
    shows, and so do an equal shift of both times and their exchange, since no factor, sum or difference of two times'
    factors is divisible by a high power of 2; other changes are missed once in a thousand million.  It is no signature:
    it is to catch what goes wrong, not a forger.
    """

    __slots__ = ("_bases", "_run", "of_due", "of_sent", "of_seq")

    def __init__(self, run: str) -> None:
        self._run = run.encode()
        self._bases: dict[int, int] = {}
        key = blake2b(self._run, digest_size=12).digest()
        self.of_seq, due, sent = (int.from_bytes(key[at : at + 4]) >> 2 | 1 << 29 for at in range(0, 12, 4))
        self.of_due, self.of_sent = due | 1, (sent & ~3) | 2

    def base(self, stream: int) -> int:
        """What the numbers of a stream are added to: below 2**63."""
        base = self._bases.get(stream)
        if base is None:
            digest = blake2b(b"%b %d" % (self._run, stream), digest_size=8).digest()
            base = self._bases[stream] = int.from_bytes(digest) >> 1
        return base

    def of(self, stream: int, seq: int, due_ns: int, sent_ns: int) -> int:
        """The check value of one message."""
        return self.base(stream) + seq * self.of_seq + due_ns * self.of_due + sent_ns * self.of_sent & _MASK

    def values(self, bases: Sequence[int], seqs: Times, due_ns: Times, sent_ns: int) -> Words:
        """The check values of messages that leave together; `bases` is one for all, or one for each."""
        found: Words = due_ns.view(np.uint64) * np.uint64(self.of_due)
        found += seqs.view(np.uint64) * np.uint64(self.of_seq)
        if len(bases) > 1:
            found += np.array(bases, dtype=np.int64).view(np.uint64)
            found += np.uint64(sent_ns * self.of_sent & _MASK)
        else:
            found += np.uint64(bases[0] + sent_ns * self.of_sent & _MASK)
        return found


class Numbers:
    """What identities have from `seq` to the check value, of messages that leave together.

    Theory of operation.  To format each message's numbers by themselves is most of what a publisher does. So they are
    written into a sheet, a table of bytes with a row for each message: what all have in common stands there already,
    and a column of numbers is written four digits at a time, from a table of all words of four digits. A sheet is kept
    for each length of the three numbers.

    Example: the row of `seq` 41, due 1200, sent 1205 in form "text" is `41.1200.1205.00c0ffee00c0ffee`.
    """

    def __init__(self, form: Form, run: str) -> None:
        self.seal = Seal(run)
        places = _PLACE.split(template(form, run, 0))
        self.between, self.behind = (places[1], places[2], places[3]), places[4]
        """What stands before due, before sent, before the check value and behind it."""
        self._sheets: dict[tuple[int, int, int], Letters] = {}

    def size(self, seq_digits: int, due_digits: int, sent_digits: int) -> int:
        """Bytes of an identity from numbers of so many digits on, its `ending` not counted."""
        return seq_digits + due_digits + sent_digits + CHECK_DIGITS + sum(map(len, (*self.between, self.behind)))

    def texts(self, bases: Sequence[int], seqs: Sequence[int], due_ns: Times, sent_ns: int) -> list[bytes]:
        """The text of each; due times ascend and have equally many digits. `bases` as in `Seal.values`."""
        if len(seqs) <= _FEW:
            return self._few(bases, seqs, due_ns, sent_ns)
        together = isinstance(seqs, range)
        seq = np.arange(seqs.start, seqs.stop) if isinstance(seqs, range) else np.array(seqs, dtype=np.int64)
        ends = (seqs[0], seqs[-1]) if together else (min(seqs), max(seqs))
        least, most = (len(str(end)) for end in ends)
        sent = b"%d" % sent_ns
        digits = most, len(str(due_ns[0])), len(sent)
        sheet = self._sheet(digits, len(seqs))
        to_due, to_sent, to_check = map(len, self.between)
        sheet[:, :most] = _digits(seq, most, ascending=together)
        at = most + to_due
        sheet[:, at : at + digits[1]] = _digits(due_ns, digits[1], ascending=True)
        at += digits[1] + to_sent
        sheet[:, at : at + len(sent)] = np.frombuffer(sent, np.uint8)
        checks = self.seal.values(bases, seq, due_ns, sent_ns).astype(">u8").tobytes().hex().encode()
        sheet[:, at + len(sent) + to_check :] = np.frombuffer(checks, np.uint8).reshape(len(seqs), CHECK_DIGITS)
        found: list[bytes] = sheet.view(f"S{sheet.shape[1]}").ravel().tolist()
        if least < most:
            found = [text[most - len(str(number)) :] for text, number in zip(found, seqs, strict=True)]
        return found

    def _few(self, bases: Sequence[int], seqs: Sequence[int], due_ns: Times, sent_ns: int) -> list[bytes]:
        seal = self.seal
        to_due, to_sent, to_check = self.between
        tail, sent = to_sent + b"%d" % sent_ns + to_check, sent_ns * seal.of_sent
        each = bases if len(bases) > 1 else list(bases) * len(seqs)
        return [
            b"%d%b%d%b%016x" % (seq, to_due, due, tail, base + sent + seq * seal.of_seq + due * seal.of_due & _MASK)
            for base, seq, due in zip(each, seqs, due_ns.tolist(), strict=False)
        ]

    def _sheet(self, digits: tuple[int, int, int], rows: int) -> Letters:
        sheet = self._sheets.get(digits)
        if sheet is None or len(sheet) < rows:
            seq, due, sent = (b"0" * each for each in digits)
            to_due, to_sent, to_check = self.between
            row = b"".join((seq, to_due, due, to_sent, sent, to_check, b"0" * CHECK_DIGITS))
            sheet = self._sheets[digits] = np.tile(np.frombuffer(row, np.uint8), (rows, 1))
        return sheet[:rows]


def _digits(numbers: Times, width: int, *, ascending: bool) -> Letters:
    """The last `width` decimal digits of numbers, a row for each."""
    words = np.empty((len(numbers), -(-width // 4)), dtype=np.uint32)
    for place in reversed(range(words.shape[1])):
        if ascending and numbers[0] == numbers[-1]:  # what is left is the same of all
            words[:, : place + 1] = np.frombuffer(b"%0*d" % (place * 4 + 4, numbers[0]), np.uint32)
            break
        rest = numbers // 10_000
        words[:, place] = _WORDS[numbers - rest * 10_000]
        numbers = rest
    found: Letters = words.view(np.uint8)[:, -width:]
    return found


def template(form: Form, run: str, stream: int) -> bytes:
    """JSON fragment of one stream with places for `% (seq, due_ns, digits of sent_ns, check value)`, without its end.

    Raises ValueError for a run id with anything but letters, digits and `_~:-`, because a dot would split the text form
    and a quote or percent sign would break the fragment.
    """
    if not _RUN.fullmatch(run):
        raise ValueError(f"run id {run!r} cannot travel in a message: letters, digits and _~:- only")
    if form == "object":
        return b'{"r":"%b","s":%d,"q":%%d,"d":%%d,"t":%%b,"k":"%%016x"' % (run.encode(), stream)
    return b'"%b.%d.%%d.%%d.%%b.%%016x' % (run.encode(), stream)


def ending(form: Form, content: int) -> bytes:
    """What closes an identity: the check value of the content, which many messages share."""
    return b',"c":"%x"}' % content if form == "object" else b'.%x"' % content


def encode(form: Form, run: str, stream: int, seq: int, due_ns: int, sent_ns: int, content: int = 0) -> bytes:
    """JSON fragment of one identity. Raises ValueError as `template` does."""
    check = Seal(run).of(stream, seq, due_ns, sent_ns)
    return template(form, run, stream) % (seq, due_ns, b"%d" % sent_ns, check) + ending(form, content)


def probe_run(run: str) -> str:
    """Run id of a run's probe messages: the accountant does not count them, the receiver only notes that they came."""
    return f"{run}~probe"


class ObjectIdentity(msgspec.Struct, frozen=True):
    """An identity of form "object", as it is on the wire."""

    r: str
    s: Annotated[int, msgspec.Meta(ge=0, lt=1 << 48)]
    q: Annotated[int, msgspec.Meta(ge=0)]
    d: int
    t: int
    k: Any = None
    c: Any = None


Decode = Callable[[bytes], MessageIdentity | None]
"""Takes a message's JSON; None where it has no identity. Raises msgspec.DecodeError where it is no JSON."""


def decoder(form: Form, path: str, envelope: Envelope) -> Decode:
    """Compile the decoder of a profile's identity path below a transport's envelope.

    Envelope ("data",) is `{"data": payload}`, (1,) is `["event", payload]`, () the payload itself.
    """
    leaf: Any = ObjectIdentity if form == "object" else str
    steps = (*envelope, *path.split("."))
    payload = within(steps, leaf)
    depth = len(steps)
    decode = msgspec.json.Decoder(payload).decode
    read = _from_object if form == "object" else _from_text

    def identity(message: bytes) -> MessageIdentity | None:
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


def within(steps: Sequence[str | int], leaf: Any, *, needed: bool = False) -> Any:
    """The type of JSON in which `leaf` stands at the end of a path, each step of it an attribute `inner`."""
    for step in reversed(steps):
        inner = ("inner", leaf) if needed else ("inner", leaf | None, None)
        if isinstance(step, int):
            before = [(f"text{place}", str) for place in range(step)]
            leaf = msgspec.defstruct("Listed", [*before, inner], array_like=True, frozen=True)
        else:
            leaf = msgspec.defstruct("Step", [inner], rename={"inner": step}, frozen=True)
    return leaf


def _from_object(found: ObjectIdentity) -> MessageIdentity:
    return MessageIdentity(found.r, found.s, found.q, found.d, found.t, _value(found.k), _value(found.c))


def _value(found: Any) -> int:
    if not isinstance(found, str):
        return NO_VALUE
    try:
        return int(found, 16)
    except ValueError:
        return NO_VALUE


def _from_text(found: str) -> MessageIdentity | None:
    parts = found.split(".")
    if not 5 <= len(parts) <= 7:
        return None
    try:
        stream, seq, due, sent = map(int, parts[1:5])
    except ValueError:
        return None
    if seq < 0 or not 0 <= stream < 1 << 48:
        return None
    check, content = (_value(part) for part in (*parts[5:], "", "")[:2])
    return MessageIdentity(parts[0], stream, seq, due, sent, check, content)
