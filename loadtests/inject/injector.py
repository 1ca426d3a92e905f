"""Which faults are planned, which are in force, and what is left when all must end?  The injector without its pipes."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from pathlib import Path

from loadtests.inject.emitting import Emitter
from loadtests.inject.errors import ControlError, NotThere
from loadtests.inject.healing import dirt, sentence, sweep, undo_pending
from loadtests.inject.journal import Entry, Journal
from loadtests.inject.kinds import KINDS
from loadtests.inject.kinds.kind import Site
from loadtests.inject.life import CALM_NS, GO_NS, Held, Life, Surroundings
from loadtests.inject.lifting import COMMAND, Lifted
from loadtests.inject.link import Link
from loadtests.inject.supervisor import Supervisor
from loadtests.inject.toxics import ToxiproxyServer
from loadtests.inject.watch import Watch
from loadtests.model.ids import NS_PER_MS
from loadtests.model.injectwire import Begin, PlannedFault, Ready
from loadtests.model.records import FaultStep, Note

_REACH_S = 3.0  # how long a Toxiproxy that has just been restarted is waited for
HEAL_S = 60.0
"""How long healing may take: every escalation of one fault, each call with its own timeout."""


class Injector:
    """The faults of one run. Used by one thread; each fault lives in its own."""

    def __init__(self, begin: Begin, emitter: Emitter) -> None:
        self._begin = begin
        self._emitter = emitter
        self._server = ToxiproxyServer(begin.toxiproxy)
        self._journal = Journal(Path(begin.journal))
        self._around = Surroundings(
            origin_ns=begin.origin_ns,
            emitter=emitter,
            journal=self._journal,
            held=Held(),
            toxiproxy=begin.toxiproxy,
            supervisor=begin.supervisor,
        )
        self._links = {name: self._link(name, proxy) for name, proxy in begin.proxies.items()}
        self._planned: list[tuple[int, str, PlannedFault]] = []
        self._names: set[str] = set()
        self._lives: dict[str, Life] = {}

    def sweep(self) -> Ready:
        """Reaches Toxiproxy and lifts what is left. Raises ControlError where it cannot be reached."""
        version = self._reach()
        swept = [sentence(entry, lifted) for entry, lifted in self._undo_journal("sweep")]
        swept += sweep(self._server, tuple(self._begin.proxies.values()))
        return Ready(toxiproxy_version=version, swept=swept)

    def _undo_journal(self, by: str) -> Iterator[tuple[Entry, Lifted]]:
        before_ns = self._now_ns()
        for entry, lifted in undo_pending(self._journal, self._server, self._note):
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
            begins_ns = fault.at_ns + self._begin.origin_ns - GO_NS - CALM_NS
            heapq.heappush(self._planned, (begins_ns, fault.name, fault))

    def next_ns(self) -> int | None:
        """When the next life begins, on the monotonic clock."""
        return self._planned[0][0] if self._planned else None

    def start_due(self) -> None:
        """Begins the lives that are due; forgets those that are over and clean."""
        self._lives = {name: life for name, life in self._lives.items() if not _is_over(life)}
        while self._planned and self._planned[0][0] <= time.monotonic_ns():
            fault = heapq.heappop(self._planned)[2]
            kind = KINDS.get(fault.kind)
            if kind is None:
                self._refuse(fault, f'kind "{fault.kind}" is not known; known are {", ".join(sorted(KINDS))}')
                continue
            life = Life(fault, kind, self._site(fault), self._around)
            self._lives[fault.name] = life
            life.start()

    def go(self, fault: str) -> None:
        """The parent is ready for an announced fault."""
        if fault in self._lives:
            self._lives[fault].go()

    def heal(self, by: str) -> list[str]:
        """Lifts everything, drops the plan, reads back. Returns what is left, with the command that lifts it."""
        self._planned.clear()
        failed_before = any(life.join(0) and life.lifted and not life.lifted.clean for life in self._lives.values())
        for life in self._lives.values():
            life.end(by)
        watch = Watch.of_s(HEAL_S)
        left: list[str] = []
        unclean: list[str] = []
        for name, life in self._lives.items():
            if not life.join(watch.left_s):
                left.append(f'Fault "{name}" is still being lifted. Run: {COMMAND}')
            elif life.lifted is not None and not life.lifted.clean:
                unclean.append(life.lifted.left)
        self._lives.clear()
        if failed_before and not left:  # what could not be lifted then may be lifted now
            unclean = [lifted.left for _, lifted in self._undo_journal(by) if not lifted.clean]
        return left + unclean or self._left_behind()

    def _left_behind(self) -> list[str]:
        proxies = tuple(self._begin.proxies.values())
        try:
            if not dirt(self._server, proxies):
                return []
            for text in sweep(self._server, proxies):
                self._note(text)
            return [f"{text}. Run: {COMMAND}" for text in dirt(self._server, proxies)]
        except ControlError as error:
            return [f"Whether all is lifted could not be read back: {error}. Run: {COMMAND}"]

    def _reach(self) -> str:
        watch = Watch.of_s(_REACH_S)
        while True:
            try:
                return self._server.version()
            except NotThere:
                if not watch.wait(time.monotonic_ns() + 100 * NS_PER_MS) or watch.over:
                    raise

    def _site(self, fault: PlannedFault) -> Site:
        supervisor = Supervisor(Path(self._begin.supervisor)) if self._begin.supervisor else None
        return Site(link=self._links.get(fault.link), supervisor=supervisor)

    def _link(self, name: str, proxy: str) -> Link:
        return Link(
            server=self._server,
            name=name,
            proxy=proxy,
            speaks=self._begin.upstream_kind.get(name, ""),
            probe_every_s=self._begin.probe_every_s,
        )

    def _refuse(self, fault: PlannedFault, why: str) -> None:
        now_ns = self._now_ns()
        self._emitter.record(
            FaultStep(
                name=fault.name,
                kind=fault.kind,
                link=fault.link,
                step="failed",
                before_ns=now_ns,
                after_ns=now_ns,
                asked=dict(fault.asked),
                detail=why,
            )
        )

    def _note(self, text: str) -> None:
        self._emitter.record(Note(at_ns=self._now_ns(), text=text))

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._begin.origin_ns


def _is_over(life: Life) -> bool:
    return life.join(0) and (life.lifted is None or life.lifted.clean)
