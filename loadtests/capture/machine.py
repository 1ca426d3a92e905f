"""Preflight: can this machine generate the load and time it?  Descriptors, CPU, memory, disk, clock, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from loadtests.model.profile.profile import Profile
from loadtests.model.profile.rules import history_mb, memory_mb
from loadtests.model.registry import wanted

SPARE_DESCRIPTORS = 128
"""Files, pipes and sockets besides the consumers': history, Locust, publishers' replies, the injector."""

BUSY_PERCENT = 30.0
LOOK_S, AGAIN_S = 0.3, 1.0
HISTORY_MB = 500
MEMORY_SPARE_MB = 300
_CLOCKS = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
_GOOD_CLOCKS = ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page", "xen")
_PACKAGES = ("locust", "gevent", "redis", "psycopg2-binary", "toxiproxy-python", "msgspec", "pydantic")


def machine_findings(profile: Profile | None, folder: Path) -> Iterator[Finding]:
    """Every question about this machine. `folder`: where histories will be written."""
    yield descriptors(profile)
    yield idle_cpu()
    yield free_memory(profile)
    yield disk_space(folder, profile)
    yield clock_source()
    yield versions()


def free_memory_mb() -> float:
    """What this machine can still hand out without swapping, now."""
    return float(psutil.virtual_memory().available) / 1e6


def needed_descriptors(profile: Profile, users: int | None = None, processes: int = 1) -> int:
    """Descriptors that one of the processes needs for its share of the users; default all users of a profile."""
    if users is None:
        users = sum(wanted(profile).values())
    return -(-users // processes) + SPARE_DESCRIPTORS


def descriptors(profile: Profile | None, users: int | None = None, processes: int = 1) -> Finding:
    """Whether each of the processes may open what its share of the users needs; default all users of the profile.

    Raises this process's soft limit to its hard one; children inherit it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (ValueError, OSError):
            pass  # some systems forbid what they call the hard limit; the old one is what we have
    have = sys.maxsize if soft == resource.RLIM_INFINITY else soft
    have_text = "unlimited" if have == sys.maxsize else f"{have:,}"
    if profile is None:
        return Finding(check="file descriptors", level="ok", text=f"File descriptors for one process: {have_text}.")
    needed = needed_descriptors(profile, users, processes)
    if have >= needed:
        return Finding(check="file descriptors", level="ok", text=f"File descriptors: {have_text}, {needed:,} needed.")
    return Finding(
        check="file descriptors",
        level="bad",
        text=f"File descriptors: {have_text} for one process, and {profile.name} needs {needed}.",
        remedy=f"Raise the hard limit (`ulimit -Hn {needed}` as root, or limits.conf), or take fewer consumers.",
    )


def idle_cpu() -> Finding:
    """How busy the machine is before we add anything; a moment is no alarm, only what goes on at a second look."""
    busy, cores, by = psutil.cpu_percent(interval=LOOK_S), psutil.cpu_count() or 1, ""
    if busy > BUSY_PERCENT:
        busy, by = _busiest(cores)
    text = f"CPU: {cores} {'core' if cores == 1 else 'cores'}, {busy:.0f} % busy before the run{by}."
    if busy <= BUSY_PERCENT and cores >= 2:
        return Finding(check="cpu", level="ok", text=text)
    remedy = "End what else runs here, or latencies will hold its share." if busy > BUSY_PERCENT else ""
    return Finding(
        check="cpu", level="warn", text=text, remedy=remedy or "One core carries target and load generator alike."
    )


def _busiest(cores: int) -> tuple[float, str]:
    """Percent of all cores over a longer look, and who took most of it: `, by cc1plus 31 %, firefox 12 %`."""
    before = {p: _worked_s(p) for p in psutil.process_iter()}
    busy = psutil.cpu_percent(interval=AGAIN_S)
    shares = {p: 100 * (_worked_s(p) - s) / AGAIN_S / cores for p, s in before.items()}
    most = sorted(shares, key=shares.__getitem__, reverse=True)[:3]
    named = [f"{_name(p)} {shares[p]:.0f} %" for p in most if shares[p] >= 1]
    return busy, f", by {', '.join(named)}" if named else ""


def _worked_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.Error:
        return "one that has ended"


def free_memory(profile: Profile | None) -> Finding:
    """Against what the profile's accounts may take."""
    free_mb = psutil.virtual_memory().available // 1_000_000
    needed_mb = MEMORY_SPARE_MB + (memory_mb(profile) if profile is not None else 0)
    text = f"Memory: {free_mb:,} MB free, about {needed_mb:,} MB needed."
    if free_mb >= needed_mb:
        return Finding(check="memory", level="ok", text=text)
    return Finding(check="memory", level="warn", text=text, remedy="Free some, or take fewer consumers or symbols.")


def disk_space(folder: Path, profile: Profile | None = None) -> Finding:
    """Where the history will lie; a folder that is not there yet is made on its nearest parent's disk."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    free_mb = psutil.disk_usage(str(place)).free // 1_000_000
    needed_mb = 0 if profile is None else round(history_mb(profile))
    text = f"Disk: {free_mb:,} MB free for histories and reports" + (
        f"; the history of {profile.name} takes about {needed_mb:,} MB." if profile is not None else "."
    )
    if not os.access(place, os.W_OK):
        return Finding(check="disk", level="bad", text="Disk: the reports folder cannot be written.", remedy="")
    if free_mb >= HISTORY_MB + needed_mb:
        return Finding(check="disk", level="ok", text=text)
    return Finding(check="disk", level="warn", text=text, remedy="Delete old runs, or run for a shorter time.")


def clock_source() -> Finding:
    """The kernel's clock: some are slow to read, and every message is timed."""
    resolution_ns = round(time.get_clock_info("monotonic").resolution * 1e9)
    try:
        source = _CLOCKS.read_text(encoding="ascii").strip()
    except OSError:
        source = ""
    text = f"Clock: {source or 'source unknown'}, resolution {resolution_ns:,} ns."
    if resolution_ns <= 1_000_000 and (not source or source in _GOOD_CLOCKS):
        return Finding(check="clock", level="ok", text=text)
    return Finding(
        check="clock", level="warn", text=text, remedy="Reading such a clock is slow or coarse; trust no microseconds."
    )


def versions() -> Finding:
    """Which software would run."""
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            return Finding(
                check="versions",
                level="bad",
                text=f"The package {package} is not installed.",
                remedy="Install from requirements.lock.",
            )
    return Finding(check="versions", level="ok", text=f"Python {platform.python_version()}, {', '.join(found)}.")


Level = Literal["ok", "warn", "bad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One answer. `bad`: a run would be refused; `warn`: its numbers may suffer."""

    check: str  # stable word: file descriptors, redis, read-only role, ...
    level: Level
    text: str  # a sentence
    remedy: str = ""  # what to do; empty where there is nothing to do


def refusals(findings: Iterable[Finding]) -> list[str]:
    """Sentences for the user about everything that is bad."""
    return [
        finding.text + (f" {finding.remedy}" if finding.remedy else "")
        for finding in findings
        if finding.level == "bad"
    ]
