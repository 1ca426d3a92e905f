"""What does Redis publish, and is the subscription alive?  One connection that heals itself, on the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import cast

from reference_target.resp import ErrorReply, Message, ProtocolError, RespReader, command
from reference_target.settings import RedisSettings

log = logging.getLogger(__name__)
FIRST_PAUSE_S = 0.05
PAUSE_FACTOR = 2
LONGEST_PAUSE_S = 0.5
CONNECT_S = 1.0
BIG_READ_BYTES = 32 << 10


class _Link(asyncio.Protocol):
    """One connection, from its making to its loss."""

    def __init__(self, owner: Subscriber, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._loop = loop
        self._reader = RespReader()
        self._confirmed: set[bytes] = set()
        self.subscribed: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[str] = loop.create_future()
        self.heard_at = loop.time()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has the methods, not the base class
        if (login := self._owner.login) is not None:
            self._transport.write(command("AUTH", *login))
        self._transport.write(command("CLIENT", "SETNAME", self._owner.name))
        self._transport.write(command("SUBSCRIBE", *self._owner.channels))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(str(exc) if exc else "closed by the peer")

    def data_received(self, data: bytes) -> None:
        self.heard_at = self._loop.time()
        try:
            replies = self._reader.feed(data)
        except ProtocolError as error:
            self._end(str(error))
            return
        messages: list[Message] = []
        for reply in replies:
            if type(reply) is Message:
                messages.append(reply)
            elif isinstance(reply, list) and len(reply) == 3 and reply[0] == b"subscribe":
                self._confirm(reply[1])
            elif isinstance(reply, ErrorReply) and not self.subscribed.done() and "unknown" not in reply.text.lower():
                self._end(reply.text)  # such as NOAUTH or LOADING; a server without SETNAME may stay
        if messages:
            self._owner.on_messages(messages)
        if len(data) >= BIG_READ_BYTES and self._transport is not None and not self._transport.is_closing():
            # one turn of the loop for the clients' writes, or a burst would pile up in their queues unsent
            self._transport.pause_reading()
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _confirm(self, channel: object) -> None:
        assert isinstance(channel, bytes)
        self._confirmed.add(channel)
        if len(self._confirmed) == len(self._owner.channels) and not self.subscribed.done():
            self.subscribed.set_result(None)

    def ping(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(command("PING"))

    def _end(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)
        self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Subscriber:
    """Keeps channels subscribed and hands on what comes; `on_messages` must not wait."""

    def __init__(
        self,
        settings: RedisSettings,
        channels: Sequence[str],
        on_messages: Callable[[Sequence[Message]], None],
        *,
        name: str,
    ) -> None:
        self._settings = settings
        self.login = (settings.user, settings.password) if settings.password else None
        self.channels = tuple(channels)
        self.on_messages = on_messages
        self.name = name
        self.subscribed = False
        self.reconnects = 0  # subscriptions confirmed after the first one
        self.missed_periods = 0  # times that the subscription was lost
        self._missed_s = 0.0
        self._since: float | None = None  # when the present time without subscription began
        self._ever = False

    @property
    def missed_s(self) -> float:
        """Seconds without subscription since the start."""
        open_s = 0.0 if self._since is None else asyncio.get_running_loop().time() - self._since
        return self._missed_s + open_s

    async def run(self) -> None:
        """Subscribe and stay so, until cancelled."""
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        pause_s = FIRST_PAUSE_S
        while True:
            if await self._hold_one(loop):
                pause_s = FIRST_PAUSE_S
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * PAUSE_FACTOR, LONGEST_PAUSE_S)

    async def _hold_one(self, loop: asyncio.AbstractEventLoop) -> bool:
        """One connection until it is lost; whether it had been subscribed."""
        link = _Link(self, loop)
        try:
            async with asyncio.timeout(CONNECT_S):
                await loop.create_connection(lambda: link, self._settings.host, self._settings.port)
                await asyncio.wait((link.subscribed, link.lost), return_when=asyncio.FIRST_COMPLETED)
            if not link.subscribed.done():
                log.debug("not subscribed: %s", link.lost.result())
                return False
            self._begin(loop)
            reason = await self._watch(link, loop)
        except (OSError, TimeoutError) as error:
            log.debug("no connection to Redis: %s", error)
            return False
        finally:
            if self.subscribed:
                self._cease(loop)
            link.close()
        log.warning("the subscription was lost: %s", reason)
        return True

    async def _watch(self, link: _Link, loop: asyncio.AbstractEventLoop) -> str:
        """Why the connection was lost. Whatever comes after a PING proves that the peer lives."""
        while True:
            await asyncio.wait((link.lost,), timeout=self._settings.ping_s)
            if link.lost.done():
                return link.lost.result()
            asked_at = loop.time()
            link.ping()
            while link.heard_at < asked_at:
                left_s = asked_at + self._settings.ping_timeout_s - loop.time()
                if left_s <= 0:
                    return "no answer to PING"
                await asyncio.wait((link.lost,), timeout=min(left_s, 0.1))
                if link.lost.done():
                    return link.lost.result()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self.subscribed = True
        if self._since is not None:
            self._missed_s += loop.time() - self._since
            self._since = None
        if self._ever:
            self.reconnects += 1
        self._ever = True

    def _cease(self, loop: asyncio.AbstractEventLoop) -> None:
        self.subscribed = False
        self.missed_periods += 1
        self._since = loop.time()
