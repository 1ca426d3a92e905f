"""From when to when did the run go, and which faults acted in it?  Captured times, not planned ones.

Theory of operation.  The injector records the steps of each fault, each with the moments before and after its control
call.  Only the call's end is sure to lie after the effect, and only its begin before it:

    step        before .. after          becomes
    announced                            it may be tried
    active      10.00 .. 10.02           began 10.00 (not earlier), injected 10.02 (read back)
    proved      10.30                    a probe met it; `not proved` later on: it was cut short
    lifted      12.00 .. 12.05           healed 12.05 (read back); error bar 0.05 s and one slice

A service that is stopped is otherwise: both calls wait, for the end of its process and until it is ready again.  So it
is injected before the first call, and healed when its start is asked for.

Invariants: began <= injected <= healed <= end (healed + its recovery limit); a fault that failed after it was announced
may have acted (`tried_ns`), but is never proved; a name that acts twice is two windows, `name (1)` and `name (2)`; a
fault that touched no consumer (`missed`) is judged as if it had not been.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from loadtests.measure.history_tables import HistoryTables
from loadtests.model.fault_kinds import KINDS
from loadtests.model.ids import NS_PER_MS, NS_PER_S, SLICE_NS
from loadtests.model.kinds import FaultKind
from loadtests.model.profile.fault_times import occurrences, recovery_limit_s
from loadtests.model.profile.faults import Fault
from loadtests.model.profile.profile import Profile
from loadtests.model.records import ACTED, NOT_OBSERVABLE, NOTHING, TOUCHED, TOUCHED_WHY, FaultStep

Effective = Mapping[str, float | int | str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """The run's own marks."""

    t0_ns: int
    started: bool  # the history says when the warm-up began
    warm_ns: int  # end of the warm-up
    plan_end_ns: int
    end_ns: int  # the finish, or the last thing known
    connect_ns: int
    ready_ns: int | None  # when all were to be there: T0, or when connect_s had passed; None: it ended before

    def seconds(self, at_ns: int) -> float:
        """Seconds since T0, in whole microseconds."""
        return round((at_ns - self.t0_ns) / NS_PER_S, 6)


def times(facts: HistoryTables, profile: Profile, last_slice: int) -> Times:
    """Marks of the main process; what is missing follows from the profile."""
    marks = sorted((m.at_ns, m.phase) for _, p in facts.each() for m in p.marks)
    first = {phase: at for at, phase in reversed(marks)}
    finishes = sorted(f.at_ns for _, p in facts.each() for f in p.finishes)
    t0 = first.get("warm-up", first.get("baseline", 0))
    warm = first.get("baseline", t0 + round(profile.run.warm_up_s * NS_PER_S))
    planned = warm + round(profile.run.duration_s * NS_PER_S)
    known_end = finishes[-1] if finishes else max([at for at, _ in marks] + [(last_slice + 1) * SLICE_NS, t0])
    plan_end = min([planned, known_end] + [first[p] for p in ("drain", "end") if p in first])
    started = "warm-up" in first or "baseline" in first
    waited = first.get("connect", t0) + round(profile.run.connect_s * NS_PER_S)
    return Times(
        t0_ns=t0,
        started=started,
        warm_ns=min(warm, known_end),
        plan_end_ns=max(plan_end, t0),
        end_ns=max(known_end, t0),
        connect_ns=min(first.get("connect", t0), t0),
        ready_ns=t0 if started else waited if finishes and waited <= known_end else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultWindow:
    """One fault as it acted, once."""

    name: str
    kind: str
    link: str
    asked: dict[str, float | int | str]
    effective: dict[str, float | int | str | None]
    began_ns: int | None  # just before the control call: it cannot have acted earlier
    tried_ns: int | None  # just before a call that nothing confirmed: it may have acted all the same
    injected_ns: int | None  # read back as active; of a service that is stopped: just before the call that stops it
    healed_ns: int | None  # lifting read back; of a service that was stopped: when its start was asked for
    lifted_ns: int | None  # lifting read back, whatever the kind
    error_ns: int | None  # duration of the longer control call that these two wait for, and one slice
    proved: bool  # it was in force as asked, and met a consumer, as far as its history asks that
    lifted_by: str | None
    detail: str
    limit_ns: int
    families: frozenset[int]  # whose path leads over the link
    consumers: frozenset[int] | None = None  # that it chose; None: all that follow those families
    charges: bool = True  # what is lost under it is charged to it; else it is the target's, whatever else is wrong
    doubt: str = ""  # why its effect is not proved
    cut_short: bool = False  # it was proved, and found not to be in force any more before it was lifted
    still_there: str = ""  # what a probe saw after its lifting, where that was no answer
    ready_ns: int | None = None  # from the start of its process again until that was ready
    in_force: bool = False  # a probe saw it, whether or not it met a consumer
    proof_doubt: str = ""  # why no probe saw it
    touched: str = ""  # whom it met: one of the three results; empty in a history of before they were told

    @property
    def begin_ns(self) -> int | None:
        """Before that it cannot have acted; None where it was never tried."""
        return self.tried_ns if self.began_ns is None else self.began_ns

    @property
    def acted_ns(self) -> int | None:
        """From when on consumers may have felt it; None where they never did."""
        return None if self.missed else self.begin_ns

    @property
    def missed(self) -> bool:
        """It met no consumer: what happened meanwhile is judged as if it had not been."""
        return self.touched == NOTHING

    @property
    def unseen(self) -> bool:
        """Whether it met a consumer cannot be known: what was lost under it is unattributed."""
        return self.touched == NOT_OBSERVABLE

    @property
    def end_ns(self) -> int | None:
        """When its recovery is over at the latest."""
        return None if self.healed_ns is None else self.healed_ns + self.limit_ns


def unproved(fault: FaultWindow) -> str:
    """Why a fault counts as not proved."""
    if fault.missed:
        return f"it touched nobody: {fault.doubt}"
    if fault.unseen:
        return f"whether it touched anybody could not be observed: {fault.doubt}"
    if fault.cut_short:
        return f"it was not in force until its end: {fault.doubt}"
    return "nothing proves that it acted" + (f": {fault.doubt}" if fault.doubt else "")


def beside(windows: list[FaultWindow], fault: FaultWindow) -> list[FaultWindow]:
    """Faults that were in force when this one was healed, and faults that were when the last of them was."""
    found: list[FaultWindow] = []
    until = fault.healed_ns
    while until is not None:
        more = [
            a
            for a in windows
            if a is not fault
            and a not in found
            and (begin := a.acted_ns) is not None
            and begin <= until
            and (a.healed_ns is None or a.healed_ns > until)
        ]
        if not more:
            break
        found += more
        ends = [a.healed_ns for a in more]
        until = None if None in ends else max(e for e in ends if e is not None)
    return found


def meanwhile(windows: list[FaultWindow], fault: FaultWindow) -> list[FaultWindow]:
    """Faults that were in force at any time while this one was: what was out of its limits may be theirs."""
    begin, end = fault.acted_ns, fault.healed_ns
    if begin is None or end is None:
        return []
    return [
        a
        for a in windows
        if a is not fault
        and (other := a.acted_ns) is not None
        and other < end
        and (a.healed_ns is None or a.healed_ns > begin)
    ]


def fault_of(profile: Profile, name: str) -> Fault | None:
    """The planned fault of a window; repeats are numbered `name#1`, `name#2`."""
    return next((f for f in profile.faults if f.name in (name, name.rpartition("#")[0])), None)


def fault_windows(facts: HistoryTables, profile: Profile) -> list[FaultWindow]:
    """All windows of all faults, in the order in which they began."""
    steps: dict[str, list[FaultStep]] = {}
    for _, process in facts.each():
        for step in process.fault_steps:
            steps.setdefault(step.name, []).append(step)
    chosen = _chosen(facts)
    found: list[FaultWindow] = []
    for _, own in sorted(steps.items()):
        own.sort(key=lambda s: (s.before_ns, s.after_ns))
        parts = _parts(own)
        for number, part in enumerate(parts):
            found.append(_window(profile, part, f" ({number + 1})" if len(parts) > 1 else "", chosen))
    return sorted(found, key=lambda a: (a.began_ns or a.tried_ns or 2**62, a.name))


def _chosen(facts: HistoryTables) -> dict[str, frozenset[int]]:
    """Consumers that each fault chose among them, as all processes tell it."""
    found: dict[str, frozenset[int]] = {}
    for _, process in facts.each():
        for one in process.chosen_users:
            found[one.fault] = found.get(one.fault, frozenset()) | frozenset(one.consumers)
    return found


def never_in_force(profile: Profile, found: list[FaultWindow]) -> list[str]:
    """Planned faults of which nothing says that they were in force."""
    acted = {a.name for a in found if a.began_ns is not None}
    planned = (o.name for i in range(len(profile.faults)) for o in occurrences(profile, i))
    return [name for name in planned if name not in acted]


def _parts(steps: list[FaultStep]) -> list[list[FaultStep]]:
    """Steps of each time that one name was in force."""
    parts: list[list[FaultStep]] = [[]]
    for step in steps:
        seen = {s.step for s in parts[-1]}
        acted = bool(seen & {"active", "failed", "not in force"})
        if (step.step == "announced" and acted) or (step.step == "active" and "lifted" in seen):
            parts.append([])
        parts[-1].append(step)
    return parts


def _window(profile: Profile, steps: list[FaultStep], suffix: str, chosen: dict[str, frozenset[int]]) -> FaultWindow:
    def last(kind: str) -> FaultStep | None:
        return next((s for s in reversed(steps) if s.step == kind), None)

    active = next((s for s in steps if s.step == "active"), None)
    # What failed before it was announced was never tried.
    announced = any(s.step == "announced" for s in steps)
    tried = next((s for s in steps if announced and s.step in ("failed", "not in force")), None)
    lifted = last("lifted")
    # What was proved may end before its time: the last word counts.
    proofs = sorted((s for s in steps if s.step in ("proved", "not proved")), key=lambda s: s.after_ns)
    proved = active is not None and bool(proofs) and proofs[-1].step == "proved"
    kind = KINDS.get(steps[0].kind)
    planned = fault_of(profile, steps[0].name)
    limit_s = recovery_limit_s(profile, planned) if planned else profile.recovery.limit_s
    link = steps[0].link
    effective: dict[str, float | int | str | None] = {}
    for step in steps:
        effective.update(step.effective)
    ready_ns = _ns(effective, "start_to_ready_ms", NS_PER_MS)
    touched, why = str(effective.get(TOUCHED) or ""), str(effective.get(TOUCHED_WHY) or "")
    if touched == NOTHING and lifted is not None and escalated(lifted.by):
        touched, why = NOT_OBSERVABLE, "it was lifted by force, which ends more than the fault"
    met = touched in ("", ACTED)
    clock = _stopped(active, lifted, effective, kind) if kind is not None and kind.stops else _read_back(active, lifted)
    return FaultWindow(
        name=steps[0].name + suffix,
        kind=steps[0].kind,
        link=link,
        asked=next((s.asked for s in steps if s.asked), {}),
        effective=effective,
        began_ns=active.before_ns if active else None,
        tried_ns=tried.before_ns if tried and not active else None,
        injected_ns=clock.injected_ns,
        healed_ns=clock.healed_ns if active or tried else None,
        lifted_ns=lifted.after_ns if (active or tried) and lifted else None,
        error_ns=clock.error_ns,
        proved=proved and met,
        lifted_by=lifted.by if lifted else None,
        detail="; ".join(dict.fromkeys(s.detail for s in steps if s.detail)),
        limit_ns=round(limit_s * NS_PER_S),
        families=_families(profile, steps[0].kind, link),
        consumers=chosen.get(steps[0].name) if kind is not None and kind.place == "consumers" else None,
        charges=kind is None or kind.charges,
        doubt=why if not met else proofs[-1].detail if proofs and not proved else "",
        cut_short=active is not None and not proved and any(s.step == "proved" for s in proofs),
        still_there=_still_there(lifted),
        ready_ns=ready_ns,
        in_force=proved,
        proof_doubt=proofs[-1].detail if proofs and not proved else "",
        touched=touched,
    )


def escalated(lifted_by: str | None) -> bool:
    """It was lifted by force, which ends more than itself."""
    return (lifted_by or "").startswith("escalation")


def _still_there(lifted: FaultStep | None) -> str:
    if lifted is None or lifted.effective.get("clean") != 0 or lifted.effective.get("probe") == "answer":
        return ""  # an answer that was merely slow says nothing
    return f"after it was lifted, a probe saw: {lifted.effective.get('probe') or 'no answer'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clock:
    """From when to when a fault counts, and how exactly both are known."""

    injected_ns: int | None
    healed_ns: int | None
    error_ns: int | None


def _read_back(active: FaultStep | None, lifted: FaultStep | None) -> _Clock:
    calls = [s.after_ns - s.before_ns for s in (active, lifted) if s is not None]
    return _Clock(
        injected_ns=active.after_ns if active else None,
        healed_ns=lifted.after_ns if lifted else None,
        error_ns=max(calls) + SLICE_NS if active and calls else None,
    )


def _stopped(active: FaultStep | None, lifted: FaultStep | None, effective: Effective, kind: FaultKind) -> _Clock:
    """A service stops serving within the call that stops it, and its recovery begins when its start is asked for.

    Both calls wait: for the end of its process, and until it is ready again.  What is instant has one call for both.
    """
    if active is None:
        return _Clock(injected_ns=None, healed_ns=lifted.before_ns if lifted else None, error_ns=None)
    call_ns = active.after_ns - active.before_ns
    if not kind.instant:
        healed_ns = lifted.before_ns if lifted else None
        return _Clock(injected_ns=active.before_ns, healed_ns=healed_ns, error_ns=call_ns + SLICE_NS)
    down_ns, ready_ns = _ns(effective, "down_s", NS_PER_S), _ns(effective, "start_to_ready_ms", NS_PER_MS)
    # Counted from the call on, since it cannot have been down before: rather too early than too late.
    ended_ns = 0 if down_ns is None or ready_ns is None else min(max(down_ns - ready_ns, 0), call_ns)
    return _Clock(
        injected_ns=active.before_ns,
        healed_ns=active.before_ns + ended_ns if lifted else None,
        error_ns=max(call_ns - (ready_ns or 0), 0) + SLICE_NS,
    )


def _ns(effective: Effective, key: str, unit_ns: int) -> int | None:
    found = effective.get(key)
    return round(found * unit_ns) if isinstance(found, int | float) else None


def _families(profile: Profile, name: str, where: str) -> frozenset[int]:
    """Route families whose messages pass the place on which a fault acts."""
    kind = KINDS.get(name)
    if kind is not None and not kind.charges:
        return frozenset()
    every = frozenset(range(len(profile.families)))
    if kind is not None and kind.place == "consumers":
        wanted = [g.subscribe.families for g in profile.consumers if where in (g.name, "consumers")]
        return frozenset(i for i in every if any(not w or profile.families[i].name in w for w in wanted))
    if kind is not None and kind.place == "publishers":
        written = {f for g in profile.publishers if where in (g.name, "publishers") for f in g.families}
        return frozenset(i for i in every if profile.families[i].name in written)
    if where == "toxiproxy":
        return every
    return frozenset(
        i for i, f in enumerate(profile.families) if any(where == p or where in p.split("-") for p in f.path)
    )
