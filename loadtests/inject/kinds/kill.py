"""Kill: SIGKILL to a service and all that it forked; at the end it is started again and waited for."""

from __future__ import annotations

from loadtests.inject.deadline import Watch
from loadtests.inject.kinds.on_service import ServiceWitness, service_kind, wait_a_little
from loadtests.inject.proofs import Effective, Proof


class KillWitness(ServiceWitness):
    """Its process is gone, nobody listens in its place, its connections are closed."""

    def during(self, watch: Watch) -> Proof:
        """A refused connect and a process that is gone are proof."""
        seen = None
        while True:
            seen = self.ask(watch) or seen
            process = self.process_is()
            if (seen == "refused" and process == "gone") or not wait_a_little(watch):
                break
        effective: Effective = {
            "killed_pid": self.pid,
            "process": process,
            "connect": seen,
            "connections_before": None if self.connections is None else len(self.connections),
            "connections_closed": self.closed_connections(),
            **self.site.facts,
        }
        if not self.answered:
            return Proof(proved=False, effective=effective, reason="it did not answer before the fault either")
        if seen == "refused" and process == "gone":
            return Proof(proved=True, effective=effective)
        return Proof(
            proved=False, effective=effective, reason=f"its process is {process}; a connection saw: {seen or 'nothing'}"
        )


KIND = service_kind("kill", "kill", KillWitness, "stopped")
