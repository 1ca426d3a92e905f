"""What on this machine would spoil a run?  The command `doctor` prints the findings."""

from __future__ import annotations

from collections.abc import Sequence

from loadtests.capture.preflight import doctor
from loadtests.cli.console import out
from loadtests.harness.profile_loading import load
from loadtests.model.profile.profile import Profile
from loadtests.stack.folder import stack_folder
from loadtests.stack.local import LocalStack

_STYLE = {"ok": "green", "warn": "yellow", "bad": "red"}


def examine(name: str | None, sets: Sequence[str]) -> int:
    """Print every finding; 2 where one is bad."""
    profile: Profile | None = load(name, sets).profile if name is not None else None
    stack = LocalStack.attach(stack_folder())
    findings = doctor(profile, stack.status() if stack is not None else None)
    for finding in findings:
        out.print(f"{finding.level:5}", style=_STYLE[finding.level], end="")
        out.print(f" {finding.text}", markup=False)
        if finding.level != "ok" and finding.remedy:
            out.print(f"      {finding.remedy}", markup=False)
    return 2 if any(f.level == "bad" for f in findings) else 0
