"""How does a consumer speak plain WebSocket?  The HTTP upgrade, and the target's JSON requests and answers."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any, Final, Protocol

import msgspec

from loadtests.drive.chunks import Control, Reading, strange
from loadtests.drive.frames import TEXT, encode
from loadtests.tally.identity import Form, decoder

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEADERS_MAX: Final = 16 * 1024
ANSWERS: Final = frozenset({"subscribed", "unsubscribed", "error", "pong", "health"})
"""Events by which the target talks to one client; anything else without an identity is a strange message."""


class RefusedError(Exception):
    """The target declined: the upgrade, the session, or the subscription."""


class _Stream(Protocol):
    """As much of a socket as the upgrade needs."""

    def sendall(self, data: bytes, /) -> None: ...

    def recv(self, size: int, /) -> bytes: ...


def agent(version: str, run: str, slot: int, epoch: int) -> str:
    """How a consumer names itself to the target, so that the target's log says whose connection it was."""
    return f"Tickstorm/{version} run/{run} consumer/{slot} epoch/{epoch}"


def upgrade(sock: _Stream, host: str, port: int, path: str, user_agent: str = "") -> bytes:
    """Make a WebSocket of a connected socket; returns the bytes that came behind the answer.

    Raises RefusedError where the target answers anything but a valid 101, OSError where the connection breaks.
    """
    key = base64.b64encode(os.urandom(16))
    named = f"User-Agent: {user_agent}\r\n" if user_agent else ""
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{named}Upgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key.decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        if len(answer) > _HEADERS_MAX:
            raise RefusedError("the answer to the upgrade has no end")
        piece = sock.recv(4096)
        if not piece:
            raise RefusedError("closed during the upgrade")
        answer += piece
    head, behind = answer.split(b"\r\n\r\n", 1)
    lines = head.split(b"\r\n")
    if lines[0].split(b" ")[1:2] != [b"101"]:
        raise RefusedError(f"upgrade answered: {lines[0][:100].decode(errors='replace')}")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    if headers.get(b"sec-websocket-accept") != base64.b64encode(hashlib.sha1(key + _GUID).digest()):
        raise RefusedError("upgrade answered with a wrong accept key")
    if b"sec-websocket-extensions" in headers:
        raise RefusedError("upgrade answered with an extension that was not asked for")
    return behind


class PlainDialect:
    """JSON objects in frames: `{"event": ..., "data": {...}}` from the target, `{"action": ...}` to it."""

    name: Final = "websocket"

    def __init__(self, path: str, form: Form) -> None:
        self._identity = decoder(form, path, "websocket")

    def read(self, opcode: int, payload: bytes) -> Reading:
        """Open one data frame."""
        identity = self._identity(payload)
        if identity is not None:
            return Reading(identity)
        whole = msgspec.json.decode(payload)
        event = whole.get("event") if isinstance(whole, dict) else None
        if not isinstance(event, str) or event not in ANSWERS:
            return strange(payload, "no identity")
        data = whole.get("data")
        number = data.get("id") if isinstance(data, dict) else None
        return Reading(control=Control(event, data, number if isinstance(number, int) else None))

    def request(self, action: str, number: int, body: dict[str, Any]) -> bytes:
        """Frame of a request."""
        return encode(TEXT, msgspec.json.encode({"action": action, "id": number} | body))

    def greeting(self, control: Control) -> bytes | None:
        """Frame with which to answer a control message by itself; None where none is due."""
        del control
        return None
