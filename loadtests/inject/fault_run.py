"""What happens to one fault, from its calm measurement to its lifting?  A bracket in a thread of its own.

Journal, announce, apply, read back, prove, and always lift; each step is told with the times before and after it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from loadtests.inject.deadline import Watch
from loadtests.inject.encounter import Beside
from loadtests.inject.errors import ControlError, NotThere
from loadtests.inject.in_force import Exclusions, InForceCheck, NotInForce
from loadtests.inject.journal import Entry, Journal
from loadtests.inject.kinds.kind import Kind, Lifted, Site, Undo, lift
from loadtests.inject.link import Quiet
from loadtests.inject.parent import Emitter, fault_step
from loadtests.inject.proofs import Effective, Proof, Witness
from loadtests.inject.toxics import Missing
from loadtests.model.fault_kinds import KINDS as NAMED
from loadtests.model.ids import NS_PER_MS, NS_PER_S
from loadtests.model.injectwire import PlannedFault
from loadtests.model.records import Note

GO_NS = 200 * NS_PER_MS
"""How long an announcement waits for Go."""

CALM_NS = 2 * NS_PER_S
"""How long before the announcement the calm measurement begins."""

_MARGIN_NS = 50 * NS_PER_MS
_LEAST_CALM_NS = 600 * NS_PER_MS  # a fault asked for at once acts late rather than unproved
_PROOF_END_NS = 20 * NS_PER_MS  # a measurement ends so long before the lifting
_LAST_LOOK_NS = 50 * NS_PER_MS  # the last look at it begins so long before the lifting
_AFTER_S = 1.5
_JOIN_S = 2.0  # a measurement that has ended is told within so long, also on a busy machine
_HURRIED_JOIN_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What every fault of a run shares."""

    origin_ns: int
    emitter: Emitter
    journal: Journal
    held: Exclusions
    toxiproxy: str
    supervisor: str = ""  # folder
    quiet: Callable[[str], Quiet] = lambda _: Quiet()  # links that are left alone while a fault acts on them


class FaultRun:
    """One fault's life."""

    def __init__(self, fault: PlannedFault, kind: Kind, site: Site, around: Surroundings) -> None:
        self.fault = fault
        self.lifted: Lifted | None = None  # how its lifting ended, once it has
        self.in_force = False  # from just before it is applied until it is lifted cleanly
        self._kind, self._site, self._around = kind, site, around
        self._quiet = around.quiet(fault.link)
        self._stop, self._proof_stop, self._go = threading.Event(), threading.Event(), threading.Event()
        self._by = "plan"
        self._proof_told = False
        self._lost: NotInForce | None = None
        self._is_prepared = False  # what its witness began before the act is in the journal
        self._proof_lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"fault {fault.name}", daemon=True)

    @property
    def on_link(self) -> bool:
        """It acts on a link."""
        return self._site.link is not None

    def start(self) -> None:
        """Begins with the calm measurement."""
        self._thread.start()

    def go(self) -> None:
        """The parent is ready for it."""
        self._go.set()

    def end(self, by: str) -> None:
        """Lifts it now, or lets it never begin."""
        if not self._stop.is_set():
            self._by = by
        self._stop.set()
        self._proof_stop.set()
        self._go.set()

    def join(self, timeout_s: float) -> bool:
        """Waits for its end; False when it has not come."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _now_ns(self) -> int:
        return time.monotonic_ns() - self._around.origin_ns

    def _monotonic_ns(self, run_ns: int) -> int:
        return run_ns + self._around.origin_ns

    def _run(self) -> None:
        problems = self._kind.problems(self.fault)
        if not problems and self.fault.until_ns <= self._now_ns():
            problems = ["its time had passed before it could begin"]
        if problems:
            return self._tell("failed", detail="; ".join(problems))
        try:
            witness = self._kind.witness(self._site, self.fault)
            if self._kind.meets is not None:
                witness = Beside(witness, self._kind.meets(self._site, self.fault))
            try:
                self._prepare()
                self._bracket(witness)
            finally:
                witness.close()
                if self._is_prepared and not self.in_force:
                    self._around.journal.close(self.fault.name)
        except ControlError as error:
            self._tell("failed", detail=str(error))
        except OSError as error:
            self._tell("failed", detail=f"the journal cannot be written: {error.strerror}")
        return None

    def _prepare(self) -> None:
        undo = None if self._kind.prepared is None else self._kind.prepared(self._site, self.fault)
        if undo:
            self._is_prepared = True
            self._around.journal.open(self._entry(undo))

    def _drop(self) -> None:
        """It is never applied; what was prepared for it is in the journal until its witness has ended it."""
        if not self._is_prepared:
            self._around.journal.close(self.fault.name)

    def _bracket(self, witness: Witness) -> None:
        at_ns = self._monotonic_ns(self.fault.at_ns)
        calm_until_ns = max(at_ns - GO_NS - _MARGIN_NS, time.monotonic_ns() + _LEAST_CALM_NS)
        witness.before(Watch(calm_until_ns, self._stop))
        if not Watch(at_ns - GO_NS - _MARGIN_NS, self._stop).wait():
            return self._tell("failed", by=self._by, detail="it was ended before it began")
        holds = self._kind.holds(self.fault)
        if taken := self._around.held.take(holds):
            detail = f"another fault in force cannot be told apart from it: {', '.join(sorted(taken))}"
            return self._tell("failed", detail=detail)
        try:
            self._announce(witness, at_ns)
        finally:
            self._around.held.release(holds)
        return None

    def _announce(self, witness: Witness, at_ns: int) -> None:
        entry = self._entry(self._kind.undo_of(self._site, self.fault))
        self._around.journal.open(entry)
        if not Watch(at_ns - GO_NS, self._stop).wait():
            self._drop()
            return self._tell("failed", by=self._by, detail="it was ended before it began")
        self._tell("announced")
        self._around.emitter.announce(self.fault.name)
        announced_ns = time.monotonic_ns()
        try:
            self._quiet.begin()
            self._at_its_time(witness, entry, announced_ns)
        finally:
            self._quiet.end()

    def _at_its_time(self, witness: Witness, entry: Entry, announced_ns: int) -> None:
        at_ns = self._monotonic_ns(self.fault.at_ns)
        witness.last_look()
        self._go.wait(max(0, announced_ns + GO_NS - time.monotonic_ns()) / NS_PER_S)
        if not Watch(at_ns, self._stop).wait():
            self.lifted = Lifted(clean=True)
            self._drop()
            return self._tell("lifted", by=self._by, detail="it was never applied")
        if self.on_link and self._is_server_down():
            self._drop()
            return self._tell("failed", detail="Toxiproxy itself is under another fault")
        self._act(witness, entry)
        return None

    @property
    def _server(self) -> str:
        """The service that holds what this fault sets."""
        return "toxiproxy" if self.on_link else self.fault.link

    def _is_server_down(self) -> bool:
        return self._around.held.service_down(self._server, self._kind.holds(self.fault))

    def _act(self, witness: Witness, entry: Entry) -> None:
        self._site.count_fault(1)
        self.in_force = True
        before_ns = self._now_ns()
        proving: threading.Thread | None = None
        try:
            self._kind.apply(self._site, self.fault)
            missing = self._kind.not_in_force(self._site, self.fault)
        except ControlError as error:
            self._tell("failed", before_ns=before_ns, detail=str(error))
        else:
            step = "not in force" if missing else "active"
            self._tell(step, before_ns=before_ns, detail="; ".join(missing))
            proving = threading.Thread(target=self._prove, args=(witness, "; ".join(missing)), daemon=True)
            proving.start()
            self._quiet.end()
            if self._is_instant:
                return self._let_act(entry, proving)
            self._let_stand(looks=not missing)
        return self._lift(witness, entry, proving)

    def _let_stand(self, *, looks: bool) -> None:
        """Until its planned end, or until it is ended; meanwhile it is looked whether it still is in force."""
        until_ns = self._monotonic_ns(self.fault.until_ns)
        if not looks or self._kind.looks == "never":
            Watch(until_ns, self._stop).wait()
            return
        repeat = self._kind.looks == "each second"
        upkeep = InForceCheck(self._look, self._tell_lost, repeat=repeat, seen_ns=time.monotonic_ns())
        upkeep.start()
        Watch(until_ns - _LAST_LOOK_NS, self._stop).wait()
        upkeep.finish(look=self._by not in HURRIED)
        Watch(until_ns, self._stop).wait()

    def _look(self) -> list[str]:
        try:
            return self._kind.not_in_force(self._site, self.fault)
        except Missing as error:
            return [str(error)]
        except NotThere as error:
            if self._is_server_down():
                return [f"{self._server} is under another fault: {error}"]
            raise

    def _tell_lost(self, lost: NotInForce) -> None:
        with self._proof_lock:
            self._lost = lost
            if self._proof_told:
                self._tell_unproved(lost, {})

    def _tell_unproved(self, lost: NotInForce, effective: Effective) -> None:
        seen_ns, found_ns = lost.seen_ns - self._around.origin_ns, lost.found_ns - self._around.origin_ns
        detail = f"not in force any more {found_ns / NS_PER_S:.1f} s after the start of the run: {lost.why}"
        found = effective | {"last_seen_in_force_ms": seen_ns // NS_PER_MS}
        self._tell("not proved", before_ns=seen_ns, effective=found, detail=detail)  # told after any proof

    @property
    def _is_instant(self) -> bool:
        named = NAMED.get(self.fault.kind)
        return named is not None and named.instant

    def _let_act(self, entry: Entry, proving: threading.Thread) -> None:
        """Nothing stays in force: it was over when it had acted; only its effect is still watched."""
        before_ns = self._now_ns()
        lifted = self.lifted = self._undo(entry)
        step = "lifted" if lifted.clean else "not lifted"
        self._tell(step, before_ns=before_ns, by="instant", detail=lifted.left)
        proving.join(max(0.0, Watch(self._monotonic_ns(self.fault.until_ns), self._stop).left_s) + _JOIN_S)
        self._proof_stop.set()
        self._tell_proof(Proof(proved=False, reason="its effect was not seen in time"), before_ns)

    def _undo(self, entry: Entry) -> Lifted:
        if self.on_link:
            self._quiet.begin()
        lifted = self._lift_now(entry)
        if not lifted.clean and self._is_server_down():
            self._note(f'Fault "{self.fault.name}" is lifted when no other fault acts on {self._server} any more.')
            self._around.held.await_release(self._server, self._kind.holds(self.fault))
            lifted = self._lift_now(entry)
        if lifted.clean:
            self._around.journal.close(self.fault.name)
            self._site.count_fault(-1)
            self.in_force = False
            self._quiet.end()
        return lifted

    def _lift_now(self, entry: Entry) -> Lifted:
        held, own = self._around.held, self._kind.holds(self.fault)
        return lift(
            self._kind,
            self._site,
            entry.undo,
            fault=self.fault.name,
            tell=self._note,
            keep=lambda service: held.service_down(service, own),
        )

    def _prove(self, witness: Witness, missing: str) -> None:
        before_ns = self._now_ns()
        proof = witness.during(Watch(self._monotonic_ns(self.fault.until_ns) - _PROOF_END_NS, self._proof_stop))
        if missing and proof.proved:
            proof = replace(proof, proved=False, reason=f"the read-back does not show it: {missing}")
        self._tell_proof(proof, before_ns)

    def _tell_proof(self, proof: Proof, before_ns: int) -> None:
        with self._proof_lock:
            if not self._proof_told and self._lost is not None:
                self._tell_unproved(self._lost, proof.effective)
            elif not self._proof_told:
                step = "proved" if proof.proved else "not proved"
                self._tell(step, before_ns=before_ns, effective=proof.effective, detail=proof.reason)
            self._proof_told = True

    def _lift(self, witness: Witness, entry: Entry, proving: threading.Thread | None) -> None:
        before_ns = self._now_ns()
        lifted = self._undo(entry)
        after_ns = self._now_ns()
        self._proof_stop.set()
        if proving is not None:
            proving.join(_HURRIED_JOIN_S if self._by in HURRIED else _JOIN_S)
            reason = "it was lifted before its effect was measured"
            self._tell_proof(Proof(proved=False, reason=reason), before_ns)
        self.lifted = lifted
        by = f"escalation: {lifted.escalation}" if lifted.escalation else self._by
        effective = {} if self._by in HURRIED else witness.after(Watch.of_s(_AFTER_S))
        step = "lifted" if lifted.clean else "not lifted"
        self._tell(step, before_ns=before_ns, after_ns=after_ns, effective=effective, by=by, detail=lifted.left)

    def _entry(self, undo: Undo) -> Entry:
        return Entry(
            do="open",
            fault=self.fault.name,
            kind=self.fault.kind,
            link=self.fault.link,
            proxy="" if self._site.link is None else self._site.link.proxy,
            toxiproxy=self._around.toxiproxy,
            supervisor=self._around.supervisor,
            **self._servers(),
            undo=undo,
        )

    def _servers(self) -> dict[str, str]:
        redis, postgres = self._site.redis, self._site.postgres
        found = {} if redis is None else {"redis": redis.address}
        if postgres is not None:
            found |= {"postgres": postgres.address, "database": postgres.database, "user": postgres.user}
        return found

    def _note(self, text: str) -> None:
        self._around.emitter.record(Note(at_ns=self._now_ns(), text=text))

    def _tell(
        self,
        step: str,
        *,
        before_ns: int | None = None,
        after_ns: int | None = None,
        effective: Effective | None = None,
        by: str = "",
        detail: str = "",
    ) -> None:
        now_ns = self._now_ns()
        self._around.emitter.record(
            fault_step(
                self.fault,
                step,
                before_ns=now_ns if before_ns is None else before_ns,
                after_ns=now_ns if after_ns is None else after_ns,
                effective=effective or {},
                by=by,
                detail=detail,
            )
        )


HURRIED = frozenset({"pipe closed", "signal"})
"""Reasons to heal after which nobody waits for a measurement."""
