"""What may the user do to a run while it goes on?  Play faults, end them, write something down; all become records.

Faults by hand go the way of planned ones: the same injector, the same steps in the history, the same judging.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from loadtests.harness.fault_control import FaultControl
from loadtests.harness.run import ActiveRun
from loadtests.model.ids import NS_PER_MS
from loadtests.model.live import Live, LiveFault
from loadtests.model.profile.manual_fault import ManualFaultRefused, Moment, annotation, fault_by_hand
from loadtests.model.records import Note
from loadtests.plan.schedule import plan_end_ns, warm_ns

BY = "by hand"
NO_RUN = "no run goes on: start one in Locust"


class ManualFaults:
    """The user's hands on the run of the moment. Every method raises Refused with a sentence for the user."""

    def __init__(self, conductor: Callable[[], ActiveRun | None]) -> None:
        self._conductor = conductor

    def begin(self, asked: Mapping[str, Any]) -> str:
        """Play a fault as soon as its calm measurement is done; its name."""
        conductor, control = self._under_way()
        fault = fault_by_hand(conductor.profile, asked, self._moment(conductor, control))
        control.schedule([fault])
        return fault.name

    def end(self, fault: str) -> list[str]:
        """Lift one fault, or drop it from the plan; names of those that were told."""
        _, control = self._under_way()
        if fault not in control.planned:
            raise ManualFaultRefused("bad", f'fault: "{fault}" is not known in this run')
        if fault in control.over and fault not in control.stuck:
            raise ManualFaultRefused("conflict", f'fault "{fault}" is over')
        return self._told(control, [fault])

    def end_all(self, *, place: str = "", plan: bool = False) -> list[str]:
        """Lift every fault in force, or those at one place, and drop those by hand; the plan only where asked."""
        conductor, control = self._under_way()
        now_ns = conductor.clock.now_ns()
        if plan:
            conductor.following = None  # what would come after another fault's recovery
        return self._told(
            control,
            [
                name
                for name, fault in control.planned.items()
                if (name not in control.over or name in control.stuck)
                and (not place or fault.link == place)
                and (plan or fault.by_hand or fault.at_ns <= now_ns)
            ],
        )

    def note(self, text: object) -> None:
        """Write something down, with the time of now."""
        conductor = self._run()
        conductor.emit(Note(at_ns=conductor.clock.now_ns(), text=annotation(text), by="user"))

    def live(self, live: Live) -> Live:
        """With what the page needs to act: the picture, and whether anything can be done now."""
        conductor = self._conductor()
        if conductor is None:
            return msgspec.structs.replace(live, closed=NO_RUN)
        control, profile = conductor.faults, conductor.profile
        links, services = conductor.fold.picture(conductor.clock.now_ns(), control.links if control else ())
        return msgspec.structs.replace(
            live,
            faults=live.faults + self._waiting(conductor),
            links=links,
            services=services,
            consumers=[group.name for group in profile.consumers],
            publishers=[group.name for group in profile.publishers],
            test_system=profile.target.test_system,
            closed=self._closed(conductor),
        )

    def _waiting(self, conductor: ActiveRun) -> list[LiveFault]:
        """Faults that come after another one's recovery, as long as nobody knows when."""
        if conductor.faults is None or conductor.following is None or self._closed(conductor):
            return []
        known = {name.partition("#")[0] for name in conductor.faults.planned}
        return [
            LiveFault(
                name=fault.name,
                kind=fault.kind,
                link=fault.where,
                state="planned",
                from_s=None,
                to_s=None,
                proved=None,
                asked=dict(fault.asked),
                detail=f"after {fault.after}",
            )
            for fault in conductor.profile.faults
            if fault.after is not None and fault.name not in known
        ]

    def _closed(self, conductor: ActiveRun) -> str:
        if conductor.ended is not None or conductor.state in ("draining", "judging", "done"):
            return NO_RUN
        if conductor.state != "running":
            return "the run has not begun yet"
        return "" if conductor.faults is not None else "this target has no Toxiproxy: no fault can be played"

    def _run(self) -> ActiveRun:
        conductor = self._conductor()
        if conductor is None or conductor.ended is not None or conductor.state in ("draining", "judging", "done"):
            raise ManualFaultRefused("conflict", NO_RUN)
        return conductor

    def _under_way(self) -> tuple[ActiveRun, FaultControl]:
        conductor = self._run()
        if conductor.faults is None or conductor.state != "running":
            raise ManualFaultRefused("conflict", self._closed(conductor))
        return conductor, conductor.faults

    def _moment(self, conductor: ActiveRun, control: FaultControl) -> Moment:
        assert conductor.t0_ns is not None
        profile = conductor.profile
        now_ns, warm = conductor.clock.now_ns(), warm_ns(profile, conductor.t0_ns)
        by_hand = [name for name, fault in control.planned.items() if fault.by_hand]
        return Moment(
            now_ns=now_ns,
            from_ns=warm + 2 * profile.steady.group_ms * NS_PER_MS if now_ns >= warm else None,
            until_ns=plan_end_ns(profile, conductor.t0_ns),
            links=control.links,
            names=set(control.planned) | {fault.name for fault in profile.faults},
            under_way=sum(name not in control.over for name in by_hand),
            by_hand=len(by_hand),
            known=[f for name, f in control.planned.items() if name not in control.over or name in control.stuck],
        )

    def _told(self, control: FaultControl, names: list[str]) -> list[str]:
        heard = [control.end(name, BY) for name in names]
        if not all(heard):
            raise ManualFaultRefused("conflict", "the injector does not answer: run `tickstorm stack heal`")
        return names
