"""What would spoil a run here?  Asked by `tickstorm doctor`, and by `tickstorm run` before it begins.

A run is refused only where it could not be carried out or would be judged wrongly; the rest are warnings.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from loadtests.capture.machine import Finding, descriptors, machine_findings, refusals
from loadtests.capture.services import Services, service_findings, services_of
from loadtests.model.errors import BadInput
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.tables import Target
from loadtests.model.stackwire import SERVICES, Status

REPORTS = Path(__file__).resolve().parents[2] / "reports"


def doctor(profile: Profile | None, where: Status | Services | None, *, reports: Path = REPORTS) -> list[Finding]:
    """Every finding. `where`: the local stack's status, addresses to ask, or None where no local stack is up."""
    return [*machine_findings(profile, reports), *_target_findings(profile, where)]


def refuse(profile: Profile, where: Status | Services | None) -> None:
    """Raise BadInput with every reason why this run cannot begin: a silent target, a wrong role, a dead service."""
    reasons = refusals(_target_findings(profile, where))
    if reasons:
        raise BadInput(reasons)


def refuse_few_descriptors(profile: Profile, users: int | None = None, *, processes: int = 1) -> None:
    """Raise BadInput where a process cannot open enough; before anything is started, so that all inherit the limit."""
    reasons = refusals([descriptors(profile, users, processes)])
    if reasons:
        raise BadInput(reasons)


def _target_findings(profile: Profile | None, where: Status | Services | None) -> Iterator[Finding]:
    if isinstance(where, Services):
        yield from service_findings(where, profile)
        return
    target = Target() if profile is None else profile.target
    if target.kind == "local":
        if where is None:
            yield Finding(
                check="stack",
                level="ok",
                text="No local stack is up: a run starts one for itself, and stops it.",
            )
            return
        for name in SERVICES:
            service = where.services.get(name)
            state = "missing" if service is None else service.state
            if state != "ready":
                yield Finding(
                    check=name,
                    level="bad",
                    text=f"{name} of the local stack is {state}.",
                    remedy="`tickstorm stack status` says more; `tickstorm stack up` starts it again.",
                )
    yield from service_findings(services_of(target, where), profile)
