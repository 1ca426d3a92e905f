"""Does docs/profile.md tell every key with what the models take and assume, and no key that they do not have?"""

from __future__ import annotations

import re
from pathlib import Path

from loadtests.model.catalogue import EVENT_TYPES
from loadtests.model.measures import AT_LEAST, MEASURES, SELECTORS
from loadtests.model.profile.describe import all_fields
from loadtests.model.stackwire import LINKS

PAGE = (Path(__file__).parents[2] / "docs" / "profile.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip().strip("`"): [cell.strip() for cell in cells[1:]]
    for line in PAGE.splitlines()
    if line.startswith("| `") and (cells := re.split(r"(?<!\\)\|", line.strip("|")))
}
FIELDS = [
    field
    for field in all_fields()
    if field.kind.of != "table" and not (field.kind.of == "list" and field.kind.item and field.kind.item.of == "table")
]


def test_every_key_is_there_with_what_it_takes_and_its_default() -> None:
    assert len(FIELDS) > 90
    for field in FIELDS:
        takes, default, meaning = ROWS[field.path]
        assert takes.replace("\\|", "|") == field.kind.allowed, field.path
        has_default = field.default not in ("", "null")
        assert default == ("required" if field.required else f"`{field.default}`" if has_default else "-"), field.path
        assert len(meaning) >= 7, field.path


def test_no_key_is_there_that_does_not_exist() -> None:
    known = {field.path for field in FIELDS}
    assert {path for path in ROWS if "," not in path and path not in known} <= set(MEASURES)


def test_every_measure_is_there_with_its_side_and_selectors() -> None:
    rows = {
        measure: cells
        for line in PAGE.splitlines()
        if line.startswith("| `") and len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 4
        for measure in re.findall(r"`(\w+)`", cells[0])
        if measure in MEASURES
    }
    assert set(rows) == set(MEASURES)
    for measure, cells in rows.items():
        assert cells[1] == ("at_least" if measure in AT_LEAST else "at_most"), measure
        selectors = ", ".join(name for name in SELECTORS if name in MEASURES[measure].takes)
        assert cells[2] == (selectors or "-"), measure


def test_links_and_event_types_are_told() -> None:
    for word in (*LINKS, *EVENT_TYPES):
        assert word in PAGE
