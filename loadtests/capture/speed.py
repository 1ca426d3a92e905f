"""Which machine is this, and how fast is it just now? A print on all usable cores at once; as a program, of one core.

One core alone shows neither one nor two busy neighbours: so every core is asked at the same time, and the slowest
counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loadtests.model.store import Speed

LOOK_S = 1.5
"""How long a print takes: half for the loop, half for the loopback."""
WAIT_S = 30.0
_LOOPS = 20_000


def usable_cores() -> list[int]:
    """Cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def quota() -> float | None:
    """Cores that the control group allows; None: no limit."""
    with contextlib.suppress(OSError, ValueError):
        most, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return None if most == "max" else int(most) / int(period)
    return None


def machine_facts(versions: dict[str, str], *, local: bool) -> dict[str, str]:
    """What a store says of the machine: first what makes its kind (`MACHINE_KEYS`), then what may change."""
    info = _lines("/proc/cpuinfo")
    memory = int((_lines("/proc/meminfo").get("MemTotal") or "0 kB").split()[0])
    cores = min(len(usable_cores()), quota() or float("inf"))
    kernel = ".".join(platform.release().split(".")[:2])
    found = {
        "cpu": info.get("model name", platform.machine()),
        "cores": f"{cores:g}",
        "memory_gib": f"{round(memory / 1024**2)}",
        "arch": platform.machine(),
        "hypervisor": "yes" if "hypervisor" in info.get("flags", "").split() else "no",
        "target": "this machine" if local else "external",
        "kernel": kernel,
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "clock": _text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "python": platform.python_version(),
    }
    found |= {name: versions[name] for name in ("redis", "tickstorm", "gateway") if name in versions}
    return {name: text for name, text in found.items() if text}


def _lines(path: str) -> dict[str, str]:
    return {
        key.strip(): value.strip()
        for key, colon, value in (line.partition(":") for line in reversed(_text(path).splitlines()))
        if colon
    }


def _text(path: str) -> str:
    with contextlib.suppress(OSError):
        return Path(path).read_text(encoding="utf-8").strip()
    return ""


def speed_print(look_s: float = LOOK_S) -> Speed | None:
    """How fast the slowest core is; None where a core did not answer."""
    from loadtests.model.store import Speed  # the program that runs on each core starts without it

    argv = [sys.executable, "-P", "-m", "loadtests.capture.speed", str(look_s)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    asked = [
        subprocess.Popen([*argv, str(core)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        for core in usable_cores()
    ]
    found: list[Speed] = []
    try:
        for one in asked:  # all are ready before the first begins
            assert one.stdout is not None
            one.stdout.readline()
        for one in asked:
            assert one.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                one.stdin.write(b"go\n")
                one.stdin.flush()
        for one in asked:
            with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
                told = json.loads(one.communicate(timeout=WAIT_S)[0])
                found.append(Speed(cpu_ms=told["cpu_ms"], loopback_us=told["loopback_us"]))
    finally:
        for one in asked:
            if one.poll() is None:
                one.kill()
                one.wait()
    if len(found) < len(asked):
        return None
    return Speed(cpu_ms=max(one.cpu_ms for one in found), loopback_us=max(one.loopback_us for one in found))


def strain_now() -> dict[str, float]:
    """Counters of what kept this machine from working, in seconds since it started, and the time itself."""
    found = {"at": time.monotonic()}
    fields = _text("/proc/stat").partition("\n")[0].split()
    if len(fields) > 8:
        ticks, cores = os.sysconf("SC_CLK_TCK"), os.cpu_count() or 1
        found["other virtual machines"] = int(fields[8]) / ticks / cores
    for line in _text("/proc/pressure/memory").splitlines():
        if line.startswith("full"):
            found["waiting for memory"] = int(line.rpartition("total=")[2]) / 1e6
    return found


def strain_since(before: dict[str, float]) -> dict[str, float]:
    """What kept this machine from working since then: share of the time by cause."""
    now = strain_now()
    took = max(now.pop("at") - before["at"], 1e-9)
    return {name: (value - before[name]) / took for name, value in now.items() if name in before}


def one_core(look_s: float) -> dict[str, float]:
    """Medians of many short bits, so that one interruption decides nothing."""
    loops, trips = [], []
    end = time.perf_counter() + look_s / 2
    while time.perf_counter() < end:
        began, value = time.perf_counter_ns(), 0
        for index in range(_LOOPS):
            value = (value * 31 + index) & 0xFFFF
        loops.append((time.perf_counter_ns() - began) / 1e6)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as near:
        far, _ = server.accept()
        with far:
            for end_of in (near, far):
                end_of.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end = time.perf_counter() + look_s / 2
            while time.perf_counter() < end:
                began = time.perf_counter_ns()
                near.sendall(b"x")
                far.sendall(far.recv(1))
                near.recv(1)
                trips.append((time.perf_counter_ns() - began) / 1e3)
    return {"cpu_ms": round(_mean_of_middle(loops), 4), "loopback_us": round(_mean_of_middle(trips), 3)}


def _mean_of_middle(values: list[float]) -> float:
    """Of hundredths of the whole time, the median of their means: what took the core away for long counts, too."""
    size = max(len(values) // 100, 1)
    return median(sum(values[k : k + size]) / len(values[k : k + size]) for k in range(0, len(values), size))


def main() -> None:
    """`loadtests.capture.speed SECONDS CORE`: says that it is ready, waits for a line, prints the figures as JSON."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(sys.argv[2])})
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(json.dumps(one_core(float(sys.argv[1]))) + "\n")


if __name__ == "__main__":
    main()
