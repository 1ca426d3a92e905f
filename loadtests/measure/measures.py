"""What computes each measure of a threshold?  The functions that the table of measures names, bound once."""

from __future__ import annotations

from collections.abc import Callable

from loadtests.measure.analysis import Analysis
from loadtests.measure.selectors import Figure
from loadtests.model import measures
from loadtests.model.kinds import part
from loadtests.model.profile.tables import Threshold

MEASURES: dict[str, Callable[[Analysis, Threshold], Figure]] = {
    name: part(row.by) for name, row in measures.MEASURES.items()
}
