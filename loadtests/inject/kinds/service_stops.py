"""Kill, pause and restart: how is a process of a service ended, stopped or started anew, and what proves it?

Kill: SIGKILL to a service and all that it forked; at the end it is started again and waited for.
Pause: SIGSTOP to the same; the kernel still accepts for it, and no connection is answered.
Restart: it is asked to end and started again at once; nothing stays in force.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError
from loadtests.inject.kinds.kind import Kind
from loadtests.inject.kinds.on_service import ServiceWitness, service_kind
from loadtests.inject.proofs import Effective, Proof, ms
from loadtests.model.ids import NS_PER_S


class KillWitness(ServiceWitness):
    """Its process is gone, nobody listens in its place, its connections are closed."""

    def during(self, watch: Watch) -> Proof:
        """A refused connect and a process that is gone are proof."""
        seen = None
        while True:
            seen = self.ask(watch) or seen
            process = self.process_is()
            if (seen == "refused" and process == "gone") or not watch.pause():
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
            if not watch.pause():
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
            if proved or not watch.pause():
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


KINDS: Final[Mapping[str, Kind]] = {
    "kill": service_kind("kill", "kill", KillWitness, "stopped"),
    "pause": service_kind("pause", "pause", PauseWitness, "paused"),
    "restart": service_kind("restart", "restart", RestartWitness, "ready"),
}
