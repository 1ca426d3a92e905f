"""What does a run do, against what, and what must hold?  A profile: tables, valid each and together."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from loadtests.model.profile.base import refuse
from loadtests.model.profile.rules import problems
from loadtests.model.profile.tables import Tables


class Profile(Tables):
    """Description of a run: target, workload, faults, thresholds."""

    @model_validator(mode="after")
    def _tables_fit_together(self) -> Self:
        refuse(problems(self))
        return self
