"""What does a section of the proof say?  Rows of planted and found, equal or not, with the first differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

SHOWN = 10
"""Differences that one row keeps."""

BUSY_GUARD = """[guard]
own_lag_p99_ms = 5000
hub_lag_ms = 5000
cpu_percent = 100
clean_coverage_min = 0.05
"""
"""Of the profiles in which a busy machine is to decide nothing; keys that follow it are the section's own."""


def silent(_: str) -> None:
    """Progress that is not shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asked of `tickstorm prove`, the same for every section."""

    seed: int = 1
    full: bool = False
    deliveries: int = 200_000  # about so many, of the section `account`
    say: Callable[[str], None] = silent  # one line of progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing that was planted, or that follows from it, and what the tool made of it."""

    what: str
    planted: str
    found: str
    equal: bool
    differences: tuple[str, ...] = ()  # the first ones: consumer, stream, seq; empty where equal

    def __post_init__(self) -> None:
        if self.equal and self.differences:
            raise ValueError(f"{self.what}: equal, and yet {self.differences[0]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionResult:
    """What one section found. `notes` are sentences that a reader needs beside the rows; they decide nothing."""

    name: str
    rows: tuple[Row, ...]
    seconds: float
    notes: tuple[str, ...] = field(default=())

    @property
    def equal(self) -> bool:
        """Everything that was planted was found, and nothing else. A section without rows proves nothing."""
        return bool(self.rows) and all(row.equal for row in self.rows)


def compared(what: str, planted: object, found: object, differences: tuple[str, ...] = ()) -> Row:
    """A row of two values that must be equal."""
    equal = planted == found and not differences
    if not equal and not differences:
        differences = (f"{what}: planted {planted}, found {found}",)
    return Row(what=what, planted=str(planted), found=str(found), equal=equal, differences=differences[:SHOWN])
