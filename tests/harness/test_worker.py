"""Is a worker's message that is none of ours told, and does it do nothing?"""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from loadtests.harness import worker
from loadtests.harness.participant import ParticipantStatus

STATUS = ParticipantStatus(process="worker-1", connected=3)
GOOD: list[tuple[type[Any], dict[str, Any]]] = [
    (worker.Take, {"number": 1, "kind": "consumer"}),
    (worker.Give, {"kind": "publisher", "slot": 3, "next_epoch": 2}),
    (worker.Chunk, {"run": "r", "process": "worker-0", "number": 7, "frame": b"x"}),
    (
        worker.StatusMessage,
        {"run": "r", "status": msgspec.to_builtins(ParticipantStatus(process="worker-1", connected=3))},
    ),
]
BAD: list[tuple[type[Any], Any]] = [
    *((shape, None) for shape, _ in GOOD),
    *((shape, {}) for shape, _ in GOOD),
    *((shape, {**data, "more": 1}) for shape, data in GOOD),
    (worker.Take, {"number": -1, "kind": "consumer"}),
    (worker.Take, {"number": 1, "kind": "master"}),
    (worker.Give, {"kind": "consumer", "slot": 1 << 50, "next_epoch": 0}),
    (worker.Chunk, {"run": "r", "process": "../../etc", "number": 0, "frame": b""}),
    (worker.Chunk, {"run": "r", "process": "main", "number": 0, "frame": b""}),
    (worker.Chunk, {"run": "r", "process": "worker-0", "number": 0, "frame": b"x" * (1 << 21)}),
    (worker.StatusMessage, {"run": "r", "status": {"process": 7}}),
]


def heard(shape: type[Any], data: Any, times: int = 1) -> list[Any]:
    found: list[Any] = []
    listener = worker.checked(lambda node, told: found.append((node, told)), shape)
    for _ in range(times):
        listener(None, SimpleNamespace(node_id="node", data=data))
    return found


@pytest.mark.parametrize(("shape", "data"), GOOD)
def test_ours_are_understood(shape: type[Any], data: dict[str, Any]) -> None:
    ((node, told),) = heard(shape, data)
    assert node == "node"
    assert msgspec.to_builtins(told, builtin_types=(bytes,)) == data


@pytest.mark.parametrize(("shape", "data"), BAD)
def test_others_are_told_once_and_do_nothing(shape: type[Any], data: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "tickstorm"):
        assert heard(shape, data, times=3) == []
    assert len(caplog.records) == 1
