"""How does the gateway live?  One thread, one epoll set: Redis in, clients out, timers between, till told to end."""

from __future__ import annotations

import os
import resource
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lying_gateway.book import Book
from lying_gateway.client import Client
from lying_gateway.connections import Connections
from lying_gateway.event import Event
from lying_gateway.plan import LiePlan
from lying_gateway.redis_feed import RedisFeed
from lying_gateway.timers import Timers

_SLICE_NS: Final = 2_000_000
"""How long messages are sent before sockets are looked at again."""
_MINDING_NS: Final = 100_000_000
_SOON_NS: Final = 5_000_000
"""epoll waits whole milliseconds; nearer times are waited for by select, which knows microseconds."""
_SPIN_NS: Final = 150_000
"""To wake up takes about so long; the rest of a wait is spent looking."""
_ACCEPTS: Final = 64
_GOODBYE_NS: Final = 1_000_000_000


class Gateway:
    """One gateway, from its listening to the last line of its book."""

    def __init__(self, *, host: str, port: int, redis: tuple[str, int], plan: LiePlan, book: Path) -> None:
        raise_file_limit()
        self._began_ns = time.monotonic_ns()
        self._plan = plan
        self._book = Book(book)
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers = Timers()
        self.connections = Connections(plan, self._book, self._timers, self)
        self._listener = socket.create_server((host, port), backlog=4096)
        self._listener.setblocking(False)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]
        self._add(self._listener, lambda mask: self._accept())
        self._feed = RedisFeed(redis, self._watch_redis, self._redis_told)
        self._wake, self._waker = socket.socketpair()
        self._add(self._wake, lambda mask: self._woken())
        self._stopping = False
        self._leaked: list[bytes] = []
        self._leaked_bytes = 0
        self._booked_leak = 0
        self._ready: Callable[[], None] | None = None
        self.received = self.forwarded = self.bad = 0
        self._runs: dict[str, int] = {}  # run -> due of its first message

    def run(self, ready: Callable[[], None]) -> None:
        """Serve until `stop` was called; `ready` is called when the subscription stands for the first time."""
        self._ready = ready
        self._mind()
        if self._plan.batch_ms:
            self._tick()
        while not self._stopping:
            self._turn()
        self._listener.close()
        self._feed.close()
        self.connections.go_away()
        until_ns = time.monotonic_ns() + _GOODBYE_NS
        while self.connections.clients and time.monotonic_ns() < until_ns:
            self._turn()
        self.connections.cut_all()
        self._book.close(self.connections.outlet.deliveries)

    def stop(self) -> None:
        """End the loop; may be called from a signal handler."""
        self._stopping = True
        self._waker.send(b"x")

    def _woken(self) -> None:
        self._wake.recv(16)

    # -- what connections need

    def watch(self, client: Client) -> None:
        """Look out for what a client's connection waits for."""
        mask = select.EPOLLIN | (select.EPOLLOUT if client.writing else 0)
        self._epoll.modify(client.sock, mask)

    def forget(self, client: Client) -> None:
        """Close a client's socket."""
        self._handlers.pop(client.sock.fileno(), None)
        client.sock.close()  # which takes it out of the epoll set

    def health(self) -> dict[str, Any]:
        """As the reference target says it."""
        return {
            "status": "ready" if self._feed.subscribed else "degraded",
            "redis": "subscribed" if self._feed.subscribed else "connecting",
            "clients": sum(self.connections.count().values()),
            "subscribed": self.connections.subscribed,
            "version": "lying",
        }

    def stats(self) -> dict[str, Any]:
        """As the reference target says it, where it applies."""
        return {
            "received": self.received,
            "forwarded": self.forwarded,
            "deliveries": self.connections.outlet.deliveries,
            "bad": {"no_event": self.bad},
            "clients": self.connections.count(),
            "subscribed": self.connections.subscribed,
            "redis_reconnects": max(0, self._feed.reconnects),
            "waiting": len(self._feed.messages),
            "slow_disconnected": self.connections.slow,
            "queue_max": self.connections.outlet.queue_max,
            "rss_bytes": rss_bytes(),
            "leaked_bytes": self._leaked_bytes,
            "uptime_s": (time.monotonic_ns() - self._began_ns) / 1e9,
        }

    # -- the loop

    def _turn(self) -> None:
        for fd, mask in self._wait():
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(mask)
        self._timers.run()
        messages = self._feed.messages
        until_ns = time.monotonic_ns() + _SLICE_NS
        while messages:
            channel, payload, got_ns = messages.popleft()
            self._message(Event(self.received, channel.decode(errors="replace"), payload, got_ns))
            if time.monotonic_ns() > until_ns:
                break

    def _wait(self) -> list[tuple[int, int]]:
        if self._feed.messages:
            return self._epoll.poll(0)
        next_ns = self._timers.next_ns()
        left_ns = _MINDING_NS if next_ns is None else max(0, next_ns - time.monotonic_ns())
        if left_ns < _SOON_NS:
            select.select([self._epoll], [], [], max(0, left_ns - _SPIN_NS) / 1e9)
            return self._epoll.poll(0)
        return self._epoll.poll((left_ns - _SOON_NS / 2) / 1e9)

    def _message(self, event: Event) -> None:
        self.received += 1
        if event.may_be_spoilt:
            assert event.run is not None
            first_ns = self._runs.get(event.run)
            if first_ns is None:
                first_ns = self._runs[event.run] = event.due_ns
                self._book.write("run", run=event.run, n=event.n, due0=first_ns)
            event.since_ns = event.due_ns - first_ns
        self._book.event(event)
        if not event.forwarded:
            self.bad += 1
            return
        self.forwarded += 1
        self.connections.deliver(event)

    def _mind(self) -> None:
        """What is to be done several times a second."""
        self._timers.after(_MINDING_NS, self._mind)
        if not self._stopping:
            self._feed.mind()
            self._leak()
        self._book.flush()

    def _leak(self) -> None:
        if not self._plan.leak_bytes_per_s:
            return
        now_ns = time.monotonic_ns()
        missing = round(self._plan.leak_bytes_per_s * (now_ns - self._began_ns) / 1e9) - self._leaked_bytes
        if missing > 0:
            self._leaked.append(b"\x01" * missing)  # not zeros: these need no memory of their own
            self._leaked_bytes += missing
        if now_ns - self._booked_leak >= 1_000_000_000:
            self._booked_leak = now_ns
            self._book.write("leak", bytes=self._leaked_bytes, at_ns=now_ns)

    def _tick(self) -> None:
        self._timers.after(round(self._plan.batch_ms * 1e6), self._tick)
        self.connections.outlet.tick()

    # -- sockets

    def _add(self, sock: socket.socket, handler: Callable[[int], None]) -> None:
        self._handlers[sock.fileno()] = handler
        self._epoll.register(sock, select.EPOLLIN)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS):
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # none left, or it is gone again
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = self.connections.new(sock)
            self._add(sock, lambda mask, client=client: self.connections.ready(client, mask))  # type: ignore[misc]

    def _watch_redis(self, feed: RedisFeed) -> None:
        assert feed.sock is not None
        mask = select.EPOLLOUT if feed.connecting else select.EPOLLIN
        if feed.connecting:
            self._handlers[feed.sock.fileno()] = lambda mask: feed.ready()
            self._epoll.register(feed.sock, mask)
        else:
            self._epoll.modify(feed.sock, mask)

    def _redis_told(self, state: str) -> None:
        waiting = len(self._feed.messages)
        self._book.write("redis", state=state, n=self.received + waiting, at_ns=time.monotonic_ns())
        if state == "subscribed" and self._ready is not None:
            ready, self._ready = self._ready, None
            ready()


def raise_file_limit() -> None:
    """Thousands of connections need as many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def rss_bytes() -> int:
    """Resident memory of this process."""
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
