"""Which software makes the load, on what machine?  For the header of a history."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

VERSION = version("tickstorm")
_SHOWN = ("locust", "gevent", "msgspec", "redis", "psycopg2-binary", "bokeh")


def versions() -> dict[str, str]:
    """Name to version of what decides the figures."""
    return {"tickstorm": VERSION, "python": platform.python_version()} | {name: version(name) for name in _SHOWN}


def machine() -> str:
    """The machine's print: processor, cores, memory, kernel; nothing that names the machine."""
    model = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"
