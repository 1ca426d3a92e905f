"""What do `/health` and `/stats` of a process say?  Reads counters of others and keeps none."""

from __future__ import annotations

import time

import psutil


class Process:
    """This process: its age and its memory."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._started = time.monotonic()

    def figures(self) -> dict[str, object]:
        """`rss_bytes`, `uptime_s`, and the CPU seconds used so far."""
        with self._process.oneshot():
            cpu = self._process.cpu_times()
            return {
                "rss_bytes": self._process.memory_info().rss,
                "uptime_s": round(time.monotonic() - self._started, 3),
                "cpu_s": round(cpu.user + cpu.system, 3),
            }
