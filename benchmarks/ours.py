"""What does a load cost Tickstorm itself?  `tickstorm run` as its user starts it, and what its results.json says."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from benchmarks.bench import LOCALHOST, TICKSTORM, Bench, free_port, runs_folder
from benchmarks.children import CLIENT_CORE, SERVER_CORE, Child, ChildError
from benchmarks.figures import ClientRun
from benchmarks.obtaining import certificate, clean
from benchmarks.profile_text import Load, profile_text

AROUND_S = 120.0
"""A run may take this much longer than its load: connecting, draining, judging."""
_CPU = "cpu:load generator "
_MEMORY = "memory_mb:load generator "


class OwnRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of Tickstorm."""

    load: Load
    run: ClientRun  # over the measured part of the plan
    results: dict[str, Any]
    history_bytes: int
    history_per_s: float | None  # bytes by which it grew during the plan; None: not seen
    folder: str
    sender_percent: float  # of its core, over the same time
    published_per_s: float  # those that Redis answered

    @property
    def rss_mb(self) -> list[tuple[float, float]]:
        """(seconds, MB) of the load generator, summed over its processes."""
        return _steps(self.results, _MEMORY)

    @property
    def points(self) -> list[tuple[float, float, float]]:
        """(deliveries per second, CPU in percent, lost so far) of each second of the plan."""
        line = self.results["timeline"]
        slices = max(1, round(1 / line["slice_s"]))
        delivered, lost = line["series"]["delivered_per_s"], line["series"]["lost_per_s"]
        found = []
        for second, cpu in _measured(self.results, _steps(self.results, _CPU), 1.0):
            at = round((second - line["from_s"]) / line["slice_s"])
            part = delivered[max(0, at - slices + 1) : at + 1]
            found.append((statistics.mean(part), cpu, sum(lost[: at + 1]) * line["slice_s"]))
        return found


def run_ours(
    bench: Bench, load: Load, *, gateway: str = "", toxiproxy: str = "", proxy: str = "", beside: Child | None = None
) -> OwnRun:
    """One run; without `gateway` a sender of its own is its target. Raises ChildError, MissingError."""
    if gateway:
        return _run(bench, load, gateway, toxiproxy, proxy, beside)
    with bench.sender("--redis", bench.redis(), *load.sender_options) as sender:
        return _run(bench, load, sender.address, toxiproxy, proxy, sender.child)


def _run(bench: Bench, load: Load, gateway: str, toxiproxy: str, proxy: str, beside: Child | None) -> OwnRun:
    reports = runs_folder() / f"{time.time_ns()}"
    reports.mkdir(parents=True)
    profile = reports / "bench.toml"
    text = profile_text(load, redis=bench.redis(), gateway=gateway, toxiproxy=toxiproxy, proxy=proxy)
    profile.write_text(text, encoding="utf-8")
    environment = clean(os.environ) | {"TICKSTORM_REPORTS": str(reports), "TICKSTORM_STACK": str(reports / "no-stack")}
    if load.tls:
        environment["SSL_CERT_FILE"] = str(certificate()[0])
    child = bench.children.start(
        "tickstorm run", [*TICKSTORM, "run", str(profile)], core=CLIENT_CORE, environment=environment, merged=True
    )
    try:
        around = _follow(child, beside, reports, load.seconds + load.warm_up_s + AROUND_S)
    finally:
        bench.children.end(child)
    folder = next(path.parent for path in reports.glob("*/results.json"))
    results: dict[str, Any] = json.loads((folder / "results.json").read_bytes())
    return OwnRun(
        load=load,
        run=_client_run(results, around.kernel_share),
        results=results,
        history_bytes=_history_bytes(reports),
        history_per_s=around.history_per_s,
        folder=str(folder),
        sender_percent=around.beside_percent,
        published_per_s=statistics.mean(window(results, "published_per_s")) * _answered(results),
    )


class _Around(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen from outside between the plan's begin and end."""

    kernel_share: float | None
    beside_percent: float
    history_per_s: float | None


def _follow(child: Child, beside: Child | None, reports: Path, limit_s: float) -> _Around:
    """Wait for the run's end; read CPU times when it says that a phase began. Raises ChildError."""

    def now() -> tuple[float, ...]:
        return time.monotonic(), *_family_times(child), beside.cpu_s() if beside else 0.0, _history_bytes(reports)

    wanted = (" baseline: ", " draining: ", "report: ")
    deadline, seen = time.monotonic() + limit_s, dict[str, tuple[float, ...]]()
    while wanted[2] not in seen:
        line = child.line(lambda text: any(word in text for word in wanted), deadline - time.monotonic())
        seen[next(word for word in wanted if word in line)] = now()
    before, after = seen.get(wanted[0]), seen.get(wanted[1])
    if before is None or after is None:  # too busy to say so
        return _Around(kernel_share=None, beside_percent=float("nan"), history_per_s=None)
    took, user, system, other, history = (b - a for a, b in zip(before, after, strict=True))
    share = system / (user + system) if user + system else None
    return _Around(kernel_share=share, beside_percent=100 * other / took, history_per_s=history / took)


def _history_bytes(reports: Path) -> int:
    return sum(path.stat().st_size for path in reports.glob("*/history/*"))


def _client_run(results: dict[str, Any], kernel_share: float | None) -> ClientRun:
    """Rate and CPU of the steps of the plan, without its warm-up."""
    rate = statistics.mean(window(results, "delivered_per_s"))
    cpu = statistics.mean(value for _, value in _measured(results, _steps(results, _CPU), 0.5))
    spread = results["calm_latency_ms"]
    return ClientRun(
        client="tickstorm", messages=rate, seconds=1.0, cpu_s=cpu / 100, lost=results["delivery"]["lost"]["total"],
        p50_ms=spread["p50"], p99_ms=spread["p99"], kernel_share=kernel_share,
    )  # fmt: skip


def _answered(results: dict[str, Any]) -> float:
    """The share of what has a number that Redis answered: what waited for too long has one as well."""
    delivery = results["delivery"]
    published, failed, unknown = (delivery[name] or 0 for name in ("published", "failed", "unknown"))
    return 1 - (failed + unknown) / published if published else 0.0


def _plan(results: dict[str, Any]) -> tuple[float, float]:
    warm = next(p["to_s"] for p in results["phases"] if p["phase"] == "warm-up")
    end = next(p["from_s"] for p in results["phases"] if p["phase"] == "drain")
    return warm, end


def _steps(results: dict[str, Any], prefix: str) -> list[tuple[float, float]]:
    """A series of the load generator's processes, added up; where a reading lies is known to one step."""
    line = results["timeline"]
    found: dict[float, float] = {}
    for name, values in line["series"].items():
        if name.startswith(prefix):
            for at, value in enumerate(values):
                if value is not None:
                    second = line["from_s"] + at * line["slice_s"]
                    found[second] = found.get(second, 0.0) + value
    return sorted(found.items())


def _measured(results: dict[str, Any], steps: list[tuple[float, float]], after_s: float) -> list[tuple[float, float]]:
    """Readings within the plan; each speaks for the second before it."""
    warm, end = _plan(results)
    found = [(s, v) for s, v in steps if s >= warm + after_s and s + results["timeline"]["slice_s"] <= end + 0.1]
    if not found:
        raise ChildError("the run was too short for a reading of its CPU")
    return found


def window(results: dict[str, Any], name: str) -> list[float]:
    """Values of whole steps within the plan."""
    line, (warm, end) = results["timeline"], _plan(results)
    found = [
        value
        for at, value in enumerate(line["series"][name])
        if line["from_s"] + at * line["slice_s"] >= warm and line["from_s"] + (at + 1) * line["slice_s"] <= end + 0.05
    ]
    if not found:
        raise ChildError("the run was too short")
    return found


def _family_times(child: Child) -> tuple[float, float]:
    """User and system time of the run's processes."""
    user = system = 0.0
    try:
        family = psutil.Process(child.process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    for process in family:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        user, system = user + times.user, system + times.system
    return user, system


def judge_again(bench: Bench, run: OwnRun) -> float:
    """Seconds that `tickstorm analyze` takes for a stored run."""
    folder = Path(run.folder)
    environment = clean(os.environ) | {"TICKSTORM_REPORTS": str(folder.parent)}
    began = time.monotonic()
    child = bench.children.start(
        "tickstorm analyze", [*TICKSTORM, "analyze", str(folder), "--quiet"], core=CLIENT_CORE, environment=environment
    )
    try:
        while not child.over and time.monotonic() < began + AROUND_S:
            child.lines(1.0)
        return time.monotonic() - began
    finally:
        bench.children.end(child)


class Proxy:
    """A proxy of the local stack's Toxiproxy."""

    def __init__(self, api: str, address: str, name: str, process: psutil.Process) -> None:
        self.api, self.address, self.name, self._process = api, address, name, process

    def cpu_s(self) -> float:
        """CPU time of Toxiproxy so far."""
        times = self._process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def toxiproxy(bench: Bench, upstream: str) -> Iterator[Proxy]:
    """The local stack in a folder of its own, and on its Toxiproxy a proxy that leads to `upstream`."""
    folder = runs_folder().parent / "stack"
    environment = clean(os.environ) | {"TICKSTORM_STACK": str(folder)}
    ports = [f"--port={name}={free_port()}" for name in ("redis", "postgres", "toxiproxy", "gateway", "producer")]
    bench.children.run(
        "tickstorm stack up",
        [*TICKSTORM, "stack", "up", *ports],
        core=SERVER_CORE,
        timeout_s=90,
        environment=environment,
    )
    try:
        lines = bench.children.run(
            "tickstorm stack status", [*TICKSTORM, "stack", "status", "--json"], core=SERVER_CORE, timeout_s=20,
            environment=environment,
        )  # fmt: skip
        service = json.loads("\n".join(lines))["services"]["toxiproxy"]
        listen = f"{LOCALHOST}:{free_port()}"
        _ask(f"http://{service['address']}/proxies", {"name": "bench", "listen": listen, "upstream": upstream})
        yield Proxy(service["address"], listen, "bench", psutil.Process(service["pid"]))
    finally:
        bench.children.run(
            "tickstorm stack down", [*TICKSTORM, "stack", "down", "--force"], core=SERVER_CORE, timeout_s=40,
            environment=environment,
        )  # fmt: skip


def _ask(url: str, body: dict[str, str]) -> None:
    request = urllib.request.Request(url, data=json.dumps(body).encode(), method="POST")
    try:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the shell names
        with direct.open(request, timeout=5) as answer:
            answer.read()
    except urllib.error.URLError as error:
        raise ChildError(f"Toxiproxy refused a proxy: {error.reason}") from None


def forget_runs() -> None:
    """Remove what earlier benchmarks left."""
    shutil.rmtree(runs_folder(), ignore_errors=True)
