"""Pause: SIGSTOP to a service and all that it forked; the kernel still accepts for it, and nobody answers."""

from __future__ import annotations

from loadtests.inject.deadline import Watch
from loadtests.inject.kinds.on_service import ServiceWitness, service_kind, wait_a_little
from loadtests.inject.proofs import Effective, Proof

LEAST_SILENCE_S = 0.3
"""A ping that is not answered for so long counts as silence."""


class PauseWitness(ServiceWitness):
    """Its process stands still, and a question stays without an answer."""

    def during(self, watch: Watch) -> Proof:
        """Silence and a stopped process are proof."""
        quiet = 0.0
        seen = None
        while quiet < LEAST_SILENCE_S:
            left = watch.left_s
            seen = self.ask(watch)
            if seen not in ("silent", "no connect"):
                quiet = 0.0
            else:
                quiet += left - watch.left_s
            if not wait_a_little(watch):
                break
        process = self.process_is()
        effective: Effective = {
            "stopped_pid": self.pid,
            "process": process,
            "ping": seen,
            "silent_ms": round(quiet * 1000, 1),
            "connections_before": None if self.connections is None else len(self.connections),
            "connections_closed": self.closed_connections(),
            **self.site.facts,
        }
        if not self.answered:
            return Proof(proved=False, effective=effective, reason="it did not answer before the fault either")
        if process == "stopped" and quiet >= LEAST_SILENCE_S:
            return Proof(proved=True, effective=effective)
        return Proof(
            proved=False, effective=effective, reason=f"its process is {process}; a ping saw: {seen or 'nothing'}"
        )


KIND = service_kind("pause", "pause", PauseWitness, "paused")
