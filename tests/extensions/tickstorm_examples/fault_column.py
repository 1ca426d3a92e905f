"""A column of the report: how long each fault was in force."""

from __future__ import annotations

from loadtests.model.results import FaultResult


def in_force(fault: FaultResult) -> str:
    """Seconds from injected to healed, as they were measured."""
    if fault.injected_s is None or fault.healed_s is None:
        return "not known"
    return f"{fault.healed_s - fault.injected_s:.2f} s"
