"""How does a run speak to its injector, and which of its users play a fault?

Announcements of faults open the consumers' rings, records go to the history.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gevent
import msgspec

from loadtests.inject.injector_client import InjectorHandle
from loadtests.model.contract import Contract, chosen
from loadtests.model.fault_kinds import KINDS
from loadtests.model.ids import NS_PER_S
from loadtests.model.injectwire import (
    Announce,
    Begin,
    Emitted,
    End,
    FromInjector,
    Go,
    PlannedFault,
    Ready,
    Schedule,
    UserFaultOrder,
    UserFaultState,
)
from loadtests.model.profile.faults import PUBLISHERS
from loadtests.model.profile.profile import Profile
from loadtests.model.records import ChosenUsers, FaultStep, Note, Record


class UserFaultBook:
    """The faults of one run that its users play."""

    def __init__(self, profile: Profile, consumers: int) -> None:
        self._contract, self._consumers = Contract(profile), consumers
        self._chosen: dict[str, int] = {}
        self._told: dict[str, dict[str, int]] = {}

    def begin(self, order: UserFaultOrder, now_ns: int) -> ChosenUsers:
        """A fault begins; the record of whom it chose."""
        slots = self.slots(order)
        self._chosen[order.fault] = len(slots)
        self._told.pop(order.fault, None)
        published = KINDS[order.kind].place == PUBLISHERS
        return ChosenUsers(
            fault=order.fault,
            kind=order.kind,
            consumers=[] if published else slots,
            publishers=slots if published else [],
            from_ns=now_ns,
            to_ns=order.until_ns,
        )

    def slots(self, order: UserFaultOrder) -> list[int]:
        """Slots of the users whom an order concerns; the same in every process."""
        return chosen(
            self._contract,
            fault=order.fault,
            kind=order.kind,
            where=order.where,
            asked=order.asked,
            consumers=self._consumers,
        )

    def news(self, participants: Iterable[Mapping[str, Mapping[str, int]]]) -> Iterator[UserFaultState]:
        """What has changed since the last call: sums over the participants that are there."""
        sums: dict[str, Counter[str]] = {}
        for played in participants:
            for fault, counts in played.items():
                sums.setdefault(fault, Counter()).update(counts)
        for fault, found in sums.items():
            counts = dict(found) | {"chosen": self._chosen.get(fault, 0)}
            if self._told.get(fault) != counts:
                self._told[fault] = counts
                yield UserFaultState(fault=fault, counts=counts)


GO_AFTER_S = 0.1
"""Workers get this long to open their rings; the injector waits at most 200 ms."""
HEAL_S = 60.0
"""A full escalation, down to a restart of Toxiproxy, takes this long at most; so does replacing a frozen one."""


class FaultControl:
    """The injector of one run. `order` reaches every participant."""

    def __init__(
        self,
        begin: Begin,
        profile: Profile,
        *,
        log: Path,
        emit: Callable[[Record], None],
        order: Callable[[str, dict[str, Any]], None],
        on_fault: Callable[[FaultStep], None],
        consumers: int = 0,
    ) -> None:
        self._profile = profile
        self._emit, self._order, self._on_fault = emit, order, on_fault
        self._open: set[str] = set()  # faults for which the consumers' rings were opened
        self._closing: list[gevent.Greenlet[..., Any]] = []
        self.planned: dict[str, PlannedFault] = {}  # all that was ever planned, and asked for by hand
        self.over: set[str] = set()  # lifted, failed, or given up
        self.stuck: set[str] = set()  # could not be lifted
        self.links = tuple(begin.proxies)
        self._book = UserFaultBook(profile, consumers)
        self._origin_ns = begin.origin_ns
        self._handle = InjectorHandle(begin, self._heard, log)

    def start(self, timeout_s: float = 15.0) -> Ready:
        """Start the injector and wait until it has swept what an earlier run left. Raises HarnessError."""
        self._handle.start()
        ready = self._handle.wait_ready(timeout_s)
        for sentence in ready.swept:
            self._emit(Note(at_ns=0, text=f"left by an earlier run: {sentence}"))
        return ready

    def schedule(self, faults: list[PlannedFault]) -> None:
        """Hand over the plan."""
        self.planned |= {fault.name: fault for fault in faults}
        self._handle.send(Schedule(faults=faults))

    def end(self, fault: str, by: str) -> bool:
        """Lift one fault before its time, or drop it from the plan; False where no injector hears it."""
        return self._handle.send(End(fault=fault, by=by))

    def _heard(self, message: FromInjector) -> None:
        match message:
            case Announce(fault=fault):
                if fault not in self._open:
                    self._open.add(fault)
                    self._order("touch_open", {})
                gevent.spawn_later(GO_AFTER_S, self._handle.send, Go(fault=fault))
            case UserFaultOrder():
                if message.on:
                    self._emit(self._book.begin(message, time.monotonic_ns() - self._origin_ns))
                self._order("act", msgspec.to_builtins(message))
            case Emitted(record=record):
                self._emit(record)
                if isinstance(record, FaultStep):
                    self._stepped(record)

    def users_told(self, participants: Iterable[Mapping[str, Mapping[str, int]]]) -> None:
        """How far the users of every participant are with what they were told."""
        for state in self._book.news(participants):
            self._handle.send(state)

    def _stepped(self, step: FaultStep) -> None:
        if step.step in ("lifted", "not lifted", "failed"):
            self.over.add(step.name)
        if step.step == "not lifted":
            self.stuck.add(step.name)
        elif step.step == "lifted":
            self.stuck.discard(step.name)
        self._on_fault(step)
        if step.step in ("lifted", "not lifted") and step.name in self._open:
            self._open.discard(step.name)
            planned = {f.name: f.recovery_limit_s for f in self._profile.faults}
            limit = planned.get(step.name.partition("#")[0]) or self._profile.recovery.limit_s
            after = limit + self._profile.steady.hold_s
            if step.step == "lifted":
                healed = {"healed_ns": step.after_ns, "until_ns": step.after_ns + round(after * NS_PER_S)}
                self._order("touch_healed", healed)
            self._closing.append(gevent.spawn_later(after, self._order, "touch_close", {}))

    def heal(self, by: str) -> list[str]:
        """Lift everything; sentences about what could not be lifted."""
        healed = self._handle.heal_all(by, HEAL_S)
        if healed is None:
            return ["the injector did not answer: run `tickstorm stack heal`"]
        return healed.left

    def close(self) -> None:
        """End the injector."""
        gevent.killall(self._closing, block=False)
        self._handle.close(10.0)
