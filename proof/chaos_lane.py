"""Does Tickstorm survive its own death, and that of its servers?  Lanes of short runs, one victim each.

A lane is one stack on which runs follow each other, each started as its user does and struck from outside; lanes work
side by side.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from loadtests.model.errors import HarnessError
from loadtests.model.stackwire import Status
from proof.bench import BenchProcess, ProofError, wait_for
from proof.chaos_plan import (
    CUT,
    DRAIN_S,
    DURATION_S,
    LOCKED,
    PROFILE,
    SERVICES,
    SLOW,
    SMALL,
    STILL,
    WARM_UP_S,
    ChaosMoment,
)
from proof.chaos_victims import MARK, Disk, Known, ProcessFamily, RefusedHereError, disk, strike
from proof.chaos_watch import Lookout, SeenFromOutside, files, has_hole, last_ns, origin_ns, problems, started_s
from proof.stack_state import World, look

COMMAND = [sys.executable, "-m", "loadtests.cli"]
BEGIN_S = 60.0
LONGEST_S = WARM_UP_S + DURATION_S + 60.0
SERVERS = frozenset({"redis", "postgres"})
STARTING_S = 20.0
"""A service that stood still is asked again before it is called ready."""
GONE_S = 8.0
"""How long children may take to notice that their parent is gone."""
LOOK_AGAIN_S = 0.05
SIGNS = {SLOW: ": latency", CUT: ": disabled", SMALL: "-limit of redis", LOCKED: "lock on", STILL: "stands still"}


class Stack(Protocol):
    """A local stack that moments share."""

    @property
    def folder(self) -> Path:
        """Where it keeps its things."""
        ...

    def status(self) -> Status:
        """What runs. Raises HarnessError."""
        ...

    def restore(self) -> None:
        """Start what does not run, until every service is ready. Raises HarnessError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What came of one moment."""

    moment: ChaosMoment
    seconds: float
    seen: SeenFromOutside | None = None  # None where the victim could not be struck
    wrong: tuple[str, ...] = ()
    refused: str = ""  # this machine does not let us strike so: why

    @property
    def fine(self) -> bool:
        """Nothing was left behind; one that was refused proves nothing, and is no failure."""
        return not self.wrong

    @property
    def inside(self) -> bool:
        """The blow fell inside a fault, as the servers showed it."""
        return self.seen is not None and bool(self.seen.fault)


class Lane:
    """One stack, and the moments that use it one after another."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        self._before: World | None = None
        self._child: BenchProcess | None = None
        self.judging_s: Callable[[], float] = lambda: 0.0
        """How long after its planned end an undisturbed run is over here; waits until that is known."""

    def control(self) -> float:
        """An undisturbed run: how long after its planned end it is over, as it is judged then.

        Raises ProofError unless it passes: else no verdict below says anything.
        """
        self._stack.restore()
        at = self._place("control")
        child = self._start(at, at / "reports", uuid.uuid4().hex, workers=0, seed=1)
        t0_s = self._t0(child, at / "reports")
        status = child.wait(LONGEST_S)
        over_s = time.monotonic() - _planned_end_s(t0_s)
        verdict, reasons = _verdict_of(_run(at / "reports"))
        if (verdict, status) != ("PASS", 0):
            raise ProofError(
                f"an undisturbed run ended as {verdict or 'nothing'} ({status}): {'; '.join(reasons)}; "
                f"{child.last_words}"
            )
        return over_s

    def abort(self) -> None:
        """End the run that is on its way."""
        if self._child is not None:
            self._child.stop()

    def moment(self, moment: ChaosMoment) -> Told:
        """Carry it out. Raises ProofError where the run could not be started or struck."""
        began_s = time.monotonic()
        at = self._place(f"{moment.number:03d}-{moment.victim.replace(' ', '-')}")
        try:
            where = disk(moment.victim, at / "disk")
        except RefusedHereError as refused:
            return Told(moment=moment, seconds=time.monotonic() - began_s, refused=str(refused))
        try:
            seen = self._struck(moment, at, where)
        finally:
            where.close()
        return Told(moment=moment, seconds=time.monotonic() - began_s, seen=seen, wrong=tuple(problems(moment, seen)))

    # -- one moment, step by step

    def _struck(self, moment: ChaosMoment, at: Path, where: Disk) -> SeenFromOutside:
        self._stack.restore()
        status = self._stack.status()
        services = {name: service.pid for name, service in status.services.items() if service.pid is not None}
        if self._before is None:
            self._before = look(status)
        mark = uuid.uuid4().hex
        child = self._start(at, where.folder / "reports", mark, workers=moment.workers, seed=moment.seed)
        family, lookout = ProcessFamily(child.pid, mark), Lookout(status)
        try:
            t0_s = self._t0(child, where.folder / "reports")
            self._await_instant(moment, t0_s, lookout)
            family.look()
            fault = ", ".join(dict.fromkeys(lookout.now))
            blow_s = strike(moment, family, services, where)
            family.look()
            code = self._wait(child)
            over_s = time.monotonic() - _planned_end_s(t0_s)
            processes = _gone(family)
            left = self._left(moment)
        finally:
            lookout.close()
            for known in family.left():
                _end(known)
            child.stop()
        where.copy_to(at / "kept")
        healed_s = None if left else max(0.0, (lookout.last_s or blow_s) - blow_s)
        return self._seen(
            moment, at, child.said, blow_s=blow_s, t0_s=t0_s, fault=fault, code=code, over_s=over_s - self.judging_s(),
            processes=processes, left=left, healed_s=healed_s, stopped=_stopped(family),
        )  # fmt: skip

    def _start(self, at: Path, reports: Path, mark: str, *, workers: int, seed: int) -> BenchProcess:
        reports.mkdir()
        (at / "profile.toml").write_text(PROFILE, encoding="utf-8")
        argv = [*COMMAND, "run", str(at / "profile.toml"), "--seed", str(seed)]
        argv += ["--workers", str(workers)] if workers else []
        self._child = BenchProcess(argv, at / "run.log", {**self._environment(reports), MARK: mark})
        return self._child

    def _environment(self, reports: Path) -> dict[str, str]:
        return {"TICKSTORM_STACK": str(self._stack.folder), "TICKSTORM_REPORTS": str(reports), "COLUMNS": "400"}

    def _t0(self, child: BenchProcess, reports: Path) -> float:
        def begun() -> float | None:
            if child.process.poll() is not None:
                raise ProofError(f"the run ended with {child.process.returncode} by itself; {child.last_words}")
            run = _run(reports)
            main = files(run).get("main", b"") if run is not None else b""
            return started_s(main)

        found: float = wait_for(begun, BEGIN_S, f"the run began; {child.said}")
        return found

    def _await_instant(self, moment: ChaosMoment, t0_s: float, lookout: Lookout) -> None:
        if moment.fault:
            sign = SIGNS[moment.fault]
            wait_for(
                lambda: any(sign in text for text in lookout.now), DURATION_S + 5, f'fault "{moment.fault}" is in force'
            )
            until_s = time.monotonic() + moment.at_s
        else:
            until_s = t0_s + moment.at_s
        threading.Event().wait(max(0.0, until_s - time.monotonic()))

    def _wait(self, child: BenchProcess) -> int:
        try:
            return child.wait(LONGEST_S)
        except ProofError:  # a hang; the checks say so by the time that it took
            return child.stop()

    def _seen(
        self, moment: ChaosMoment, at: Path, said: str, *, blow_s: float, t0_s: float, fault: str, code: int,
        over_s: float, processes: list[str], left: list[str], healed_s: float | None, stopped: list[str],
    ) -> SeenFromOutside:  # fmt: skip
        run = _run(at / "kept" / "reports")
        if run is None:
            raise ProofError(f"nothing of moment {moment.number} was stored; it said: {said}")
        verdict, reasons = _verdict_of(run)
        history = files(run)
        lags = [_lag_s(data, origin_ns(history["main"]), blow_s) for data in history.values()]
        facts = None if None in lags else max(lag for lag in lags if lag is not None)
        again = self._again(at, run)
        left_at_last = self._next_start(moment, at, run) if left else []
        self._stack.restore()
        assert self._before is not None
        changed = self._settled(frozenset())
        if changed:  # what one moment left is not told of the next one too
            self._before = look(self._stack.status())
        return SeenFromOutside(
            at_s=blow_s - t0_s,
            fault=fault,
            status=code,
            verdict=verdict,
            reasons=reasons,
            said=said,
            again_status=again[0],
            again_verdict=again[1],
            again_reasons=again[2],
            facts_s=facts,
            torn=[f"{name}.tsh" for name, data in history.items() if has_hole(data)],
            over_s=over_s,
            healed_s=healed_s,
            left=left,
            left_at_last=left_at_last,
            changed=changed,
            stopped=stopped,
            processes=processes,
        )

    def _again(self, at: Path, run: Path) -> tuple[int, str, list[str]]:
        child = BenchProcess(
            [*COMMAND, "analyze", str(run), "--quiet", "--out", str(at / "again")], at / "analyze.log",
            self._environment(run.parent),
        )  # fmt: skip
        status = child.wait(60)
        verdict, reasons = _verdict_of(at / "again")
        return status, verdict, reasons or [child.last_words]

    def _next_start(self, moment: ChaosMoment, at: Path, run: Path) -> list[str]:
        """What a user types; any run begins with the same."""
        child = BenchProcess([*COMMAND, "stack", "heal"], at / "heal.log", self._environment(run.parent))
        child.wait(90)
        return self._left(moment)

    def _left(self, moment: ChaosMoment) -> list[str]:
        """What is not as before; what is gone holds no fault, and it starts without any."""
        return self._settled(SERVICES & {moment.victim})

    def _settled(self, dead: frozenset[str]) -> list[str]:
        """What is not as before, once a service that has just been resumed answers again."""
        assert self._before is not None
        deadline = time.monotonic() + STARTING_S
        while True:
            left = self._before.left(look(self._stack.status()), dead=dead)
            if dead & SERVERS:  # the gateway and the producer cannot be ready without them
                return [text for text in left if not text.endswith("-> starting")]
            if not any(text.endswith("-> starting") for text in left) or time.monotonic() > deadline:
                return left
            time.sleep(0.1)

    def _place(self, name: str) -> Path:
        at = self._folder / name
        at.mkdir(parents=True)
        return at


# -- looking


def _run(reports: Path) -> Path | None:
    """The only run of a folder of reports."""
    found = [path.parent for path in reports.glob("*/history")]
    return found[0] if found else None


def _verdict_of(run: Path | None) -> tuple[str, list[str]]:
    try:
        results: dict[str, Any] = json.loads((run / "results.json").read_bytes()) if run is not None else {}
    except (OSError, ValueError):  # none was written, or half of one
        return "", []
    return results.get("verdict", ""), results.get("reasons", [])


def _planned_end_s(t0_s: float) -> float:
    return t0_s + WARM_UP_S + DURATION_S + DRAIN_S


def _lag_s(data: bytes, origin: int | None, blow_s: float) -> float | None:
    last = last_ns(data)
    if last is None or origin is None:
        return None
    return max(0.0, blow_s - (origin + last) / 1e9)


def _gone(family: ProcessFamily) -> list[str]:
    deadline = time.monotonic() + GONE_S
    while (left := family.left()) and time.monotonic() < deadline:
        time.sleep(LOOK_AGAIN_S)
    return [known.what for known in left]


def _stopped(family: ProcessFamily) -> list[str]:
    return [known.what for known in family.known.values() if known.stands_still()]


def _end(known: Known) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(known.pid, signal.SIGKILL)


def carry_out(
    moments: Sequence[ChaosMoment], lanes: Sequence[Lane], tell: Callable[[Told], None]
) -> tuple[list[Told], list[str]]:
    """All moments on the lanes side by side, each told when it is over; what could not be carried out, as sentences.

    The first lane begins with an undisturbed run, beside the others as all later ones: it says how long judging
    takes here.  Raises ProofError where that run does not pass.
    """
    undisturbed: Future[float] = Future()
    for lane in lanes:
        lane.judging_s = undisturbed.result
    waiting, lock = deque(moments), threading.Lock()
    told: list[Told] = []
    failed: list[str] = []

    def work(lane: Lane) -> None:
        while True:
            with lock:
                if not waiting:
                    return
                moment = waiting.popleft()
            try:
                found = lane.moment(moment)
            except (HarnessError, OSError) as error:
                with lock:
                    failed.append(f"moment {moment.number} ({moment.victim}) could not be carried out: {error}")
                continue
            with lock:
                told.append(found)
                tell(found)

    def first(lane: Lane) -> None:
        try:
            undisturbed.set_result(lane.control())
        except (HarnessError, OSError) as error:
            undisturbed.set_exception(error)
        finally:
            if not undisturbed.done():  # an unforeseen error: no lane may wait for ever
                undisturbed.set_exception(ProofError("the undisturbed run broke off"))
        if undisturbed.exception() is None:
            work(lane)
            return
        waiting.clear()
        for other in lanes[1:]:
            other.abort()

    threads = [threading.Thread(target=work, args=(lane,)) for lane in lanes[1:]]
    threads.append(threading.Thread(target=first, args=(lanes[0],)))
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:  # Ctrl-C: what is on its way must be taken away before its stack is
        waiting.clear()
        for lane in lanes:
            lane.abort()
        for thread in threads:
            thread.join(LONGEST_S)
        raise
    undisturbed.result()
    return sorted(told, key=lambda each: each.moment.number), failed
