"""Has every kind that a profile may name its file, and nothing else but what tests use?"""

from __future__ import annotations

from loadtests.inject.kinds import KINDS
from loadtests.model.fault_kinds import KINDS as NAMED


def test_the_table_of_names_and_the_table_of_acts_are_one() -> None:
    assert set(KINDS) - {"raw-toxic"} == set(NAMED)
