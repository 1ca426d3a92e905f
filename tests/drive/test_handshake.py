"""Is an upgrade accepted exactly when RFC 6455 lets a client accept it, however its answer is cut?

One row per case.  Where `websockets` sees a case otherwise, the row says why.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.uri import parse_uri

from loadtests.drive.consume.handshake import BeyondUsError, RefusedError, agent, read_head, upgrade

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
OK = b"HTTP/1.1 101 Switching Protocols\r\n"
UPGRADE = b"Upgrade: websocket\r\n"
CONNECTION = b"Connection: Upgrade\r\n"
ACCEPT = b"Sec-WebSocket-Accept: <accept>\r\n"
GOOD = OK + UPGRADE + CONNECTION + ACCEPT


class Case(NamedTuple):
    answer: bytes  # <accept> stands for the right key
    why: str = ""  # a part of the refusal; empty: accepted
    differs: str = ""  # why the library sees it otherwise


CASES: dict[str, Case] = {
    "as in the RFC": Case(GOOD),
    "names in any case": Case(OK + b"UPGRADE: websocket\r\nconnection: Upgrade\r\nsec-websocket-ACCEPT: <accept>\r\n"),
    "values in any case": Case(OK + b"Upgrade: WebSocket\r\nConnection: uPgRaDe\r\n" + ACCEPT),
    "no space behind the colon": Case(OK + b"Upgrade:websocket\r\nConnection:Upgrade\r\n" + ACCEPT.replace(b" ", b"")),
    "space around values": Case(OK + b"Upgrade: \t websocket \t\r\n" + CONNECTION + ACCEPT),
    "more connection options": Case(OK + UPGRADE + b"Connection: keep-alive, Upgrade\r\n" + ACCEPT),
    "connection in two lines": Case(OK + UPGRADE + b"Connection: keep-alive\r\n" + CONNECTION + ACCEPT),
    "other headers": Case(GOOD + b"Server: x\r\nDate: now\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nX-Empty:\r\n"),
    "no reason": Case(b"HTTP/1.1 101 \r\n" + UPGRADE + CONNECTION + ACCEPT),
    "no reason, no space": Case(
        b"HTTP/1.1 101\r\n" + UPGRADE + CONNECTION + ACCEPT, differs="wants the space behind the status"
    ),
    "another reason": Case(b"HTTP/1.1 101 Web Socket Protocol Handshake\r\n" + UPGRADE + CONNECTION + ACCEPT),
    "a folded value": Case(
        OK + UPGRADE + b"Connection: keep-alive,\r\n\tUpgrade\r\n" + ACCEPT, differs="knows no folding"
    ),
    "a folded other header": Case(GOOD + b"X-Long: a\r\n  b\r\n", differs="knows no folding"),
    # -- the status
    **{
        f"status {line.decode()}": Case(b"HTTP/1.1 " + line + b"\r\nContent-Length: 0\r\n", "upgrade answered: HTTP")
        for line in (b"200 OK", b"400 Bad Request", b"401 No", b"403 No", b"404 No", b"429 Later", b"503 Busy")
    },
    "a redirection": Case(b"HTTP/1.1 302 Found\r\nLocation: /other\r\nContent-Length: 0\r\n", "302 Found"),
    "100 first": Case(b"HTTP/1.1 100 Continue\r\n\r\n" + GOOD, differs="knows no 100"),
    "103 first, then a refusal": Case(
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 0\r\n", "503 Busy"
    ),
    "200 with all the rest": Case(b"HTTP/1.1 200 OK\r\n" + UPGRADE + CONNECTION + ACCEPT, "200 OK"),
    "HTTP/1.0": Case(b"HTTP/1.0 101 Switching Protocols\r\n" + UPGRADE + CONNECTION + ACCEPT, "HTTP/1.0"),
    "no HTTP": Case(b"+PONG\r\n", "+PONG"),
    "1010": Case(b"HTTP/1.1 1010 X\r\n" + UPGRADE + CONNECTION + ACCEPT, "1010"),
    "a status in words": Case(b"HTTP/1.1 OK 101\r\n" + UPGRADE + CONNECTION + ACCEPT, "OK 101"),
    "nothing but an end": Case(b"", "upgrade answered:"),
    # -- Upgrade and Connection
    "no Upgrade": Case(OK + CONNECTION + ACCEPT, "without Upgrade"),
    "another Upgrade": Case(OK + b"Upgrade: h2c\r\n" + CONNECTION + ACCEPT, "without Upgrade"),
    "two Upgrades": Case(OK + b"Upgrade: websocket, h2c\r\n" + CONNECTION + ACCEPT, "without Upgrade"),
    "an empty Upgrade": Case(OK + b"Upgrade:\r\n" + CONNECTION + ACCEPT, "without Upgrade"),
    "no Connection": Case(OK + UPGRADE + ACCEPT, "without Connection"),
    "another Connection": Case(OK + UPGRADE + b"Connection: close\r\n" + ACCEPT, "without Connection"),
    "a Connection like it": Case(OK + UPGRADE + b"Connection: Upgraded\r\n" + ACCEPT, "without Connection"),
    # -- the accept key
    "no accept key": Case(OK + UPGRADE + CONNECTION, "accept key"),
    "an empty accept key": Case(OK + UPGRADE + CONNECTION + b"Sec-WebSocket-Accept:\r\n", "accept key"),
    "a wrong accept key": Case(OK + UPGRADE + CONNECTION + b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
                               "accept key"),
    "our own key": Case(OK + UPGRADE + CONNECTION + b"Sec-WebSocket-Accept: <key>\r\n", "accept key"),
    "an accept key in capitals": Case(OK + UPGRADE + CONNECTION + b"Sec-WebSocket-Accept: <ACCEPT>\r\n", "accept key"),
    "two accept keys": Case(GOOD + ACCEPT, "accept key"),
    # -- what was not asked for
    "an extension": Case(GOOD + b"Sec-WebSocket-Extensions: permessage-deflate\r\n", "extension"),
    "an unknown extension": Case(GOOD + b"sec-websocket-extensions: x; y=1\r\n", "extension"),
    "a subprotocol": Case(GOOD + b"Sec-WebSocket-Protocol: chat\r\n", "subprotocol"),
    # -- headers that are none
    "a line without colon": Case(GOOD + b"nonsense\r\n", "header that is none"),
    "a name with a space": Case(GOOD + b"X y: z\r\n", "header that is none"),
    "a space before the colon": Case(OK + b"Upgrade : websocket\r\n" + CONNECTION + ACCEPT, "header that is none"),
    "no name": Case(GOOD + b": x\r\n", "header that is none"),
    "a fold behind the status": Case(OK + b" folded\r\n" + UPGRADE + CONNECTION + ACCEPT, "header that is none"),
    "a name that is not ASCII": Case(GOOD + b"\xc3\xbc: x\r\n", "header that is none"),
    "garbage": Case(OK + bytes(range(128, 256)) + b"\r\n", "header that is none"),
}  # fmt: skip


class Stream:
    """A target that reads one request and says its answer in pieces; at its end it closes."""

    def __init__(self, answer: bytes, step: int = 4096) -> None:
        self._answer, self._step = answer, step
        self.request = b""
        self.read = 0

    def sendall(self, data: bytes, /) -> None:
        self.request += data
        match = re.search(rb"\r\nSec-WebSocket-Key: (\S+)\r\n", data)
        assert match
        assert len(base64.b64decode(match[1])) == 16
        self._answer = filled(self._answer, match[1])

    def recv(self, size: int, /) -> bytes:
        piece = self._answer[self.read : self.read + min(size, self._step)]
        self.read += len(piece)
        return piece


def filled(answer: bytes, key: bytes) -> bytes:
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    return answer.replace(b"<accept>", accept).replace(b"<ACCEPT>", accept.swapcase()).replace(b"<key>", key)


@pytest.mark.parametrize("step", [1, 7, 4096])
@pytest.mark.parametrize("name", CASES)
def test_the_case(name: str, step: int) -> None:
    case = CASES[name]
    stream = Stream(case.answer + b"\r\n" + b"\x81\x02hi", step)
    if case.answer == b"":
        stream = Stream(b"\r\n\r\n", step)
    if not case.why:
        behind = upgrade(stream, "h", 80, "/ws")
        assert behind + b"".join(iter(lambda: stream.recv(10), b"")) == b"\x81\x02hi"
    else:
        with pytest.raises(RefusedError, match=re.escape(case.why)):
            upgrade(stream, "h", 80, "/ws")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.answer])
def test_the_library_agrees_or_the_case_says_why_not(name: str) -> None:
    case = CASES[name]
    protocol = ClientProtocol(parse_uri("ws://h/ws"))
    protocol.send_request(protocol.connect())
    protocol.receive_data(filled(case.answer, protocol.key.encode()) + b"\r\n")
    if b"Content-Length" not in case.answer and case.why:
        protocol.receive_eof()
    accepts = protocol.handshake_exc is None
    assert accepts is ((not case.why) is not bool(case.differs))


def test_the_request_is_what_the_rfc_wants() -> None:
    stream = Stream(GOOD + b"\r\n")
    upgrade(stream, "host.example", 8080, "/socket.io/?EIO=4&transport=websocket", agent("1.2", "r-1", 3, 4))
    lines = stream.request.split(b"\r\n")
    assert lines[0] == b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1"
    assert lines[-2:] == [b"", b""]
    headers = dict(line.split(b": ", 1) for line in lines[1:-2])
    assert headers.pop(b"Sec-WebSocket-Key")
    assert headers == {
        b"Host": b"host.example:8080",
        b"User-Agent": b"Tickstorm/1.2 run/r-1 consumer/3 epoch/4",
        b"Upgrade": b"websocket",
        b"Connection": b"Upgrade",
        b"Sec-WebSocket-Version": b"13",
    }


def test_two_requests_have_two_keys() -> None:
    keys = set()
    for _ in range(20):
        stream = Stream(GOOD + b"\r\n")
        upgrade(stream, "h", 1, "/")
        keys.add(re.findall(rb"Key: (\S+)", stream.request)[0])
    assert len(keys) == 20


@pytest.mark.parametrize("step", [1, 4096])
def test_headers_without_end_are_refused_at_the_bound(step: int) -> None:
    stream = Stream(OK + b"X-Long: y\r\n" * 100_000, step)
    with pytest.raises(BeyondUsError, match="64 KiB"):
        upgrade(stream, "h", 80, "/")
    assert stream.read <= 64 * 1024 + 4096 + 1


def test_a_target_that_closes_is_refused() -> None:
    for answer in (b"", OK, GOOD):
        with pytest.raises(RefusedError, match="closed during the upgrade"):
            upgrade(Stream(answer), "h", 80, "/")


BUSY = b"HTTP/1.1 503 Service Unavailable\r\n"
SAID = {
    "a text": (BUSY + b"Content-Type: text/plain\r\nContent-Length: 9\r\n\r\nat limit\nbehind", "at limit"),
    "until it closes": (BUSY + b"\r\nat limit", "at limit"),
    "JSON, and when to come again": (
        BUSY + b'Retry-After: 30\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"left": "0"}',
        'Retry-After: 30; {"left": "0"',
    ),
    "in chunks": (BUSY + b"Transfer-Encoding: chunked\r\n\r\n3\r\nat \r\n5;x=y\r\nlimit\r\n0\r\n\r\n", "at limit"),
    "control characters": (BUSY + b"Content-Length: 7\r\n\r\na\x1b[31mb", "a\N{REPLACEMENT CHARACTER}[31mb"),
    "an image": (BUSY + b"Content-Type: image/png\r\nContent-Length: 4\r\n\r\n\x89PNG", ""),
    "compressed": (BUSY + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8bxx", ""),
}


@pytest.mark.parametrize("step", [1, 4096])
@pytest.mark.parametrize("name", SAID)
def test_a_refusal_is_told_in_the_targets_words(name: str, step: int) -> None:
    answer, words = SAID[name]
    with pytest.raises(RefusedError) as refused:
        upgrade(Stream(answer, step), "h", 80, "/")
    assert str(refused.value) == "; ".join(filter(None, ["upgrade answered: HTTP/1.1 503 Service Unavailable", words]))


def test_the_words_of_a_refusal_are_bounded() -> None:
    stream = Stream(BUSY + b"\r\n" + b"many words " * 10_000)
    with pytest.raises(RefusedError, match="many words many") as refused:
        upgrade(stream, "h", 80, "/")
    assert len(str(refused.value)) <= 200
    assert stream.read <= 4096 + 2048


def test_a_server_that_speaks_another_transport_or_version_is_beyond_us() -> None:
    for code, words in ((0, b"Transport unknown"), (5, b"Unsupported protocol version")):
        body = b'{"code":%d,"message":"%b"}' % (code, words)
        answer = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        with pytest.raises(BeyondUsError, match=words.decode()):
            upgrade(Stream(answer + body), "h", 80, "/")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 40))
def test_garbage_is_refused_and_nothing_else(garbage: bytes, step: int) -> None:
    with pytest.raises(RefusedError):
        upgrade(Stream(garbage + b"\r\n\r\n", step), "h", 80, "/")


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=60), st.integers(1, 200))
def test_the_head_ends_at_its_first_empty_line(head: bytes, behind: bytes, step: int) -> None:
    wire = head + b"\r\n\r\n" + behind
    stream = Stream(wire, step)
    found, rest = read_head(stream)
    assert found == wire.split(b"\r\n\r\n")[0]
    assert wire[stream.read - len(rest) : stream.read] == rest
