"""Can the run be believed?  Conditions of the harness, and one of the target: that it recovered from every fault.

A condition of the harness is PASS or UNKNOWN, since it says nothing bad about the target.  Not to have recovered is
FAIL whatever thresholds the profile has.
"""

from __future__ import annotations

from loadtests.measure.absences import HARNESS
from loadtests.measure.accounts import not_kept
from loadtests.measure.analysis import Analysis
from loadtests.measure.checks import LINES, disconnected_breaks, harness_share, not_offered, own_lag_ms, undecided_share
from loadtests.measure.fault_windows import FaultWindow, never_in_force, unproved
from loadtests.measure.harness_trouble import incomplete
from loadtests.measure.interference import NOT_MEASURED, unanswered
from loadtests.measure.measures_target import own_readings
from loadtests.measure.phases import CALM
from loadtests.measure.streams import overlaps
from loadtests.measure.subscriptions import left_out
from loadtests.measure.target_words import said
from loadtests.model.fault_kinds import KINDS
from loadtests.model.ids import NS_PER_S
from loadtests.model.records import THE_STACK
from loadtests.model.registry import CONSUMER, PUBLISHER, wanted
from loadtests.model.results import Check, Verdict

_LOOKED_AFTER_NS = 2 * NS_PER_S
"""The injector asks whether a fault is gone within this time after its lifting."""


def _condition(
    name: str, bad: bool, summary: str, *, limit: float | None = None, measured: float | None = None,
    evidence: list[str] | None = None, verdict: Verdict = Verdict.UNKNOWN,
) -> Check:  # fmt: skip
    return Check(
        name=name,
        verdict=verdict if bad else Verdict.PASS,
        summary=summary,
        limit=limit,
        measured=measured,
        phases=[],
        evidence=(evidence or [])[:LINES],
    )


def harness_checks(analysis: Analysis) -> list[Check]:
    """Conditions without which the run cannot be believed."""
    return [
        _users_there(analysis),
        _lived(analysis),
        _injector(analysis),
        _complete(analysis),
        _account(analysis),
        _offered(analysis),
        _undecided(analysis),
        _kept_away_by_us(analysis),
        _coverage(analysis),
        _taken(analysis),
        _own_lag(analysis),
        _path(analysis),
        _all_connected(analysis),
        *_faults(analysis),
        *_queries(analysis),
        _failed_seen(analysis),
    ]


CONNECTED = "all connected at the start"
OFFERED = "load offered as planned"
USERS_THERE = "every kind of user took part"
TAKEN = "what came could be taken"
ROOTS = (
    "the target's services lived",
    "the injector lived",
    "the history is whole",
    USERS_THERE,
    "not_admitted",
    CONNECTED,
    "path proved before the start",
    OFFERED,
    TAKEN,
    "clean coverage",
)
"""Checks, or the measures of thresholds, whose breach explains those of others: their reasons come first, in turn."""


def _users_there(analysis: Analysis) -> Check:
    """What rests on users that were not started says nothing of the target."""
    lines = list(left_out(analysis.facts).values())
    return _condition(USERS_THERE, bool(lines), lines[0] if lines else "those that the profile plans", evidence=lines)


def _lived(analysis: Analysis) -> Check:
    """A target's process that ends by itself is the target's failure; Toxiproxy is ours."""
    ends = sorted((e.at_ns, e.service, e.what) for _, p in analysis.facts.each() for e in p.services_ended)
    ends = [e for e in ends if not any(a.link == e[1] and _may_have_ended_it(a, e[0]) for a in analysis.fault_windows)]
    lines = [f"{service} {what} at {analysis.times.seconds(at):.1f} s" for at, service, what in ends]
    theirs = any(service not in ("toxiproxy", THE_STACK) for _, service, _ in ends)
    return _condition(
        ROOTS[0],
        bool(lines),
        lines[0] if lines else "none ended by itself",
        evidence=lines,
        verdict=Verdict.FAIL if theirs else Verdict.UNKNOWN,
    )


def _may_have_ended_it(fault: FaultWindow, at_ns: int) -> bool:
    """Whether a fault on that very service may have ended it.  Whom the supervisor was asked to end is never told."""
    kind = KINDS.get(fault.kind)
    if kind is None or not kind.may_end or fault.began_ns is None:
        return False
    return fault.began_ns <= at_ns and (fault.healed_ns is None or at_ns <= fault.healed_ns)


def _still_there(analysis: Analysis, fault: FaultWindow) -> str:
    """What a probe saw after its lifting; empty where it was an answer, or where another fault may be the reason."""
    if not fault.still_there or fault.healed_ns is None:
        return ""
    until = fault.healed_ns + _LOOKED_AFTER_NS
    for other in analysis.fault_windows:
        lasted = other.healed_ns is None or other.healed_ns > fault.healed_ns
        if other is not fault and other.begin_ns is not None and other.begin_ns < until and lasted:
            return ""
    return fault.still_there


def _injector(analysis: Analysis) -> Check:
    lines = [
        f"{analysis.times.seconds(t.from_ns):.1f} s: {t.what}"
        for t in sorted((t for _, p in analysis.facts.each() for t in p.trouble), key=lambda t: t.from_ns)
        if t.process == "injector"
    ]
    return _condition(ROOTS[1], bool(lines), lines[0] if lines else "from its start to its end", evidence=lines)


def own_profile(analysis: Analysis, sha256: str) -> Check:
    """Whether the stored profile is the one that every process had."""
    other = sorted({h.process for _, p in analysis.facts.each() for h in p.headers if h.profile_sha256 != sha256})
    text = "profile.toml is not the one that the run was started with" if other else "profile.toml is as it was"
    return _condition("judged by its own profile", bool(other), text, evidence=other)


def _account(analysis: Analysis) -> Check:
    ledger = analysis.ledger
    wrong = ledger.wrong + overlaps(analysis.table)
    wrong += [f"consumer {c}: {why}" for c, why in sorted(ledger.unjudged.items())]
    kept = not_kept(analysis.facts)
    text = "the tally does not add up" if ledger.wrong else f"nothing is known of {len(ledger.unjudged)} consumers"
    if wrong and kept:
        text = f"{text}: {kept[0]} (guard.exceptions_per_s)"
    none = not ledger.judged
    return _condition(
        "the account adds up",
        bool(wrong) or none,
        text
        if wrong
        else "no consumer's account is there"
        if none
        else f"{ledger.judged} consumers, each stream's sum closes",
        measured=float(len(ledger.unjudged)),
        limit=0.0,
        evidence=wrong,
    )


def _complete(analysis: Analysis) -> Check:
    missing = incomplete(analysis.facts, analysis.damage, analysis.times.seconds(analysis.times.end_ns))
    return _condition(
        ROOTS[2],
        bool(missing),
        missing[0] if missing else "every file from 0 to its end",
        evidence=missing,
    )


def _offered(analysis: Analysis) -> Check:
    limit, found = analysis.profile.guard.not_offered_share, not_offered(analysis, calm=True)
    if found is None:
        return _condition(OFFERED, True, "nothing was published in a calm phase", limit=limit)
    if gone := _publishers_gone(analysis):
        return _condition(OFFERED, True, gone[0], limit=limit, evidence=gone)
    share, missed, planned = found
    text = f"{missed} of {planned} planned messages were not offered in calm phases"
    return _condition(OFFERED, share > limit, text, limit=limit, measured=round(share, 6))


def _publishers_gone(analysis: Analysis) -> list[str]:
    """Publishers whose part of the plan no process counted: of a lost process, or taken away by hand."""
    end = analysis.times.plan_end_ns
    lost = [
        f"{t.process} published and was lost: {t.what}"
        for t in analysis.facts.lost()
        if t.from_ns < end and t.process in analysis.facts.processes
        if len(analysis.facts.processes[t.process].publish)
    ]
    count = wanted(analysis.profile)[PUBLISHER.name]
    fewer = [
        f"{u.wanted[PUBLISHER.user_class]} of {count} publishers were left at {analysis.times.seconds(u.at_ns):.1f} s"
        for _, p in analysis.facts.each()
        for u in p.users
        if analysis.times.t0_ns < u.at_ns < end and u.wanted.get(PUBLISHER.user_class, count) < count
    ]
    return lost + fewer


def _undecided(analysis: Analysis) -> Check:
    share, limit = undecided_share(analysis), analysis.profile.guard.undecided_share
    if share is None:
        return _condition("little is undecided", True, "nothing was offered", limit=limit)
    text = f"{int(analysis.ledger.undecided_rows.sum())} messages at the ends of subscriptions are undecided"
    bad = share > limit and not disconnected_breaks(analysis)
    return _condition("little is undecided", bad, text, limit=limit, measured=round(share, 6))


def _kept_away_by_us(analysis: Analysis) -> Check:
    """What single consumers could not take is told by a condition of its own."""
    name, limit, share = (
        "little was missed by our own trouble",
        analysis.profile.guard.undecided_share,
        harness_share(analysis),
    )
    if share is None:
        return _condition(name, True, "nothing was offered", limit=limit)
    told = any(t.consumers for _, p in analysis.facts.each() for t in p.trouble)
    text = f"{share:.2%} of what was offered went to consumers that our own trouble kept away"
    lines = analysis.ledger.away_evidence.get(HARNESS, [])
    return _condition(
        name, share > limit and not told, text, limit=limit, measured=round(share, 6), evidence=lines if share else []
    )


def _coverage(analysis: Analysis) -> Check:
    limit, share = analysis.profile.guard.clean_coverage_min, analysis.coverage
    text = (
        "no calm reading of the load generator"
        if share is None
        else f"the load generator kept up in {share:.1%} of the calm time"
    )
    thin = [s.said(analysis.times.seconds) for s in own_readings(analysis) if not s.enough]
    bad = share is None or share < limit
    text = thin[0] if thin and not bad else text
    return _condition("clean coverage", bad or bool(thin), text, limit=limit, measured=share, evidence=thin)


def _taken(analysis: Analysis) -> Check:
    """Trouble of single consumers is left out of their account: what it hid is neither lost nor not owed."""
    lines = []
    for t in sorted((t for _, p in analysis.facts.each() for t in p.trouble if t.consumers), key=lambda t: t.from_ns):
        more = f" and {len(t.consumers) - 1} more" if len(t.consumers) > 1 else ""
        until = "the end" if t.to_ns < 0 else f"{analysis.times.seconds(t.to_ns):.1f} s"
        span = f"{analysis.times.seconds(t.from_ns):.1f} s to {until}"
        lines.append(f"{t.what} (consumer {t.consumers[0]}{more}, {span})")
    return _condition(TAKEN, bool(lines), lines[0] if lines else "of every consumer", evidence=lines)


def _own_lag(analysis: Analysis) -> Check:
    limit, lag = analysis.profile.guard.own_lag_p99_ms, own_lag_ms(analysis, {CALM})
    text = "too few publish times" if lag is None else f"p99 of our own lag {lag:.3f} ms"
    # Too few to say p99 is no trouble of its own: whether enough was published is a threshold's matter.
    return _condition("own lag", lag is not None and lag > limit, text, limit=limit, measured=lag)


def _path(analysis: Analysis) -> Check:
    probes = sorted(
        (p.at_ns, p.what, p.ok) for _, f in analysis.facts.each() for p in f.probes if p.what.startswith("family:")
    )
    proved = {what.removeprefix("family:") for at, what, ok in probes if ok and at <= analysis.times.t0_ns}
    published = {n for g in analysis.profile.publishers for n in g.families}
    followed = {
        analysis.profile.families[analysis.contract.routes[r].family].name
        for intervals in analysis.subs.intervals.values()
        for i in intervals[:1]
        for r in i.routes[:1] + i.routes[-1:]
    }
    needed = published & followed if followed else published
    lacking = sorted(needed - proved)
    text = (
        f"no probe message came through before the start: {', '.join(lacking)}"
        if lacking
        else "every family's path was proved"
    )
    return _condition("path proved before the start", bool(lacking), text, evidence=lacking)


def _all_connected(analysis: Analysis) -> Check:
    ready_ns = analysis.times.t0_ns if analysis.times.ready_ns is None else analysis.times.ready_ns
    there = analysis.subs.confirmed_at(ready_ns)
    planned = [s for g, slots in enumerate(analysis.plan.slots) for s in slots[: analysis.plan.count_at(ready_ns, g)]]
    missing = [s for s in planned if s not in there]
    text = f"{len(planned) - len(missing)} of {len(planned)} planned subscriptions were confirmed at the start"
    bad = bool(missing) or not analysis.times.started
    words = said(analysis, to_ns=analysis.times.ready_ns) if missing else []
    if words:
        text = f"{text}; {words[0]}"
    if analysis.times.ready_ns is None:
        text = "the history does not say when the run started"
    return _condition(
        CONNECTED, bad, text, limit=float(len(planned)), measured=float(len(planned) - len(missing)),
        evidence=words + [f"consumer {s}" for s in missing],
    )  # fmt: skip


def _faults(analysis: Analysis) -> list[Check]:
    never = [f"{name}: never in force" for name in never_in_force(analysis.profile, analysis.fault_windows)]
    if not never and not analysis.fault_windows:
        return []
    lines = list(never)
    lines += [f"{a.name}: {unproved(a)}" for a in analysis.fault_windows if a.began_ns is not None and not a.proved]
    lines += [f"{a.name}: not lifted" for a in analysis.fault_windows if a.began_ns is not None and a.healed_ns is None]
    lines += [f"{a.name}: {why}" for a in analysis.fault_windows if (why := _still_there(analysis, a))]
    bad = [r.summary for r in analysis.recovery if r.verdict is Verdict.FAIL]
    unsure = [r.summary for r in analysis.recovery if r.verdict is Verdict.UNKNOWN]
    # Nothing was offered, or nobody was there to see it.
    if left_out(analysis.facts).keys() & {PUBLISHER.key, CONSUMER.key}:
        bad, unsure = [], bad + unsure
    told = {r.fault for r in analysis.recovery}
    unsure += [line for line in never if line.partition(":")[0] not in told]
    return [
        _condition("every fault acted and was lifted", bool(lines), (lines or ["all did"])[0], evidence=lines),
        _condition(
            "recovered from every fault",
            bool(bad or unsure),
            (bad or unsure or ["within its limit"])[0],
            limit=0.0,
            measured=float(len(bad)),
            evidence=bad + unsure,
            verdict=Verdict.FAIL if bad else Verdict.UNKNOWN,
        ),
    ]  # fmt: skip


def _queries(analysis: Analysis) -> list[Check]:
    """Whether something went wrong with the queries in or after a fault; how they came back is not measured."""
    if not analysis.fault_windows or not analysis.profile.readers:
        return []
    lines = [line for found in unanswered(analysis).values() for line in found]
    text = f"{lines[0]}; {NOT_MEASURED}" if lines else "none failed in or after a fault, and no reader fell silent"
    return [_condition("recovery of queries", bool(lines), text, evidence=lines)]


def _failed_seen(analysis: Analysis) -> Check:
    n = analysis.ledger.failed_seen
    text = (
        f"{n} messages were delivered although their publishing had failed" if n else "no failed publish was delivered"
    )
    return _condition(
        "what failed stays away", n > 0, text, limit=0.0, measured=float(n), evidence=analysis.ledger.failed_evidence
    )
