"""What does a new connection want?  An HTTP request: an upgrade to one of the two transports, health, or statistics."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs, urlsplit

from lying_gateway.client import Name
from lying_gateway.event import Transport

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NAME: Final = re.compile(r"Tickstorm/\S+ run/(\S+) consumer/(\d+) epoch/(\d+)")
_HEAD_BYTES: Final = 16 << 10
_REASONS: Final = {200: "OK", 400: "Bad Request", 404: "Not Found", 431: "Request Header Fields Too Large",
                   503: "Service Unavailable"}  # fmt: skip


class BadRequestError(Exception):
    """The request is answered with a status and the connection closed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The head of a request, with the bytes behind it."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]  # names in small letters
    behind: bytes

    @property
    def name(self) -> Name:
        """How the client names itself."""
        found = _NAME.fullmatch(self.headers.get("user-agent", ""))
        return Name(found[1], int(found[2]), int(found[3])) if found else Name()

    @property
    def transport(self) -> Transport | None:
        """The transport that it asks to be upgraded to; None where it is an ordinary request."""
        if self.headers.get("upgrade", "").lower() != "websocket":
            return None
        if self.path == "/ws":
            return "websocket"
        if self.path.rstrip("/") == "/socket.io":
            if self.query.get("EIO") != ["4"] or self.query.get("transport") != ["websocket"]:
                raise BadRequestError(400, "EIO=4 and transport=websocket are wanted")
            return "socketio"
        raise BadRequestError(404, "no WebSocket here")


def read_request(data: bytes) -> Request | None:
    """The request in what has come so far; None while its head is not whole. Raises BadRequestError."""
    head, end, behind = data.partition(b"\r\n\r\n")
    if len(head) > _HEAD_BYTES:
        raise BadRequestError(431, "the head is too long")
    if not end:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or parts[0] != "GET":
        raise BadRequestError(400, "only GET")
    url = urlsplit(parts[1])
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Request(path=url.path, query=parse_qs(url.query), headers=headers, behind=behind)


def accept(request: Request) -> bytes:
    """The answer to an upgrade. Raises BadRequestError where it is none."""
    key = request.headers.get("sec-websocket-key", "")
    if not key or request.headers.get("sec-websocket-version") != "13":
        raise BadRequestError(400, "a key and version 13 are wanted")
    proof = base64.b64encode(hashlib.sha1(key.encode("latin-1") + _GUID).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + proof
        + b"\r\n\r\n"
    )


HOSTILE: Final = (b"[" * 100_000, b'{"status":"ready","clients":1' + b"0" * 400 + b"}", None)
"""Answers that end, overflow or hold a careless reader: too deep, too large a number, and none at all."""


def answer(status: int, body: object) -> bytes:
    """A whole JSON response, after which the connection ends; bytes are sent as they are."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + text
