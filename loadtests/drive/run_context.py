"""What is a Locust user given to work with?  Everything that it needs, made once per run and process by the harness.

A user class reads it from `self.environment.tickstorm` (a `RunContextProvider`); it holds no arithmetic and no policy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from gevent.event import AsyncResult, Event

from loadtests.drive.consume.health import TellTrouble
from loadtests.drive.user_faults import UserFaults
from loadtests.model.contract import Contract
from loadtests.model.profile.profile import Profile
from loadtests.model.records import Emit, RunClock

if TYPE_CHECKING:
    from ssl import SSLContext

    from loadtests.drive.consume.handshake import Tokens
    from loadtests.drive.consume.receiver import Receiver
    from loadtests.drive.publish.publishing import Publishing


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A slot that this user holds until it gives it back; `epoch` is the first that it may use.

    `vacant_from_ns` says since when it had no holder (run clock), so that the new holder can count what was not
    offered; -1: not known, or never held before.
    """

    kind: str  # of its user, by its name in the table of user kinds
    slot: int
    epoch: int
    vacant_from_ns: int = -1


class Slots(Protocol):
    """Where slots come from: the master, asked over Locust's own messages."""

    def take(self, kind: str) -> Lease:
        """The lowest free slot of a kind. Blocks this greenlet; raises NoSlot when the run is over."""
        ...

    def give_back(self, lease: Lease, next_epoch: int) -> None:
        """Free the slot; its next holder begins at `next_epoch`."""
        ...


class NoSlot(Exception):  # noqa: N818  it names what was found
    """The run is over or this process was refused: the user parks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """host, port of what users connect to, through its link's proxy where there is one."""

    redis: tuple[str, int]
    gateway: tuple[str, int]
    postgres: tuple[str, int] | None
    gateway_http: tuple[str, int] | None = None  # past every proxy: health and statistics


@dataclass(slots=True, kw_only=True)
class RunContext:
    """One run in one process."""

    run: str
    profile: Profile
    contract: Contract
    clock: RunClock
    emit: Emit
    slots: Slots
    addresses: Addresses
    trouble: TellTrouble  # harness trouble of this process
    t0: AsyncResult[int] = field(default_factory=AsyncResult)  # run-clock time of the start of the warm-up
    plan_over: Event = field(default_factory=Event)  # publishers and readers stop offering
    user_faults: UserFaults = field(default_factory=UserFaults)  # faults that this process's users play
    tokens: Tokens | None = None  # what consumers present, where the target asks for one
    tls: SSLContext | None = None  # made by the first consumer that needs it
    publish_first: bool = False  # more is due than publishers of this process send in a turn: its consumers wait
    over: Event = field(default_factory=Event)  # after the drain: consumers unsubscribe and close
    receiver: Receiver = field(init=False)  # one per process and run
    publishing: Publishing = field(init=False)  # one per process and run


class RunContextProvider(Protocol):
    """What `environment.tickstorm` is: hands out the context of the run that this process takes part in."""

    def context_of_run(self) -> RunContext | None:
        """Blocks this greenlet until a run starts; None when this process takes no part in it."""
        ...
