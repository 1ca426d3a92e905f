"""What is a kind of fault?  A row of the table: how it is checked, applied, read back, witnessed, undone, forced off.

Nothing here knows of links or toxics; `on_link` has what the kinds on a link share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from loadtests.inject.errors import Refused
from loadtests.inject.link import Link
from loadtests.inject.proofs import Witness
from loadtests.inject.supervisor import Supervisor
from loadtests.model.injectwire import PlannedFault

Undo = dict[str, str | list[str]]
"""All that a later process needs to undo a fault; it is in the journal before the fault is applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What a kind may act on. What a run does not have is None; a later kind adds its own control here."""

    link: Link | None
    supervisor: Supervisor | None = None

    def the_link(self) -> Link:
        """The link. Raises Refused where the fault names none that is known."""
        if self.link is None:
            raise Refused("the fault names no link that is known here")
        return self.link

    def count_fault(self, change: int) -> None:
        """One fault more, or one less, is in force here."""
        if self.link is not None:
            self.link.count_fault(change)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resort:
    """A harder way to lift a fault, tried when undoing it did not work."""

    name: str  # as in "escalation: ..."
    also_ends: str  # what else ends by it
    act: Callable[[], None]
    needs_answer: bool = True  # of no use when nobody listens at the control's address


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind. Every function may raise ControlError; `undo` and each resort may be repeated."""

    name: str
    problems: Callable[[PlannedFault], list[str]]  # why it is not done as asked; nothing is sent before this is empty
    holds: Callable[[PlannedFault], frozenset[str]]  # two faults that hold the same cannot be told apart
    undo_of: Callable[[Site, PlannedFault], Undo]  # read before the act
    apply: Callable[[Site, PlannedFault], None]
    not_in_force: Callable[[Site, PlannedFault], list[str]]  # what the read-back shows otherwise than asked
    witness: Callable[[Site, PlannedFault], Witness]
    undo: Callable[[Site, Undo], None]
    remaining: Callable[[Site, Undo], list[str]]  # what the read-back shows that is not undone
    resorts: Callable[[Site, Undo], list[Resort]]  # in the order in which they are tried
