"""What was offered, owed, delivered and lost, and whose is a loss?  The account of every consumer, by ranges of seq.

Theory of operation.  For each consumer two sets of ranges on one line of integers (`interval_set`) are compared: what
it was owed (`expected`) and what it saw (`accounts`).  Consumers with equal plan, subscriptions, absences and sights
are one member: the sums are made once and multiplied, so that the cost is that of the different accounts, not of all
consumers.  What is missing is given to a category row by row (`attribution`).

Example: one stream, four frames with seq 0 to 3 that were all acknowledged; three consumers.

    A  saw 0 1 2 3                   offered 4 = owed 4                owed 4 = delivered 4
    B  saw 0 1   3                   offered 4 = owed 4                owed 4 = delivered 3 + lost 1 (seq 2)
    C  saw 0, left by plan from 1 on offered 4 = owed 1 + away 3       owed 1 = delivered 1

Invariants, per consumer and stream, by construction and by test: offered = owed + undecided + away, and
owed = delivered + lost.  Offered is every OK message on a route of the plan's subscription; one whose publishing has no
known outcome counts for a consumer that saw it, and for no other.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from loadtests.measure.absences import CAUSES, Absence, Absences
from loadtests.measure.absences import CHARGED as AWAY_CHARGED
from loadtests.measure.accounts import Scopes, Sight, seen_too_often, sights, union
from loadtests.measure.attribution import CATEGORIES, CHARGED, DEFECT, Attribution
from loadtests.measure.expected import Due, MissedWhileAway, Opened, Owing, Stay
from loadtests.measure.history_tables import HistoryTables, Ints
from loadtests.measure.interval_set import EMPTY, SHIFT, StreamLine, runs_of
from loadtests.measure.streams import RowSums, StreamTable
from loadtests.measure.subscriptions import SubscriptionTable
from loadtests.model.contract import Contract
from loadtests.model.ids import SLICE_NS, unpack_stream

EVIDENCE = 20


@dataclass(slots=True, kw_only=True, eq=False)
class Ledger:
    """Sums by consumer group and row of the published table."""

    unique: Ints  # family x consumer group: seen, whatever the outcome, also of families that are not measured
    delivered_rows: Ints  # consumer group x row
    undecided_rows: Ints  # consumer group x row
    away_rows: Ints  # cause x consumer group x row
    lost_rows: Ints  # category x consumer group x row
    unasked_rows: Ints  # consumer group x row: seen by consumers that may not have seen them
    across_rows: Ints  # consumer group x row: seen on more connections than the contract has copies
    injector_rows: Ints  # consumer group x row: of the charged: what may have been lost inside the injector
    superseded: int = 0
    failed_seen: int = 0
    unknown_seen: int = 0
    charged_to: dict[str, int] = field(default_factory=dict)
    longest_run_slices: int = 0
    unjudged: dict[int, str] = field(default_factory=dict)  # consumer -> why its scope says nothing
    wrong: list[str] = field(default_factory=list)  # the tally does not add up
    judged: int = 0
    evidence: dict[int, list[str]] = field(default_factory=dict)  # category -> lines
    away_evidence: dict[int, list[str]] = field(default_factory=dict)  # cause -> lines
    unasked_evidence: list[str] = field(default_factory=list)
    failed_evidence: list[str] = field(default_factory=list)
    away: dict[int, tuple[Absence, ...]] = field(default_factory=dict)  # consumer -> its absences
    missing: dict[int, StreamLine] = field(
        default_factory=dict
    )  # consumer -> owed and not delivered; equal ones share it
    distinct: int = 0  # how many different accounts there were

    @property
    def owed_rows(self) -> Ints:
        """Consumer group x row."""
        rows: Ints = self.delivered_rows + self.lost_rows.sum(axis=0)
        return rows

    @property
    def offered_rows(self) -> Ints:
        """Consumer group x row."""
        rows: Ints = self.owed_rows + self.undecided_rows + self.away_rows.sum(axis=0)
        return rows

    @property
    def injector_at_most(self) -> int:
        """Upper bound of what was lost inside the injector, over all consumers."""
        return int(self.injector_rows.sum())

    def lost(self, rows: Ints | None = None) -> Ints:
        """Lost by category x consumer group, of some rows (a 0/1 column) or all."""
        return self.lost_rows.sum(axis=2) if rows is None else self.lost_rows @ rows


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerMember:
    """What consumers with equal accounts share."""

    group: int
    routes: tuple[int, ...]
    stays: tuple[Stay, ...]
    away: tuple[MissedWhileAway, ...]
    sights: tuple[bytes, ...]
    opened: tuple[Opened, ...]  # of the connections with sights
    excluded: tuple[tuple[int, int], ...]
    spared: frozenset[int]  # windows of faults that chose others


def settle(
    facts: HistoryTables,
    contract: Contract,
    table: StreamTable,
    subs: SubscriptionTable,
    owing: Owing,
    absences: Absences,
    blame: Attribution,
    received: dict[str, int],
    planned: list[int],
    damaged: Collection[str] = (),
) -> Ledger:
    """The account of a history; `received` is the sum of Consumed.unique per process, `planned` are all slots."""
    groups, rows = len(contract.profile.consumers), len(table.start)

    def zeros(*more: int) -> Ints:
        return np.zeros((*more, groups, rows), dtype=np.int64)

    ledger = Ledger(
        unique=np.zeros((len(contract.profile.families), groups), dtype=np.int64),
        delivered_rows=zeros(),
        undecided_rows=zeros(),
        away_rows=zeros(len(CAUSES)),
        lost_rows=zeros(len(CATEGORIES)),
        unasked_rows=zeros(),
        across_rows=zeros(),
        injector_rows=zeros(),
    )
    views = sights(facts, table, contract, blame)
    alike: dict[LedgerMember, list[int]] = {}
    of_key: dict[bytes, Sight] = {s.key: s for s in views.of.values()}
    scopes = Scopes(facts, subs, views, received, blame.late_slices, damaged)
    ledger.wrong = scopes.wrong
    ordered: dict[frozenset[int], tuple[int, ...]] = {}
    for consumer in sorted(set(planned) | scopes.epochs.keys()):
        epochs = scopes.epochs.get(consumer, [])
        reason = scopes.why_not(consumer, epochs) if epochs else None
        if reason:
            ledger.unjudged[consumer] = reason
            continue
        spared = blame.spares(consumer)
        routes = contract.consumer_routes(consumer)
        if routes not in ordered:
            ordered[routes] = tuple(sorted(routes))
        seen = [e for e in epochs if (consumer, e) in views.of]
        away = ledger.away[consumer] = absences.of(consumer, routes)
        member = LedgerMember(
            group=contract.consumer_group(consumer)[0],
            routes=ordered[routes],
            stays=owing.stays(subs.intervals.get(consumer, []), spared),
            away=owing.away(away),
            sights=tuple(views.of[consumer, e].key for e in seen),
            opened=tuple(owing.opened(subs.opened.get((consumer, e), 0), subs.ends.at(consumer, e)) for e in seen),
            excluded=scopes.excluded(consumer),
            spared=spared,
        )
        alike.setdefault(member, []).append(consumer)
    ledger.distinct = len(alike)
    sums: dict[str, dict[tuple[int, ...], RowSums]] = {}
    for member, consumers in alike.items():
        ledger.judged += len(consumers)
        entry = _Entry(ledger, sums, contract, table, blame.of(member.spared), owing)
        entry.add(member, consumers, [of_key[k] for k in member.sights])
    for name, parts in sums.items():
        for at, part in parts.items():
            getattr(ledger, name)[at] += part.total()
    return ledger


class _Entry:
    """Adds one entry of the account."""

    def __init__(
        self,
        ledger: Ledger,
        sums: dict[str, dict[tuple[int, ...], RowSums]],
        contract: Contract,
        table: StreamTable,
        blame: Attribution,
        owing: Owing,
    ) -> None:
        self.sums = sums  # name of the ledger's array -> place in it -> what is to be added there
        self.ledger, self.table, self.blame, self.owing = ledger, table, blame, owing
        self.profile = contract.profile
        self.copies = np.array([*(f.copies for f in self.profile.families), 1], dtype=np.int64)

    def add(self, member: LedgerMember, consumers: list[int], views: list[Sight]) -> None:
        ledger, table, n, g = self.ledger, self.table, len(consumers), member.group
        due = self.owing.due(member.routes, member.stays, member.away, member.excluded)
        parts = [view.seen for view in views]
        unasked = self.owing.unasked(member.opened, parts)
        allowed = [seen.minus(wrong) for seen, wrong in zip(parts, unasked, strict=True)]
        seen, superseded = union(allowed), union(view.superseded for view in views)
        ledger.unique[:, g] += n * table.per_family(union(parts), len(self.profile.families))
        self._count("unasked_rows", (g,), union(unasked).minus(seen), n)
        if wrong := union(unasked).minus(seen):
            ledger.unasked_evidence += [f"{self._who(g, consumers)}: {self._range(wrong, 0)}"]
        delivered = seen.minus(table.failed).both(due.line)
        newer = due.owed_line.both(superseded).minus(seen)
        lost = due.owed_line.minus(seen).minus(newer)
        self._count("delivered_rows", (g,), delivered, n)
        self._count("undecided_rows", (g,), due.undecided_line.minus(seen), n)
        for cause in range(len(CAUSES)):
            rows_away = due.away(cause)
            missed = EMPTY if rows_away is None else table.of_rows(rows_away).both(table.ok).minus(seen)
            if missed:
                self._count("away_rows", (cause, g), missed, n)
                self._explain_away(cause, g, consumers, missed.size)
        ledger.superseded += n * newer.size
        failed = seen.both(table.failed)
        ledger.failed_seen += n * failed.size
        ledger.unknown_seen += n * delivered.both(table.unknown).size
        if failed and len(ledger.failed_evidence) < EVIDENCE:
            ledger.failed_evidence.append(f"{self._who(g, consumers)}: {self._range(failed, 0)}")
        rows, times = seen_too_often(parts, table, self.copies)
        if len(rows):
            np.add.at(ledger.across_rows[g], rows, n * times)
        if lost:
            ledger.missing.update(dict.fromkeys(consumers, lost))
            overtaken, free = union(view.overtaken for view in views), union(view.free for view in views)
            self._lost(g, consumers, due, lost.minus(overtaken), overtaken=False, free=False)
            self._lost(g, consumers, due, lost.both(overtaken).minus(free), overtaken=True, free=False)
            self._lost(g, consumers, due, lost.both(free), overtaken=True, free=True)
            if not self.profile.consumers[g].expect_slow:
                rows, count = table.cut(lost)
                ledger.longest_run_slices = max(ledger.longest_run_slices, longest_run(table, due, rows, count))

    def _count(self, name: str, at: tuple[int, ...], line: StreamLine, times: int) -> None:
        if line:
            parts = self.sums.setdefault(name, {})
            if at not in parts:
                parts[at] = RowSums(self.table)
            parts[at].add(line, times)

    def _explain_away(self, cause: int, group: int, consumers: list[int], missed: int) -> None:
        """From when to when consumers were away of a cause, and how much each of them missed."""
        lines = self.ledger.away_evidence.setdefault(cause, [])
        if len(lines) < EVIDENCE:
            spans = [a for a in self.ledger.away.get(consumers[0], ()) if a.cause == cause]
            when = ", ".join(f"{a.from_ns / 1e9:.1f} to {a.to_ns / 1e9:.1f} s of the run clock" for a in spans[:3])
            where = f"away {when}" if spans else f"at an end of a subscription ({CAUSES[AWAY_CHARGED]})"
            lines.append(f"{self._who(group, consumers)}: {missed} messages, {where}")

    def _lost(self, g: int, consumers: list[int], due: Due, lost: StreamLine, *, overtaken: bool, free: bool) -> None:
        ledger, table, blame, n = self.ledger, self.table, self.blame, len(consumers)
        rows, count = table.cut(lost)
        if not len(rows):
            return
        slow = self.profile.consumers[g].expect_slow
        category = blame.category(rows, due.replayed(rows), expect_slow=slow, overtaken=overtaken, free=free)
        for wanted in range(len(CATEGORIES)):
            of = category == wanted
            np.add.at(ledger.lost_rows[wanted, g], rows[of], n * count[of])
        charged = category == CHARGED
        if charged.any():
            per_window = np.zeros(len(blame.windows), dtype=np.int64)
            np.add.at(per_window, blame.window_of[rows[charged]], n * count[charged])
            for index in np.flatnonzero(per_window):
                name = blame.windows[index].fault.name
                ledger.charged_to[name] = ledger.charged_to.get(name, 0) + int(per_window[index])
            inside = charged & blame.in_injector[rows]
            np.add.at(ledger.injector_rows[g], rows[inside], n * count[inside])
        self._explain(consumers, g, rows, category, lost)

    def _although(self, row: int) -> str:
        """That a fault was on the path which only delays."""
        window = int(self.blame.window_of[row])
        if window < 0 or not self.blame.delayed[row]:
            return ""
        fault = self.blame.windows[window].fault
        return f', passed over although "{fault.name}" ({fault.kind}) delays and takes nothing'

    def _explain(self, consumers: list[int], group: int, rows: Ints, category: Ints, lost: StreamLine) -> None:
        for wanted in np.unique(category):
            lines = self.ledger.evidence.setdefault(int(wanted), [])
            for row in rows[category == wanted]:
                if len(lines) >= EVIDENCE:
                    break
                inside = lost.both(StreamLine(self.table.start[row : row + 1], self.table.end[row : row + 1]))
                sent_s = int(self.table.sent[row]) * SLICE_NS / 1e9
                although = self._although(int(row)) if wanted == DEFECT else ""
                lines.append(
                    f"{self._who(group, consumers)}: {self._range(inside, 0)}, sent at {sent_s:.1f} s of the run clock"
                    + although
                )

    def _who(self, group: int, consumers: list[int]) -> str:
        more = f" and {len(consumers) - 1} more" if len(consumers) > 1 else ""
        return f"consumer {consumers[0]} ({self.profile.consumers[group].name}){more}"

    def _range(self, line: StreamLine, at: int) -> str:
        stream = unpack_stream(int(self.table.ids[line.start[at] >> SHIFT]))
        mask = (1 << SHIFT) - 1
        first, last = int(line.start[at]) & mask, (int(line.end[at]) - 1) & mask
        return f"publisher {stream.slot} epoch {stream.epoch} route {stream.route} seq {first} to {last}"


def longest_run(table: StreamTable, due: Due, rows: Ints, count: Ints) -> int:
    """Longest run of due slices of which one consumer lost all that it was owed; an empty slice does not end it."""
    if not len(rows):
        return 0
    low = int(table.due.min())
    length = int(table.due.max()) - low + 1
    owed_rows = due.owed
    owed = np.bincount(table.due[owed_rows] - low, weights=table.ok_count[owed_rows], minlength=length)
    lost = np.bincount(table.due[rows] - low, weights=count, minlength=length)
    at = np.flatnonzero(owed > 0)
    gone = lost[at] >= owed[at]
    starts, ends = runs_of(gone).T
    return int((at[ends - 1] - at[starts] + 1).max()) if len(starts) else 0
