"""When does a run end itself?  A condition of the profile; data only."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from loadtests.model.profile.base import Name, Table, refuse

SHARES = frozenset({"error_share", "lost_share"})
LESS_IS_WORSE = "host_free_memory_mb"


class Abort(Table):
    """A guard of the run: when it holds for so long, all faults are lifted first and then the load ends."""

    measure: Literal["target_memory_mb", "host_free_memory_mb", "error_share", "lost_share"]
    at_most: Annotated[float, Field(ge=0, le=1e9)] | None = None
    at_least: Annotated[float, Field(ge=0, le=1e9)] | None = None
    for_s: Annotated[float, Field(ge=0, le=3600)] = 3.0  # beyond the limit without a break
    process: Name | None = None  # target_memory_mb: one process; absent = the sum of the target's

    @model_validator(mode="after")
    def _one_bound(self) -> Abort:
        want, other = ("at_least", "at_most") if self.measure == LESS_IS_WORSE else ("at_most", "at_least")
        problems = []
        if getattr(self, want) is None:
            problems.append(f'{want}: found nothing, allowed a number, which measure "{self.measure}" needs')
        if getattr(self, other) is not None:
            problems.append(f'{other}: found {getattr(self, other)}, allowed nothing: "{self.measure}" takes {want}')
        if self.measure in SHARES and self.limit > 1:
            problems.append(f'at_most: found {self.limit:g}, allowed 0 to 1: "{self.measure}" is a share')
        if self.process is not None and self.measure != "target_memory_mb":
            problems.append(f'process: found "{self.process}", allowed nothing with measure "{self.measure}"')
        refuse(problems)
        return self

    @property
    def limit(self) -> float:
        """The bound, whichever side it is on; 0 while the profile is still being checked."""
        bound = self.at_least if self.at_least is not None else self.at_most
        return 0.0 if bound is None else bound

    def beyond(self, value: float) -> bool:
        """Whether a value is on the wrong side."""
        return value < self.limit if self.measure == LESS_IS_WORSE else value > self.limit

    @property
    def said(self) -> str:
        """`target_memory_mb of gateway > 500 for 3 s`."""
        of = f" of {self.process}" if self.process else ""
        return f"{self.measure}{of} {'<' if self.measure == LESS_IS_WORSE else '>'} {self.limit:g} for {self.for_s:g} s"
