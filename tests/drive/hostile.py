"""A target that serves some consumers well and attacks the others: each attack is one way to cost a client its memory.

Run as a process like `broadcaster`, whose plan it takes; besides, `attacks` on the slots from `victims` on, one each.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import itertools
import os
import re
import zlib
from collections.abc import AsyncIterator
from typing import Any

from broadcaster import GUID, Broadcaster, agreement, frame

PIECE = 64 * 1024
MOST = 64 * 1024 * 1024
"""What an attack sends at most to one connection."""


async def silent() -> AsyncIterator[bytes]:
    """Accepts and says nothing."""
    await asyncio.Event().wait()
    yield b""


async def endless_header() -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 101 Switching Protocols\r\n"
    while True:
        yield b"X-Long: " + b"y" * 4000 + b"\r\n"


async def dripping_header() -> AsyncIterator[bytes]:
    for byte in b"HTTP/1.1 101 Switching Protocols\r\n" + b"X-Long: y\r\n" * 1000:
        yield bytes((byte,))
        await asyncio.sleep(0.01)


async def dripping_frame() -> AsyncIterator[bytes]:
    """A frame of 4 MiB that will be there tomorrow."""
    yield b"\x82\x7f" + (4 * 1024 * 1024).to_bytes(8, "big")
    while True:
        yield b"x"
        await asyncio.sleep(0.005)


async def endless_fragments() -> AsyncIterator[bytes]:
    yield frame(b"", 2, 0)
    while True:
        yield frame(b"x" * 8192, 0, 0)


async def empty_fragments() -> AsyncIterator[bytes]:
    """Legal for ever: a message that grows by nothing."""
    yield frame(b"", 1, 0)
    while True:
        yield frame(b"", 0, 0) * 4000


async def giant() -> AsyncIterator[bytes]:
    yield b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff"
    while True:
        yield b"x" * PIECE


async def highest_bit() -> AsyncIterator[bytes]:
    yield b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x01"
    while True:
        yield b"x" * PIECE


async def pings() -> AsyncIterator[bytes]:
    while True:
        yield frame(b"p" * 125, 9) * 400


async def empty_frames() -> AsyncIterator[bytes]:
    while True:
        yield frame(b"") * 8000


async def compressed() -> AsyncIterator[bytes]:
    yield b"\xc1\x05\xf2\x48\xcd\x00\x00"
    while True:
        yield b"\xc1\x00" * 1000


async def masked() -> AsyncIterator[bytes]:
    yield b"\x81\x85mask\x05\x04\x1f\x07\x02"


async def closes() -> AsyncIterator[bytes]:
    yield frame(b"\x03\xe9", 8) * 1000


async def nested() -> AsyncIterator[bytes]:
    """JSON that is nested deeper than any stack."""
    while True:
        yield frame(b'{"data":' + b"[" * 100_000)


async def probes() -> AsyncIterator[bytes]:
    """As many probe messages as it can make up."""
    for first in itertools.count(step=1000):
        who = [b'{"r":"run-1~probe","s":0,"q":%d,"d":1,"t":1}' % number for number in range(first, first + 1000)]
        yield b"".join(frame(b'{"data":{"tickstorm":%b}}' % each) for each in who)


@functools.cache
def deflated(size: int) -> bytes:
    """A text frame of a few KiB that inflates to so many bytes."""
    deflate = zlib.compressobj(wbits=-15)
    payload = deflate.compress(bytes(size)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    wire = frame(payload[:-4])
    return b"\xc1" + wire[1:]


async def bombs() -> AsyncIterator[bytes]:
    """Each as much as one message may be."""
    wire = deflated(4 * 1024 * 1024)
    while True:
        yield wire


async def one_bomb() -> AsyncIterator[bytes]:
    yield deflated(64 * 1024 * 1024)


async def garbage() -> AsyncIterator[bytes]:
    while True:
        yield os.urandom(PIECE)


BEFORE = {"silent": silent, "endless_header": endless_header, "dripping_header": dripping_header}
BEHIND = {
    attack.__name__: attack
    for attack in (
        *(dripping_frame, endless_fragments, empty_fragments, giant, highest_bit, pings, empty_frames),
        *(compressed, masked, closes, nested, probes, garbage, bombs, one_bomb),
    )
}


class Hostile(Broadcaster):
    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        slot = re.search(rb" consumer/(\d+) ", head)
        assert slot
        victim = int(slot[1]) - self.plan["victims"]
        if victim < 0:
            again = asyncio.StreamReader()
            again.feed_data(head)
            passing = asyncio.create_task(self.pass_on(reader, again))
            await super().serve(again, writer)
            passing.cancel()
            return
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        try:
            await self.attack(self.plan["attacks"][victim], head, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    @staticmethod
    async def pass_on(reader: asyncio.StreamReader, again: asyncio.StreamReader) -> None:
        while piece := await reader.read(PIECE):
            again.feed_data(piece)
        again.feed_eof()

    async def attack(self, name: str, head: bytes, writer: asyncio.StreamWriter) -> None:
        """Never reads: what the victim says stays in its own buffers."""
        if name in BEHIND:
            key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
            assert key
            accept = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + agreement(head) + b"\r\n\r\n"
            )
        sent = 0
        async for piece in (BEFORE | BEHIND)[name]():
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
            if sent > MOST:
                break
        await asyncio.Event().wait()


def main(plan: dict[str, Any]) -> None:
    asyncio.run(Hostile(plan).run())
