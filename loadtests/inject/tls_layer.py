"""What lies between a probe's words and the bytes on its connection: nothing, or TLS?  Touches no socket."""

from __future__ import annotations

import ssl
from typing import Protocol


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
