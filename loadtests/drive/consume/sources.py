"""What reads the connections of this process?  One private epoll set, or where none can, one greenlet for each.

`EpollSource` stands behind one watcher of gevent's hub, and reads plain TCP. `GreenletSource` reads TLS, compression
and on other systems; it costs 2.5 times as much and has no kernel stamps. Cutter and accounting are the same.

Theory of operation of the set.  gevent reads each socket in a greenlet of its own, which costs switches for every
message.  Here a socket is taken out of gevent's hands (`adopt`) and put into an epoll set.  The set's own descriptor is
readable while a socket in it is, so the hub watches that one alone.  `_turn` reads up to SOCKETS_A_TURN ready sockets
once each and returns; the set is level-triggered, so what is left makes the watcher fire again, after the hub's other
callbacks.  While a burst of this process's publishers is behind its plan a turn reads nothing (`Receiver.waits`).

Example: 64 consumers receive a frame at once.

    turn 1      16 sockets are reported and read; `crowded`, for more may wait
                other callbacks of the hub: timers, replies to publishers
    turn 2-4    the next 16 each, because the kernel goes round the ready sockets

A read that is the next step of the account's reference is one `recv`, one comparison and three entries in the log.
A paused connection (slow or held) is out of the set, which would report its waiting bytes again and again; its bytes
stay in the kernel until TCP's window is full and the target feels backpressure.

Invariants:
- Nothing in a turn blocks or switches, and its work is bounded, so that the hub stays responsive.
- A connection is in the set exactly while its `resume` is None.
- An unforeseen error ends the connection that was read: the set would report it for ever.

Source: epoll(7) (level-triggered; a set within a poll), epoll_wait(2) (round robin beyond `maxevents`).
"""

from __future__ import annotations

import contextlib
import select as _select
import socket as _socket
import sys
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, Literal

import gevent
from gevent import monkey

from loadtests.drive.consume import kernel_socket
from loadtests.drive.consume.connection import OUTGOING_MAX, Connection
from loadtests.drive.consume.frames import ProtocolError
from loadtests.drive.consume.kernel_socket import receive_stamped, switch_on_stamps
from loadtests.drive.consume.read_accounting import SampleGaps
from loadtests.model.profile.profile import Profile

if TYPE_CHECKING:
    from loadtests.drive.consume.receiver import Receiver

SOCKETS_A_TURN: Final = 16
BYTES_A_READ: Final = 16 * 1024
SLOW_READS_PER_S: Final = 10
_READ: Final = _select.EPOLLIN if hasattr(_select, "EPOLLIN") else 1
_WRITE: Final = _select.EPOLLOUT if hasattr(_select, "EPOLLOUT") else 4
_READS_A_TURN: Final = 16
_NS_A_TURN: Final = 2_000_000
"""A connection whose every read is dear keeps the others waiting no longer than that."""

Name = Literal["greenlet", "library"]


class _Held:
    """Stands where a paused connection has its timer: nothing resumes it but `release`."""

    def stop(self) -> None: ...

    def close(self) -> None: ...


_HELD: Final = _Held()


class EpollSource:
    """Reads sockets that were handed over; each belongs to one connection."""

    name: Final = "hub-epoll"

    def __init__(self, receiver: Receiver, *, gaps: SampleGaps, kernel_stamps: bool) -> None:
        self._receiver = receiver
        self._gaps = gaps
        self._until_sample = gaps.draw()
        self.crowded = False  # more sockets had something than one turn reads
        self._stamps = kernel_stamps
        self._connections: dict[int, Connection] = {}
        self._epoll = monkey.get_original("select", "epoll")()
        hub: Any = gevent.get_hub()
        self._timer = hub.loop.timer
        self._watcher = hub.loop.io(self._epoll.fileno(), 1)
        self._watcher.start(self._turn)

    @staticmethod
    def available(*, tls: bool) -> bool:
        """Whether this machine and connection can be read this way."""
        return sys.platform == "linux" and not tls

    def adopt(self, sock: Any) -> Any:
        """A socket of gevent's as this source needs it: the same descriptor, non-blocking, out of gevent's hands.

        Raises OSError where it cannot be had; it is closed then.
        """
        taken = monkey.get_original("socket", "socket")(fileno=sock.detach())
        try:
            taken.setblocking(False)
            taken.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        except OSError:
            taken.close()
            raise
        return taken

    def add(self, connection: Connection) -> None:
        """Begin to read."""
        if self._stamps:
            connection.stamped = switch_on_stamps(connection.sock)
        fd = connection.sock.fileno()
        self._connections[fd] = connection
        self._epoll.register(fd, _READ)

    def remove(self, connection: Connection) -> None:
        """End reading and close the socket."""
        if connection.resume is not None:
            connection.resume.stop()
            connection.resume.close()
            connection.resume = None
        fd = connection.sock.fileno()
        if self._connections.pop(fd, None) is not None:
            with contextlib.suppress(OSError):  # a paused one is not in the set
                self._epoll.unregister(fd)
        connection.sock.close()

    def hold(self, connection: Connection) -> None:
        """Read nothing more of it until `release`: what comes waits in the kernel. Safe to repeat."""
        if connection.resume is None:
            self._epoll.unregister(connection.sock.fileno())
        else:
            connection.resume.stop()
            connection.resume.close()
        connection.resume = _HELD

    def release(self, connection: Connection) -> None:
        """Read it again; of one that is not held nothing changes."""
        if connection.resume is _HELD:
            self._resume(connection)

    def holds(self, connection: Connection) -> bool:
        """Whether it is held."""
        return connection.resume is _HELD

    def pace(self, connection: Connection, read_bytes_per_s: int | None) -> None:
        """Read it so slowly from now on; None: as fast as it comes."""
        connection.read_bytes_per_s = read_bytes_per_s
        if connection.resume is not None and not self.holds(connection):
            connection.resume.stop()
            self._resume(connection)

    def send(self, connection: Connection, data: bytes) -> None:
        """Send without waiting; the rest goes when the socket takes it. Raises OSError."""
        if not connection.outgoing:
            try:
                data = data[connection.sock.send(data) :]
            except BlockingIOError:
                pass
        if data:
            if len(connection.outgoing) + len(data) > OUTGOING_MAX:
                raise BlockingIOError("the peer takes nothing")
            connection.outgoing += data
            if not connection.writing:
                connection.writing = True
                self._watch(connection)

    def close(self) -> None:
        """Stop reading anything."""
        self._watcher.stop()
        self._watcher.close()
        self._epoll.close()

    def _watch(self, connection: Connection) -> None:
        if connection.resume is None:
            self._epoll.modify(connection.sock.fileno(), _READ | _WRITE if connection.writing else _READ)

    def _turn(self) -> None:
        receiver = self._receiver
        if receiver.waits:
            return
        accountant = receiver.accountant
        offset = receiver.clock_offset_ns()
        connections = self._connections
        found = self._epoll.poll(0, SOCKETS_A_TURN)
        self.crowded = len(found) == SOCKETS_A_TURN
        for fd, events in found:
            connection = connections.get(fd)
            if connection is None:
                continue
            finished = False
            try:
                if events & _WRITE:
                    self._write(connection)
                self._until_sample -= 1
                if self._until_sample <= 0 or connection.read_bytes_per_s is not None:
                    self._read_unusual(connection, offset)
                else:
                    chunk = connection.recv(BYTES_A_READ)
                    now = monotonic_ns() + offset
                    account = connection.account
                    step = account.at.next
                    if step is not None and chunk == step.frame and now < accountant.slice_end:
                        account.at = step
                        log = account.cells.log
                        log += (account, now, step.batch)
                    else:
                        receiver.received(connection, chunk, now)
                finished = True
            except BlockingIOError:
                finished = True
            except OSError as error:
                finished = True
                receiver.broken(connection, error)
            finally:
                # An unforeseen error goes to gevent's hub, which reports it; this socket must not cause it again.
                if not finished:
                    receiver.failed(connection)

    def _read_unusual(self, connection: Connection, offset: int) -> None:
        """A sampled read, or one of a slow reader."""
        size = BYTES_A_READ
        pace = connection.read_bytes_per_s
        if pace is not None:
            size = min(size, max(1, pace // SLOW_READS_PER_S))
        sampled = self._until_sample <= 0
        kernel: int | None = None
        if sampled:
            self._until_sample = self._gaps.draw()
        if sampled and connection.stamped:
            chunk, now, kernel = receive_stamped(connection.sock, size)
            now += offset
            kernel = None if kernel is None else kernel + offset
        else:
            chunk = connection.recv(size)
            now = monotonic_ns() + offset
        self._receiver.received(connection, chunk, now, sampled=sampled, kernel_ns=kernel)
        if pace is not None and connection.end is None:
            self._pause(connection, len(chunk) / pace)

    def _pause(self, connection: Connection, seconds: float) -> None:
        """Take a slow reader out of the set, which would report its waiting bytes again and again."""
        self._epoll.unregister(connection.sock.fileno())
        connection.resume = self._timer(seconds)
        connection.resume.start(self._resume, connection)

    def _resume(self, connection: Connection) -> None:
        connection.resume.close()
        connection.resume = None
        self._epoll.register(connection.sock.fileno(), _READ | _WRITE if connection.writing else _READ)

    def _write(self, connection: Connection) -> None:
        sent = connection.sock.send(connection.outgoing)
        del connection.outgoing[:sent]
        if not connection.outgoing:
            connection.writing = False
            self._watch(connection)


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
