"""How are compressed messages read?  The library `websockets` agrees on permessage-deflate and inflates what comes.

What leaves here are the bytes of the same frames without compression, so that cutter and accountant are those of every
other connection.  Little is inflated at a time, and a message beyond the longest is refused.  What we say goes out
uncompressed, as the extension allows.
"""

from __future__ import annotations

from typing import Any, Final

from websockets.client import ClientProtocol
from websockets.exceptions import PayloadTooBig
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from loadtests.drive.consume.frames import MAX_MESSAGE, ProtocolError, too_long
from loadtests.drive.consume.handshake import RefusedError, UpgradeSocket, read_answer
from loadtests.model.address import written

_INVALID_DATA: Final = 1007
_CONTROL_MAX: Final = 125
_A_TIME: Final = 4096
"""Compressed bytes that are inflated at once: a thousand times as much may come out."""


class Inflater:
    """Compressed bytes of one connection in, plain ones out."""

    def __init__(self, protocol: ClientProtocol) -> None:
        self._protocol = protocol
        self.broken: ProtocolError | None = None  # the breach behind the last good frame: nothing more comes out

    def inflate(self, chunk: bytes) -> bytes:
        """Frames that are complete with this chunk, up to a close frame or a breach."""
        protocol = self._protocol
        protocol.receive_data(chunk)
        protocol.data_to_send()  # pongs and closes: the receiver says them, as it does for every connection
        error = protocol.parser_exc
        if error is not None and self.broken is None:
            self.broken = _breach(error)
        return b"".join(plain(event) for event in protocol.events_received() if isinstance(event, Frame))


class InflatingSocket:
    """A socket of gevent's that is read through an inflater."""

    def __init__(self, sock: Any, inflater: Inflater) -> None:
        self._sock = sock
        self._inflater = inflater
        self._left = b""  # compressed bytes that were read
        self.sendall = sock.sendall
        self.settimeout = sock.settimeout
        self.getsockname = sock.getsockname
        self.close = sock.close

    def fileno(self) -> int:
        """The descriptor that is read."""
        fileno: int = self._sock.fileno()
        return fileno

    def recv(self, size: int) -> bytes:
        """Whole frames; empty at the stream's end. Raises OSError, and ProtocolError behind the last good frame."""
        while True:
            if self._inflater.broken is not None:
                raise self._inflater.broken
            if not self._left:
                self._left = self._sock.recv(size)
                if not self._left:
                    return b""
            piece, self._left = self._left[:_A_TIME], self._left[_A_TIME:]
            found = self._inflater.inflate(piece)
            if found:
                return found


def upgrade(
    sock: Any,
    host: str,
    port: int,
    path: str,
    user_agent: str = "",
    bearer: str | None = None,
    max_message: int = MAX_MESSAGE,
) -> tuple[InflatingSocket, bytes]:
    """Make a WebSocket with permessage-deflate of a connected socket; the plain bytes that came behind the answer.

    Raises RefusedError where the target answers anything but a valid 101 or does not compress, OSError where the
    connection breaks.
    """
    inflater, behind = agree(sock, host, port, path, user_agent, bearer, max_message)
    return InflatingSocket(sock, inflater), inflater.inflate(behind)


def agree(
    sock: UpgradeSocket,
    host: str,
    port: int,
    path: str,
    user_agent: str = "",
    bearer: str | None = None,
    max_message: int = MAX_MESSAGE,
) -> tuple[Inflater, bytes]:
    """The handshake alone: an inflater, and the compressed bytes behind the answer. Raises as `upgrade` does."""
    # A compressor would cost a quarter of a megabyte a connection: without takeover none is made until one is needed.
    deflate = ClientPerMessageDeflateFactory(client_no_context_takeover=True)
    # The library counts a control frame inside a message as part of it.
    protocol = ClientProtocol(
        parse_uri(f"ws://{written(host, port)}{path}"), extensions=[deflate], max_size=max_message + _CONTROL_MAX
    )
    request = protocol.connect()
    if user_agent:
        request.headers["User-Agent"] = user_agent
    if bearer is not None:
        request.headers["Authorization"] = f"Bearer {bearer}"
    protocol.send_request(request)
    sock.sendall(b"".join(protocol.data_to_send()))
    head, behind = read_answer(sock)
    protocol.receive_data(head + b"\r\n\r\n")
    protocol.events_received()
    if protocol.state is not OPEN:
        raise RefusedError(f"upgrade answered: {protocol.handshake_exc}"[:200])
    if not protocol.extensions:
        raise RefusedError("the target does not agree to permessage-deflate, which target.compression asks for")
    return Inflater(protocol), behind


def plain(frame: Frame) -> bytes:
    """A server's frame without compression."""
    head, size = frame.opcode | (0x80 if frame.fin else 0), len(frame.data)
    if size < 126:
        start = bytes((head, size))
    elif size < 1 << 16:
        start = bytes((head, 126)) + size.to_bytes(2, "big")
    else:
        start = bytes((head, 127)) + size.to_bytes(8, "big")
    return start + bytes(frame.data)


def _breach(error: Exception) -> ProtocolError:
    if isinstance(error, PayloadTooBig):
        return too_long(error.size or 0)
    if isinstance(error, UnicodeDecodeError):
        return ProtocolError("a reason that is not UTF-8", _INVALID_DATA)
    return ProtocolError(str(error) or type(error).__name__)
