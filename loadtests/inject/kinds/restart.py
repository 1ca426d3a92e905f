"""Restart: a service is asked to end and started again at once; nothing stays in force."""

from __future__ import annotations

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError
from loadtests.inject.kinds.on_service import ServiceWitness, service_kind, wait_a_little
from loadtests.inject.proofs import Effective, Proof, ms
from loadtests.model.ids import NS_PER_S


class RestartWitness(ServiceWitness):
    """Another process serves, and the connections of the old one are closed."""

    def during(self, watch: Watch) -> Proof:
        """The old process gone, another one that answers."""
        old, new = self.pid, None
        effective: Effective = {"old_pid": old, **self.site.facts}
        while True:
            seen, process = self.ask(watch), self.process_is()
            try:
                service = self.supervisor.service(self.name)
            except ControlError as error:
                return Proof(proved=False, effective=effective, reason=str(error))
            new = service.pid
            proved = process == "gone" and new not in (None, old) and seen == "answer"
            if proved or not wait_a_little(watch):
                break
        effective |= {
            "pid": new,
            "connections_before": None if self.connections is None else len(self.connections),
            "connections_closed": self.closed_connections(),
        }
        if service.down_ns is not None and service.started_ns is not None and service.ready_ns is not None:
            effective["down_s"] = round((service.ready_ns - service.down_ns) / NS_PER_S, 3)
            effective["start_to_ready_ms"] = ms(service.ready_ns - service.started_ns)
        reason = "" if proved else f"the old process is {process}; a ping saw: {seen or 'nothing'}"
        return Proof(proved=proved, effective=effective, reason=reason)


KIND = service_kind("restart", "restart", RestartWitness, "ready")
