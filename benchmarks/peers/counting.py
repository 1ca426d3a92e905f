"""What must every peer do with a message?  Decode it, find its identity, compare its number, time it.

Runs in the peers' own environment, as a part of their scripts; knows nothing of Tickstorm.  Identities are decoded by
msgspec into the three fields that count, the fastest way that a Python client has, so that the library is compared.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Any, NamedTuple

import msgspec

BUCKETS = 1 << 13
_EXACT = 256
SUBSCRIBE = '{"action":"subscribe","id":1,"channels":[],"patterns":[],"symbols":[]}'


class Identity(msgspec.Struct):
    """The fields that are accounted: stream, number, due time."""

    s: int
    q: int
    d: int


class _Data(msgspec.Struct):
    tickstorm: Identity | None = None


class _Whole(msgspec.Struct):
    data: _Data | None = None


class Load(NamedTuple):
    """What a peer is asked to do."""

    host: str
    port: int
    connections: int
    warm_up_s: float
    seconds: float


def asked(argv: list[str] | None = None) -> Load:
    """From the command line, in the order that the floor has."""
    host, port, connections, warm_up, seconds = argv or sys.argv[1:6]
    return Load(host, int(port), int(connections), float(warm_up), float(seconds))


def bucket(us: int) -> int:
    """Log-linear: exact below 256, then 128 equal buckets for every power of two."""
    if us < _EXACT:
        return max(us, 0)
    shift = us.bit_length() - 8
    return min((shift << 7) + (us >> shift), BUCKETS - 1)


def lower_us(at: int) -> int:
    """Least value of a bucket."""
    if at < _EXACT:
        return at
    shift = (at >> 7) - 1
    return ((at & 127) + 128) << shift


class Account:
    """Counts of one client process."""

    def __init__(self) -> None:
        self.messages = self.gaps = self.repeats = self.other = 0
        self.histogram = [0] * BUCKETS
        self._cpu = self._begin = 0.0
        self._rss = rss_bytes()
        self._decode = msgspec.json.Decoder(_Whole).decode

    def frame(self, last: dict[int, int], payload: str | bytes) -> None:
        """One frame of plain WebSocket; `last` is the connection's stream -> next number."""
        data = self._decode(payload).data
        identity = None if data is None else data.tickstorm
        if identity is None:
            self.other += 1
            return
        self.count(last, identity.s, identity.q, identity.d)

    def event(self, last: dict[int, int], data: dict[str, Any]) -> None:
        """One event that a library has already decoded."""
        identity = data.get("tickstorm")
        if identity is None:
            self.other += 1
            return
        self.count(last, identity["s"], identity["q"], identity["d"])

    def count(self, last: dict[int, int], stream: int, number: int, due_ns: int) -> None:
        """Compare with the stream's last number, and time."""
        expected = last.get(stream, number)
        if number != expected:
            if number > expected:
                self.gaps += number - expected
            else:
                self.repeats += 1
        if number >= expected:
            last[stream] = number + 1
        self.messages += 1
        self.histogram[bucket((monotonic_ns() - due_ns) // 1000)] += 1

    def begin(self) -> None:
        """The measured window begins: what came before is forgotten."""
        self.messages = self.gaps = self.repeats = 0
        self.histogram = [0] * BUCKETS
        self._cpu, self._begin = cpu_s(), monotonic()

    def report(self, connections: int, open_: int) -> None:
        """The window ends: one JSON object on stdout, with the floor's keys."""
        seconds, used = monotonic() - self._begin, cpu_s() - self._cpu
        found = {
            "messages": self.messages,
            "gaps": self.gaps,
            "repeats": self.repeats,
            "other": self.other,
            "open": open_,
            "seconds": round(seconds, 4),
            "cpu_s": round(used, 4),
            "p50_ms": self._quantile_ms(0.5),
            "p99_ms": self._quantile_ms(0.99),
            "rss_per_connection": (rss_bytes() - self._rss) // max(connections, 1),
        }
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()

    def _quantile_ms(self, q: float) -> float:
        rank, seen = q * self.messages, 0
        for at, count in enumerate(self.histogram):
            seen += count
            if seen > rank:
                return lower_us(at) / 1000
        return 0.0


def cpu_s() -> float:
    """User and system time of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rss_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(account: Account, load: Load, sleep: Callable[[float], object], open_: Callable[[], int]) -> None:
    """Warm-up, window, report; for clients that wait by a function."""
    sleep(load.warm_up_s)
    account.begin()
    sleep(load.seconds)
    account.report(load.connections, open_())


async def measure_async(account: Account, load: Load, sleep: Callable[[float], Any], open_: Callable[[], int]) -> None:
    """Warm-up, window, report; for clients that wait by a coroutine."""
    await sleep(load.warm_up_s)
    account.begin()
    await sleep(load.seconds)
    account.report(load.connections, open_())
