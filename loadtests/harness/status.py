"""How does a run tell what it is doing?  Log lines for people, JSON lines for `tickstorm run` where it asks."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from loadtests.harness.files import report_of
from loadtests.model.words import printable

if TYPE_CHECKING:
    from loadtests.harness.run import ActiveRun

log = logging.getLogger("tickstorm")
STATUS_FD = "TICKSTORM_STATUS_FD"
"""Environment variable with the number of an inherited pipe."""


class StatusLine:
    """Says each change of state once, and numbers at every call to the reader of the pipe."""

    def __init__(self) -> None:
        text = os.environ.get(STATUS_FD, "")
        self._fd = int(text) if text.isdigit() else None
        self._last = ""

    def say(self, text: str) -> None:
        """A sentence."""
        log.info("%s", printable(text))
        self._put({"say": text})

    def secret(self, text: str) -> None:
        """A sentence for the terminal alone: no log may have it, and Locust shows its own log to everybody."""
        if self._fd is None:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
        else:  # our output is a file then
            self._put({"say": text})

    def failed(self, text: str, status: int) -> None:
        """The run cannot begin."""
        self._put({"failed": text, "status": status})

    def state(self, run: ActiveRun) -> None:
        """Where the run is."""
        live = run.live(with_series=False)
        now = f"{live.state} {live.phase}"
        if now != self._last:
            self._last = now
            log.info("run %s: %s, %s; %d consumers connected", live.run, live.state, live.phase, live.connected)
            if live.state == "done":
                log.info("run %s: %s", live.run, printable("; ".join([live.verdict, *live.reasons[:3]])))
                if (report := report_of(run.folder)).exists():
                    log.info("report: %s", report)
        self._put(
            {
                "run": live.run,
                "state": live.state,
                "phase": live.phase,
                "now_s": round(live.now_s, 1),
                "plan_s": live.plan_s,
                "planned": live.planned,
                "connected": live.connected,
                "published": live.published,
                "owed": live.owed,
                "delivered": live.delivered,
                "latency_ms": live.latency_ms,
                "faults": [f.name for f in live.faults if f.state == "active"],
                "verdict": live.verdict,
                "reasons": live.reasons[:3],
            }
        )

    def _put(self, data: dict[str, Any]) -> None:
        if self._fd is None:
            return
        try:
            os.write(self._fd, json.dumps(data).encode() + b"\n")
        except OSError:
            self._fd = None

    def close(self) -> None:
        """No more lines."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
