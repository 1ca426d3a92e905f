"""What does a history say before a limit is applied to it?  Four stages, each a value built from the one before.

    profile, history tables
       |
    offered     published streams, deliveries, subscriptions, the plan; where the load generator was in trouble
       |
    faults      faults that acted -> when the run was steady again after each -> their windows -> phases
       |
    owed        causes of absences, attribution by window -> the ledger: owed = delivered + lost, and whose is a loss
       |
    recovered   what consumers felt of a fault -> which did not come back -> each fault's recovery, and
                whether readers' queries let it stand; growth of memory

The order is forced: a window lasts until the run was steady again, so the run's recovery comes before the phases; a
loss is charged to a window, so windows come before the ledger; a consumer is not steady while it has gaps, so the
ledger comes before what single consumers felt.

Example: a link is cut from 10.0 s to 12.0 s, and the run is steady again at 13.5 s.  *faults* makes the window 10.0,
12.0, 13.5 s of it; *owed* charges to the cut what three consumers lost on that path meanwhile; *recovered* finds that
consumer 2 got its first fresh message at 14.1 s.

A stage holds all of the stages before it, so that a function may ask for the earliest stage that it needs.  `stages`
builds them.
"""

from __future__ import annotations

from dataclasses import dataclass

from loadtests.measure.absences import Absences
from loadtests.measure.attribution import Attribution
from loadtests.measure.consumer_recovery import Felt
from loadtests.measure.damage import Damage
from loadtests.measure.deliveries import Deliveries
from loadtests.measure.fault_windows import FaultWindow, Times
from loadtests.measure.harness_trouble import TroubleScopes
from loadtests.measure.history_tables import Bools, HistoryTables
from loadtests.measure.ledger import Ledger
from loadtests.measure.phases import Phases, Window
from loadtests.measure.recovery import Outcome
from loadtests.measure.recovery_spread import NotBack
from loadtests.measure.streams import StreamTable
from loadtests.measure.subscriptions import Planned, SubscriptionTable
from loadtests.model.contract import Contract
from loadtests.model.profile.profile import Profile
from loadtests.model.results import Growth, RecoveryResult


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Offered:
    """What was planned, published and received, and where the load generator itself was in trouble."""

    profile: Profile
    contract: Contract
    facts: HistoryTables
    damage: Damage
    times: Times
    low: int  # slices from T0's to the end's
    high: int
    table: StreamTable
    came: Deliveries
    subs: SubscriptionTable
    plan: Planned
    scopes: TroubleScopes
    behind: Bools  # slices in which a process of the load generator could not keep up, or left no reading of itself
    ours: Bools  # slices in which any process of the load generator was in trouble
    offering: Bools  # slices in which a process that publishes could not keep up or was in trouble
    clean: Bools  # Consumed rows that their process received, and the publishing ones sent, without trouble
    slow_read: Bools  # Consumed rows whose read clock is not believed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Faults(Offered):
    """With it: which faults acted, for how long each was felt, and the phases that this makes."""

    fault_windows: list[FaultWindow]
    outcomes: list[Outcome]  # by fault: what it cost the run
    troubled: frozenset[str]  # faults while or after which the load generator was in trouble, until it was steady
    windows: list[Window]
    phases: Phases
    coverage: float | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Owed(Faults):
    """With it: what each consumer was owed, got and lost, and whose a loss is."""

    blame: Attribution
    absences: Absences
    ledger: Ledger


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Analysis(Owed):
    """With it: how consumers came back from each fault, and whether the target grew.  The last stage holds all."""

    felt: list[Felt | None]  # by fault: what each consumer felt of it
    not_back: list[NotBack | None]  # by fault: clients that did not come back; None where it was never in force
    recovery: list[RecoveryResult]
    growth: list[Growth]
