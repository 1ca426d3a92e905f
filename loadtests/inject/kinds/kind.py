"""What is a kind of fault?  A row of the table: how it is checked, applied, read back, witnessed, undone, forced off.

`lift` undoes a fault of any kind so that it stays undone: undo and read back; if that fails, ever harder ways, each
told. Nothing here knows of links or toxics; `on_link` has what the kinds on a link share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

from loadtests.inject.encounter import Encounter, Roll, roll_of
from loadtests.inject.errors import ControlError, NotThere, Refused
from loadtests.inject.link import Link
from loadtests.inject.parent import UserFaultControl
from loadtests.inject.proofs import Effective, Witness
from loadtests.inject.servers import Database, RedisServer, SupervisorClient
from loadtests.model.injectwire import PlannedFault

Looks = Literal["each second", "at its end", "never"]

Undo = dict[str, str | list[str]]
"""All that a later process needs to undo a fault; it is in the journal before the fault is applied."""


COMMAND = "tickstorm stack heal"
"""What a user runs when a fault could not be lifted."""


class HeldOpen(Protocol):
    """Something that a fault keeps open while it is in force."""

    def close(self) -> None:
        """Lets go of it; safe to repeat."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What one fault may act on. What a run does not have is None; a later kind adds its own control here."""

    link: Link | None
    supervisor: SupervisorClient | None = None
    redis: RedisServer | None = None
    postgres: Database | None = None
    users: UserFaultControl | None = None  # the run's own users
    gateway_http: str = ""  # host:port of its statistics
    end_links: Callable[[str], None] = lambda _: None  # lifts every fault on a link: Toxiproxy is about to forget them
    held: list[HeldOpen] = field(default_factory=list)  # by this process; another one that undoes the fault has none
    facts: Effective = field(default_factory=dict)  # what `apply` saw and its witness tells
    ended: set[tuple[int, str]] = field(default_factory=set)  # whom `apply` ended, as the server itself said

    def the_link(self) -> Link:
        """The link. Raises Refused where the fault names none that is known."""
        if self.link is None:
            raise Refused("the fault names no link that is known here")
        return self.link

    def the_supervisor(self) -> SupervisorClient:
        """The supervisor of the local stack. Raises Refused where the target has none."""
        if self.supervisor is None:
            raise Refused("only services of the local stack can be acted on, and this target is none")
        return self.supervisor

    def the_redis(self) -> RedisServer:
        """The Redis server itself. Raises Refused where its address is not known."""
        if self.redis is None:
            raise Refused("the address of Redis is not known")
        return self.redis

    def the_postgres(self) -> Database:
        """The PostgreSQL server itself. Raises Refused where its address is not known."""
        if self.postgres is None:
            raise Refused("the address of PostgreSQL, its database or its user is not known")
        return self.postgres

    def roll(self, speaks: str) -> Roll | None:
        """How a server of this protocol tells who is connected to it; None where it cannot or may not be asked."""
        return roll_of(speaks, self.redis, self.postgres)

    def let_go(self) -> None:
        """Closes all that this process holds for the fault."""
        while self.held:
            self.held.pop().close()

    def count_fault(self, change: int) -> None:
        """One fault more, or one less, is in force here."""
        if self.link is not None:
            self.link.count_fault(change)


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """A harder way to lift a fault, tried when undoing it did not work."""

    name: str  # as in "escalation: ..."
    also_ends: str  # what else ends by it
    act: Callable[[], None]
    needs_answer: bool = True  # of no use when nobody listens at the control's address
    restarts: str = ""  # the service that it restarts: not while another fault holds that service


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind. Every function may raise ControlError; `undo` and each escalation may be repeated."""

    name: str
    problems: Callable[[PlannedFault], list[str]]  # why it is not done as asked; nothing is sent before this is empty
    holds: Callable[[PlannedFault], frozenset[str]]  # two faults that hold the same cannot be told apart
    undo_of: Callable[[Site, PlannedFault], Undo]  # read before the act
    apply: Callable[[Site, PlannedFault], None]
    not_in_force: Callable[[Site, PlannedFault], list[str]]  # what the read-back shows otherwise than asked
    witness: Callable[[Site, PlannedFault], Witness]
    undo: Callable[[Site, Undo], None]
    remaining: Callable[[Site, Undo], list[str]]  # what the read-back shows that is not undone
    escalations: Callable[[Site, Undo], list[Escalation]]  # in the order in which they are tried
    looks: Looks = "each second"  # how often `not_in_force` is asked again: cheap and true at any time, or not
    prepared: Callable[[Site, PlannedFault], Undo] | None = None  # undoes what its witness begins before the act
    meets: Callable[[Site, PlannedFault], Encounter] | None = None  # None: its proof shows that it met traffic
    lead_ns: int = 0  # what it prepares before it acts may take so long


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """How the lifting of one fault ended."""

    clean: bool  # read back
    escalation: str = ""  # the harder way that did it; empty where undoing it did
    left: str = ""  # what is still there, as a sentence with the command that lifts it


def lift(
    kind: Kind,
    site: Site,
    undo: Undo,
    *,
    fault: str,
    tell: Callable[[str], None],
    keep: Callable[[str], bool] = lambda _: False,
) -> Lifted:
    """Undoes a fault. Never raises ControlError: what could not be done is in the answer, and every step is told.

    `keep`: whether a service must not be restarted, because another fault holds it down.
    """
    try:
        kind.undo(site, undo)
        left = kind.remaining(site, undo)
        gone = False
    except ControlError as error:
        left, gone = [str(error)], isinstance(error, NotThere)
    if not left:
        return Lifted(clean=True)
    for escalation in kind.escalations(site, undo):
        if (gone and escalation.needs_answer) or (escalation.restarts and keep(escalation.restarts)):
            continue
        tell(f'Fault "{fault}" is not lifted yet ({"; ".join(left)}). Next step: {escalation.name}; also ends: '
             f"{escalation.also_ends}.")  # fmt: skip
        try:
            escalation.act()
            left = kind.remaining(site, undo)
        except ControlError as error:
            left, gone = [str(error)], isinstance(error, NotThere)
        if not left:
            return Lifted(clean=True, escalation=escalation.name)
    return Lifted(clean=False, left=f'Fault "{fault}" is not lifted: {"; ".join(left)}. Run: {COMMAND}')
