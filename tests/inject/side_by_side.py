"""How are many faults played in the time of one?  All at once by one injector, each on a link of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import msgspec

from loadtests.model.injectwire import PlannedFault, Schedule
from loadtests.model.records import FaultStep

from .conftest import NS_PER_S, READY_S, Place, Run, TestLink, begin_for, planned

LEAD_S = 5.0  # the first have measured the calm by then, also on a busy machine
EACH_S = 0.6  # from one to the next: to act, and to be measured, takes the processor
ENDED = ("lifted", "not lifted", "failed")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One fault. `after_s`: so long after the first ones; `beside`: what goes on at its link meanwhile.

    `on`: another part, on whose link it is. `known`: the injector knows its link.
    """

    kind: str
    asked: dict[str, Any]
    for_s: float
    direction: str
    after_s: float
    beside: Callable[[TestLink], AbstractContextManager[Any]]
    on: str
    known: bool


def part(
    kind: str,
    *,
    for_s: float = 1.2,
    direction: str = "both",
    after_s: float = 0.0,
    beside: Callable[[TestLink], AbstractContextManager[Any]] = lambda _: nullcontext(),
    on: str = "",
    known: bool = True,
    **asked: Any,
) -> Part:
    return Part(
        kind=kind,
        asked=asked,
        for_s=for_s,
        direction=direction,
        after_s=after_s,
        beside=beside,
        on=on,
        known=known,
    )


@dataclass(kw_only=True)
class Played:
    """What came of one part."""

    run: Run
    link: TestLink
    fault: PlannedFault
    beside: Any = None
    clean: bool = False  # the link, when all had ended and the injector still ran

    @property
    def names(self) -> list[str]:
        return self.run.ear.names(self.fault.name)

    @property
    def steps(self) -> str:
        """What was told of it, for who wants to know why."""
        return self.run.ear.told(self.fault.name)

    def step(self, *names: str) -> FaultStep:
        found = self.run.ear.step(self.fault.name, *names)
        assert found is not None, self.steps
        return found

    @property
    def effective(self) -> dict[str, Any]:
        """What was measured, by name."""
        return dict(self.step("proved").effective)


@dataclass(kw_only=True)
class Together:
    """Faults that are being played."""

    run: Run
    parts: dict[str, Played]
    held: ExitStack = field(default_factory=ExitStack)

    def ended(self) -> dict[str, Played]:
        """Waits for the end of all; the injector has ended cleanly then, and what went on beside it."""
        longest_s = max(each.fault.until_ns for each in self.parts.values()) / NS_PER_S
        with self.held:
            for each in self.parts.values():
                self.run.await_step(each.fault.name, *ENDED, timeout_s=longest_s + 60)
        for each in self.parts.values():
            each.clean = each.link.is_clean
        assert self.run.handle.close(15) == 0
        return self.parts


def begin(
    parts: Mapping[str, Part],
    place: Place,
    *,
    speaks: str = "redis",
    upstream: int | None = None,
    probe_every_s: float = 0.05,
    **other: Any,
) -> Together:
    """Starts an injector and gives it all parts; a part's name is its fault's. `other`: fields of Begin."""
    links: dict[str, TestLink] = {}
    for name, each in parts.items():
        links[name] = links[each.on] if each.on else place.make_link(upstream)
    known = [links[name] for name, each in parts.items() if each.known]
    begin = begin_for(place.toxiproxy, place.tmp_path, *known, speaks=speaks)
    names = {"tls_links": [link.name for link in known]} if other.pop("tls", False) else {}
    run = Run(msgspec.structs.replace(begin, probe_every_s=probe_every_s, **names, **other), place.tmp_path)
    place.held.callback(run.handle.close, 15)  # also if something goes wrong here
    run.handle.wait_ready(READY_S)
    played: dict[str, Played] = {}
    held = ExitStack()
    besides = {name: held.enter_context(each.beside(links[name])) for name, each in parts.items()}
    first_ns, turns = run.now_ns() + int(LEAD_S * NS_PER_S), 0
    at_ns: dict[str, int] = {}
    for name, each in parts.items():
        has_turn = each.after_s >= 0 and not each.on  # one that is refused takes nothing
        turns += has_turn
        at_ns[name] = at_ns[each.on] if each.on else first_ns + has_turn * int(turns * EACH_S * NS_PER_S)
        fault = planned(
            links[name],
            each.kind,
            at_ns=at_ns[name] + int(each.after_s * NS_PER_S),
            for_s=each.for_s,
            direction=each.direction,
            **{"name": name, **each.asked},
        )
        played[name] = Played(run=run, link=links[name], fault=fault, beside=besides[name])
    run.handle.send(Schedule(faults=[each.fault for each in played.values()]))
    return Together(run=run, parts=played, held=held)
