"""What does a disturbed run show from outside, and was it survived in order?  Reads files, asks servers.

`problems` puts five questions to what was seen; it is pure, so that each goes red in a test.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg2
import redis

from loadtests.model.address import host_port
from loadtests.model.codec import Frame, decode
from loadtests.model.ids import NS_PER_S
from loadtests.model.logins import client_options
from loadtests.model.records import FaultStep, Header, PhaseMark, Record
from loadtests.model.stackwire import Status
from proof.chaos_plan import DISKS, SERVICES, ChaosMoment
from proof.stack_state import ASK_S, UnreachableError, held, postgres_at, toxiproxy

LOOK_S = 0.1
BUFFERS = "client-output-buffer-limit"


class Lookout:
    """Looks all the time at what faults change; remembers when one was seen last. A server that is gone holds none."""

    def __init__(self, status: Status) -> None:
        self._services = status.services
        self._buffers: str | None = None  # as Redis told it first
        self._over = threading.Event()
        self.last_s: float | None = None  # monotonic
        self.now: list[str] = []
        self._look_once()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(LOOK_S):
            self._look_once()

    def _look_once(self) -> None:
        self.now = [*self._links(), *self._redis(), *self._postgres(), *self._standing()]
        if self.now:
            self.last_s = time.monotonic()

    def _links(self) -> list[str]:
        try:
            found = toxiproxy(self._services["toxiproxy"].address)
        except UnreachableError:
            return []
        return [f"{what}: {how}" for what, how in found.items() if what.startswith("toxic") or "disabled" in how]

    def _redis(self) -> list[str]:
        address = self._services["redis"].address
        host, port = host_port(address)
        try:
            with contextlib.closing(
                redis.Redis(host=host, port=port, socket_timeout=ASK_S, **client_options(address, os.environ))
            ) as client:
                now = str(client.config_get(BUFFERS))
        except (OSError, redis.RedisError):
            return []
        self._buffers = self._buffers or now
        return [] if now == self._buffers else [f"{BUFFERS} of redis changed"]

    def _postgres(self) -> list[str]:
        try:
            with (
                contextlib.closing(postgres_at(self._services["postgres"].address)) as connection,
                connection.cursor() as cursor,
            ):
                return [what for what in held(cursor) if what.startswith("lock")]
        except psycopg2.Error:
            return []

    def _standing(self) -> list[str]:
        found = []
        for name, service in self._services.items():  # its first process alone: to list a family goes through all
            with contextlib.suppress(psutil.NoSuchProcess):
                if service.pid is not None and psutil.Process(service.pid).status() == psutil.STATUS_STOPPED:
                    found.append(f"{name} stands still")
        return found

    def close(self) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join(2 * ASK_S)


# -- the history


def files(run: Path) -> dict[str, bytes]:
    """Bytes of every file of a run's history, by process."""
    return {path.stem: path.read_bytes() for path in sorted((run / "history").glob("*.tsh"))}


def records(data: bytes) -> Iterator[Record]:
    """Records of the whole frames from the beginning."""
    for frame in decode(data):
        if isinstance(frame, Frame):
            yield from frame.records


def has_hole(data: bytes) -> bool:
    """Whether whole frames lie behind bytes that are none, where no reader finds them."""
    read = 0
    for frame in decode(data):
        if not isinstance(frame, Frame):
            read = frame.offset
            break
    else:
        return False
    return data.find(data[:4], read + 1) >= 0


def origin_ns(data: bytes) -> int | None:
    """Monotonic time of the run clock's 0, as the main file's header tells it."""
    return next((r.origin_ns for r in records(data) if isinstance(r, Header)), None)


def started_s(data: bytes) -> float | None:
    """Monotonic time of T0; None while it has not come."""
    origin = origin_ns(data)
    for record in records(data):
        if isinstance(record, PhaseMark) and record.phase == "warm-up" and origin is not None:
            return (origin + record.at_ns) / NS_PER_S
    return None


def last_ns(data: bytes) -> int | None:
    """Run-clock time of the latest record; None where no record has a time."""
    times = [r.after_ns if isinstance(r, FaultStep) else getattr(r, "at_ns", None) for r in records(data)]
    return max((at for at in times if isinstance(at, int)), default=None)


# -- was it survived in order?


FACTS_S = 2.0
"""How long before the blow the last stored fact may lie: processes flush each second, and write at once."""
HANG_S = 15.0
STATUS = {"FAIL": 1, "UNKNOWN": 3, "ABORTED": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenFromOutside:
    """What was seen of one moment."""

    at_s: float  # when the blow fell, from T0
    fault: str  # the fault in force just then, as the servers showed it; "" for none
    status: int  # exit status of the command; negative: the signal that ended it
    verdict: str  # of the run itself; "" where it left none
    reasons: Sequence[str]
    said: str  # what the command printed
    again_status: int  # of `tickstorm analyze` on what was stored
    again_verdict: str
    again_reasons: Sequence[str]
    facts_s: float | None  # from the oldest of the files' last records to the blow; None: a file has no record
    torn: Sequence[str]  # files with a hole before their end
    over_s: float  # how much later the run was over than an undisturbed one; negative: earlier
    healed_s: float | None  # from the blow to the last sight of a fault; None: one is in force still
    left: Sequence[str]  # what was not as before when all was over, with every server that is not the victim
    left_at_last: Sequence[str]  # the same after the next start
    changed: Sequence[str]  # what is not as before when every server runs again
    stopped: Sequence[str]  # processes of the run that stand still
    processes: Sequence[str]  # of the run, still there


def problems(moment: ChaosMoment, seen: SeenFromOutside) -> list[str]:
    """What is wrong, in sentences; empty where all was survived in order."""
    return [*_faults(moment, seen), *_facts(seen), *_verdict(moment, seen), *_end(seen)]


def _faults(moment: ChaosMoment, seen: SeenFromOutside) -> list[str]:
    wrong = [f"after the next start it is not as before: {text}" for text in seen.left_at_last]
    if seen.left and not moment.everything:  # a process of ours lived, whose duty it was
        wrong += [f"it was left: {text}" for text in seen.left]
    wrong += [f"every server runs, and it is not as before: {text}" for text in seen.changed]
    wrong += [f"stands still: {text}" for text in seen.stopped]
    return wrong


def _facts(seen: SeenFromOutside) -> list[str]:
    wrong = [f"the history has a hole: {text}" for text in seen.torn]
    if seen.facts_s is None:
        wrong.append("a file of the history holds no fact")
    elif seen.facts_s > FACTS_S:
        wrong.append(f"facts end {seen.facts_s:.1f} s before the blow")
    return wrong


def _verdict(moment: ChaosMoment, seen: SeenFromOutside) -> list[str]:
    wrong = []
    told = "\n".join([*seen.reasons, *seen.again_reasons, seen.said])
    for word in causes(moment):
        if not re.search(word, told):
            wrong.append(f"no reason says /{word}/: {'; '.join(seen.reasons or seen.again_reasons)[:300]}")
    if seen.verdict and seen.verdict not in STATUS:
        wrong.append(f"the verdict is {seen.verdict}")
    if seen.verdict and STATUS.get(seen.verdict) != seen.status and not moment.everything:
        wrong.append(f"the verdict is {seen.verdict}, the exit status {seen.status}")
    if seen.status == 0 or (seen.status < 0 and not moment.everything):
        wrong.append(f"the exit status is {seen.status}")
    if STATUS.get(seen.again_verdict) != seen.again_status:
        wrong.append(f'analyze says "{seen.again_verdict}" with status {seen.again_status}')
    return wrong


def causes(moment: ChaosMoment) -> tuple[str, ...]:
    """Patterns that the reasons must match."""
    if moment.victim in SERVICES:
        return (rf"\b{moment.victim} ended by SIGKILL at \d",)
    if moment.victim in DISKS:
        return (r"history (could not|cannot) be written: (No space left|File too large|Read-only|Operation not)",)
    return {
        "worker": (r"worker-\d.*\bgone\b",),
        "injector": (r"[Ii]njector (had )?(died|ended)",),
        "master": (r"leading process .*(killed|crashed)",),
        "injector and master": (r"leading process .*(killed|crashed)",),
    }[moment.victim]


def _end(seen: SeenFromOutside) -> list[str]:
    wrong = [f"still there: {text}" for text in seen.processes]
    if seen.over_s > HANG_S:
        wrong.append(f"it was over {seen.over_s:.0f} s after its expected end")
    return wrong
