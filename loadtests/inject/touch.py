"""Which of the three answers to the question whom a fault met?  What a step of the fault tells of it."""

from __future__ import annotations

from dataclasses import dataclass

from loadtests.model.records import ACTED, TOUCHED, TOUCHED_WHY


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """Whether a fault met somebody; without that, why not, or which key would make it observable."""

    touched: str
    why: str = ""
    connections: int | None = None  # that passed in the time before it
    closed: int | None = None  # of those that were open when it acted

    def effective(self) -> dict[str, float | int | str | None]:
        """As a step of the fault tells it."""
        found: dict[str, float | int | str | None] = {TOUCHED: self.touched}
        if self.touched != ACTED:
            found[TOUCHED_WHY] = self.why
        if self.connections is not None:
            found["traffic_connections"] = self.connections
        if self.closed is not None:
            found["traffic_closed"] = self.closed
        return found
