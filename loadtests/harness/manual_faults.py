"""What may the user do?  Start a run, play faults in it, end them, write something down; these become records.

Faults by hand go the way of planned ones: the same injector, the same steps in the history, the same judging.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from loadtests.harness.fault_control import FaultControl
from loadtests.harness.files import past_run, run_folders
from loadtests.harness.run import ActiveRun
from loadtests.model.ids import NS_PER_MS
from loadtests.model.live import Live, LiveFault, PastRun
from loadtests.model.profile.manual_fault import ManualFaultRefused, Moment, annotation, fault_by_hand, refusals
from loadtests.model.records import Note
from loadtests.plan.schedule import plan_end_ns, warm_ns

BY = "by hand"
NO_RUN = "no run goes on"
PAST_RUNS = 30
"""That the page lists."""


class ManualFaults:
    """The user's actions on the present run. Every method raises ManualFaultRefused with a sentence for the user."""

    def __init__(self, present: Callable[[], ActiveRun | None]) -> None:
        self._present = present
        self._refused: tuple[str, dict[str, str]] = ("", {})  # of which run

    def begin(self, asked: Mapping[str, Any]) -> str:
        """Play a fault as soon as its calm measurement is done; its name."""
        run, control = self._under_way()
        fault = fault_by_hand(run.profile, asked, self._moment(run, control))
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
        run, control = self._under_way()
        now_ns = run.clock.now_ns()
        if plan:
            run.fault_chain = None  # what would come after another fault's recovery
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
        run = self._run()
        run.emit(Note(at_ns=run.clock.now_ns(), text=annotation(text), by="user"))

    def live(self, live: Live) -> Live:
        """With what the page needs to act: links and services, and whether anything can be done now."""
        run = self._present()
        if run is None:
            return msgspec.structs.replace(live, closed=NO_RUN)
        control, profile = run.faults, run.profile
        over = run.state in ("judging", "done")
        links, services = run.fold.pipeline(None if over else run.clock.now_ns(), control.links if control else ())
        if self._refused[0] != run.config.run:
            self._refused = run.config.run, refusals(profile, control.links if control else ())
        return msgspec.structs.replace(
            live,
            faults=live.faults + self._waiting(run),
            links=links,
            services=services,
            consumers=[group.name for group in profile.consumers],
            publishers=[group.name for group in profile.publishers],
            test_system=profile.target.test_system,
            closed=self._closed(run),
            refused=self._refused[1],
        )

    def _waiting(self, run: ActiveRun) -> list[LiveFault]:
        """Faults that come after another one's recovery, as long as the time is not known."""
        if run.faults is None or run.fault_chain is None or self._closed(run):
            return []
        known = {name.partition("#")[0] for name in run.faults.planned}
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
            for fault in run.profile.faults
            if fault.after is not None and fault.name not in known
        ]

    def _closed(self, run: ActiveRun) -> str:
        if run.ended is not None or run.state in ("draining", "judging", "done"):
            return NO_RUN
        if run.state != "running":
            return "the run has not begun yet"
        return "" if run.faults is not None else "this target has no Toxiproxy: no fault can be played"

    def _run(self) -> ActiveRun:
        run = self._present()
        if run is None or run.ended is not None or run.state in ("draining", "judging", "done"):
            raise ManualFaultRefused("conflict", NO_RUN)
        return run

    def _under_way(self) -> tuple[ActiveRun, FaultControl]:
        run = self._run()
        if run.faults is None or run.state != "running":
            raise ManualFaultRefused("conflict", self._closed(run))
        return run, run.faults

    def _moment(self, run: ActiveRun, control: FaultControl) -> Moment:
        assert run.t0_ns is not None
        profile = run.profile
        now_ns, warm = run.clock.now_ns(), warm_ns(profile, run.t0_ns)
        by_hand = [name for name, fault in control.planned.items() if fault.by_hand]
        return Moment(
            now_ns=now_ns,
            from_ns=warm + 2 * profile.steady.group_ms * NS_PER_MS if now_ns >= warm else None,
            until_ns=plan_end_ns(profile, run.t0_ns),
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


def past_runs() -> list[PastRun]:
    """The runs of the reports folder, newest first."""
    return [past_run(folder) for folder in run_folders()[:PAST_RUNS]]
