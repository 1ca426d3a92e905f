"""What does an examination before a run say?  One finding per question, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "bad"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One answer. `bad`: a run would be refused; `warn`: its numbers may suffer."""

    check: str  # stable word: file descriptors, redis, read-only role, ...
    level: Level
    text: str  # a sentence
    remedy: str = ""  # what to do; empty where there is nothing to do


def refusals(findings: Iterable[Finding]) -> list[str]:
    """Sentences for the user about everything that is bad."""
    return [
        finding.text + (f" {finding.remedy}" if finding.remedy else "")
        for finding in findings
        if finding.level == "bad"
    ]
