"""When did the load generator itself not keep up?  Its scopes are excluded before anything is judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loadtests.measure.accounts import not_kept
from loadtests.measure.damage import Damage
from loadtests.measure.deliveries import Deliveries
from loadtests.measure.history_tables import Bools, HistoryTables
from loadtests.measure.subscriptions import SubscriptionTable
from loadtests.model.ids import NS_PER_MS, NS_PER_S, SLICE_NS
from loadtests.model.profile.profile import Profile
from loadtests.model.records import HarnessSecond
from loadtests.model.results import HarnessResult

_TOLD_EACH = 20
"""Spans of the same trouble that are told one by one."""
_LONGEST_NS = 5 * NS_PER_S // 2
"""A reading speaks for the time since the one before it, but for no longer than this; beyond it for one second."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TroubleScopes:
    """Per process and slice of the axis."""

    low: int
    names: list[str]
    read: Bools  # process x slice: a reading speaks for it
    saturated: Bools  # the process could not keep up
    slow_read: Bools  # its read clock came too late to be believed
    trouble: Bools  # reported trouble of the whole process

    @property
    def behind(self) -> Bools:
        """Slices in which a process could not keep up, or left no reading between two that it left."""
        known = np.logical_or.accumulate(self.read, axis=1)
        known &= np.logical_or.accumulate(self.read[:, ::-1], axis=1)[:, ::-1]
        return self.saturated | (known & ~self.read)

    def of_rows(self, marks: Bools, table: Deliveries) -> Bools:
        """Rows that were received in a marked slice of their process."""
        if not marks.size:
            return np.zeros(len(table.process), dtype=np.bool_)
        at = np.clip(table.received - self.low, 0, marks.shape[1] - 1)
        rows: Bools = marks[table.process, at]
        return rows


def latency_limit_ms(profile: Profile) -> float:
    """The tightest latency limit of the profile; without one the delivery limit."""
    limits = [t.limit for t in profile.thresholds if t.measure.startswith(("latency_", "slowest_client_"))]
    return min(limits, default=profile.run.late_s * 1000)


def scopes(facts: HistoryTables, profile: Profile, low: int, high: int) -> TroubleScopes:
    """What the readings of our own processes say."""
    names = facts.names
    read, saturated, slow, trouble = (np.zeros((len(names), high - low), dtype=np.bool_) for _ in range(4))
    guard, slow_ns = profile.guard, latency_limit_ms(profile) * NS_PER_MS / 10
    # A timer may be served in time while sockets are not: bytes that lie in the kernel for long wait for us alone,
    # unless a group is to read slowly.
    prompt = all(c.read_bytes_per_s is None for c in profile.consumers)
    for index, (_, process) in enumerate(facts.each()):
        before: int | None = None
        for second in sorted(process.seconds, key=lambda s: s.at_ns):
            near = before is not None and second.at_ns - before <= _LONGEST_NS
            start = before if near and before is not None else second.at_ns - NS_PER_S
            span = slice(max(start // SLICE_NS - low, 0), max(second.at_ns // SLICE_NS + 1 - low, 0))
            read[index, span] = True
            if (
                second.saturated
                or second.cpu_percent >= guard.cpu_percent
                or second.hub_lag_p99_ns > guard.hub_lag_ms * NS_PER_MS
                or (prompt and second.read_delay_p99_ns > guard.hub_lag_ms * NS_PER_MS)
            ):
                # What piled up while the hub stood still is read after the reading that tells of it; if that takes
                # longer, the next reading says so.
                on = (second.at_ns + min(second.hub_lag_max_ns, NS_PER_S)) // SLICE_NS + 1 - low
                saturated[index, span.start : max(on, span.stop)] = True
            slow[index, span] |= second.read_delay_p99_ns > slow_ns
            before = second.at_ns
    where = {name: i for i, name in enumerate(names)}
    for _, process in facts.each():
        for t in process.trouble:
            if t.process in where and not t.consumers:
                end = high - low if t.to_ns < 0 else max(t.to_ns // SLICE_NS + 1 - low, 0)
                trouble[where[t.process], max(t.from_ns // SLICE_NS - low, 0) : end] = True
    return TroubleScopes(low=low, names=names, read=read, saturated=saturated, slow_read=slow, trouble=trouble)


def coverage(found: TroubleScopes, offering: Bools, subs: SubscriptionTable, calm: Bools) -> float | None:
    """Share of the calm time, weighted by consumers, in which their process can be believed, and those that publish."""
    weight = np.zeros(len(found.names), dtype=np.int64)
    where = {name: i for i, name in enumerate(found.names)}
    for processes in subs.processes_of.values():
        for name in processes:
            weight[where[name]] += 1
    total = int(weight.sum()) * int(calm.sum())
    if not total or not found.read.any():
        return None
    clean = found.read & ~found.saturated & ~found.trouble & ~offering
    return round(float(weight @ clean[:, calm].sum(axis=1)) / total, 6)


def harness_result(
    facts: HistoryTables, found: TroubleScopes, coverage_: float | None, trouble: list[str]
) -> HarnessResult:
    """How the load generator fared."""
    receive = sorted({h.receive for _, p in facts.each() for h in p.headers if h.receive})
    seconds: dict[str, list[HarnessSecond]] = {n: list(p.seconds) for n, p in facts.each() if p.seconds}
    return HarnessResult(
        receive=", ".join(receive),
        saturated_s=round(float(found.saturated.any(axis=0).sum()) * SLICE_NS / NS_PER_S, 3) if seconds else None,
        clean_coverage=coverage_,
        cpu_percent={n: round(sum(sorted(x.cpu_percent for x in s)) / len(s), 3) for n, s in seconds.items()},
        rss_mb={n: round(max(x.rss_bytes for x in s) / 1e6, 3) for n, s in seconds.items()},
        trouble=trouble,
    )


def reported(facts: HistoryTables, broken: Damage) -> list[str]:
    """Trouble that the history names or shows, in sentences."""
    found = broken.lines
    alike: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for who, from_ns, to_ns, what in sorted(
        (t.process, t.from_ns, t.to_ns, t.what) for _, p in facts.each() for t in p.trouble
    ):
        alike.setdefault((who, what), []).append((from_ns, to_ns))
    for (who, what), spans in alike.items():
        for from_ns, to_ns in spans[:_TOLD_EACH]:
            until = "the end" if to_ns < 0 else f"{to_ns / NS_PER_S:.1f} s"
            found.append(f"{who}, {from_ns / NS_PER_S:.1f} s to {until} of the run clock: {what}")
        if len(spans) > _TOLD_EACH:
            found.append(f"{who}: {len(spans) - _TOLD_EACH} times more: {what}")
    return found + not_kept(facts)


def incomplete(facts: HistoryTables, broken: Damage, end_s: float | None = None) -> list[str]:
    """What of the history itself is missing; its last fact is of `end_s`."""
    found = broken.lines
    if broken.endless:
        found.append(
            "the history has no end: the leading process was killed or crashed, or it is still running"
            + ("" if end_s is None else f"; the last fact is of {end_s:.1f} s")
        )
    elif not all(f.complete for _, p in facts.each() for f in p.finishes):
        gone = sorted({f"{t.process}: {t.what}" for t in facts.lost()})
        found.append("; ".join(["not every process's last records were acknowledged", *gone]))
    return found
