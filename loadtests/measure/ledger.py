"""What was owed, delivered and lost, and whose loss is it?  Computed by ranges of seq and once for equal consumers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from loadtests.measure.accounts import Sight, seen_too_often, sights, union
from loadtests.measure.attribution import CHARGED, DEFECT, Attribution
from loadtests.measure.facts import Facts, Ints
from loadtests.measure.line import SHIFT, Line
from loadtests.measure.owing import Due, Owing, Stay
from loadtests.measure.scopes import Scopes
from loadtests.measure.streams import Streams
from loadtests.measure.subscriptions import Subscriptions
from loadtests.model.contract import Contract
from loadtests.model.ids import SLICE_NS, unpack_stream

EVIDENCE = 20
CATEGORIES = ("defect", "disconnected", "charged", "broker", "unattributed")


@dataclass(slots=True, kw_only=True, eq=False)
class Ledger:
    """Sums by family x consumer group; rows are those of the published table."""

    owed: Ints
    unique: Ints
    undecided: Ints
    superseded: Ints
    across_rows: Ints  # consumer group x row: seen on more connections than the contract has copies
    owed_rows: Ints  # consumer group x row
    lost_rows: Ints  # category x consumer group x row
    injector_rows: Ints  # consumer group x row: of the charged, those that may have been lost inside the injector
    failed_seen: int = 0
    unknown_seen: int = 0
    charged_to: dict[str, int] = field(default_factory=dict)
    longest_run_slices: int = 0
    unjudged: dict[int, str] = field(default_factory=dict)  # consumer -> why its scope says nothing
    wrong: list[str] = field(default_factory=list)  # the tally does not add up
    judged: int = 0
    evidence: dict[int, list[str]] = field(default_factory=dict)  # category -> lines
    failed_evidence: list[str] = field(default_factory=list)
    distinct: int = 0  # how many different accounts there were

    @property
    def injector_at_most(self) -> int:
        """Upper bound of what was lost inside the injector, over all consumers."""
        return int(self.injector_rows.sum())

    def lost(self, rows: Ints | None = None) -> Ints:
        """Lost by category x consumer group, of some rows (a 0/1 column) or all."""
        return self.lost_rows.sum(axis=2) if rows is None else self.lost_rows @ rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What consumers with equal accounts share."""

    group: int
    stays: tuple[Stay, ...]
    sights: tuple[bytes, ...]
    excluded: tuple[tuple[int, int], ...]
    spared: frozenset[int]  # windows of faults that chose others


def settle(
    facts: Facts,
    contract: Contract,
    table: Streams,
    subs: Subscriptions,
    owing: Owing,
    blame: Attribution,
    received: dict[str, int],
) -> Ledger:
    """The account of a history; `received` is the sum of Consumed.unique per process."""
    families, groups = len(contract.profile.families), len(contract.profile.consumers)
    shape = (families, groups)
    ledger = Ledger(
        owed=np.zeros(shape, dtype=np.int64),
        unique=np.zeros(shape, dtype=np.int64),
        undecided=np.zeros(shape, dtype=np.int64),
        superseded=np.zeros(shape, dtype=np.int64),
        across_rows=np.zeros((groups, len(table.start)), dtype=np.int64),
        owed_rows=np.zeros((groups, len(table.start)), dtype=np.int64),
        lost_rows=np.zeros((len(CATEGORIES), groups, len(table.start)), dtype=np.int64),
        injector_rows=np.zeros((groups, len(table.start)), dtype=np.int64),
    )
    views = sights(facts, table, contract, blame)
    alike: dict[Member, list[int]] = {}
    of_key: dict[bytes, Sight] = {s.key: s for s in views.of.values()}
    scopes = Scopes(facts, subs, views, received, blame.late_slices)
    ledger.wrong = scopes.wrong
    for consumer, epochs in sorted(scopes.epochs.items()):
        reason = scopes.why_not(consumer, epochs)
        if reason:
            ledger.unjudged[consumer] = reason
            continue
        spared = blame.spares(consumer)
        member = Member(
            group=subs.group_of[consumer],
            stays=owing.stays(subs.intervals.get(consumer, []), spared),
            sights=tuple(views.of[consumer, e].key for e in epochs if (consumer, e) in views.of),
            excluded=scopes.excluded(consumer),
            spared=spared,
        )
        alike.setdefault(member, []).append(consumer)
    ledger.distinct = len(alike)
    for member, consumers in alike.items():
        ledger.judged += len(consumers)
        _Entry(ledger, contract, table, blame.of(member.spared)).add(
            member, consumers, owing.due(member.stays, member.excluded), [of_key[k] for k in member.sights]
        )  # fmt: skip
    return ledger


class _Entry:
    """Adds one entry of the account."""

    def __init__(self, ledger: Ledger, contract: Contract, table: Streams, blame: Attribution) -> None:
        self.ledger, self.table, self.blame = ledger, table, blame
        self.profile = contract.profile
        self.families = len(self.profile.families)
        self.copies = np.array([*(f.copies for f in self.profile.families), 1], dtype=np.int64)

    def add(self, member: Member, consumers: list[int], due: Due, views: list[Sight]) -> None:
        ledger, table, n, g = self.ledger, self.table, len(consumers), member.group
        parts = [view.seen for view in views]
        seen, superseded = union(parts), union(view.superseded for view in views)
        ledger.unique[:, g] += n * table.per_family(seen, self.families)
        decided = due.undecided_line.both(seen)
        newer = due.owed_line.both(superseded).minus(seen)
        lost = due.owed_line.minus(seen).minus(newer)
        owed = table.per_family(due.owed_line, self.families) + table.per_family(decided, self.families)
        replaced = table.per_family(newer, self.families)
        ledger.owed[:, g] += n * (owed - replaced)
        ledger.superseded[:, g] += n * replaced
        ledger.undecided[:, g] += n * table.per_family(due.undecided_line.minus(seen), self.families)
        ledger.owed_rows[g] += n * table.ok_count * due.owed
        for line, sign in ((decided, 1), (newer, -1)):
            rows, count = table.cut(line)
            np.add.at(ledger.owed_rows[g], rows, sign * n * count)
        failed = seen.both(table.failed)
        ledger.failed_seen += n * failed.size
        ledger.unknown_seen += n * seen.both(table.unknown).size
        if failed and len(ledger.failed_evidence) < EVIDENCE:
            ledger.failed_evidence.append(f"{self._who(g, consumers)}: {self._range(failed, 0)}")
        rows, times = seen_too_often(parts, table, self.copies)
        if len(rows):
            np.add.at(ledger.across_rows[g], rows, n * times)
        if lost:
            overtaken, free = union(view.overtaken for view in views), union(view.free for view in views)
            self._lost(member, consumers, lost.minus(overtaken), overtaken=False, free=False)
            self._lost(member, consumers, lost.both(overtaken).minus(free), overtaken=True, free=False)
            self._lost(member, consumers, lost.both(free), overtaken=True, free=True)
            if not self.profile.consumers[g].expect_slow:
                rows, count = table.cut(lost)
                ledger.longest_run_slices = max(ledger.longest_run_slices, longest_run(table, due, rows, count))

    def _lost(self, member: Member, consumers: list[int], lost: Line, *, overtaken: bool, free: bool) -> None:
        ledger, table, blame, n, g = self.ledger, self.table, self.blame, len(consumers), member.group
        rows, count = table.cut(lost)
        if not len(rows):
            return
        slow = self.profile.consumers[g].expect_slow
        category = blame.category(
            rows, table.sent[rows], member.stays, expect_slow=slow, overtaken=overtaken, free=free
        )
        for wanted in range(len(CATEGORIES)):
            of = category == wanted
            np.add.at(ledger.lost_rows[wanted, g], rows[of], n * count[of])
        charged = category == CHARGED
        if charged.any():
            per_window = np.zeros(len(blame.windows), dtype=np.int64)
            np.add.at(per_window, blame.window_of[rows[charged]], n * count[charged])
            for index in np.flatnonzero(per_window):
                name = blame.windows[index].act.name
                ledger.charged_to[name] = ledger.charged_to.get(name, 0) + int(per_window[index])
            inside = charged & blame.in_injector[rows]
            np.add.at(ledger.injector_rows[g], rows[inside], n * count[inside])
        self._explain(consumers, g, rows, category, lost)

    def _although(self, row: int) -> str:
        """That a fault was on the path which only delays."""
        window = int(self.blame.window_of[row])
        if window < 0 or not self.blame.delayed[row]:
            return ""
        act = self.blame.windows[window].act
        return f', passed over although "{act.name}" ({act.kind}) delays and takes nothing'

    def _explain(self, consumers: list[int], group: int, rows: Ints, category: Ints, lost: Line) -> None:
        for wanted in np.unique(category):
            lines = self.ledger.evidence.setdefault(int(wanted), [])
            for row in rows[category == wanted]:
                if len(lines) >= EVIDENCE:
                    break
                inside = lost.both(Line(self.table.start[row : row + 1], self.table.end[row : row + 1]))
                sent_s = int(self.table.sent[row]) * SLICE_NS / 1e9
                although = self._although(int(row)) if wanted == DEFECT else ""
                lines.append(
                    f"{self._who(group, consumers)}: {self._range(inside, 0)}, sent at {sent_s:.1f} s of the run clock"
                    + although
                )

    def _who(self, group: int, consumers: list[int]) -> str:
        more = f" and {len(consumers) - 1} more" if len(consumers) > 1 else ""
        return f"consumer {consumers[0]} ({self.profile.consumers[group].name}){more}"

    def _range(self, line: Line, at: int) -> str:
        stream = unpack_stream(int(self.table.ids[line.start[at] >> SHIFT]))
        mask = (1 << SHIFT) - 1
        first, last = int(line.start[at]) & mask, (int(line.end[at]) - 1) & mask
        return f"publisher {stream.slot} epoch {stream.epoch} route {stream.route} seq {first} to {last}"


def longest_run(table: Streams, due: Due, rows: Ints, count: Ints) -> int:
    """Longest run of due slices of which one consumer lost all that it was owed; an empty slice does not end it."""
    if not len(rows):
        return 0
    low = int(table.due.min())
    length = int(table.due.max()) - low + 1
    owed = np.bincount(table.due[due.owed] - low, weights=table.ok_count[due.owed], minlength=length)
    lost = np.bincount(table.due[rows] - low, weights=count, minlength=length)
    at = np.flatnonzero(owed > 0)
    gone = lost[at] >= owed[at]
    edges = np.flatnonzero(np.diff(np.concatenate(([0], gone.astype(np.int64), [0]))))
    starts, ends = edges[::2], edges[1::2]
    return int((at[ends - 1] - at[starts] + 1).max()) if len(starts) else 0
