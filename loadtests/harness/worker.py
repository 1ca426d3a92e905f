"""What does a Locust worker do in a run, and which messages do master and worker exchange?

The worker takes the configuration from the master, has a participant, ships its frames. Handlers only enqueue.

Locust's port has no authentication: any process that reaches it can be a worker. The master tells a message of another
shape once for each sender, and does nothing.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import gevent
import msgspec
from msgspec import Meta, Struct

from loadtests import extensions
from loadtests.capture.clock import EVERY_S, Offset, clock_identity, measure
from loadtests.capture.history_frames import Outbox
from loadtests.drive.run_context import RunContext
from loadtests.harness.participant import SAME_CLOCK, Participant, ParticipantStatus
from loadtests.harness.process import VERSION, versions
from loadtests.harness.slots import RemoteSlots, Taken
from loadtests.model.errors import HarnessError
from loadtests.model.profile.reading import read_effective
from loadtests.model.registry import USERS
from loadtests.model.runconfig import OPTION, RunConfig, decode_config, sha256_of
from loadtests.stack.passwords import adopt

TAKE = "tickstorm_take"  # worker -> master: Take
SLOT = "tickstorm_slot"  # master -> worker: {number, slot: [slot, epoch] | None}
GIVE = "tickstorm_give"  # worker -> master: Give
CHUNK = "tickstorm_chunk"  # worker -> master: Chunk
ACK = "tickstorm_ack"  # master -> worker: {run, number}
STATUS = "tickstorm_status"  # worker -> master: Status
ORDER = "tickstorm_order"  # master -> worker: {run, what, data}

Name = Annotated[str, Meta(max_length=200)]
Number = Annotated[int, Meta(ge=0, le=1 << 40)]
Kind = Annotated[str, Meta(pattern=f"^({'|'.join(map(re.escape, USERS))})$")]
"""A kind of user that this process knows."""
M = TypeVar("M", bound=Struct)


class Take(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user of a kind begins and wants a slot."""

    number: Number
    kind: Kind


class Give(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A user of a kind gives its slot back."""

    kind: Kind
    slot: Number
    next_epoch: Number


class Chunk(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frame of a worker's history."""

    run: Name
    process: Annotated[str, Meta(pattern=r"^worker-[0-9]{1,6}$")]
    number: Number
    frame: Annotated[bytes, Meta(max_length=1 << 20)]


class StatusMessage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a worker is in its run."""

    run: Name
    status: ParticipantStatus


def handler(function: Callable[[str, dict[str, Any]], None]) -> Callable[..., None]:
    """A listener for a message of the master: gets the sender's id and the data."""

    def listener(environment: Any, msg: Any, **_: Any) -> None:
        function(msg.node_id, msg.data)

    return listener


def checked(function: Callable[[str, M], None], shape: type[M]) -> Callable[..., None]:
    """A listener for a message of a worker: gets the sender's id and the data, where it has the shape that it must."""
    told: set[str] = set()

    def listener(environment: Any, msg: Any, **_: Any) -> None:
        try:
            found = msgspec.convert(msg.data, shape, builtin_types=(bytes,))
        except msgspec.ValidationError as error:
            if len(told) < 100 and msg.node_id not in told:
                told.add(msg.node_id)
                log.warning("a message of %.100r is no %s: %s", msg.node_id, shape.__name__, error)
            return
        function(msg.node_id, found)

    return listener


log = logging.getLogger("tickstorm")
PARENT_GONE_S = 4.0
"""A local worker ends this long after its parent is gone, whatever still hangs."""


class Worker:
    """The harness in a worker process."""

    def __init__(self, environment: Any, runner: Any) -> None:
        self._environment, self._runner = environment, runner
        self._participant: Participant | None = None
        self._outbox: Outbox | None = None
        self._config: RunConfig | None = None
        self._slots = RemoteSlots(
            lambda number, kind: self._send(TAKE, {"number": number, "kind": kind}),
            lambda kind, slot, epoch: self._send(GIVE, {"kind": kind, "slot": slot, "next_epoch": epoch}),
            timeout_s=10.0,
        )
        runner.register_message(SLOT, handler(self._slot))
        runner.register_message(ACK, handler(self._acknowledged))
        runner.register_message(ORDER, handler(self._ordered))
        environment.events.test_start.add_listener(lambda **_: self._begin())
        environment.events.test_stopping.add_listener(lambda **_: self._stopping())
        environment.events.quitting.add_listener(lambda **_: self._stopping())
        if os.getppid() > 1:
            self._parent = os.getppid()
            signal.signal(
                signal.SIGINT, signal.SIG_IGN
            )  # the terminal's Ctrl-C is the master's; it ends us when it is done
            gevent.spawn(self._watch_parent)

    # -- environment.tickstorm

    def context_of_run(self) -> RunContext | None:
        """What users of this process work with; None while no run is on here."""
        return self._participant.context if self._participant is not None and not self._participant.closed else None

    # -- messages

    def _send(self, kind: str, data: dict[str, Any]) -> None:
        self._runner.send_message(kind, data)

    def _slot(self, _node: str, data: dict[str, Any]) -> None:
        found = data["slot"]
        if not self._slots.answer(data["number"], Taken(*found) if found else None) and found:
            kind: str = data["kind"]
            self._send(GIVE, {"kind": kind, "slot": found[0], "next_epoch": found[1]})

    def _acknowledged(self, _node: str, data: dict[str, Any]) -> None:
        if self._outbox is not None and self._config is not None and data["run"] == self._config.run:
            self._outbox.acknowledge(data["number"])

    def _ordered(self, _node: str, data: dict[str, Any]) -> None:
        if self._participant is not None and self._config is not None and data["run"] == self._config.run:
            self._participant.order(data["what"], data["data"])

    # -- a run

    def _begin(self) -> None:
        text = getattr(self._environment.parsed_options, OPTION, None)
        if not text:
            log.error("this worker got no configuration of a run: is the master's locustfile the same?")
            return
        try:
            config = decode_config(text)
        except msgspec.ValidationError as error:
            log.error("the master's configuration is of another version: %s", error)
            return
        process = f"worker-{self._runner.worker_index}"
        if self._config is not None and config.run == self._config.run:
            return
        refusal = self._refusal(config)
        offset = SAME_CLOCK
        if not refusal and config.clock != clock_identity():
            try:
                offset = measure((self._runner.master_host, config.clock_port))
            except HarnessError as error:
                refusal = f"refused: it has another clock than the master, and {error}"
        self._config = config
        if refusal:
            self._tell(ParticipantStatus(process=process, refused=refusal))
            return
        try:
            self._open(config, process, offset)
        except Exception as error:
            self._participant = None
            self._tell(ParticipantStatus(process=process, refused=f"failed: {type(error).__name__}: {error}"))
            raise  # Locust logs where it came from

    def _open(self, config: RunConfig, process: str, offset: Offset) -> None:
        run, sent = config.run, self._send
        profile = read_effective(config.profile_text)
        if config.stack:
            adopt(Path(config.stack))
        self._outbox = Outbox(
            Path(tempfile.mkdtemp(prefix="tickstorm-spool-")) / f"{run}-{process}.tsh",
            lambda number, frame: sent(CHUNK, {"run": run, "process": process, "number": number, "frame": frame}),
            time.monotonic,
        )
        self._participant = Participant(
            config,
            profile,
            process=process,
            role="worker",
            environment=self._environment,
            slots=self._slots,
            out=self._outbox.put,
            tell=self._tell,
            versions=versions(),
            offset=offset,
        )
        self._participant.start()
        gevent.spawn(self._pump, self._outbox)
        if offset is not SAME_CLOCK:
            gevent.spawn(self._watch_clock, self._participant, config.clock_port)

    def _refusal(self, config: RunConfig) -> str:
        if config.tickstorm != VERSION:
            return f"refused: it is Tickstorm {VERSION}, the master is {config.tickstorm}"
        if config.extensions != (own := extensions.enabled()):
            return f"refused: its extensions are {own or 'none'}, the master's {config.extensions or 'none'}"
        if sha256_of(config.profile_text) != config.profile_sha256:
            return "refused: the profile does not have the hash that the master states"
        return ""

    def _watch_clock(self, participant: Participant, port: int) -> None:
        while not participant.closed:
            gevent.sleep(EVERY_S)
            try:
                participant.clock_was(measure((self._runner.master_host, port)))
            except HarnessError as error:
                log.warning("%s", error)

    def _tell(self, status: ParticipantStatus) -> None:
        if self._config is not None:
            self._send(STATUS, {"run": self._config.run, "status": msgspec.to_builtins(status)})

    def _pump(self, outbox: Outbox) -> None:
        while not (self._participant is None or self._participant.closed) or outbox.pending:
            gevent.sleep(0.5)
            outbox.pump()
        outbox.close(keep=False)

    def _stopping(self) -> None:
        if self._participant is not None and not self._participant.closed:
            self._participant.close()  # the master ended without telling: what is known stays in the spool

    def _watch_parent(self) -> None:
        while os.getppid() == self._parent:
            gevent.sleep(0.5)
        log.warning("the master is gone: this worker ends")
        gevent.get_hub().threadpool.spawn(_end_hard, PARENT_GONE_S)
        self._stopping()
        os.kill(os.getpid(), signal.SIGTERM)


def _end_hard(after_s: float) -> None:
    from gevent import monkey

    monkey.get_original("time", "sleep")(after_s)
    os._exit(3)
