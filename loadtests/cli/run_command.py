"""How is a profile run from the command line?  Checks everything, starts Locust as a child, shows what it tells."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from loadtests.capture.preflight import refuse, refuse_few_descriptors
from loadtests.cli.analyze_command import Told, analyze_run, tell
from loadtests.cli.console import Progress, err, tell_line
from loadtests.harness.files import ROOT, new_id, profile_path, reports_folder
from loadtests.harness.live import STATUS_FD
from loadtests.harness.locust_main import ruled
from loadtests.harness.profile_loading import REPLAYS, load
from loadtests.harness.stack_lock import LENT, StackHold
from loadtests.harness.target import resolve
from loadtests.inject.startup_sweep import heal
from loadtests.model.errors import BadInput, HarnessError
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.rules import history_mb
from loadtests.model.results import Results, Verdict, from_json
from loadtests.stack.folder import stack_folder

END_S = 20.0
LONG_MIN = 10
"""A run that takes as many minutes says before it begins what it costs."""
RUN_ID = "TICKSTORM_RUN_ID"
"""Environment: the id of the run that is about to begin, where whoever starts it wants to find it again."""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def run_profile(
    name: str,
    sets: Sequence[str],
    *,
    workers: int,
    web_port: int | None,
    seed: int | None,
    html: bool = True,
    quiet: bool = False,
    as_json: bool = False,
) -> int:
    """Run and judge; the exit status of the verdict. Raises BadInput before anything was started.

    `quiet`: nothing is told before the verdict, and of that no numbers; `as_json`: the verdict goes to a program.
    """
    told: Told = "json" if as_json else "verdict" if quiet else "all"
    run, ended = played(
        name, sets, workers=workers, web_port=web_port, seed=seed, html=html, quiet=quiet, told=told
    )  # fmt: skip
    return _tell(run, ended, told if web_port is None else None, html=html)


def played(
    name: str,
    sets: Sequence[str],
    *,
    workers: int = 0,
    web_port: int | None = None,
    seed: int | None,
    html: bool,
    quiet: bool = False,
    told: Told = "all",
) -> tuple[str, Ended]:
    """Run; its id, and how Locust ended. Raises BadInput before anything was started."""
    note = _say_nothing if quiet else tell_line
    loaded = load(name, sets, seed)
    for key, value, source, relaxed in zip(
        loaded.effective.key, loaded.effective.value, loaded.effective.source, loaded.effective.relaxed, strict=True
    ):
        if relaxed:
            note(f"relaxed: {key} = {value} ({source})")
        if key.startswith(REPLAYS):
            note(f"replay: {json.loads(value)}")
    if (costs := cost(loaded.profile)) is not None:
        note(costs)
    if web_port is not None and not _is_free(web_port):
        raise BadInput(f"--web-port {web_port}: in use; choose another")
    refuse_few_descriptors(loaded.profile, processes=max(workers, 1))
    run = os.environ.get(RUN_ID) or new_id(loaded.profile.name)
    if not _PLAIN.fullmatch(run) or (reports_folder() / run).exists():
        raise BadInput(f'{RUN_ID}: found "{run}", allowed the name of a folder that is not there yet')
    hold = StackHold(stack_folder(), run) if loaded.profile.target.kind == "local" else None
    try:
        target = resolve(loaded.profile, note)
        try:
            refuse(loaded.profile, target.status)
            command = _command(name, sets, workers=workers, web_port=web_port, seed=seed)
            asked = _Asked(run=run, web_port=web_port, html=html, hold=hold, quiet=quiet, told=told)
            ended = _run_locust(command, asked, note)
            if not _results(run).exists() and not ended.failed:  # a fault may still be in force
                _heal(target.toxiproxy, run)
        finally:
            if target.stack is not None:
                target.stack.down()
    finally:
        if hold is not None:
            hold.release()
    return run, ended


def _say_nothing(sentence: str) -> None:
    """For who asked for quiet."""


def cost(profile: Profile) -> str | None:
    """What a long run takes of time and disk; None of a short one."""
    minutes = round(profile.run.length_s / 60)
    if minutes < LONG_MIN:
        return None
    took = f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
    return f"{profile.name} takes {took}, and its history about {history_mb(profile):,.0f} MB in {reports_folder()}"


def results_of(run: str, ended: Ended) -> Results | None:
    """What a run that was played came to, judged from its history where it was cut off; None where nothing can be."""
    path = _results(run)
    if not path.exists() and not ended.failed:
        with contextlib.suppress(BadInput, HarnessError, OSError):
            analyze_run(str(path.parent), (), out=None, quiet=True, html=False)
    return from_json(path.read_bytes()) if path.exists() else None


def _command(name: str, sets: Sequence[str], *, workers: int, web_port: int | None, seed: int | None) -> list[str]:
    command = [
        sys.executable,
        "-m",
        "loadtests.harness.locust_main",
        "-f",
        str(ROOT / "locustfile.py"),
        "--only-summary",
    ]
    command += ["--run-profile", str(profile_path(name).absolute()), "--run-set", "\n".join(sets)]
    if seed is not None:
        command += ["--run-seed", str(seed)]
    if web_port is None:
        command += ["--headless"]
    else:
        command += ["--autostart", "--web-host", "127.0.0.1", "--web-port", str(web_port)]
    if workers:
        port = str(_free_port())
        command += ["--processes", str(workers), "--master-bind-host", "127.0.0.1", "--master-host", "127.0.0.1"]
        command += ["--master-bind-port", port, "--master-port", port]
    return command


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start_child(
    command: Sequence[str], environment: dict[str, str], hold: StackHold | None, said: IO[bytes] | None, *fds: int
) -> subprocess.Popen[bytes]:
    """Start a command of ours in a session of its own, so that the terminal's Ctrl-C reaches it once, through us.

    It may use the stack that `hold` keeps, and inherits `fds`. What it says goes into `said`; None: where ours goes.
    """
    lent = []
    if hold is not None:
        lent, environment = [hold.fd], environment | {LENT: str(hold.fd)}
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=said,
        stderr=None if said is None else subprocess.STDOUT,
        pass_fds=[*fds, *lent],
        start_new_session=True,
        preexec_fn=_before_child(),
    )


def _before_child() -> Callable[[], None]:
    """For a child before it begins: it ends with us, and hears SIGINT also where we must ignore it."""
    libc = ctypes.CDLL(None) if sys.platform.startswith("linux") else None

    def prepare() -> None:
        if libc is not None:
            libc.prctl(1, signal.SIGTERM)
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return prepare


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How Locust ended."""

    status: int
    failed: str  # why the run could not begin
    reasons: tuple[str, ...]  # the last that it told of its verdict

    @property
    def words(self) -> str:
        if self.status < 0:
            return f"Locust was ended by {signal.Signals(-self.status).name}"
        return "; ".join(self.reasons) or f"Locust's status was {self.status}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """How a run was asked for, and how much of it is told."""

    run: str
    web_port: int | None
    html: bool
    hold: StackHold | None
    quiet: bool
    told: Told


FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a service manager, a terminal that was closed: each ends the run in order, and the report says which."""


def _run_locust(command: list[str], asked: _Asked, note: Callable[[str], None]) -> Ended:
    run, web_port, hold = asked.run, asked.web_port, asked.hold
    folder = reports_folder() / run
    folder.mkdir(parents=True)
    reader, writer = os.pipe()
    kept, foreign = ruled(os.environ)
    if foreign:
        note(f"not heeded, since they are not of this run: {', '.join(foreign)}")
    environment = kept | {
        STATUS_FD: str(writer),
        "PYTHONIOENCODING": "utf-8",  # its log is a file, whatever the terminal can show
        RUN_ID: run,
        "TICKSTORM_HTML": str(int(asked.html)),
        "TICKSTORM_STACK": str(stack_folder()),  # as they are here: Locust works in another folder
        "TICKSTORM_REPORTS": str(reports_folder().absolute()),
    }
    with open(folder / "locust.log", "wb") as log:
        child = start_child(command, environment, hold, log, writer)
    os.close(writer)
    previous = {
        number: signal.signal(number, lambda n, _f: child.send_signal(n))
        for number in FORWARDED
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN  # whom nohup told to stay
    }
    failed, shown, reasons = "", False, ()
    try:
        with Progress(run, web_port, quiet=asked.quiet) as progress, os.fdopen(reader, "rb") as lines:
            for line in lines:
                data: dict[str, Any] = json.loads(line)
                failed, reasons = data.get("failed", failed), tuple(data.get("reasons", reasons))
                progress.update(data)
                if web_port is not None and data.get("state") == "done" and not shown and _results(run).exists():
                    shown = True
                    progress.pause()
                    _summary(run, asked.told)
                    err.print("Ctrl-C closes the web UI", markup=False)
        child.wait()
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
        end_family(child)
    return Ended(status=child.returncode, failed=failed, reasons=reasons)


def end_family(child: subprocess.Popen[bytes]) -> None:
    """End a child, in order where it can, and what it started; an injector lives on until it has lifted its faults."""
    try:
        family = psutil.Process(child.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    for process in family:
        if process.is_running() and "loadtests.inject" not in " ".join(process.cmdline()):
            process.kill()


def _tell(run: str, ended: Ended, told: Told | None, *, html: bool) -> int:
    if ended.failed:
        raise BadInput(ended.failed.split("\n")) if ended.status == 2 else HarnessError(ended.failed)
    results = _results(run)
    if not results.exists():
        return _judge_what_is_there(run, ended, told or "all", html=html)
    return _summary(run, told) if told is not None else from_json(results.read_bytes()).verdict.exit_status


def _judge_what_is_there(run: str, ended: Ended, told: Told, *, html: bool) -> int:
    """Of a run that was cut off: why, its log's end, and what its history says. Raises HarnessError where it cannot."""
    folder = reports_folder() / run
    log = (folder / "locust.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = "\n".join([f"run {run} ended without a verdict: {ended.words}", *(f"  {line}" for line in log[-8:])])
    try:
        analyze_run(str(folder), (), out=None, quiet=True, html=html)
    except (BadInput, OSError) as error:
        _results(run).unlink(missing_ok=True)  # half of one
        raise HarnessError(f"{said}\nwhat it stored could not be judged: {error}") from None
    for line in [*said.split("\n"), "what it stored was judged:"]:
        err.print(line, markup=False)
    return _summary(run, told) or Verdict.UNKNOWN.exit_status  # whatever is stored, a run without an end is no pass


def _heal(toxiproxy: str, run: str) -> None:
    """Lift what a run left that could not lift it itself."""
    if not toxiproxy:
        return
    try:
        for sentence in heal(toxiproxy, [reports_folder() / run / "faults.journal"]):
            err.print(sentence, markup=False)
    except (HarnessError, OSError) as error:
        err.print(f"whether a fault is left could not be seen: {error}; run `tickstorm stack heal`", markup=False)


def _results(run: str) -> Path:
    return reports_folder() / run / "results.json"


def _summary(run: str, told: Told) -> int:
    """Print what came out; the exit status of the verdict."""
    results = from_json(_results(run).read_bytes())
    tell(results, _results(run).parent, told)
    return results.verdict.exit_status
