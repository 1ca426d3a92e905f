"""Does a healthy run pass, with every number there?"""

from __future__ import annotations

from typing import Any

import msgspec

from loadtests.measure.judge import judge
from loadtests.model.results import Verdict, to_json
from tests.measure.simulate import World, profile


def test_a_calm_world_passes_with_every_number() -> None:
    world = World(profile()).calm()
    results = judge(world.profile, world.history())
    assert results.verdict is Verdict.PASS, results.reasons
    assert results.delivery.published == len(world.messages)
    assert results.delivery.owed == results.delivery.unique == sum(len(s.got) for s in world.stays)
    assert results.delivery.lost.total == 0
    assert [p.phase for p in results.phases] == ["connect", "warm-up", "baseline", "drain"]


def test_the_same_history_gives_the_same_bytes() -> None:
    world = World(profile()).calm()
    assert to_json(judge(world.profile, world.history())) == to_json(judge(world.profile, world.history(chunk=50)))


def test_only_the_broker_and_the_thinnest_percentile_may_be_null() -> None:
    world = World(profile()).calm()
    data = msgspec.json.decode(to_json(judge(world.profile, world.history())))
    nulls = {
        path for path in _nulls(data, "") if ".series." not in path and ".limit" not in path and ".measured" not in path
    }
    assert {path.rpartition(".")[2] for path in nulls} <= {"broker", "p999", "p99", "capacity"}


def _nulls(value: Any, path: str) -> list[str]:
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in _nulls(v, f"{path}.{k}")]
    if isinstance(value, list):
        return [p for v in value for p in _nulls(v, path)]
    return [path] if value is None else []
