"""On what machine were the figures taken?  Its print, which names neither the machine nor a path."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_OURS = ("tickstorm", "locust", "gevent", "msgspec")
_PEERS = (
    "websocket-client", "websockets", "picows", "uvloop", "python-socketio", "redis", "k6",
)  # fmt: skip


def machine() -> str:
    """Processor, cores, memory, kernel, congestion control."""
    model = platform.machine()
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    memory = next((int(line.split()[1]) for line in _lines(Path("/proc/meminfo")) if line.startswith("MemTotal")), 0)
    kernel = f"{platform.system()} {platform.release().partition('-')[0]}"
    control = "".join(_lines(Path("/proc/sys/net/ipv4/tcp_congestion_control"))[:1])
    said = f", tcp {control}" if control else ""
    return f"{model}, {os.cpu_count()} cores, {round(memory / 1024 / 1024)} GiB, {kernel}{said}"


def versions(peers: Path | None, redis: Path | None) -> str:
    """Of what decides the figures; `peers` is the interpreter of the peers' environment."""
    found = [f"Python {platform.python_version()}"]
    for name in _OURS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    if peers is not None:
        code = "import sys,importlib.metadata as m;[print(n,m.version(n)) for n in sys.argv[1:]]"
        found += _output([str(peers), "-c", code, *_PEERS])
    if redis is not None:
        words = " ".join(_output([str(redis), "--version"])).split()
        numbers = [word.removeprefix("v=") for word in words if word.startswith("v=")]
        found.append(f"{redis.name} {numbers[0] if numbers else '?'}")
    found += [f"Node {line.removeprefix('v')}" for line in _output(["node", "--version"])]
    found += _output(["cc", "--version"])[:1]
    return ", ".join(found)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _output(command: list[str]) -> list[str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []
