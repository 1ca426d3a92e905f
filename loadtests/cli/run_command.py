"""How is a profile run from the command line?  Checks everything, starts Locust as a child, shows what it tells."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from loadtests.capture.preflight import refuse, refuse_few_descriptors
from loadtests.cli.analyze_command import analyze_run, show
from loadtests.cli.console import Progress, err, out
from loadtests.harness.files import ROOT, profile_path, report_of, reports_folder
from loadtests.harness.live import STATUS_FD
from loadtests.harness.locust_main import ruled
from loadtests.harness.profile_loading import REPLAYS, load
from loadtests.harness.stack_lock import LENT, StackHold
from loadtests.harness.target import resolve
from loadtests.inject.startup_sweep import heal
from loadtests.model.errors import BadInput, HarnessError
from loadtests.model.results import Results, Verdict, from_json
from loadtests.stack.folder import stack_folder

END_S = 20.0


def run_profile(
    name: str, sets: Sequence[str], *, workers: int, web_port: int | None, seed: int | None, html: bool = True
) -> int:
    """Run and judge; the exit status of the verdict. Raises BadInput before anything was started."""
    run, ended = played(name, sets, workers=workers, web_port=web_port, seed=seed, html=html)
    return _tell(run, ended, show_it=web_port is None, html=html)


def played(
    name: str, sets: Sequence[str], *, workers: int = 0, web_port: int | None = None, seed: int | None, html: bool
) -> tuple[str, Ended]:
    """Run; its id, and how Locust ended. Raises BadInput before anything was started."""
    loaded = load(name, sets, seed)
    for key, value, source, relaxed in zip(
        loaded.effective.key, loaded.effective.value, loaded.effective.source, loaded.effective.relaxed, strict=True
    ):
        if relaxed:
            err.print(f"relaxed: {key} = {value} ({source})", markup=False)
        if key.startswith(REPLAYS):
            err.print(f"replay: {json.loads(value)}", markup=False)
    if web_port is not None and not _is_free(web_port):
        raise BadInput(f"--web-port {web_port}: in use; choose another")
    refuse_few_descriptors(loaded.profile, processes=max(workers, 1))
    run = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{loaded.profile.name}-{secrets.token_hex(2)}"
    hold = StackHold(stack_folder(), run) if loaded.profile.target.kind == "local" else None
    try:
        target = resolve(loaded.profile, lambda text: err.print(text, markup=False))
        try:
            refuse(loaded.profile, target.status)
            command = _command(name, sets, workers=workers, web_port=web_port, seed=seed)
            ended = _run_locust(command, run, web_port, html=html, hold=hold)
            if not _results(run).exists() and not ended.failed:  # a fault may still be in force
                _heal(target.toxiproxy, run)
        finally:
            if target.stack is not None:
                target.stack.down()
    finally:
        if hold is not None:
            hold.release()
    return run, ended


def results_of(run: str, ended: Ended) -> Results | None:
    """What a run that was played came to, judged from its history where it was cut off; None where nothing can be."""
    path = reports_folder() / run / "results.json"
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


def _before_locust() -> Callable[[], None]:
    """For the child before it becomes Locust: it ends with us, and hears SIGINT also where we must ignore it."""
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


def _run_locust(command: list[str], run: str, web_port: int | None, *, html: bool, hold: StackHold | None) -> Ended:
    folder = reports_folder() / run
    folder.mkdir(parents=True)
    reader, writer = os.pipe()
    kept, foreign = ruled(os.environ)
    if foreign:
        err.print(f"not heeded, since they are not of this run: {', '.join(foreign)}", markup=False)
    environment = kept | {
        STATUS_FD: str(writer),
        "PYTHONIOENCODING": "utf-8",  # its log is a file, whatever the terminal can show
        "TICKSTORM_RUN_ID": run,
        "TICKSTORM_HTML": str(int(html)),
        "TICKSTORM_STACK": str(stack_folder()),  # as they are here: Locust works in another folder
        "TICKSTORM_REPORTS": str(reports_folder().absolute()),
    }
    lent = [] if hold is None else [hold.fd]
    for fd in lent:
        environment[LENT] = str(fd)
    with open(folder / "locust.log", "wb") as log:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[writer, *lent],
            start_new_session=True,
            preexec_fn=_before_locust(),
        )
    os.close(writer)
    previous = {
        number: signal.signal(number, lambda n, _f: child.send_signal(n)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    failed, shown, reasons = "", False, ()
    try:
        with Progress(run, web_port) as progress, os.fdopen(reader, "rb") as lines:
            for line in lines:
                data: dict[str, Any] = json.loads(line)
                failed, reasons = data.get("failed", failed), tuple(data.get("reasons", reasons))
                progress.update(data)
                if web_port is not None and data.get("state") == "done" and not shown and _results(run).exists():
                    shown = True
                    progress.pause()
                    _summary(run)
                    err.print("Ctrl-C closes the web UI", markup=False)
        child.wait()
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
        _end(child)
    return Ended(status=child.returncode, failed=failed, reasons=reasons)


def _end(child: subprocess.Popen[bytes]) -> None:
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


def _tell(run: str, ended: Ended, *, show_it: bool, html: bool) -> int:
    if ended.failed:
        raise BadInput(ended.failed.split("\n")) if ended.status == 2 else HarnessError(ended.failed)
    results = _results(run)
    if not results.exists():
        return _judge_what_is_there(run, ended, html=html)
    return _summary(run) if show_it else from_json(results.read_bytes()).verdict.exit_status


def _judge_what_is_there(run: str, ended: Ended, *, html: bool) -> int:
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
    return _summary(run) or Verdict.UNKNOWN.exit_status  # whatever is stored, a run without an end is no pass


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


def _summary(run: str) -> int:
    """Print what came out; the exit status of the verdict."""
    results = from_json(_results(run).read_bytes())
    show(results)
    out.print(f"report: {_short(report_of(_results(run).parent))}", markup=False)
    return results.verdict.exit_status


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
