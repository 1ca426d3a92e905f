"""What reads the connections where no epoll set can?  One greenlet each: TLS, compression, other systems.

It costs 2.5 times as much as the epoll source and has no kernel stamps; cutter and accounting are the same.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, Literal

import gevent

from loadtests.drive.consume import kernel_socket
from loadtests.drive.consume.connection import OUTGOING_MAX, Connection
from loadtests.drive.consume.epoll_source import BYTES_A_READ, SLOW_READS_PER_S, EpollSource
from loadtests.drive.consume.frames import ProtocolError
from loadtests.drive.consume.read_accounting import SampleGaps
from loadtests.model.profile.profile import Profile

if TYPE_CHECKING:
    from loadtests.drive.consume.receiver import Receiver

_READS_A_TURN: Final = 16
_NS_A_TURN: Final = 2_000_000
"""A connection whose every read is dear keeps the others waiting no longer than that."""


Name = Literal["greenlet", "library"]


class GreenletSource:
    """Reads gevent's own sockets, plain or TLS; "library" where what comes is inflated by one."""

    def __init__(self, receiver: Receiver, *, gaps: SampleGaps, name: Name = "greenlet") -> None:
        self.name = name
        self._receiver = receiver
        self._gaps = gaps
        self._until_sample = gaps.draw()
        self._readers: dict[Connection, Any] = {}

    @property
    def crowded(self) -> bool:
        """Whether more may wait than is read at once; a greenlet that has not run yet does not know it."""
        return bool(self._readers)

    def adopt(self, sock: Any) -> Any:
        """The socket as it is."""
        sock.settimeout(None)
        return sock

    def add(self, connection: Connection) -> None:
        """Begin to read."""
        self._readers[connection] = gevent.spawn(self._read, connection)

    def remove(self, connection: Connection) -> None:
        """End reading and close the socket; the reader ends at its next switch."""
        reader = self._readers.pop(connection, None)
        if reader is not None and reader is not gevent.getcurrent():
            reader.kill(block=False)
        connection.sock.close()

    def hold(self, connection: Connection) -> None:
        """Read nothing more of it until `release`: what comes waits in the kernel. Safe to repeat."""
        reader = self._readers.get(connection)
        if reader is not None:
            self._readers[connection] = None
            reader.kill(block=False)

    def release(self, connection: Connection) -> None:
        """Read it again; of one that is not held nothing changes."""
        if self.holds(connection):
            self.add(connection)

    def holds(self, connection: Connection) -> bool:
        """Whether it is held."""
        return self._readers.get(connection, connection) is None

    def pace(self, connection: Connection, read_bytes_per_s: int | None) -> None:
        """Read it so slowly from the next read on; None: as fast as it comes."""
        connection.read_bytes_per_s = read_bytes_per_s

    def send(self, connection: Connection, data: bytes) -> None:
        """Send without waiting: a greenlet of its own drains what is outgoing. Raises OSError where too much waits."""
        if len(connection.outgoing) + len(data) > OUTGOING_MAX:
            raise BlockingIOError("the peer takes nothing")
        connection.outgoing += data
        if not connection.writing:
            connection.writing = True
            gevent.spawn(self._write, connection)

    def close(self) -> None:
        """Stop reading anything."""
        gevent.killall([reader for reader in self._readers.values() if reader is not None], block=False)
        self._readers.clear()

    def _write(self, connection: Connection) -> None:
        try:
            while connection.outgoing:
                data = bytes(connection.outgoing)
                connection.outgoing.clear()
                connection.sock.sendall(data)
        except OSError as error:
            self._receiver.broken(connection, error)
        finally:
            connection.writing = False

    def _read(self, connection: Connection) -> None:
        receiver = self._receiver
        reads = 0
        turn_ns = monotonic_ns()
        finished = False
        try:
            while connection.end is None:
                pace = connection.read_bytes_per_s
                size = BYTES_A_READ if pace is None else min(BYTES_A_READ, max(1, pace // SLOW_READS_PER_S))
                chunk = connection.recv(size)
                now = monotonic_ns() + receiver.clock_offset_ns()
                self._until_sample -= 1
                sampled = self._until_sample <= 0
                if sampled:
                    self._until_sample = self._gaps.draw()
                receiver.received(connection, chunk, now, sampled=sampled)
                reads += 1
                if pace is not None:
                    gevent.sleep(len(chunk) / pace)
                elif reads % _READS_A_TURN == 0 or monotonic_ns() - turn_ns > _NS_A_TURN:
                    gevent.sleep(0)  # a socket that always has bytes would not let others run
                    turn_ns = monotonic_ns()
            finished = True
        except OSError as error:
            finished = True
            receiver.broken(connection, error)
        except ProtocolError as error:
            finished = True
            receiver.refused(connection, error)
        except gevent.GreenletExit:
            finished = True
        finally:
            if not finished:
                receiver.failed(connection)


def choose_source(
    receiver: Receiver, profile: Profile, run: str, asked: str | None = None
) -> EpollSource | GreenletSource:
    """The source that can read this target's connections; `asked`: "hub-epoll" or "greenlet" instead of the best."""
    sampling = profile.sampling
    gaps = SampleGaps(1 if sampling.stamps == "every" else sampling.one_in, f"{profile.seed}:samples:{run}")
    if profile.target.compression:
        return GreenletSource(receiver, gaps=gaps, name="library")
    if asked == "greenlet" or (asked is None and not EpollSource.available(tls=profile.target.tls)):
        return GreenletSource(receiver, gaps=gaps)
    wanted = sampling.stamps != "off" and kernel_socket.STAMPS_AVAILABLE
    return EpollSource(receiver, gaps=gaps, kernel_stamps=wanted)
