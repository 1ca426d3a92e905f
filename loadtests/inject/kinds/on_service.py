"""What do faults on a service of the local stack share?  The supervisor acts, the service itself is asked.

The supervisor owns the process, so any process of ours can have it started or resumed from the journal alone. Which
processes are a service is known by pid and birth, on Linux and macOS.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Hashable

import psutil

from loadtests.inject.deadline import Watch
from loadtests.inject.encounter import Company, Encounter
from loadtests.inject.errors import ControlError, NotAllowedHere, NotThere, Refused
from loadtests.inject.kinds.kind import Escalation, Kind, Site, Undo
from loadtests.inject.probe import Pace, Probe
from loadtests.inject.probe_connection import Seen
from loadtests.inject.proofs import Effective, Witness, ms
from loadtests.inject.servers import SupervisorClient
from loadtests.inject.socket_table import Peer, open_connections, without_port
from loadtests.inject.toxics import ToxiproxyServer
from loadtests.model.address import host_port
from loadtests.model.fault_kinds import KINDS
from loadtests.model.ids import NS_PER_MS, NS_PER_S
from loadtests.model.injectwire import PlannedFault
from loadtests.model.stackwire import Action, Ask

TOXIPROXY = "toxiproxy"
SPEAKS = {"redis": "redis", "postgres": "postgres"}  # all others answer GET /health over HTTP, with whatever status
RESUME_S = 3.0
_PINGS = 3
_EVERY_S = 0.05
_ANSWER_S = 1.0
_GONE = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
_SAME_S = 0.05  # a birth is told with the system's tick, and passes through text


def remember(site: Site, fault: PlannedFault) -> Undo:
    """The service's first process, for the journal. Raises Refused where it does not run."""
    service = site.the_supervisor().service(fault.link)
    if service.pid is None:
        raise Refused(f"{fault.link} does not run")
    return {"service": fault.link, "pid": str(service.pid), "born": repr(psutil.Process(service.pid).create_time())}


def family_of(site: Site, fault: PlannedFault) -> list[psutil.Process]:
    """The service's processes now, the first one first. Raises Refused where it does not run."""
    found = remembered(remember(site, fault))
    if not found:
        raise Refused(f"{fault.link} does not run")
    return found


def remembered(entry: Undo) -> list[psutil.Process]:
    """The processes of a journal's entry that still live; none where the pid is another process's by now."""
    try:
        first = psutil.Process(int(str(entry["pid"])))
        if abs(first.create_time() - float(str(entry["born"]))) > _SAME_S:
            return []
        return [process for process in (first, *first.children(recursive=True)) if process.status() not in _GONE]
    except psutil.NoSuchProcess:
        return []


def standing(processes: list[psutil.Process]) -> list[int]:
    """Which of them a signal has stopped."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() == psutil.STATUS_STOPPED:
                found.append(process.pid)
    return found


def tell_all(processes: list[psutil.Process], number: signal.Signals) -> None:
    """Sends a signal to each; those that are gone are left out. Raises NotAllowedHere."""
    for process in processes:
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            continue
        except PermissionError as error:
            raise NotAllowedHere(f"process {process.pid} may not be told to stop or go on: {error.strerror}") from error


class CpuMeter:
    """CPU seconds of a family since the meter was made; what a process used before it was first seen is not counted."""

    def __init__(self, family: Callable[[], list[psutil.Process]]) -> None:
        self._family = family
        self._last: dict[int, float] = {}
        self._used_s = 0.0
        self.used_s()

    def used_s(self) -> float:
        """Reads it."""
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                now_s = float(times.user + times.system)
                self._used_s += now_s - self._last.get(process.pid, now_s)
                self._last[process.pid] = now_s
        return self._used_s


class ServiceWitness:
    """Asks one service itself, past every proxy. A kind adds `during`. Raises ControlError where it is not there."""

    def __init__(self, site: Site, fault: PlannedFault) -> None:
        self.site, self.name = site, fault.link
        self.supervisor: SupervisorClient = site.the_supervisor()
        service = self.supervisor.service(fault.link)
        host, self.port = host_port(service.address)
        self.pid = service.pid
        self.connections: frozenset[Peer] | None = None
        self.answered = False  # before the fault
        self._born: float | None = None
        self._probe = Probe((host, self.port), SPEAKS.get(fault.link, "gateway"), Pace(_EVERY_S))

    def before(self, watch: Watch) -> None:
        """A service that does not answer anyway cannot show that it is silenced."""
        for _ in range(_PINGS):
            if self.ask(watch) == "answer":
                self.answered = True
                return

    def last_look(self) -> None:
        """Which process it is, and who is connected."""
        try:
            self.pid = self.supervisor.service(self.name).pid
        except ControlError:
            return  # what was known before must do
        self._born = _born(self.pid)
        self.connections = self.connected(must_listen=True)

    def ask(self, watch: Watch, *, fresh: bool = True) -> Seen | None:
        """What one ping saw; None when the watch ended before."""
        ping = self._probe.ping(watch.within_s(_ANSWER_S), fresh=fresh)
        return None if ping is None else ping.seen

    def connected(self, *, must_listen: bool = False) -> frozenset[Peer] | None:
        """Who is connected to it, without this probe."""
        found = open_connections(self.port, must_listen=must_listen)
        return None if found is None else without_port(found, self._probe.local_port)

    def closed_connections(self) -> int | None:
        """How many of those of the last look are gone."""
        now = self.connected()
        return None if self.connections is None or now is None else len(self.connections - now)

    def process_is(self) -> str:
        """The process of the last look: gone, stopped, or running."""
        if self.pid is None or self._born is None or _born(self.pid) != self._born:
            return "gone"
        try:
            status = psutil.Process(self.pid).status()
        except psutil.NoSuchProcess:
            return "gone"
        if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return "gone"
        return "stopped" if status == psutil.STATUS_STOPPED else "running"

    def after(self, watch: Watch) -> Effective:
        """Whether it answers, for how long it did not serve, and how long it took from its start until it was ready."""
        seen: Seen | None = None
        for _ in range(_PINGS):
            seen = self.ask(watch)
            if seen in ("answer", None):
                break
        found: Effective = {"clean": int(seen == "answer"), "probe": seen}
        try:
            service = self.supervisor.service(self.name)
        except ControlError:
            return found
        if service.down_ns is not None and service.ready_ns is not None and service.ready_ns > service.down_ns:
            found["down_s"] = round((service.ready_ns - service.down_ns) / NS_PER_S, 3)
            if service.started_ns is not None:
                found["start_to_ready_ms"] = ms(service.ready_ns - service.started_ns)
        if service.pid is not None:
            found["pid"] = service.pid
        return found

    def close(self) -> None:
        """Closes the probe's connection."""
        self._probe.close()


def company(site: Site, fault: PlannedFault) -> Encounter:
    """Who talks to a service, either way: as Redis and PostgreSQL know them by name, else by its processes' sockets."""
    roll = site.roll(fault.link)
    return Company(roll or (lambda: _talking(family_of(site, fault))), fault.link)


def _talking(family: list[psutil.Process]) -> frozenset[Hashable]:
    """Connections of a service's processes, without those to this process. Raises NotAllowedHere."""
    found: set[Hashable] = set()
    ours = {c.laddr.port for c in psutil.Process().net_connections("tcp") if c.laddr}
    for process in family:
        try:
            for one in process.net_connections("tcp"):
                if one.status == psutil.CONN_ESTABLISHED and one.raddr.port not in ours:
                    found.add((one.laddr, one.raddr))
        except psutil.NoSuchProcess:
            continue  # it ended just now
        except psutil.AccessDenied as error:
            raise NotAllowedHere(f"the connections of process {process.pid} may not be seen") from error
    return frozenset(found)


def _born(pid: int | None) -> float | None:
    try:
        return None if pid is None else psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None


def undo_of(site: Site, fault: PlannedFault) -> Undo:
    """The service, its address, and for Toxiproxy the links that must be there again."""
    supervisor = site.the_supervisor()
    service = supervisor.service(fault.link)
    undo: Undo = {"service": fault.link, "address": service.address}
    if not KINDS[fault.kind].ends_process:  # it stands still, and goes on
        undo["resumes"] = "yes"
    if fault.link == TOXIPROXY:
        undo["proxies"] = sorted(link.proxy for link in supervisor.status().links.values())
    return undo


def act(site: Site, fault: PlannedFault, do: Action) -> None:
    """Has the supervisor do it. What Toxiproxy would forget is lifted first. Raises ControlError."""
    if fault.link == TOXIPROXY:
        site.end_links(f'Toxiproxy was hit by the fault "{fault.name}" and forgets it')
    answer = site.the_supervisor().ask(Ask(do=do, service=fault.link))
    site.facts["call_ms"] = round((answer.after_ns - answer.before_ns) / NS_PER_MS, 3)


def serve_again(site: Site, entry: Undo) -> None:
    """Resumes it where it is paused, starts it where it does not run, waits until it is ready. Safe to repeat."""
    supervisor, name = _supervisor(site), str(entry["service"])
    state = supervisor.service(name).state
    if state == "paused":
        # It goes on at once; when it answers may depend on others who are down, and they are not this fault's.
        with contextlib.suppress(Refused):
            supervisor.ask(Ask(do="resume", service=name, wait_s=RESUME_S))
    elif state != "ready" and not (state == "starting" and "resumes" in entry):
        supervisor.ask(Ask(do="start", service=name))


def not_serving(site: Site, entry: Undo) -> list[str]:
    """That it is not ready, or that Toxiproxy has not all its links again."""
    name = str(entry["service"])
    status = _supervisor(site).status()
    service = status.services.get(name)
    going_on = service is not None and service.state == "starting" and "resumes" in entry
    if service is None or (service.state != "ready" and not going_on):
        return [f"{name} is {'not there' if service is None else service.state}"]
    if name != TOXIPROXY:
        return []
    there = ToxiproxyServer(service.address).proxies()
    return [f'proxy "{proxy}" is not there again' for proxy in entry.get("proxies", ()) if proxy not in there]


def escalations(site: Site, entry: Undo) -> list[Escalation]:
    """Restart it."""
    name = str(entry["service"])

    def restart() -> None:
        _supervisor(site).ask(Ask(do="restart", service=name))

    return [Escalation(name=f"restarted {name}", also_ends=f"every connection to {name}", act=restart, restarts=name)]


def _supervisor(site: Site) -> SupervisorClient:
    if site.supervisor is None:
        raise Refused("the journal names no local stack, and only its supervisor can start the service again")
    try:
        site.supervisor.status()
    except NotThere as error:
        raise NotThere(
            "the stack's supervisor is gone, and all its servers with it; `tickstorm stack up` brings them back"
        ) from error
    return site.supervisor


def holds(fault: PlannedFault) -> frozenset[str]:
    """Two that silence one service cannot be told apart."""
    return frozenset({f"service {fault.link}"})


def why_not(fault: PlannedFault) -> list[str]:
    """Only the local stack's services are known; whether it is one of them is told by the supervisor."""
    return [] if fault.link else ["it names no service"]


def service_kind(name: str, do: Action, witness: Callable[[Site, PlannedFault], Witness], state: str) -> Kind:
    """A kind whose act is one word to the supervisor; `state` is what it must tell of the service afterwards."""

    def not_in_force(site: Site, fault: PlannedFault) -> list[str]:
        found = site.the_supervisor().service(fault.link).state
        return [] if found == state else [f"{fault.link} is {found}"]

    return Kind(
        name=name,
        problems=why_not,
        holds=holds,
        undo_of=undo_of,
        apply=lambda site, fault: act(site, fault, do),
        not_in_force=not_in_force,
        witness=witness,
        undo=serve_again,
        remaining=not_serving,
        escalations=escalations,
        meets=company,
    )
