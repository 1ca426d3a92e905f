"""Which faults are planned, which are in force, and what is left when all must end?  The injector without its pipes."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError, NoAnswer, NotThere
from loadtests.inject.fault_run import CALM_NS, GO_NS, FaultRun, Surroundings
from loadtests.inject.in_force import Exclusions
from loadtests.inject.journal import Entry, Journal
from loadtests.inject.kinds import KINDS
from loadtests.inject.kinds.kind import COMMAND, Lifted, Site
from loadtests.inject.link import Link, LinkProbes
from loadtests.inject.parent import Emitter, UserFaultControl
from loadtests.inject.probe_connection import Tls
from loadtests.inject.servers import RedisServer, SupervisorClient, database_at
from loadtests.inject.startup_sweep import dirt, end_strays, sentence, sweep_or_restart, undo_pending
from loadtests.inject.toxics import ToxiproxyServer
from loadtests.model.fault_kinds import KINDS as NAMED
from loadtests.model.ids import NS_PER_MS
from loadtests.model.injectwire import Begin, PlannedFault, Ready, UserFaultState, not_played
from loadtests.model.records import FaultStep, Note

_END_LINKS_S = 5.0  # a fault on a link is lifted in much less, unless its proxy is stuck
_LISTEN_S = 0.02
_HOLD_S = 10.0  # how long another process that heals by the journal may take
_REACH_S = 3.0  # how long a Toxiproxy that has just been restarted is waited for
HEAL_S = 60.0
"""How long healing may take: every escalation of one fault, each call with its own timeout."""


class Injector:
    """The faults of one run. Used by one thread; each fault lives in its own."""

    def __init__(self, begin: Begin, emitter: Emitter, meanwhile: Callable[[float], None] = time.sleep) -> None:
        """`meanwhile` is what to do, for at most so many seconds, while lives are waited for: listen to the parent."""
        self._begin = begin
        self._emitter = emitter
        self._server = ToxiproxyServer(begin.toxiproxy)
        self._journal = Journal(Path(begin.journal))
        self._lives: dict[str, FaultRun] = {}
        self._links = {name: self._link(name, proxy) for name, proxy in begin.proxies.items()}
        self._probes = LinkProbes(
            self._links,
            every_s=begin.link_probe_every_s,
            origin_ns=begin.origin_ns,
            emit=emitter.record,
            stuck=self._is_stuck,
        )
        self._around = Surroundings(
            origin_ns=begin.origin_ns,
            emitter=emitter,
            journal=self._journal,
            held=Exclusions(),
            toxiproxy=begin.toxiproxy,
            supervisor=begin.supervisor,
            quiet=self._probes.quiet,
        )
        self._planned: list[tuple[int, str, PlannedFault]] = []
        self._names: set[str] = set()
        self._users = UserFaultControl(emitter.send)
        self._meanwhile = meanwhile

    def sweep(self) -> Ready:
        """Reaches Toxiproxy and lifts what is left.

        Raises ControlError where it cannot be reached, and OSError where the journal cannot be held.
        """
        self._hold = self._journal.begin(self._begin.toxiproxy, _HOLD_S)  # for as long as this process lives
        swept = [sentence(*each) for each in self._undo_journal("sweep", on_links=False)]  # also a dead Toxiproxy
        version = self._reach()
        swept += [sentence(*each) for each in self._undo_journal("sweep", on_links=True)]
        swept += sweep_or_restart(self._server, tuple(self._begin.proxies.values()), self._stack)
        if self._stack is not None:
            swept += end_strays(SupervisorClient(self._stack), self._server, (self._journal,))
        self._users.listen()
        self._probes.start()
        return Ready(toxiproxy_version=version, swept=swept)

    def _undo_journal(self, by: str, *, on_links: bool | None = None) -> Iterator[tuple[Entry, Lifted]]:
        before_ns = self._now_ns()
        pending = undo_pending(self._journal, self._server, self._note, users=self._users, on_links=on_links)
        for entry, lifted in pending:
            self._emitter.record(
                FaultStep(
                    name=entry.fault,
                    kind=entry.kind,
                    link=entry.link,
                    step="lifted" if lifted.clean else "not lifted",
                    before_ns=before_ns,
                    after_ns=self._now_ns(),
                    by=f"escalation: {lifted.escalation}" if lifted.escalation else by,
                    detail=lifted.left,
                )
            )
            yield entry, lifted
            before_ns = self._now_ns()

    def plan(self, faults: list[PlannedFault]) -> None:
        """Adds faults to the plan; one whose name is known already is not planned twice."""
        for fault in faults:
            if fault.name in self._names:
                self._note(f'Fault "{fault.name}" is planned already; the second plan of it is ignored.')
                continue
            self._names.add(fault.name)
            lead_ns = KINDS[fault.kind].lead_ns if fault.kind in KINDS else 0
            begins_ns = fault.at_ns + self._begin.origin_ns - GO_NS - CALM_NS - lead_ns
            heapq.heappush(self._planned, (begins_ns, fault.name, fault))

    def next_ns(self) -> int | None:
        """When the next life begins, on the monotonic clock."""
        return self._planned[0][0] if self._planned else None

    def users_told(self, state: UserFaultState) -> None:
        """How far the run's users are with what they were told."""
        self._users.told(state)

    def parent_gone(self) -> None:
        """Nobody answers any more."""
        self._users.deafen()

    def start_due(self) -> None:
        """Begins the lives that are due; forgets those that are over and clean."""
        self._lives = {name: life for name, life in self._lives.items() if not _is_over(life)}
        while self._planned and self._planned[0][0] <= time.monotonic_ns():
            fault = heapq.heappop(self._planned)[2]
            kind = KINDS.get(fault.kind)
            if kind is None:
                self._refuse(fault, f'kind "{fault.kind}" is not known; known are {", ".join(sorted(KINDS))}')
                continue
            if why := self._why_not(fault):
                self._refuse(fault, why)
                continue
            life = FaultRun(fault, kind, self._site(fault), self._around)
            self._lives[fault.name] = life
            life.start()

    def go(self, fault: str) -> None:
        """The parent is ready for an announced fault."""
        if fault in self._lives:
            self._lives[fault].go()

    def end(self, fault: str, by: str) -> None:
        """Lifts one fault before its time, or drops it from the plan; what could not be lifted is tried once more."""
        kept = [entry for entry in self._planned if entry[1] != fault]
        if dropped := [entry[2] for entry in self._planned if entry[1] == fault]:
            heapq.heapify(kept)
            self._planned = kept
            return self._refuse(dropped[0], "it was dropped from the plan before it began", by)
        life = self._lives.get(fault)
        if life is None:
            return None
        life.end(by)
        if life.join(0) and not _is_over(life) and all(other.join(0) for other in self._lives.values()):
            # No fault is in force: the journal holds nothing but what could not be lifted.
            for entry, lifted in self._undo_journal(by):
                if entry.fault in self._lives:
                    self._lives[entry.fault].lifted = lifted
        return None

    def heal(self, by: str) -> list[str]:
        """Lifts everything, drops the plan, reads back. Returns what is left, with the command that lifts it."""
        quiet = self._probes.quiet()
        quiet.begin()
        try:
            left = self._heal(by)
        finally:
            quiet.end()
        if left:  # a link that is stuck is left alone until it is freed
            self._probes.end()
        return left

    def stop_probing(self) -> None:
        """No link is asked any more."""
        self._probes.end()

    def _is_stuck(self, link: str) -> bool:
        """A fault on it could not be lifted."""
        return any(
            life.fault.link == link and life.lifted is not None and not life.lifted.clean
            for life in list(self._lives.values())
        )

    def _heal(self, by: str) -> list[str]:
        self._planned.clear()
        failed_before = any(life.join(0) and life.lifted and not life.lifted.clean for life in self._lives.values())
        for life in self._lives.values():
            life.end(by)
        watch = Watch.of_s(HEAL_S)
        left: list[str] = []
        unclean: list[str] = []
        for name, life in self._lives.items():
            if not self._joined(life, watch):
                left.append(f'Fault "{name}" is still being lifted. Run: {COMMAND}')
            elif life.lifted is not None and not life.lifted.clean:
                unclean.append(life.lifted.left)
        self._lives.clear()
        if failed_before and not left:  # what could not be lifted then may be lifted now
            unclean = [lifted.left for _, lifted in self._undo_journal(by) if not lifted.clean]
        return left + unclean or self._left_behind()

    def _joined(self, life: FaultRun, watch: Watch) -> bool:
        """Wait for a life's end; what the parent says meanwhile may be what it waits for."""
        while not life.join(0):
            if watch.over:
                return False
            self._meanwhile(min(_LISTEN_S, watch.left_s))
        return True

    def _left_behind(self) -> list[str]:
        proxies = tuple(self._begin.proxies.values())
        try:
            try:
                if not dirt(self._server, proxies):
                    return []
            except NoAnswer:
                pass  # the sweep meets it again, and knows what to do
            for text in sweep_or_restart(self._server, proxies, self._stack):
                self._note(text)
            return [f"{text}. Run: {COMMAND}" for text in dirt(self._server, proxies)]
        except ControlError as error:
            return [f"Whether all is lifted could not be read back: {error}. Run: {COMMAND}"]

    @property
    def _stack(self) -> Path | None:
        return Path(self._begin.supervisor) if self._begin.supervisor else None

    def _reach(self) -> str:
        watch = Watch.of_s(_REACH_S)
        while True:
            try:
                return self._server.version()
            except NotThere:
                if not watch.wait(time.monotonic_ns() + 100 * NS_PER_MS) or watch.over:
                    raise

    def _site(self, fault: PlannedFault) -> Site:
        begin = self._begin
        return Site(
            link=self._links.get(fault.link),
            supervisor=SupervisorClient(Path(begin.supervisor)) if begin.supervisor else None,
            redis=RedisServer(begin.redis) if begin.redis else None,
            postgres=database_at(begin.postgres, database=begin.database, user=begin.user),
            users=self._users,
            gateway_http=begin.gateway_http,
            end_links=self._end_links,
        )

    def _end_links(self, by: str) -> None:
        lives = [life for life in list(self._lives.values()) if life.on_link and life.in_force]
        for life in lives:
            life.end(by)
        watch = Watch.of_s(_END_LINKS_S)
        for life in lives:
            life.join(watch.left_s)

    def _why_not(self, fault: PlannedFault) -> str:
        """Why a fault is not even begun; empty where it may be."""
        named = NAMED.get(fault.kind)
        if named is not None and named.destructive and not self._begin.test_system:
            return f'kind "{fault.kind}" is destructive, and the profile does not mark the target as a test system'
        if fault.link in self._links:
            for life in self._lives.values():
                if life.fault.link == "toxiproxy" and life.in_force:
                    return f'Toxiproxy itself is under the fault "{life.fault.name}"'
        return ""

    def _link(self, name: str, proxy: str) -> Link:
        return Link(
            server=self._server,
            name=name,
            proxy=proxy,
            speaks=self._begin.upstream_kind.get(name, ""),
            probe_every_s=self._begin.probe_every_s,
            layer=partial(Tls, self._begin.tls_name or None) if name in self._begin.tls_links else None,
            toxiproxy_pid=self._begin.toxiproxy_pid,
        )

    def _refuse(self, fault: PlannedFault, why: str, by: str = "") -> None:
        self._emitter.record(not_played(fault, self._now_ns(), why, by))

    def _note(self, text: str) -> None:
        self._emitter.record(Note(at_ns=self._now_ns(), text=text))

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._begin.origin_ns


def _is_over(life: FaultRun) -> bool:
    return life.join(0) and (life.lifted is None or life.lifted.clean)
