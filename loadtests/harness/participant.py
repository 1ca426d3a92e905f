"""What does one process do in a run?  Wires its users, flushes once a second, obeys the orders of the `ActiveRun`.

Standalone has one participant and the run; a worker has a participant only; a master has the run only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gevent
import msgspec
import psutil

from loadtests.capture.clock import MonotonicClock, Offset, clock_identity
from loadtests.capture.history_frames import Recorder
from loadtests.drive.consume.handshake import Tokens
from loadtests.drive.consume.receiver import Receiver
from loadtests.drive.publish.publishing import Publishing
from loadtests.drive.publish.replays import read_replays
from loadtests.drive.run_context import Addresses, RunContext, Slots
from loadtests.harness.fault_control import UserFaultBook
from loadtests.harness.process import QuietHeap
from loadtests.model.address import host_port
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_MS, SLICE_NS
from loadtests.model.injectwire import UserFaultOrder
from loadtests.model.profile.profile import Profile
from loadtests.model.records import HarnessSecond, Header, Trouble
from loadtests.model.runconfig import RunConfig
from loadtests.model.words import plain

log = logging.getLogger("tickstorm")
FLUSH_S = 1.0
LET_OTHERS_S = 0.001
SAME_CLOCK = Offset(offset_ns=0, error_ns=0)


class ParticipantStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the `ActiveRun` must know at once, not by the history."""

    process: str
    connected: int = 0
    publishing: int = 0
    outstanding: int = 0
    probes: dict[str, int] = {}  # nonce -> consumers that have seen it
    frames: int = -1  # number of frames in all, once the participant is closed
    refused: str = ""
    # fault that users of this process play -> counts
    user_faults: dict[str, dict[str, int]] = msgspec.field(name="crew", default_factory=dict)


class Participant:
    """One run in one process that has users."""

    def __init__(
        self,
        config: RunConfig,
        profile: Profile,
        *,
        process: str,
        role: str,
        environment: Any,
        slots: Slots,
        out: Callable[[int, bytes], None],
        tell: Callable[[ParticipantStatus], None],
        versions: dict[str, str],
        offset: Offset = SAME_CLOCK,
    ) -> None:
        self.config, self.profile, self.process = config, profile, process
        self._environment, self._tell = environment, tell
        self._versions, self._role = versions, role
        self._offset = offset
        self.clock = MonotonicClock(config.origin_ns, offset.offset_ns)
        self.recorder = Recorder(out)
        self.closed = False
        self._self = psutil.Process()
        self._probes: dict[str, int] = {}
        self.context = RunContext(
            run=config.run,
            profile=profile,
            contract=Contract(profile),
            clock=self.clock,
            emit=self.recorder.emit,
            slots=slots,
            addresses=Addresses(
                redis=host_port(config.redis),
                gateway=host_port(config.gateway),
                postgres=host_port(config.postgres) if config.postgres else None,
                gateway_http=host_port(config.gateway_http) if config.gateway_http else None,
            ),
            trouble=self._trouble,
            tokens=Tokens.from_environment() if profile.target.auth == "token" else None,
        )
        self._book = UserFaultBook(profile, config.consumers)
        self.context.user_faults.changed = self._tell_now
        self._greenlets: list[gevent.Greenlet[..., Any]] = []
        self._heap = QuietHeap()

    def start(self) -> None:
        """Open what the users need: the epoll set, timers; write the header; begin to flush."""
        replays = read_replays(self.context.contract, Path(self.config.profile_folder))
        self.context.receiver = Receiver(self.context, replays=replays)
        receiver = self.context.receiver
        self.context.publishing = Publishing(self.context, replays=replays, crowded=lambda: receiver.source.crowded)
        self._state(self._offset.error_ns)
        self._self.cpu_percent()
        self._greenlets = [gevent.spawn(self._flush_forever), gevent.spawn(self._tell_forever)]
        for greenlet in self._greenlets:
            greenlet.link_exception(self._failed)

    def _state(self, clock_error_ns: int) -> None:
        """Say who writes this file, and how wrong its times may be."""
        self._header = Header(
            run=self.config.run,
            process=self.process,
            role=self._role,
            profile_sha256=self.config.profile_sha256,
            origin_ns=self.config.origin_ns,
            origin_unix_ns=self.config.origin_unix_ns,
            boot_id=clock_identity(),
            clock_offset_ns=self._offset.offset_ns,
            clock_error_ns=clock_error_ns,
            slice_ns=SLICE_NS,
            versions=self._versions,
            receive=self.context.receiver.receive_name,
            frames=0,
        )
        self.recorder.emit(self._header)

    def clock_was(self, found: Offset) -> None:
        """The offset was measured again: the one in use stays, so that no time steps; its error is stated anew."""
        self._state(abs(found.offset_ns - self._offset.offset_ns) + found.error_ns)

    def order(self, what: str, data: dict[str, Any]) -> None:
        """Obey the run; returns at once."""
        context = self.context
        if what == "t0":
            if not context.t0.ready():
                self._heap.begin()
                context.t0.set(int(data["t0_ns"]))
        elif what == "probe":
            gevent.spawn(self._probe, data["family"], data["nonce"], data["route"])
        elif what == "level":
            context.publishing.plan_level(
                int(data["index"]), float(data["factor"]), int(data["from_ns"]), int(data["to_ns"])
            )
        elif what == "plan_over":
            context.plan_over.set()
        elif what == "over":
            context.plan_over.set()
            context.over.set()
        elif what == "touch_open":
            context.receiver.open_touch(self.clock.now_ns())
        elif what == "touch_healed":
            context.receiver.healed(int(data["healed_ns"]), int(data["until_ns"]))
        elif what == "touch_close":
            context.receiver.close_touch(self.clock.now_ns())
        elif what == "act":
            fault_order = msgspec.convert(data, UserFaultOrder)
            context.user_faults.obey(fault_order, self._book.slots(fault_order), self.clock.now_ns())
        elif what == "close":
            gevent.spawn(self.close)
        else:
            raise ValueError(f"no such order: {what}")

    def _probe(self, family: int, nonce: int, route: int) -> None:
        try:
            self.context.publishing.probe(family, nonce, route=route)
        except OSError as error:
            log.warning("a probe message could not be published: %s", plain(str(error)))

    def status(self) -> ParticipantStatus:
        """How far this participant is."""
        health = self.context.receiver.health()
        publishing = self.context.publishing.health()
        return ParticipantStatus(
            process=self.process,
            connected=health.connected,
            publishing=publishing.publishing,
            outstanding=publishing.outstanding,
            probes={str(n): c for n, c in self.context.receiver.probes.items()},
            frames=self.recorder.next_number if self.closed else -1,
            user_faults=self.context.user_faults.states(),
        )

    def _tell_now(self) -> None:
        if not self.closed:
            self._tell(self.status())

    def _tell_forever(self) -> None:
        last = None
        while not self.closed:
            status = self.status()
            if status != last:
                self._tell(status)
                last = status
            gevent.sleep(0.1)

    def _flush_forever(self) -> None:
        due = gevent.get_hub().loop.now()
        while not self.closed:
            due += FLUSH_S
            gevent.sleep(max(0.0, due - gevent.get_hub().loop.now()))
            gevent.get_hub().loop.update_now()
            if not self.closed:
                self.flush()

    def flush(self, final: bool = False) -> None:
        """Emit what has been tallied, and how this process fares; lets others run between the parts."""
        now = self.clock.now_ns()
        context = self.context
        context.receiver.flush(now, final=final)
        parts: tuple[Callable[[], None], ...] = (
            lambda: context.publishing.flush(now, final=final),
            lambda: context.receiver.merge_stats(self._environment),
            lambda: context.publishing.merge_stats(self._environment),
            lambda: self.recorder.emit(self._second()),
            self.recorder.flush,
        )
        for part in parts:
            if not final:
                gevent.sleep(LET_OTHERS_S)
                if self.closed:  # meanwhile: what was left is in the last flush
                    return
            part()

    def _second(self) -> HarnessSecond:
        """How this process fared up to now, which may be long after the flush began: it lets others run in between."""
        now = self.clock.now_ns()
        reading, publishing = self.context.receiver.take_reading(), self.context.publishing.health()
        guard = self.profile.guard
        cpu = self._self.cpu_percent()
        saturated = cpu >= guard.cpu_percent or reading.hub_lag_p99_ns > guard.hub_lag_ms * NS_PER_MS
        return HarnessSecond(
            at_ns=now,
            cpu_percent=cpu,
            rss_bytes=self._self.memory_info().rss,
            hub_lag_p99_ns=reading.hub_lag_p99_ns,
            hub_lag_max_ns=reading.hub_lag_max_ns,
            connected=reading.connected,
            publishing=publishing.publishing,
            messages=reading.messages,
            reads=reading.reads,
            read_delay_p99_ns=reading.read_delay_p99_ns,
            saturated=saturated,
            frames=reading.frames,
            checked=reading.checked,
        )

    def _failed(self, greenlet: Any) -> None:
        """An unforeseen error: the run must end and say so, not go on without records."""
        what = f"failed: {type(greenlet.exception).__name__}: {greenlet.exception}"
        self._tell(ParticipantStatus(process=self.process, refused=what))

    def _trouble(self, from_ns: int, to_ns: int, what: str, consumers: Sequence[int] = (), /) -> None:
        scope = list(consumers)
        self.recorder.emit(Trouble(process=self.process, from_ns=from_ns, to_ns=to_ns, what=what, consumers=scope))

    def close(self) -> None:
        """Last flush with every closing account; tells the number of frames. Safe to repeat."""
        if self.closed:
            return
        self.context.plan_over.set()
        self.context.over.set()
        self.context.user_faults.end_all()
        try:
            self.flush(final=True)
        finally:
            self._heap.end()
        if not self.closed:  # another greenlet that closed at the same time may have been first
            self.closed = True
            self.recorder.seal(self._header)
        self.context.publishing.close()
        self.context.receiver.close()
        if not self.context.t0.ready():
            self.context.t0.set(-1)
        self._tell(self.status_closed())

    def status_closed(self) -> ParticipantStatus:
        """The last word: how many frames there are."""
        return ParticipantStatus(process=self.process, frames=self.recorder.next_number)
