"""What does one connection show: an answer, silence, a refusal, a cut?  Knows TLS, and of protocols HTTP in `ask`."""

from __future__ import annotations

import errno
import http.client
import io
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import NoAnswer, NotThere, Refused
from loadtests.model.address import host_port
from loadtests.model.words import plain


class Layer(Protocol):
    """Plain words on one side, bytes for the network on the other. OSError: senseless bytes."""

    @property
    def is_open(self) -> bool:
        """Words may be exchanged."""
        ...

    def begin(self) -> bytes:
        """The first bytes to send, before any word."""
        ...

    def seal(self, plain: bytes) -> bytes:
        """Words as bytes."""
        ...

    def open(self, raw: bytes) -> tuple[bytes, bytes]:
        """The words in these bytes, and bytes that must be sent in answer."""
        ...


class Plain:
    """Words are bytes."""

    is_open = True

    def begin(self) -> bytes:
        """Nothing."""
        return b""

    def seal(self, plain: bytes) -> bytes:
        """The same."""
        return plain

    def open(self, raw: bytes) -> tuple[bytes, bytes]:
        """The same."""
        return raw, b""


class Tls:
    """TLS as a client, for one connection.

    It asks for no proof of who the server is: a probe sends nothing secret and believes nothing but times.
    """

    def __init__(self, server_name: str | None = None) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=server_name)
        self.is_open = False

    def begin(self) -> bytes:
        """The handshake's first bytes."""
        self._shake()
        return self._out.read()

    def seal(self, plain: bytes) -> bytes:
        """Encrypted."""
        self._tls.write(plain)
        return self._out.read()

    def open(self, raw: bytes) -> tuple[bytes, bytes]:
        """Decrypted, as far as whole records are there."""
        self._in.write(raw)
        if not self.is_open:
            self._shake()
        plain = bytearray()
        try:
            while self.is_open and (part := self._tls.read(65536)):
                plain += part
        except ssl.SSLWantReadError:
            pass
        return bytes(plain), self._out.read()

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        self.is_open = True


Seen = Literal["answer", "silent", "refused", "reset", "closed", "no connect"]
"""What a probe saw: bytes; none in time; connect refused; RST; FIN; connect not answered in time or unreachable."""

_REMEMBERED_S = 75.0  # Linux keeps what is left of a closed connection for sixty seconds
_POLL_MS = 50  # how late a stop may be noticed; an answer is noticed at once
_MOST_BYTES = 1 << 26
_REFUSED = {errno.ECONNREFUSED}
_RESET = {errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED}


class Cut(Exception):  # noqa: N818 - it names what was seen
    """The connection gave no answer; `seen` says how."""

    def __init__(self, seen: Seen) -> None:
        super().__init__(seen)
        self.seen: Seen = seen


def _wait(sock: socket.socket, events: int, watch: Watch) -> bool:
    poll = select.poll()
    poll.register(sock, events)
    while not watch.over:
        if poll.poll(min(_POLL_MS, max(1, int(watch.left_s * 1000)))):
            return True
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Bytes that one read found."""

    at_ns: int  # monotonic
    size_bytes: int  # as they came from the network


class OwnPorts:
    """Local ports of connections of ours, as long as the kernel may still tell of them."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        self._closed: dict[int, float] = {}  # port -> when
        self._lock = threading.Lock()

    def opened(self, port: int) -> None:
        """A connection of ours has this port."""
        with self._lock:
            self._open.add(port)

    def refused(self, port: int) -> None:
        """It came to nothing, and leaves no trace."""
        with self._lock:
            self._open.discard(port)

    def closed(self, port: int) -> None:
        """It is closed; the kernel remembers it for a while."""
        with self._lock:
            if port in self._open:
                self._open.discard(port)
                self._closed[port] = time.monotonic()

    @property
    def open_now(self) -> int:
        """How many are open."""
        return len(self._open)

    def known(self) -> frozenset[int]:
        """All of them."""
        with self._lock:
            since = time.monotonic() - _REMEMBERED_S
            self._closed = {port: at for port, at in self._closed.items() if at > since}
            return frozenset(self._open | self._closed.keys())


def connected(
    address: tuple[str, int],
    watch: Watch,
    prepare: Callable[[socket.socket], None] = lambda _: None,
    own: OwnPorts | None = None,
) -> socket.socket:
    """A connection, never blocking, to the first address of a name that takes one; `prepare` gets each before.

    `own` learns its local port, as soon as the kernel has one for it.  Raises Cut, as the last of them has it.
    """
    try:
        places = socket.getaddrinfo(*address, 0, socket.SOCK_STREAM)
    except OSError as error:  # a name that cannot be resolved
        raise Cut("no connect") from error
    cut = Cut("no connect")
    for family, kind, protocol, _, place in places:
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError:  # this machine does not speak it
            continue
        try:
            sock.setblocking(False)
            prepare(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _connect(sock, place, watch, own or OwnPorts())
        except Cut as found:
            sock.close()
            cut = found
        else:
            return sock
    raise cut


def _connect(sock: socket.socket, place: Any, watch: Watch, own: OwnPorts) -> None:
    code = sock.connect_ex(place)
    port = sock.getsockname()[1]
    own.opened(port)
    if code == errno.EINPROGRESS:
        if not _wait(sock, select.POLLOUT, watch):
            own.closed(port)
            raise Cut("no connect")
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        own.refused(port)
        raise Cut("refused" if code in _REFUSED else "reset" if code in _RESET else "no connect")
    if sock.getsockname() == sock.getpeername():
        own.refused(port)
        raise Cut("refused")  # no process listens, and the kernel had chosen just that port for our end


class ProbeConnection:
    """One TCP connection, with TLS on it where the layer is that; every wait ends with its watch. Methods raise Cut."""

    def __init__(
        self, address: tuple[str, int], watch: Watch, layer: Layer | None = None, own: OwnPorts | None = None
    ) -> None:
        self._own = own or OwnPorts()
        self.sent_bytes = 0  # into the network, since it was opened
        self.pieces: list[Piece] = []  # of the last answer
        self.got_bytes = 0
        self._layer = layer or Plain()
        self._socket = connected(address, watch, own=self._own)
        self.local_port: int = self._socket.getsockname()[1]
        try:
            if not self._layer.is_open:
                self._exchange(self._layer.begin(), lambda _: self._layer.is_open, watch)
        except Cut:
            self.close()
            raise

    def ask(self, request: bytes, complete: Callable[[bytes], bool], watch: Watch) -> bytes:
        """Sends a request and returns the bytes of its answer, when `complete` says that they are all there."""
        return self._exchange(self._layer.seal(request), complete, watch)

    def close_takes_ns(self, watch: Watch) -> int:
        """Closes our half, and returns how long the other side took to close its own. Raises Cut("silent")."""
        started = time.monotonic_ns()
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while _wait(self._socket, select.POLLIN, watch):
                if not self._socket.recv(65536):
                    return time.monotonic_ns() - started
        except OSError:  # reset: closed as well
            return time.monotonic_ns() - started
        raise Cut("silent")

    def _exchange(self, raw: bytes, complete: Callable[[bytes], bool], watch: Watch) -> bytes:
        left, got = memoryview(raw), bytearray()
        self.pieces = []
        try:
            while True:
                if not _wait(self._socket, select.POLLIN | (select.POLLOUT if left else 0), watch):
                    raise Cut("silent")
                if left:
                    try:
                        sent = self._socket.send(left)
                        self.sent_bytes += sent
                        left = left[sent:]
                    except BlockingIOError:
                        pass
                try:
                    piece = self._socket.recv(65536)
                except BlockingIOError:
                    continue
                if not piece:
                    raise Cut("closed")
                self.got_bytes += len(piece)
                if len(got) > _MOST_BYTES:
                    raise Cut("closed")  # more than any question asks for: we close it
                self.pieces.append(Piece(at_ns=time.monotonic_ns(), size_bytes=len(piece)))
                plain, answer = self._layer.open(piece)
                got += plain
                if answer:
                    left = memoryview(bytes(left) + answer)
                if not left and complete(bytes(got)):
                    return bytes(got)
        except OSError as error:
            raise Cut("reset" if error.errno in _RESET else "closed") from error

    def close(self) -> None:
        """Closes it; safe to repeat."""
        self._socket.close()
        self._own.closed(self.local_port)


# -- one HTTP request, whatever the server is: a deadline over all of it, and a cap on its bytes

MOST_BYTES = 4 << 20
"""A longer answer is none, its head included: so many hold ten thousand proxies."""


class Reply(NamedTuple):
    """Status and body of an answer."""

    status_code: int
    content: bytes


class _Answer(io.RawIOBase):
    """What a connection brings, as HTTPResponse wants it."""

    def __init__(self, sock: socket.socket, watch: Watch) -> None:
        self._socket, self._watch, self._left = sock, watch, MOST_BYTES

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        _limit(self._socket, self._watch)
        count = self._socket.recv_into(buffer)
        self._left -= count
        if self._left < 0:
            raise http.client.HTTPException(f"it is longer than {MOST_BYTES:,} bytes")
        return count


def _limit(sock: socket.socket, watch: Watch) -> None:
    if watch.over:
        raise TimeoutError
    sock.settimeout(watch.left_s)


def ask(name: str, address: str, method: str, path: str, body: object = None, *, timeout_s: float) -> Reply:
    """The answer to one request on a connection of its own; `name` is the server's, for sentences.

    Raises NoAnswer, after `timeout_s` at the latest, NotThere, or Refused where what came is no answer.
    """
    what = f"{method} {path}"
    try:
        return _exchange(address, method, path, body, Watch.of_s(timeout_s))
    except Cut as cut:
        if cut.seen == "refused":
            raise NotThere(f"nobody listens at {address}, where {name} should") from cut
        raise NoAnswer(f"{name} at {address} did not accept within {timeout_s:g} s") from cut
    except TimeoutError as error:
        raise NoAnswer(f"{name} did not answer {what} within {timeout_s:g} s") from error
    except (OSError, http.client.IncompleteRead) as error:
        raise NoAnswer(f"{name} broke off {what}") from error
    except (http.client.HTTPException, ValueError) as error:
        raise Refused(f"the answer to {what} is not HTTP as it should be: {plain(str(error))}") from error


def _exchange(address: str, method: str, path: str, body: object, watch: Watch) -> Reply:
    asked = b"" if body is None else msgspec.json.encode(body)
    head = f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nAccept-Encoding: identity\r\nConnection: close\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(asked)}\r\n\r\n"
    with connected(host_port(address), watch) as sock:
        _limit(sock, watch)
        sock.sendall(head.encode("ascii") + asked)
        answer = http.client.HTTPResponse(_Answer(sock, watch), method=method)  # type: ignore[arg-type]
        answer.begin()
        content = answer.read(MOST_BYTES)
        if answer.length:  # of what its head announced, this much never came
            raise http.client.IncompleteRead(content)
        return Reply(answer.status, content)
