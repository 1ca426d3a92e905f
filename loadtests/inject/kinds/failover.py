"""Failover: the link leads to a second server, and every connection to the first one is closed.

`to` is that server, host:port, or "spare": the local stack starts one. It holds nothing of what the first one holds.
The proof is which server answers: by what it says of itself (INFO, one SELECT, GET /health; nothing that changes the
target), else by whom the kernel shows connected.
"""

from __future__ import annotations

import re
from contextlib import suppress

import msgspec

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError, NotThere, Refused
from loadtests.inject.kinds import on_link
from loadtests.inject.kinds.kind import Kind, Site, Undo
from loadtests.inject.link import Link
from loadtests.inject.probe import Probe
from loadtests.inject.probe_protocols import DIALECTS, redis_info
from loadtests.inject.proofs import Effective, LinkWitness, Proof, Witness
from loadtests.inject.servers import Database
from loadtests.inject.socket_table import open_connections
from loadtests.inject.toxics import Missing
from loadtests.model.address import PATTERN, host_port, is_address, written
from loadtests.model.ids import NS_PER_S
from loadtests.model.injectwire import PlannedFault
from loadtests.model.stackwire import SPARES, Ask

SPARE = "spare"
_START_S = 20.0  # how long a spare may take until it is ready
_NEW, _APPLIED = "to", "applied"  # names of what is kept at the site
_LOOK_S = 1.0

_RUN_ID = re.compile(rb"run_id:([0-9a-f]+)")
_SERVER = "SELECT system_identifier, inet_server_port(), pg_postmaster_start_time()::text FROM pg_control_system()"
_HERE = ("127.0.0.1", "localhost", "::1")


def named_by_itself(link: Link, probe: Probe, database: Database | None, watch: Watch) -> str | None:
    """What the server behind the link calls itself, on a connection opened for it; None where it does not say.

    Redis: its run id. PostgreSQL: system identifier, port and start, for which a login is needed. Gateway: its process.
    """
    if link.speaks == "redis":
        answer = probe.ask(redis_info("server"), watch)
        found = _RUN_ID.search(answer or b"")
        return f"run_id {found.group(1).decode()}" if found else None
    if link.speaks == "postgres" and database is not None:
        host, port = link.address()
        try:
            ((identifier, own_port, since),) = Database(
                written(host, port), database=database.database, user=database.user, own=link.own
            ).ask(_SERVER, admin=False)
        except ControlError:
            return None
        return f"system {identifier} on port {own_port} since {since}"
    if link.speaks == "gateway":
        dialect = DIALECTS["gateway"]
        answer = probe.ask((dialect.ping, dialect.complete), watch) or b""
        try:
            pid = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2], type=dict[str, object]).get("pid")
        except msgspec.MsgspecError:
            return None
        return None if pid is None else f"pid {pid}"
    return None


def reached(probe: Probe, upstreams: tuple[str, ...], watch: Watch) -> str | None:
    """Which of these servers of this machine a new connection through the link ends at; None where it cannot be known.

    Others may connect in the same instant: an answer is only given where one of the servers alone was connected to.
    """
    ports = {upstream: _local_port(upstream) for upstream in upstreams}
    before = {upstream: None if port is None else open_connections(port) for upstream, port in ports.items()}
    held = probe.ping(watch, fresh=True)
    if held is None or held.seen != "answer":
        return None
    grown = []
    for upstream, port in ports.items():
        was, now = before[upstream], None if port is None else open_connections(port)
        if was is None or now is None:
            return None
        if now - was:
            grown.append(upstream)
    return grown[0] if len(grown) == 1 else None


def _local_port(address: str) -> int | None:
    try:
        host, port = host_port(address)
    except ValueError:
        return None
    return port if host in _HERE else None


def _problems(fault: PlannedFault) -> list[str]:
    to = str(fault.asked.get("to", ""))
    if to != SPARE and not (re.fullmatch(PATTERN, to) and is_address(to)):
        return [f'to "{to}": allowed are "{SPARE}" and host:port']
    return []


def _keeps(fault: PlannedFault) -> bool:
    return bool(fault.asked.get("keep", False))


def _new_upstream(site: Site, fault: PlannedFault) -> str:
    """Where the link shall lead; starts the spare where it does not run. Raises ControlError."""
    to = str(fault.asked["to"])
    if to != SPARE:
        return to
    service = site.the_link().speaks
    if service not in SPARES:
        raise Refused(f'behind this link is "{service}", of which the local stack starts no second server')
    status = site.the_supervisor().ask(Ask(do="spare", service=service, wait_s=_START_S)).status
    spare = None if status is None else status.spares.get(service)
    if spare is None:
        raise Refused("the stack's supervisor did not say where the spare is")
    return spare.address


def _end_spare(site: Site, service: str) -> None:
    if site.supervisor is not None:
        with suppress(NotThere):  # the stack has ended, and the spare with it
            site.supervisor.ask(Ask(do="end-spare", service=service))


class FailoverWitness(LinkWitness):
    """Asks the server who it is, before and under the fault."""

    def __init__(self, site: Site, fault: PlannedFault) -> None:
        super().__init__(site.the_link())
        self._site, self._fault = site, fault
        self._old = self.link.state().upstream
        self._named_before: str | None = None

    def _named(self, watch: Watch) -> str | None:
        return named_by_itself(self.link, self.probe, self._site.postgres, watch.within_s(_LOOK_S))

    def before(self, watch: Watch) -> None:
        """Starts the spare, and asks who answers without the fault. Raises ControlError where no spare starts."""
        self._site.facts[_NEW] = _new_upstream(self._site, self._fault)
        self._named_before = self._named(watch)
        super().before(watch)

    def during(self, watch: Watch) -> Proof:
        """Another server that names itself, or a connection that the kernel shows at the new one alone, is proof."""
        new = str(self._site.facts[_NEW])
        named = at = None
        # Connecting anew may need a moment, and a name alone says nothing where none was known before.
        while at is None and None in (named, self._named_before) and self.probe.turn(watch):
            named = self._named(watch)
            at = reached(self.probe, (self._old, new), watch.within_s(_LOOK_S))
        effective: Effective = {
            "answers_before": self._named_before,
            "answers": named,
            "connected_to": "the new server" if at == new else "the old server" if at == self._old else None,
            "connections_before": None if self.connections is None else len(self.connections),
            "connections_closed": self.closed_connections(),
        }
        if at == self._old:
            return Proof(proved=False, effective=effective, reason="a new connection reached the old server")
        if self._named_before is not None and named is not None:
            same = named == self._named_before
            reason = "the same server answers as before" if same else ""
            return Proof(proved=not same, effective=effective, reason=reason)
        if at == new:
            return Proof(proved=True, effective=effective)
        return Proof(proved=False, effective=effective, reason="which server answers could not be seen")

    def after(self, watch: Watch) -> Effective:
        """Who answers now."""
        found = super().after(watch)
        return found | {"answers_after": self._named(watch)}

    def close(self) -> None:
        """Also ends a spare that was not needed after all."""
        super().close()
        if _NEW in self._site.facts and _APPLIED not in self._site.facts and self._fault.asked.get("to") == SPARE:
            _end_spare(self._site, self.link.speaks)


def _undo_of(site: Site, fault: PlannedFault) -> Undo:
    entry = on_link.undo_of(site, fault, (), cuts=True)
    if _keeps(fault):
        entry["keep"] = "yes"
    elif fault.asked["to"] == SPARE:
        entry["spare"] = site.the_link().speaks
    return entry


def _prepared(site: Site, fault: PlannedFault) -> Undo:
    """In the journal before the spare is started: also one that shall be kept is ended where nothing came of it."""
    if fault.asked["to"] != SPARE:
        return {}
    return on_link.undo_of(site, fault, (), cuts=True) | {"spare": site.the_link().speaks}


def _apply(site: Site, fault: PlannedFault) -> None:
    site.facts[_APPLIED] = 1
    site.the_link().lead_to(str(site.facts[_NEW]))


def _not_in_force(site: Site, fault: PlannedFault) -> list[str]:
    state, new = site.the_link().state(), str(site.facts[_NEW])
    found = [] if state.upstream == new else [f'proxy "{state.name}" still leads to the old server']
    return found if state.enabled else [*found, f'proxy "{state.name}" does not listen']


def _undo(site: Site, entry: Undo) -> None:
    link = site.the_link()
    try:
        state = link.state()
        if "keep" not in entry and state.upstream != entry["upstream"]:
            link.lead_to(str(entry["upstream"]))
        if not state.enabled:
            link.mend()
    except Missing:
        if "keep" in entry:
            raise
        on_link.undo(site, entry)  # a restarted Toxiproxy has forgotten it
    if "spare" in entry:
        _end_spare(site, str(entry["spare"]))


def _remaining(site: Site, entry: Undo) -> list[str]:
    link = site.the_link()
    left = on_link.remaining(site, entry)
    if not left and "keep" not in entry and link.state().upstream != entry["upstream"]:
        left.append(f'proxy "{link.proxy}" still leads to the second server')
    if "spare" in entry and site.supervisor is not None:
        with suppress(NotThere):
            status = site.supervisor.ask(Ask(do="status")).status
            if status is not None and entry["spare"] in status.spares:
                left.append(f"the spare {entry['spare']} still runs")
    return left


def _witness(site: Site, fault: PlannedFault) -> Witness:
    return FailoverWitness(site, fault)


KIND = Kind(
    name="failover",
    problems=_problems,
    holds=lambda fault: frozenset({f"upstream {fault.link}", f"down {fault.link}"}),
    undo_of=_undo_of,
    apply=_apply,
    not_in_force=_not_in_force,
    witness=_witness,
    undo=_undo,
    remaining=_remaining,
    escalations=on_link.escalations,
    meets=on_link.meeting("cuts"),
    prepared=_prepared,
    lead_ns=10 * NS_PER_S,
)
