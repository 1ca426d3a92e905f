"""CPU limit: a service is stopped for an instant whenever it has used more than its share of one core.

By SIGSTOP and SIGCONT in short turns, which needs no rights beyond those of the service's own user.
"""

from __future__ import annotations

import signal
import threading
import time

import psutil

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError, NotAllowedHere
from loadtests.inject.kinds.kind import Kind, Site, Undo
from loadtests.inject.kinds.on_service import (
    CpuMeter,
    ServiceWitness,
    company,
    escalations,
    family_of,
    holds,
    remember,
    remembered,
    standing,
    tell_all,
)
from loadtests.inject.proofs import Effective, Proof
from loadtests.model.ids import NS_PER_MS, NS_PER_S
from loadtests.model.injectwire import PlannedFault

_TURN_S = 0.005
_FAMILY_EVERY_S = 0.5
_BURST_S = 0.03  # what a service that was idle may use at once
_MEASURE_S = 1.5
_GO_ON_S = 2.0
_SLACK_PERCENT = 4.0  # the system tells CPU times in ticks of 10 ms
_SLACK_FACTOR = 1.25
_LEAST_STOPPED_PERCENT = 1.0
_LEAST_STOPPED_PART = 0.5  # of the time that a service must stand still to use so much less than before


class Limiter:
    """Holds a family of processes to a share of one core, in a thread of its own, until it is closed."""

    def __init__(self, undo: Undo, share: float) -> None:
        self._undo, self._share = undo, share
        self._family = remembered(undo)
        self._looked_s = time.monotonic()
        self._over = threading.Event()
        self.began_ns = time.monotonic_ns()
        self.stopped_ns = 0  # how long the family has stood still altogether
        self._thread = threading.Thread(target=self._run, name="cpu limit", daemon=True)
        self._thread.start()

    def _members(self) -> list[psutil.Process]:
        now_s = time.monotonic()
        if now_s - self._looked_s > _FAMILY_EVERY_S:
            self._family, self._looked_s = remembered(self._undo), now_s
        return self._family

    def _run(self) -> None:
        try:
            self._hold()
        except ControlError:
            return  # it may not be stopped; the witness says that the limit does not hold
        finally:
            tell_all(remembered(self._undo), signal.SIGCONT)

    def _hold(self) -> None:
        meter, last_ns = CpuMeter(self._members), time.monotonic_ns()
        allowed_s, stopped = _BURST_S, False
        while not self._over.wait(_TURN_S):
            now_ns = time.monotonic_ns()
            passed_ns, last_ns = now_ns - last_ns, now_ns
            self.stopped_ns += passed_ns if stopped else 0
            used_s = meter.used_s()
            allowed_s = min(allowed_s + self._share * passed_ns / NS_PER_S, used_s + _BURST_S)
            wanted = used_s > allowed_s
            if wanted != stopped:
                tell_all(self._members(), signal.SIGSTOP if wanted else signal.SIGCONT)
                stopped = wanted

    @property
    def trouble(self) -> str:
        """Why it holds nobody any more; empty while it does."""
        if not self._thread.is_alive():
            return "the limiter has ended"
        return "" if any(process.is_running() for process in self._family) else "its processes are gone"

    def close(self) -> None:
        """Lets the family go on; safe to repeat."""
        self._over.set()
        self._thread.join(_GO_ON_S)


class CpuWitness(ServiceWitness):
    """Measures what the service uses, before and under the limit."""

    def __init__(self, site: Site, fault: PlannedFault) -> None:
        super().__init__(site, fault)
        self.fault = fault
        self.calm_percent: float | None = None

    def before(self, watch: Watch) -> None:
        """How much of a core it uses without the limit."""
        self.calm_percent = self._measure(watch)

    def during(self, watch: Watch) -> Proof:
        """Less than before, no more than was asked, and stopped for long enough to be the reason, is proof."""
        percent, limit, calm = self._measure(watch), float(self.fault.asked["cpu_percent"]), self.calm_percent
        stopped = 0.0
        for held in self.site.held:
            if isinstance(held, Limiter):
                stopped = round(100 * held.stopped_ns / max(1, time.monotonic_ns() - held.began_ns), 1)
        effective: Effective = {"cpu_percent_before": calm, "cpu_percent": percent, "stopped_percent": stopped}
        if calm is None or percent is None:
            return Proof(proved=False, effective=effective, reason="its use of the processor could not be measured")
        if calm <= limit:
            reason = f"it used only {calm:g} % of a core before, so the limit took nothing from it"
            return Proof(proved=False, effective=effective, reason=reason)
        if percent > limit * _SLACK_FACTOR + _SLACK_PERCENT:
            return Proof(proved=False, effective=effective, reason=f"it still uses {percent:g} % of a core")
        if percent >= calm:
            reason = f"it uses {percent:g} % of a core, and {calm:g} % before: the limit took nothing from it"
            return Proof(proved=False, effective=effective, reason=reason)
        least = max(_LEAST_STOPPED_PERCENT, 100 * _LEAST_STOPPED_PART * (1 - percent / calm))
        if stopped < least:
            reason = f"it stood still for {stopped:g} % of the time, so it was something else that slowed it"
            return Proof(proved=False, effective=effective, reason=reason)
        return Proof(proved=True, effective=effective)

    def _measure(self, watch: Watch) -> float | None:
        try:
            family = family_of(self.site, self.fault)
        except ControlError:
            return None
        meter, began_ns = CpuMeter(lambda: family), time.monotonic_ns()
        watch.within_s(_MEASURE_S).wait()
        passed_ns = time.monotonic_ns() - began_ns
        return None if passed_ns < 100 * NS_PER_MS else round(100 * meter.used_s() * NS_PER_S / passed_ns, 1)


def _problems(fault: PlannedFault) -> list[str]:
    percent = fault.asked.get("cpu_percent")
    fits = isinstance(percent, (int, float)) and 1 <= percent <= 100
    return [] if fits else [f"cpu_percent {percent!r}: a number from 1 to 100 is needed"]


def _apply(site: Site, fault: PlannedFault) -> None:
    if not hasattr(signal, "SIGSTOP"):
        raise NotAllowedHere("this system cannot stop a process and let it go on")
    service = remember(site, fault)
    tell_all(remembered(service), signal.SIGCONT)  # raises where it may not be told so: its thread could not say that
    site.held.append(Limiter(service, float(fault.asked["cpu_percent"]) / 100))


def _not_in_force(site: Site, _: PlannedFault) -> list[str]:
    limiters = [held for held in site.held if isinstance(held, Limiter)]
    return [limiter.trouble for limiter in limiters if limiter.trouble] if limiters else ["nothing holds it"]


def _undo(site: Site, entry: Undo) -> None:
    site.let_go()
    tell_all(remembered(entry), signal.SIGCONT)


def _remaining(_: Site, entry: Undo) -> list[str]:
    watch = Watch.of_s(_GO_ON_S)
    while pids := standing(remembered(entry)):
        if not watch.wait(time.monotonic_ns() + 20 * NS_PER_MS) or watch.over:
            return [f"process {pid} of {entry['service']} stands still" for pid in pids]
    return []


KIND = Kind(
    name="cpu-limit",
    problems=_problems,
    holds=holds,
    undo_of=remember,
    apply=_apply,
    not_in_force=_not_in_force,
    witness=CpuWitness,
    undo=_undo,
    remaining=_remaining,
    escalations=escalations,
    meets=company,
)
