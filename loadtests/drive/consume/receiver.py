"""What happens to the bytes of this process's consumers?  Joins source, accounting, answers and heartbeat for one run.

Theory of operation.  Consumers' greenlets add a connection, ask and wait; the source calls `received` from gevent's hub
for every read that is not just the next step of a reference.  A read is accounted (`read_accounting`); what the target
says in it to this connection alone comes back as controls, which `_react` answers or hands to the waiting greenlet.

    greenlet  add(socket)                  the source reads it from now on
    greenlet  ask("subscribe")             waits for answer 1
    hub       received({"event": "subscribed", "data": {"id": 1}})      a control: answer 1 is set
    greenlet  step("confirmed")            recorded; the consumer is connected
    hub       received(f1 f2), ...         accounted; no greenlet switches
    hub       received(b"")                end("peer closed"): account closed, `over` set; the greenlet reconnects

Invariants:
- What the source calls runs in the hub: it neither blocks nor switches.
- A connection ends once, the first reason counts; then its account is closed and every request has an answer.
- An error or limit of our own is harness trouble of the consumer, never a loss of the target.
- Everything is per run: nothing is open before the first Receiver, nothing after `close`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import AsyncResult
from gevent.lock import RLock

from loadtests.drive.consume import frames
from loadtests.drive.consume.chunks import Chunks, Control, streams_kept
from loadtests.drive.consume.connection import OUTGOING_MAX, Connection, ConnectionEnd, RequestAnswer
from loadtests.drive.consume.handshake import RefusedError
from loadtests.drive.consume.health import HarnessReading, HubLag, Inabilities, Readings, ReceivingHealth
from loadtests.drive.consume.integrity import Integrity, IntegritySampling
from loadtests.drive.consume.read_accounting import account_read
from loadtests.drive.consume.single_frame import GIVEN_UP, single_frame
from loadtests.drive.consume.sources import choose_source
from loadtests.drive.consume.transport import Transport
from loadtests.drive.locust_stats import merge_received
from loadtests.model import words
from loadtests.model.contract import ConsumerPlan
from loadtests.model.ids import NS_PER_S
from loadtests.model.kinds import part
from loadtests.model.records import HARNESS, Touched
from loadtests.model.registry import TRANSPORTS
from loadtests.plan.payload import content_shapes
from loadtests.tally.accountant import Accountant
from loadtests.tally.streams import Step, Subscriptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from locust.env import Environment

    from loadtests.drive.run_context import RunContext
    from loadtests.plan.replay import Replayed
from collections.abc import Callable, Collection
from typing import Final

from loadtests.drive.consume.kernel_socket import unread
from loadtests.model.ids import NS_PER_MS
from loadtests.model.records import RunClock

_RECORDS_A_TURN = 64
_LET_OTHERS_S = 0.001
"""A sleep of 0 would let other greenlets run, but no socket be read: gevent does up to 5 ms of those in one go."""
_PROBES = 4096  # nonces that are kept, lest a target that makes them up fills the memory
_CLOSED_BY_PEER = (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)


class Receiver:
    """The receiving side of one run in one process."""

    def __init__(
        self,
        context: RunContext,
        *,
        source: str | None = None,
        cached: bool = True,
        replays: Mapping[str, Sequence[Replayed]] | None = None,
    ) -> None:
        profile, contract = context.profile, context.contract
        self._context = context
        self._emit = context.emit
        self._contract = contract
        self.accountant = Accountant(
            family_of_route=[route.family for route in contract.routes],
            copies_of_family=[family.copies for family in profile.families],
            consumer_groups=len(profile.consumers),
            exceptions_per_s=profile.guard.exceptions_per_s,
            now_ns=context.clock.now_ns(),
            late_ns=round(profile.run.late_s * 1_000_000_000),
            streams_kept=streams_kept(contract),
        )
        identity = profile.identity
        self._transports: dict[str, Transport] = {
            name: part(TRANSPORTS[name].by)(identity.path, identity.form)
            for name in dict.fromkeys(group.transport for group in profile.consumers)
        }
        shapes, self._sampling = content_shapes(contract, replays or {}), IntegritySampling(profile.seed)
        self._chunks = {
            name: Chunks(
                transport,
                self.accountant.streams,
                context.run,
                cached=cached,
                integrity=Integrity(shapes, TRANSPORTS[name].envelope, self._sampling),
                stream=TRANSPORTS[name].stream,
            )
            for name, transport in self._transports.items()
        }
        self._single = {
            name: single_frame(
                TRANSPORTS[name],
                identity,
                context.run,
                self.accountant,
                self._sampling,
                checked=[bool(shape) for shape in shapes],
                most_bytes=profile.guard.message_bytes,
                seed=f"{profile.seed}:single:{name}",
            )
            for name in self._transports
        }
        self._subscriptions = Subscriptions(context.emit)
        self._connections: set[Connection] = set()
        self._connected = 0
        self._inabilities = Inabilities(context.trouble)
        self.probes: dict[int, int] = {}
        """Nonce of a probe message: how many consumers have seen it."""
        self.source = choose_source(self, profile, context.run, source)
        self._lag = HubLag()
        self._heartbeat = Heartbeat(self._connections, context.clock, held=self.source.holds, lost=self._silent)
        self._flushing = RLock()
        self._closed = False
        self._told = Readings(self.accountant.sums())
        context.t0.rawlink(self._began)

    def _began(self, t0: AsyncResult[int]) -> None:
        if t0.value is not None:
            self.accountant.warm(t0.value + round(self._context.profile.run.warm_up_s * NS_PER_S))

    @property
    def receive_name(self) -> str:
        """Which source reads: hub-epoll, greenlet or library."""
        return self.source.name

    # -- one consumer's connection

    def transport(self, plan: ConsumerPlan) -> Transport:
        """How a consumer talks to the target."""
        return self._transports[self._context.profile.consumers[plan.group].transport]

    def add(
        self,
        sock: Any,
        *,
        plan: ConsumerPlan,
        epoch: int,
        behind: bytes,
        read_bytes_per_s: int | None = None,
        token: str | None = None,
    ) -> Connection:
        """Take over a socket of gevent's after its upgrade, with the bytes that came behind the answer.

        `token` is presented where the transport does so only now.

        Raises RefusedError where the run is over already, OSError where the socket cannot be read.
        """
        if self._closed:
            sock.close()
            raise RefusedError("the run is over")
        adopted = self.source.adopt(sock)
        name = self._context.profile.consumers[plan.group].transport
        transport = self._transports[name].with_token(token)
        account = self.accountant.account(
            consumer=plan.slot, epoch=epoch, group=plan.group, routes=plan.routes, transport=name
        )
        connection = Connection(
            sock=adopted,
            transport=transport,
            chunks=self._chunks[name],
            single=self._single[name],
            account=account,
            group=plan.group,
            read_bytes_per_s=read_bytes_per_s,
            max_message=self._context.profile.guard.message_bytes,
        )
        if transport.ready:
            connection.ready.set()
        try:
            self.source.add(connection)
        except OSError:
            self.source.remove(connection)
            self.accountant.close_account(account)
            raise
        self._connections.add(connection)
        if behind:
            self.received(connection, behind, self._context.clock.now_ns())
        return connection

    def ask(self, connection: Connection, action: str, body: dict[str, Any]) -> AsyncResult[RequestAnswer]:
        """Send a request; the result comes with its answer, or with the end of the connection."""
        connection.numbers += 1
        number = connection.numbers
        answer: AsyncResult[RequestAnswer] = AsyncResult()
        connection.answers[number] = answer
        if connection.end is None:
            self._say(connection, connection.transport.request(action, number, body))
        if connection.end is not None:
            connection.answered(connection.end.refusal(), number)
        return answer

    def step(self, connection: Connection, step: Step, at_ns: int, *, why: str = "", detail: str = "") -> None:
        """Record a step of the connection's subscription."""
        account = connection.account
        if step == "confirmed" and connection.end is None and not connection.confirmed:
            connection.confirmed = True
            self._connected += 1
            self._inabilities.end(account.consumer, at_ns)
        self._subscriptions.step(
            step,
            consumer=account.consumer,
            epoch=account.epoch,
            group=connection.group,
            routes=account.routes,
            at_ns=at_ns,
            why=why,
            detail=detail,
        )

    def not_connected(self, plan: ConsumerPlan, epoch: int, at_ns: int, detail: str, *, ours: bool = False) -> None:
        """Record an attempt that came to no connection; `ours`: for a limit of our own."""
        if ours:
            self._inabilities.begin(plan.slot, at_ns, f"no connection: {detail}")
        self._subscriptions.step(
            "left",
            consumer=plan.slot,
            epoch=epoch,
            group=plan.group,
            routes=plan.routes,
            at_ns=at_ns,
            why=HARNESS if ours else "connect failed",
            detail=words.plain(detail),
        )

    def say_goodbye(self, connection: Connection) -> None:
        """Leave in order; the peer's answer ends the connection."""
        if connection.end is None:
            self._say(connection, connection.transport.goodbye())

    def end(self, connection: Connection, at_ns: int, why: str, detail: str = "") -> None:
        """Close a connection, its subscription and its account. Safe to repeat: the first reason counts."""
        if connection.end is not None:
            return
        connection.end = ConnectionEnd(at_ns, why, detail)
        self.source.remove(connection)
        self._connections.discard(connection)
        if connection.confirmed:
            self._connected -= 1
        if why != HARNESS:
            self._inabilities.end(connection.account.consumer, at_ns)
        self.step(connection, "left", at_ns, why=why, detail=words.plain(detail))
        self.accountant.close_account(connection.account)
        for number in list(connection.answers):
            connection.answered(connection.end.refusal(), number)
        connection.ready.set()
        connection.over.set()

    # -- called by the source

    @property
    def waits(self) -> bool:
        """Whether publishers of this process go first: what is not read keeps its time of arrival in the kernel."""
        return self._context.publish_first

    def clock_offset_ns(self) -> int:
        """What to add to this process's monotonic clock to get the run's."""
        return self._context.clock.at_monotonic_ns(0)

    def received(
        self, connection: Connection, chunk: bytes, now_ns: int, *, sampled: bool = False, kernel_ns: int | None = None
    ) -> None:
        """Account one read; an empty one is the end of the stream."""
        if connection.end is not None:
            return
        if not chunk:
            self.end(connection, now_ns, "peer closed", "end of stream")
            return
        account = connection.account
        kin = account.kin
        if kin.pause and kin.level >= GIVEN_UP and account.reference is None and connection.clean and not sampled:
            kin.pause -= 1
            if not account.ahead and connection.single(account, chunk, now_ns):
                return
        controls = account_read(self.accountant, connection, chunk, now_ns, sampled=sampled, kernel_ns=kernel_ns)
        for control in controls:
            self._react(connection, control, now_ns)
            if connection.over.is_set():
                return

    def broken(self, connection: Connection, error: OSError) -> None:
        """The socket failed."""
        why = "peer closed" if isinstance(error, _CLOSED_BY_PEER) else "error"
        self.end(connection, self._context.clock.now_ns(), why, error.strerror or str(error) or type(error).__name__)

    def refused(self, connection: Connection, error: frames.ProtocolError) -> None:
        """The source itself met a breach of the protocol, or more than we take."""
        now_ns = self._context.clock.now_ns()
        if not isinstance(error, frames.TooLongError):
            self.accountant.note_strange("protocol", connection.account.consumer, now_ns, str(error))
        self._react(connection, Control("broken", error), now_ns)

    def failed(self, connection: Connection) -> None:
        """An error of our own while a read was accounted: its account is not to be trusted."""
        now_ns = self._context.clock.now_ns()
        consumer = connection.account.consumer
        self._context.trouble(now_ns, -1, "an error in the receive loop; the account is incomplete", [consumer])
        connection.account.at_least = True
        self.end(connection, now_ns, HARNESS, "error in the receive loop")

    def _silent(self, connection: Connection, now_ns: int) -> None:
        """The server sent no ping for as long as it said that it would."""
        self.end(connection, now_ns, "no heartbeat", f"no ping within {connection.patience_ns / NS_PER_S:g} s")

    def _react(self, connection: Connection, control: Control, now_ns: int) -> None:
        crowded = len(connection.outgoing) >= OUTGOING_MAX // 2  # the last pong has not gone yet
        greeting = None if control.event == "ws-ping" and crowded else connection.transport.greeting(control)
        if greeting is not None:
            self._say(connection, greeting)
        match control.event:
            case "ping":
                connection.heard_ns = now_ns
            case "open":
                connection.heard_ns, connection.patience_ns = now_ns, control.data
            case "cannot":
                self._inabilities.begin(connection.account.consumer, now_ns, control.data)
            case "ws-close":
                self.end(connection, now_ns, "peer closed", frames.close_reason(control.data))
            case "disconnected":
                self.say_goodbye(connection)
                self.end(connection, now_ns, "peer closed", control.data)
            case "broken":
                self._say(connection, connection.transport.goodbye(control.data.code, str(control.data)))
                ours = isinstance(control.data, frames.TooLongError)
                if ours:
                    self._inabilities.begin(connection.account.consumer, now_ns, str(control.data))
                self.end(connection, now_ns, HARNESS if ours else "error", str(control.data))
            case "connected":
                connection.ready.set()
            case "probe" if control.data in self.probes or len(self.probes) < _PROBES:
                self.probes[control.data] = self.probes.get(control.data, 0) + 1
            case "error" if not connection.ready.is_set():
                self.end(connection, now_ns, "refused", words.of(control.data))
            case "error":
                connection.answered(
                    RequestAnswer(now_ns, control.data, words.of(control.data) or "refused"), control.number
                )
            case "ack" | "subscribed" | "unsubscribed":
                connection.answered(RequestAnswer(now_ns, control.data, _reason(control.data)), control.number)

    def _say(self, connection: Connection, data: bytes) -> None:
        if connection.end is not None or not data:
            return
        try:
            self.source.send(connection, data)
        except OSError as error:
            self.broken(connection, error)

    # -- called by the harness

    def open_touch(self, now_ns: int) -> None:
        """A fault is announced: every consumer's slices of the last 2 s and from now on go into the history."""
        self.accountant.open_touch(now_ns)

    def healed(self, healed_ns: int, until_ns: int) -> None:
        """A fault was healed: which consumers get a message again, and a fresh one, is recorded until then."""
        self.accountant.healed(healed_ns, until_ns)

    def close_touch(self, now_ns: int) -> None:
        """The recovery of a fault is over; calls are counted."""
        self.accountant.close_touch(now_ns)

    def flush(self, now_ns: int, *, final: bool = False) -> None:
        """Emit every record that is due; lets others run in between. The final one ends what is still open."""
        with self._flushing:
            if final:
                for connection in list(self._connections):
                    self.end(connection, now_ns, "end")
            may_switch = gevent.getcurrent() is not gevent.get_hub()
            pieces = self.accountant.pieces(now_ns, final=final)
            try:
                for number, record in enumerate(pieces):
                    if record is not None:
                        self._emit(record)
                    if may_switch and (
                        record is None or isinstance(record, Touched) or number % _RECORDS_A_TURN == _RECORDS_A_TURN - 1
                    ):
                        gevent.sleep(_LET_OTHERS_S)
            finally:
                # A kill of this greenlet while it waits must not lose records that were handed out already.
                for record in pieces:
                    if record is not None:
                        self._emit(record)
            if self.accountant.miscounted:
                self._context.trouble(0, -1, "the tally does not add up", sorted(self.accountant.miscounted))
                self.accountant.miscounted.clear()
            self._inabilities.tell(final=final)

    def health(self) -> ReceivingHealth:
        """How the receiving side stands now."""
        return ReceivingHealth(connected=self._connected, open=len(self._connections))

    def take_reading(self) -> HarnessReading:
        """How the receiving side fared since the last call; messages and reads are those of the last flush."""
        accountant = self.accountant
        frames, checked = self._sampling.take()
        return self._told.reading(
            accountant.sums(), accountant.take_read_delays(), self._lag, self._connected, frames=frames, checked=checked
        )

    def merge_stats(self, environment: Environment) -> None:
        """Show in Locust's statistics what was flushed since the last call."""
        merge_received(environment, self._contract, self.accountant.groups)

    def close(self) -> None:
        """End every connection and stop reading. Safe to repeat."""
        if self._closed:
            return
        self._closed = True
        now_ns = self._context.clock.now_ns()
        for connection in list(self._connections):
            self.end(connection, now_ns, "end")
        self._inabilities.tell(final=True)
        self._heartbeat.close()
        self.source.close()
        self._lag.close()


def _reason(data: Any) -> str:
    """Why an answer is a refusal; empty where it is none."""
    return words.of(data) if isinstance(data, dict) and (data.get("reason") or data.get("error")) else ""


PERIOD_S: Final = 0.5
_PERIOD_NS: Final = round(PERIOD_S * NS_PER_S)
_LATE_NS: Final = 100 * NS_PER_MS
"""A look that comes so late means that this process stood still: that time is charged to no server."""
_AT_ONCE: Final = 32


class Heartbeat:
    """Looks after the connections of one process until it is closed."""

    def __init__(
        self,
        connections: Collection[Connection],
        clock: RunClock,
        *,
        held: Callable[[Connection], bool],
        lost: Callable[[Connection, int], None],
    ) -> None:
        self._connections, self._clock, self._held, self._lost = connections, clock, held, lost
        self._last_ns = clock.now_ns()
        self._timer: Any = gevent.get_hub().loop.timer(PERIOD_S, PERIOD_S)
        self._timer.start(self._look)

    def close(self) -> None:
        """Stop looking."""
        self._timer.stop()
        self._timer.close()

    def _look(self) -> None:
        now_ns = self._clock.now_ns()
        late_ns = now_ns - self._last_ns - _PERIOD_NS
        self._last_ns = now_ns
        silent = self.silent(now_ns, late_ns)
        if silent:
            gevent.spawn(self._leave, silent)

    def silent(self, now_ns: int, late_ns: int) -> list[Connection]:
        """Connections that the server owes a ping; this look came `late_ns` later than it was due."""
        found = []
        for connection in self._connections:
            if not connection.patience_ns:
                continue
            if late_ns > _LATE_NS:
                connection.heard_ns += late_ns
            if self._held(connection):
                connection.heard_ns = now_ns  # a ping may lie unread in the kernel
            elif now_ns - connection.heard_ns > connection.patience_ns and connection.end is None:
                if not unread(connection.sock):
                    found.append(connection)
                elif connection.read_bytes_per_s is not None:
                    connection.heard_ns = now_ns
        return found

    def _leave(self, silent: list[Connection]) -> None:
        for number, connection in enumerate(silent):
            now_ns = self._clock.now_ns()
            if connection.end is None and now_ns - connection.heard_ns > connection.patience_ns:
                self._lost(connection, now_ns)
            if number % _AT_ONCE == _AT_ONCE - 1:
                gevent.sleep(_LET_OTHERS_S)
