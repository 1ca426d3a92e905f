"""How do frames reach sockets without ever waiting for a slow one?  Plain sends in a loop; a bounded queue behind.

`number` is the message that a frame is, or NOTHING for frames that are none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from lying_gateway.book import Book
from lying_gateway.client import Client

NOTHING: Final = -1
QUEUE_FRAMES: Final = 10_000
QUEUE_BYTES: Final = 8 << 20
_CHUNK: Final = 2000


class Keeper(Protocol):
    """Who keeps the connections."""

    def watch(self, client: Client) -> None:
        """Tell when there is room in the socket, if it is `writing`, or no more."""

    def lost(self, client: Client, why: str) -> None:
        """The connection is of no use any more."""

    def drained(self, client: Client) -> None:
        """The queue of a leaving client is empty."""


class Outlet:
    """All that is sent goes through here."""

    def __init__(self, keeper: Keeper, book: Book, *, record: bool, batched: bool) -> None:
        self._keeper = keeper
        self._book = book
        self._record = record
        self._batched = batched
        self._waiting: dict[Client, None] = {}  # with frames of the present tick
        self.deliveries = 0
        self.queue_max = 0
        self.send_all: Callable[[Iterable[Client], bytes, int], None] = self._send_all
        """Send a message to clients to whom a plain send will do."""
        if batched:
            self.send_all = self._collect_all
        elif record:
            self.send_all = self._send_all_recorded

    def put(self, client: Client, data: bytes, number: int) -> None:
        """Send one frame to any client, behind what is queued or collected for it."""
        if client.state not in ("open", "leaving"):
            return
        if self._batched and number != NOTHING:
            self._collect(client, data, number)
            return
        self._send_batch(client, {})
        self._put(client, data, () if number == NOTHING else (number,))

    def spoil(self, client: Client, data: bytes) -> None:
        """Send a frame that stands for no message, in the order of the messages."""
        if self._batched:
            self._collect(client, data, NOTHING)
        else:
            self.put(client, data, NOTHING)

    def writable(self, client: Client) -> None:
        """There is room again: send on what is queued."""
        while client.out:
            data, numbers = client.out[0]
            before_ns = time.monotonic_ns()
            try:
                sent = client.send(data[client.out_at :] if client.out_at else data)
            except BlockingIOError:
                break
            except OSError as error:
                self._keeper.lost(client, _why(error))
                return
            client.out_at += sent
            if client.out_at < len(data):
                break
            self._gone(client, numbers, before_ns)
            client.out.popleft()
            client.out_at = 0
            client.out_bytes -= len(data)
        if not client.out:
            self._no_more(client)

    def tick(self) -> None:
        """Send what was collected; clients of whom the same is due share the joined bytes."""
        waiting, self._waiting = self._waiting, {}
        joined: dict[tuple[bytes, ...], bytes] = {}
        for client in waiting:
            self._send_batch(client, joined)

    def tick_one(self, client: Client) -> None:
        """Send what was collected for one client."""
        self._send_batch(client, {})

    def unsent(self, client: Client) -> list[int]:
        """Give up what is queued or collected; the messages that the kernel had not taken whole."""
        numbers = [number for _, held in client.out for number in held]
        numbers += [number for _, number in client.batch if number != NOTHING]
        client.out.clear()
        client.batch.clear()
        client.out_at = client.out_bytes = 0
        self.flush_record(client)
        return numbers

    def flush_record(self, client: Client) -> None:
        """Write the times of sends that were not written yet."""
        number, before_ns, after_ns = client.recorded
        if number:
            self._book.write("sends", connection=client.connection, n=number, before_ns=before_ns, after_ns=after_ns)
            client.recorded = ([], [], [])

    # -- a message to many

    def _send_all(self, clients: Iterable[Client], data: bytes, number: int) -> None:
        size = len(data)
        gone = 0
        for client in clients:
            try:
                sent = client.send(data)
                if sent == size:
                    gone += 1
                    continue
            except BlockingIOError:
                sent = 0
            except OSError as error:
                client.out.append((data, (number,)))
                self._keeper.lost(client, _why(error))
                continue
            self._queue(client, data, (number,), sent)
        self.deliveries += gone

    def _send_all_recorded(self, clients: Iterable[Client], data: bytes, number: int) -> None:
        for client in clients:
            self._put(client, data, (number,))

    def _collect_all(self, clients: Iterable[Client], data: bytes, number: int) -> None:
        pair = (data, number)
        waiting = self._waiting
        for client in clients:
            client.batch.append(pair)
            waiting[client] = None

    # -- to one

    def _collect(self, client: Client, data: bytes, number: int) -> None:
        client.batch.append((data, number))
        self._waiting[client] = None

    def _send_batch(self, client: Client, joined: dict[tuple[bytes, ...], bytes]) -> None:
        if not client.batch:
            return
        frames, numbers = zip(*client.batch, strict=True)
        client.batch.clear()
        data = joined.get(frames)
        if data is None:
            data = joined[frames] = b"".join(frames)
        self._put(client, data, tuple(number for number in numbers if number != NOTHING))

    def _put(self, client: Client, data: bytes, numbers: tuple[int, ...]) -> None:
        sent = 0
        if not client.out:
            before_ns = time.monotonic_ns()
            try:
                sent = client.send(data)
            except BlockingIOError:
                pass
            except OSError as error:
                client.out.append((data, numbers))
                self._keeper.lost(client, _why(error))
                return
            if sent == len(data):
                self._gone(client, numbers, before_ns)
                return
        self._queue(client, data, numbers, sent)

    def _gone(self, client: Client, numbers: tuple[int, ...], before_ns: int) -> None:
        self.deliveries += len(numbers)
        if self._record and numbers:
            after_ns = time.monotonic_ns()
            number, before, after = client.recorded
            for one in numbers:
                number.append(one)
                before.append(before_ns)
                after.append(after_ns)
            if len(number) >= _CHUNK:
                self.flush_record(client)

    def _queue(self, client: Client, data: bytes, numbers: tuple[int, ...], sent: int) -> None:
        if not client.out:
            client.out_at = sent
        client.out.append((data, numbers))
        client.out_bytes += len(data)
        self.queue_max = max(self.queue_max, len(client.out))
        if len(client.out) > QUEUE_FRAMES or client.out_bytes > QUEUE_BYTES:
            self._keeper.lost(client, "slow")
            return
        if not client.writing:
            client.writing = True
            self._keeper.watch(client)
        client.refresh()

    def _no_more(self, client: Client) -> None:
        if client.writing:
            client.writing = False
            self._keeper.watch(client)
        client.refresh()
        if client.state == "leaving":
            self._keeper.drained(client)


def _why(error: OSError) -> str:
    return "peer gone" if isinstance(error, ConnectionError) else f"peer gone: {error.strerror}"
