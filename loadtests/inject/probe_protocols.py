"""How does a probe speak to what stands behind a link?  Requests, and when their answer is complete; touches no socket.

A dialect asks for nothing that changes the target: PING, an SSLRequest, GET /health.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeLoad:
    """A request of known size, to measure what a link carries per second."""

    request: bytes
    complete: Callable[[bytes], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeProtocol:
    """One protocol. `load_up` sends about so many bytes for a short answer; `load_down` also gets many back."""

    ping: bytes
    complete: Callable[[bytes], bool]
    reusable: bool  # a connection takes a second ping
    load_up: Callable[[int], ProbeLoad] | None
    load_down: Callable[[int], ProbeLoad] | None
    fetch: Callable[[int], ProbeLoad] | None = None  # few bytes up for many down


_DIGITS = 10


def _resp(*parts: bytes) -> bytes:
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def _one_resp(got: bytes) -> bool:
    """A whole reply that is not an array; an error reply is an answer as well, and so is what is none."""
    line, found, rest = got.partition(b"\r\n")
    return bool(found) and len(rest) >= _string_bytes(line)


def _string_bytes(line: bytes) -> int:
    """Bytes of the string that a reply's first line announces, its end of line included; 0 where it announces none."""
    size = _size(line[1:])
    return size + 2 if line.startswith(b"$") and (size or line == b"$0") else 0


def _size(digits: bytes) -> int:
    """A length as a server states it; 0 where it is none, or one beyond all that a probe would wait for."""
    return int(digits) if digits.isdigit() and len(digits) < _DIGITS else 0


def _redis_up(size: int) -> ProbeLoad:
    return ProbeLoad(request=_resp(b"EXISTS", b"tickstorm:" + b"x" * size), complete=_one_resp)


def _redis_down(size: int) -> ProbeLoad:
    return ProbeLoad(request=_resp(b"ECHO", b"x" * size), complete=_one_resp)


def redis_info(section: str) -> tuple[bytes, Callable[[bytes], bool]]:
    """A question for one section of INFO, and when its answer is all there."""
    return _resp(b"INFO", section.encode()), _one_resp


_INFO_BYTES = 5000  # a guess of one answer's size; what came is counted


def _redis_fetch(size: int) -> ProbeLoad:
    count = max(1, size // _INFO_BYTES)

    def complete(got: bytes) -> bool:
        rest = got
        for _ in range(count):
            if not _one_resp(rest):
                return False
            line, _, after = rest.partition(b"\r\n")
            rest = after[_string_bytes(line) :]
        return True

    return ProbeLoad(request=_resp(b"INFO") * count, complete=complete)


_PG_LARGEST = 9000  # PostgreSQL refuses start-up packets above 10,000 bytes


def _startup(parameters: Mapping[bytes, bytes]) -> bytes:
    body = struct.pack("!I", 3 << 16) + b"".join(k + b"\0" + v + b"\0" for k, v in parameters.items()) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def _pg_messages(got: bytes) -> list[bytes]:
    """Types of the whole messages in an answer."""
    types, at = [], 0
    while len(got) >= at + 5:
        length = int(struct.unpack_from("!I", got, at + 1)[0])
        if len(got) < at + 1 + length:
            break
        types.append(got[at : at + 1])
        at += 1 + length
    return types


def _pg_has_judged(got: bytes) -> bool:
    return bool({b"R", b"E"} & set(_pg_messages(got)))


def _postgres_up(size: int) -> ProbeLoad:
    pad = b"x" * min(size, _PG_LARGEST)
    return ProbeLoad(
        request=_startup({b"user": b"tickstorm_probe", b"application_name": pad}),
        complete=_pg_has_judged,
    )


def _postgres_down(size: int) -> ProbeLoad:
    # A server names the protocol options that it does not know in its answer, before it judges the user: an echo.
    pad = b"_pq_." + b"x" * min(size, _PG_LARGEST)
    return ProbeLoad(request=_startup({b"user": b"tickstorm_probe", pad: b"1"}), complete=_pg_has_judged)


def _http_end(got: bytes, at: int) -> int | None:
    """Where the answer that begins at `at` ends, or None while it is not all there."""
    head_end = got.find(b"\r\n\r\n", at)
    if head_end < 0:
        return None
    body = head_end + 4
    headers = got[at:head_end].lower()
    for line in headers.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip() == b"content-length":
            end = body + _size(value.strip())
            return end if len(got) >= end else None
        if key.strip() == b"transfer-encoding" and b"chunked" in value:
            last = got.find(b"0\r\n\r\n", body)
            return None if last < 0 else last + 5
    return body


def _http_answers(count: int) -> Callable[[bytes], bool]:
    def complete(got: bytes) -> bool:
        at: int | None = 0
        for _ in range(count):
            at = _http_end(got, at or 0)
            if at is None:
                return False
        return True

    return complete


def _get(path: str, pad: int = 0) -> bytes:
    padding = b"X-Pad: " + b"x" * pad + b"\r\n" if pad else b""
    return b"GET %s HTTP/1.1\r\nHost: tickstorm\r\n%s\r\n" % (path.encode(), padding)


_HTTP_PAD = 6000  # servers commonly refuse header lines above 8,190 bytes
_HTTP_ANSWER = 400  # a guess of one answer's size; what came is counted
_HTTP_MOST = 24


def _gateway_up(size: int) -> ProbeLoad:
    count = max(1, min(_HTTP_MOST, size // _HTTP_PAD))
    pad = min(size, _HTTP_PAD)
    return ProbeLoad(request=_get("/health", pad) * count, complete=_http_answers(count))


def _gateway_down(size: int) -> ProbeLoad:
    count = max(1, min(_HTTP_MOST, size // _HTTP_ANSWER))
    return ProbeLoad(request=_get("/stats") * count, complete=_http_answers(count))


def http_get(path: str) -> tuple[bytes, Callable[[bytes], bool]]:
    """A question for one page, and when its answer is all there, as far as its head tells."""
    return _get(path), _http_answers(1)


DIALECTS: Mapping[str, ProbeProtocol] = {
    "redis": ProbeProtocol(
        ping=_resp(b"PING"),
        complete=_one_resp,
        reusable=True,
        load_up=_redis_up,
        load_down=_redis_down,
        fetch=_redis_fetch,
    ),
    "postgres": ProbeProtocol(
        ping=struct.pack("!II", 8, 80877103),  # SSLRequest: one byte answers, before any login
        complete=bool,
        reusable=False,
        load_up=_postgres_up,
        load_down=_postgres_down,
    ),
    "gateway": ProbeProtocol(
        ping=_get("/health"),
        complete=_http_answers(1),
        reusable=True,
        load_up=_gateway_up,
        load_down=_gateway_down,
    ),
}
"""What stands behind a link -> how its probe speaks. Another word than these: a probe that only connects."""
