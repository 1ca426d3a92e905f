"""Does the examination before a run end in time, in few bytes and in clean sentences, whatever a service answers?"""

from __future__ import annotations

import resource
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping

import pytest
from hostile import Answer, drips, floods, http, says, serving, waits

from loadtests.capture import preflight
from loadtests.capture.machine import Finding
from loadtests.capture.preflight import Services, gateway_answers, redis_answers, role_is_read_only, toxiproxy_answers

TIMEOUT_S = 0.4
LATE_S = 10.0
"""A busy machine may be so late; what drips or waits goes on for ever."""
MEMORY = 300 << 20
"""More than all of it needs; a reply that is believed to be so long asks for several times as much."""
ESCAPES = r"\u001b]0;owned\u0007\u009b31m\nredis is fine"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "TIMEOUT_S", TIMEOUT_S)
    monkeypatch.setattr(preflight, "ROLE_S", 2 * TIMEOUT_S, raising=False)


@pytest.fixture(autouse=True)
def _little_memory() -> Iterator[None]:
    if not sys.platform.startswith("linux"):
        yield
        return
    with open("/proc/self/statm", encoding="ascii") as told:
        used = int(told.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def always(reply: bytes) -> Answer:
    def answer(sock: socket.socket) -> None:
        sock.sendall(reply)
        while sock.recv(4000):
            sock.sendall(reply)

    return answer


def one_line(finding: Finding) -> None:
    assert finding.text.isprintable()
    assert len(finding.text) < 500


def text(said: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(said), said)


def pong(info: bytes) -> Answer:
    def answer(sock: socket.socket) -> None:
        sock.sendall(b"+PONG\r\n")
        sock.recv(4000)
        sock.sendall(info)

    return answer


REDIS: Mapping[str, Answer] = {
    "never answers": waits,
    "drips": drips(b"$1000000\r\n"),
    "a length beyond memory": always(b"$900000000\r\n"),
    "a string without end": floods(b"$900000000\r\n"),
    "OK to everything": always(b"+OK\r\n"),
    "nested arrays": says(b"*1\r\n" * 100_000),
    "an error": always(b"-NOAUTH \x1b[31m Authentication required.\r\n"),
    "a line without end": floods(b"-"),
    "nothing": says(b""),
    "drips its statistics": pong(b"$5000\r\n" + b"x" * 100),
    "statistics beyond memory": pong(b"$60000000\r\n"),
}


@pytest.mark.parametrize("login", [False, True])
@pytest.mark.parametrize("how", sorted(REDIS))
def test_a_hostile_redis_is_a_finding_within_the_deadline(
    how: str, login: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TICKSTORM_REDIS_PASSWORD", "x" if login else "")
    with serving(last=REDIS[how]) as address:
        began = time.monotonic()
        found = redis_answers(address)
        assert time.monotonic() - began < TIMEOUT_S + LATE_S
    assert found.level == "bad"
    one_line(found)


def test_a_version_of_redis_is_shown_clean_and_cut() -> None:
    info = b"redis_version:\x1b]0;owned\x07" + b"9" * 50_000 + b"\r\n"
    with serving(last=pong(text(info))) as address:
        found = redis_answers(address)
    assert found.level == "ok"
    one_line(found)


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize(
    "body",
    [
        f'{{"status": "{ESCAPES}", "redis": "{ESCAPES}", "version": "{ESCAPES}"}}',
        f'{{"status": "{"x" * 100_000}", "postgres": ["{"y" * 100_000}"], "version": "{"z" * 100_000}"}}',
    ],
)
def test_what_a_page_says_is_shown_clean_and_cut(body: str, status: int) -> None:
    answer = http(body.encode()).replace(b"200 OK", b"%d \x1b[31m" % status)
    with serving(last=says(answer)) as address:
        for found in (gateway_answers(address), toxiproxy_answers(address)):
            one_line(found)


def test_a_status_line_that_is_none_is_shown_clean() -> None:
    with serving(last=says(b"HTTP/1.1 \x1b[31m" + b"x" * 50_000 + b"\r\n\r\n")) as address:
        for found in (gateway_answers(address), toxiproxy_answers(address)):
            assert found.level == "bad"
            one_line(found)


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


SETTINGS = {"server_version": "15.0", "client_encoding": "UTF8", "DateStyle": "ISO, MDY"}
READY = message(b"Z", b"I")
LOGGED_IN = (
    message(b"R", struct.pack("!I", 0))
    + b"".join(message(b"S", f"{key}\0{value}\0".encode()) for key, value in SETTINGS.items())
    + READY
)


def counted(said: bytes, oid: int) -> bytes:
    column = b"count\0" + struct.pack("!IhIhih", 0, 0, oid, -1, -1, 0)
    row = struct.pack("!hI", 1, len(said)) + said
    return message(b"T", struct.pack("!h", 1) + column) + message(b"D", row) + message(b"C", b"SELECT 1\0") + READY


def logged_in(then: Answer) -> Answer:
    """A server that lets anybody in, begins a transaction, and answers the first question so."""

    def answer(sock: socket.socket) -> None:
        sock.sendall(b"N")  # no TLS
        sock.recv(4000)
        sock.sendall(LOGGED_IN)
        sock.recv(4000)
        sock.sendall(message(b"C", b"BEGIN\0") + READY)
        sock.recv(4000)
        then(sock)

    return answer


def refusing(sock: socket.socket) -> None:
    refusal = message(b"E", b"SERROR\0C\x1b[31m" + b"4" * 50_000 + b"\0M\x1b[31mno\nredis is fine\0\0") + READY
    always(refusal)(sock)


POSTGRES: Mapping[str, Answer] = {
    "never answers": waits,
    "nothing": says(b""),
    "no PostgreSQL": says(b"\xff" * 1000),
    "silent after the login": logged_in(waits),
    "drips after the login": logged_in(drips(b"D\0\x0f\xff\xff")),
    "closes after the login": logged_in(says(b"")),
    "a count that is a text": logged_in(always(counted(b"\x1b[31mmany", 25))),
    "a count that is no date": logged_in(always(counted(b"\x1b[31mmany", 1082))),
    "a count that is no number": logged_in(always(counted(b"\x1b[31mmany", 20))),
    "a count of many digits": logged_in(always(counted(b"9" * 4000, 20))),
    "an error of its own": logged_in(refusing),
}


@pytest.mark.parametrize("how", sorted(POSTGRES))
def test_a_hostile_database_is_a_finding_within_the_deadline(how: str) -> None:
    with serving(last=POSTGRES[how]) as address:
        began = time.monotonic()
        found = list(role_is_read_only(Services(postgres=address), needed=True))
        assert time.monotonic() - began < 2 * TIMEOUT_S + LATE_S
    assert found[-1].level == "bad"
    for finding in found:
        one_line(finding)
