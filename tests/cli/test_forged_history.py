"""Does a forged number in a history ever cost more than that frame?  Each field of each record, one after the other."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadtests.cli.analyze_command import analyze_run
from loadtests.model import records as r
from loadtests.model.codec import decode, pack
from loadtests.model.results import Verdict, from_json
from tests.cli.storing import store
from tests.measure.simulate import FaultIn, S, World, profile

MONTH_NS = 29 * 24 * 3600 * S
NUMBERS = (1 << 62, 1 << 40, -(1 << 62), 1 << 33, MONTH_NS)
MEMORY = 3 << 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    readers = [{"name": "reader", "queries": ["symbols_count"]}]
    cut = {"name": "cut", "kind": "down", "link": "client-gateway", "at_s": 2.0, "for_s": 1.0}
    world = World(profile(readers=readers, faults=[cut])).calm()
    world.ask_health()
    world.query()
    start = world.warm + 2 * S
    world.faults.append(FaultIn(name="cut", kind="down", link="client-gateway", start=start, end=start + S))
    return store(tmp_path_factory.mktemp("forged") / "run", world, chunk=12)


@pytest.fixture(autouse=True)
def _little_memory() -> Iterator[None]:
    if not sys.platform.startswith("linux"):
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def forged(record: r.Record, name: str, number: int) -> r.Record | None:
    """The record with a number in place of the first one of a field; None where the field has none."""

    def changed(value: Any) -> Any:
        if type(value) is int:
            return number
        if isinstance(value, list | tuple) and value and (first := changed(value[0])) is not None:
            return type(value)([first, *value[1:]])
        if isinstance(value, dict) and value:
            key = next(iter(value))
            return None if (first := changed(value[key])) is None else {**value, key: first}
        return None

    value = changed(getattr(record, name))
    return None if value is None else msgspec.structs.replace(record, **{name: value})


def cases() -> list[Any]:
    kinds = r.Record.__args__  # type: ignore[attr-defined]
    all_ = [(kind.__name__, field.name) for kind in kinds for field in msgspec.structs.fields(kind)]
    return [case if case in ALWAYS else pytest.param(*case, marks=pytest.mark.prove_all) for case in all_]


ALWAYS = (
    ("PhaseMark", "at_ns"),
    ("Published", "due_slice"),
    ("Consumed", "latency"),
    ("Finish", "frames"),
    ("Finish", "at_ns"),
)


@pytest.mark.parametrize(("kind", "name"), cases(), ids=lambda word: word)
def test_a_forged_number_is_damage_or_a_number_that_can_be(folder: Path, kind: str, name: str) -> None:
    history = folder / "history"
    kept = {path: path.read_bytes() for path in history.glob("*.tsh")}
    tried = 0
    try:
        for number in NUMBERS:
            if _forge(kept, kind, name, number):
                tried += 1
                status = analyze_run(str(folder), [], out=folder / "out", quiet=True, html=False)
                results = from_json((folder / "out" / "results.json").read_bytes())
                assert status in (0, 1, 3)
                assert results.verdict in (Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN)
                if (number == 1 << 62 and name not in FREE) or (number == MONTH_NS and name == "at_ns"):
                    assert results.verdict is Verdict.UNKNOWN, results.reasons
    finally:
        for path, data in kept.items():
            path.write_bytes(data)
    if not tried:
        pytest.skip("no number of this kind in the history")


FREE = {"origin_ns", "origin_unix_ns", "asked", "effective", "clock_offset_ns", "stream"}
"""What is told to people alone, or whose damage shows otherwise."""


def _forge(kept: dict[Path, bytes], kind: str, name: str, number: int) -> bool:
    """Forge the first such record of all files; whether there is one."""
    for path, data in kept.items():
        frames = list(decode(data))
        for at, frame in enumerate(frames):
            for index, record in enumerate(frame.records):  # type: ignore[union-attr]
                if type(record).__name__ != kind or (other := forged(record, name, number)) is None:
                    continue
                records = [*frame.records]  # type: ignore[union-attr]
                records[index] = other
                frames[at] = frame._replace(records=records)  # type: ignore[union-attr]
                path.write_bytes(b"".join(b"".join(pack(f.number, f.records)) for f in frames))  # type: ignore[union-attr]
                return True
    return False
