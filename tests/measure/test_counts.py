"""Is every count of something bad judged?  Each count of the results says whether it is bad, and by what."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

from loadtests.measure.checks import MEASURES
from loadtests.measure.history_tables import fold
from loadtests.measure.stages import analyse
from loadtests.measure.validity import harness_checks
from loadtests.model import results
from loadtests.model.measures import DEFAULT_LIMITS
from loadtests.model.profile.reading import read_profile
from tests.measure.simulate import World, profile

SHIPPED = sorted((Path(__file__).parents[2] / "profiles").glob("*.toml"))


def counts() -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Every whole number of the contract, with what it says of itself."""
    for name, struct in vars(results).items():
        if isinstance(struct, type) and issubclass(struct, msgspec.Struct):
            for field, hint in get_type_hints(struct, include_extras=True).items():
                meta = None
                if get_origin(hint) is Annotated:
                    hint, *extras = get_args(hint)
                    meta = next((e.extra for e in extras if isinstance(e, msgspec.Meta)), None)
                parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
                if int in parts and float not in parts and field in struct.__struct_fields__:
                    yield f"{name}.{field}", meta


COUNTS = dict(counts())
BAD = {name: meta for name, meta in COUNTS.items() if meta and meta["count"] == "bad"}


def test_every_count_says_whether_it_is_bad() -> None:
    assert len(COUNTS) > 40
    assert [name for name, meta in COUNTS.items() if meta is None] == []


@pytest.fixture(scope="module")
def limited() -> set[str]:
    """Measures that are limited by default, or in a shipped profile; and the conditions of every run."""
    found = set(DEFAULT_LIMITS)
    for path in SHIPPED:
        found |= {t.measure for t in read_profile(path.read_text("utf-8"), file=path.name).profile.thresholds}
    world = World(profile()).calm()
    return found | {check.name for check in harness_checks(analyse(world.profile, fold(world.history())))}


ASKED_FOR = {"lost_charged", "lost_total"}
"""What a fault may cost, and what may be lost in all, only the user can say: measures without a limit by default."""


@pytest.mark.parametrize("name", sorted(BAD))
def test_every_count_of_something_bad_is_judged_or_says_why_not(name: str, limited: set[str]) -> None:
    meta = BAD[name]
    if meta["but"]:
        assert len(meta["but"]) > 40
        return
    assert meta["judged_by"]
    for judge in meta["judged_by"]:
        assert judge in limited or judge in ASKED_FOR & MEASURES.keys(), judge
