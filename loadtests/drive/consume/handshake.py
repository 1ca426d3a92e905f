"""Did the target accept the upgrade to WebSocket, and which token does a consumer present to it?

The request, and every reason of RFC 6455 to refuse the answer. A token is a good one, or one that must be refused,
signed with the target's own secret. That comes from the environment and goes nowhere else: no record, log or report
holds it, or a token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import time
from collections.abc import Mapping
from typing import Final, Protocol

import gevent

from loadtests.model import words
from loadtests.model.address import written
from loadtests.model.errors import BadInput
from loadtests.model.logins import TOKEN_SECRET

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEADERS_MAX: Final = 64 * 1024
_BODY_MAX: Final = 2 * 1024
_BODY_S: Final = 0.5
"""So long the words of a refusal are waited for; its status is known by then."""
_TEXT: Final = re.compile(rb"text/|application/(?:[\w.-]+\+)?(?:json|xml)", re.IGNORECASE)
_CHUNK: Final = re.compile(rb"(?:\A|\r\n)[0-9A-Fa-f]+(?:;[^\r\n]*)?(?:\r\n|\Z)")
_OTHER_DIALECT: Final = re.compile(r'"code"\s*:\s*[05]\b.*"(?:Transport unknown|Unsupported protocol version)')
"""What an Engine.IO server answers that speaks long polling alone, or another version."""
_A_READ: Final = 4096
_STATUS: Final = re.compile(rb"HTTP/1\.[1-9] ([1-5][0-9]{2})(?: .*)?")
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FOLD: Final = re.compile(rb"\r\n[ \t]+")

Headers = dict[bytes, list[bytes]]
"""Lower-case name: its values in the order in which they came."""

GOOD_FOR_S = 24 * 3600
_EXPIRED_SINCE_S = 60


class RefusedError(Exception):
    """The target declined: the upgrade, the session, or the subscription."""


class BeyondUsError(RefusedError):
    """Its answer may be right, but is more than we take, or asks for what we cannot do."""


class UnauthorizedError(RefusedError):
    """It would not have us: 401 or 403."""


class UpgradeSocket(Protocol):
    """As much of a socket as the upgrade needs."""

    def sendall(self, data: bytes, /) -> None: ...

    def recv(self, size: int, /) -> bytes: ...


def agent(version: str, run: str, slot: int, epoch: int) -> str:
    """How a consumer names itself to the target, so that the target's log says whose connection it was."""
    return f"Tickstorm/{version} run/{run} consumer/{slot} epoch/{epoch}"


def upgrade(
    sock: UpgradeSocket, host: str, port: int, path: str, user_agent: str = "", bearer: str | None = None
) -> bytes:
    """Make a WebSocket of a connected socket; returns the bytes that came behind the answer.

    Raises RefusedError where the target answers anything but a valid 101, OSError where the connection breaks.
    """
    key = base64.b64encode(os.urandom(16))
    named = f"User-Agent: {user_agent}\r\n" if user_agent else ""
    if bearer is not None:
        named += f"Authorization: Bearer {bearer}\r\n"
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {written(host, port)}\r\n{named}Upgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key.decode()}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head, behind = read_answer(sock)
    check(head, key)
    return behind


def read_answer(sock: UpgradeSocket) -> tuple[bytes, bytes]:
    """The head of an answer that switches protocols, and what came behind.

    Raises RefusedError, with the target's own words, where it is another, and as `read_head` does.
    """
    head, behind = read_head(sock)
    while (status := _status_of(head)) is not None and status[:1] == b"1" and status != b"101":
        head, behind = read_head(sock, behind)  # more of an answer is to come
    try:
        require_101(head)
    except RefusedError as error:
        told = _told(sock, head, behind)
        kind = BeyondUsError if _OTHER_DIALECT.search(told) else type(error)
        raise kind(words.plain("; ".join(filter(None, (str(error), told))))) from error
    return head, behind


def _status_of(head: bytes) -> bytes | None:
    found = _STATUS.fullmatch(head.partition(b"\r\n")[0])
    return found and found[1]


def _told(sock: UpgradeSocket, head: bytes, behind: bytes) -> str:
    """What a refusal says beside its status line: when to come again, and the beginning of its text."""
    try:
        headers = _headers(head.partition(b"\r\n")[2])
    except RefusedError:
        return ""
    again = b", ".join(headers.get(b"retry-after", ())).decode(errors="replace")
    told = [f"Retry-After: {again}"] if again else []
    kind = headers.get(b"content-type", [b"text/plain"])[0]
    if _status_of(head) is not None and _TEXT.match(kind) and b"content-encoding" not in headers:
        told.append(words.plain(_body(sock, headers, behind).decode(errors="replace")))
    return "; ".join(filter(None, told))


def _body(sock: UpgradeSocket, headers: Headers, behind: bytes) -> bytes:
    """The beginning of a body, as much of it as comes soon."""
    chunked = b"chunked" in _tokens(headers, b"transfer-encoding")
    length = headers.get(b"content-length", [b""])[0]
    wanted = min(int(length), _BODY_MAX) if length.isdigit() and len(length) < 10 and not chunked else _BODY_MAX
    body = bytearray(behind[:wanted])
    with gevent.Timeout(_BODY_S, False):  # type: ignore[arg-type]  # False: it ends the block and raises nothing
        try:
            while len(body) < wanted and not (chunked and body.endswith(b"0\r\n\r\n")):
                piece = sock.recv(wanted - len(body))
                if not piece:
                    break
                body += piece
        except OSError:
            pass  # the status stands
    return _CHUNK.sub(b"", bytes(body)) if chunked else bytes(body)


def read_head(sock: UpgradeSocket, behind: bytes = b"") -> tuple[bytes, bytes]:
    """The answer up to its empty line, without it, and what came behind.

    Raises RefusedError where the target closes, BeyondUsError where it does not end within 64 KiB, OSError where the
    connection breaks.
    """
    answer = bytearray(behind)
    while True:
        end = answer.find(b"\r\n\r\n", max(0, len(answer) - _A_READ - 3))
        if end > _HEADERS_MAX or (end < 0 and len(answer) > _HEADERS_MAX):
            raise BeyondUsError(f"the answer to the upgrade has more than {_HEADERS_MAX // 1024} KiB of headers")
        if end >= 0:
            return bytes(answer[:end]), bytes(answer[end + 4 :])
        piece = sock.recv(_A_READ)
        if not piece:
            raise RefusedError("closed during the upgrade")
        answer += piece


def check(head: bytes, key: bytes) -> None:
    """Refuse an answer that does not open the WebSocket that was asked for. Raises RefusedError."""
    headers = _headers(require_101(head))
    if _tokens(headers, b"upgrade") != [b"websocket"]:
        raise RefusedError("upgrade answered without Upgrade: websocket")
    if b"upgrade" not in _tokens(headers, b"connection"):
        raise RefusedError("upgrade answered without Connection: Upgrade")
    if headers.get(b"sec-websocket-accept") != [base64.b64encode(hashlib.sha1(key + _GUID).digest())]:
        raise RefusedError("upgrade answered with a wrong accept key")
    if b"sec-websocket-extensions" in headers:
        raise RefusedError("upgrade answered with an extension that was not asked for")
    if b"sec-websocket-protocol" in headers:
        raise RefusedError("upgrade answered with a subprotocol that was not asked for")


def require_101(head: bytes) -> bytes:
    """The header lines of an answer that switches protocols. Raises RefusedError with any other's status line."""
    status, _, rest = head.partition(b"\r\n")
    found = _STATUS.fullmatch(status)
    if found is not None and found[1] in (b"401", b"403"):
        raise UnauthorizedError(f"upgrade answered: {_shown(status)}")
    if found is None or found[1] != b"101":
        raise RefusedError(f"upgrade answered: {_shown(status)}")
    return rest


def _headers(rest: bytes) -> Headers:
    headers: Headers = {}
    for line in _FOLD.sub(b" ", rest).split(b"\r\n") if rest else ():
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise RefusedError(f"upgrade answered with a header that is none: {_shown(line)}")
        headers.setdefault(name.lower(), []).append(value.strip(b" \t"))
    return headers


def _tokens(headers: Headers, name: bytes) -> list[bytes]:
    return [
        token for value in headers.get(name, ()) for part in value.split(b",") if (token := part.strip(b" \t").lower())
    ]


def _shown(line: bytes) -> str:
    return line[:100].decode(errors="replace")


class Tokens:
    """Tokens as the target checks them: subject, time of expiry in Unix seconds, HMAC-SHA256 of both."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Tokens:
        """Raises BadInput where the secret is not set."""
        secret = environ.get(TOKEN_SECRET, "")
        if not secret:
            raise BadInput(f'target.auth: found "token", allowed only with the secret of the target in {TOKEN_SECRET}')
        return cls(secret)

    def good(self, slot: int) -> str:
        """One that the target must take."""
        return self._sign(slot, int(time.time()) + GOOD_FOR_S, self._secret)

    def bad(self, slot: int, how: str) -> str | None:
        """One that it must refuse: `wrong` or `expired`; None for `missing`."""
        if how == "missing":
            return None
        if how == "expired":
            return self._sign(slot, int(time.time()) - _EXPIRED_SINCE_S, self._secret)
        return self._sign(slot, int(time.time()) + GOOD_FOR_S, b"not " + self._secret)

    def _sign(self, slot: int, expires_s: int, secret: bytes) -> str:
        claim = f"consumer-{slot}.{expires_s}"
        mark = base64.urlsafe_b64encode(hmac.digest(secret, claim.encode(), hashlib.sha256)).rstrip(b"=")
        return f"{claim}.{mark.decode()}"
