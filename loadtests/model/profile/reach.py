"""What does a profile reach outside of itself?  Its target, files that it opens and addresses that it names; pure.

Whoever fills a form may change what a run does, not where: however he spells it, this is the same as before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from loadtests.model.address import PATTERN, PATTERN_OR_SPARE, SPARE
from loadtests.model.profile.describe import FieldNote, all_fields
from loadtests.model.profile.tables import Profile


def _reaches(note: FieldNote) -> bool:
    pattern = dict(note.kind.limits).get("pattern")
    return note.path.endswith("file") or pattern in (PATTERN, PATTERN_OR_SPARE)


REACHING = tuple(note.path for note in all_fields() if _reaches(note) and not note.path.startswith("target."))
"""Keys beside those of the target that name a file or an address."""


def beyond(profile: Profile, named: Profile) -> list[str]:
    """Keys by which a profile reaches what the named one does not: its target is another, a file or address is new."""
    ours, theirs = profile.model_dump(), named.model_dump()
    found = [f"target.{key}" for key, value in ours["target"].items() if value != theirs["target"][key]]
    for path in REACHING:
        steps = path.replace("[]", "").split(".")
        if {*_at(ours, steps)} - {*_at(theirs, steps), SPARE, None}:  # a spare is none of somebody's choice
            found.append(path.replace("[]", ""))
    return found


def _at(node: Any, steps: Sequence[str]) -> Iterator[Any]:
    """Every value at a path, of each item where there is a list."""
    if isinstance(node, list | tuple):
        for item in node:
            yield from _at(item, steps)
    elif not steps:
        yield node
    elif isinstance(node, dict):
        yield from _at(node.get(steps[0]), steps[1:])
