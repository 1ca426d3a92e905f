"""Does the store lose no row, whoever writes at the same time or was killed while it wrote?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from loadtests.capture.speed import machine_facts, one_core, strain_now, strain_since
from loadtests.capture.store import StoreFiles
from loadtests.model.errors import BadInput
from loadtests.model.store import RunRow, machine_key
from tests.planted_weeks import rows_of

WRITER = """
import sys
from pathlib import Path
import msgspec
from loadtests.capture.store import StoreFiles
from loadtests.model.store import RunRow
from tests.planted_weeks import rows_of
row = next(row for row in rows_of(1) if isinstance(row, RunRow))
store = StoreFiles(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for index in range(100):
    store.append("planted", [msgspec.structs.replace(row, run=f"{sys.argv[2]}-{index}")])
"""


def test_two_writers_at_once_lose_no_row(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}, text=True,
        )
        for name in ("a", "b")
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        writer.communicate("go\n", timeout=60)
        assert writer.returncode == 0
    read = StoreFiles(tmp_path).read("planted")
    assert read.told == ()
    assert len({row.run for row in read.rows if isinstance(row, RunRow)}) == 200


def test_what_a_killed_writer_left_half_spoils_no_later_row(tmp_path: Path) -> None:
    store, rows = StoreFiles(tmp_path), [row for row in rows_of(1) if isinstance(row, RunRow)]
    store.append("planted", rows[:1])
    with open(store.file("planted"), "ab") as file:
        file.write(msgspec.json.encode(rows[1])[:100])
    store.append("planted", rows[2:])
    read = store.read("planted")
    assert read.rows == (rows[0], rows[2])
    assert read.told == ("planted.jsonl: line 2: torn, left out",)


def test_a_store_may_be_one_file_and_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    single = StoreFiles(tmp_path / "deep" / "one.jsonl")
    assert single.profiles() == []
    assert single.read("planted").rows == ()
    single.append("planted", rows_of(1))
    assert single.profiles() == ["one"]
    monkeypatch.setenv("TICKSTORM_STORE", str(tmp_path / "there"))
    assert StoreFiles.named(None).place == tmp_path / "there"
    assert StoreFiles.named(None).profiles() == []


def test_what_is_no_store_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput):
        StoreFiles(tmp_path / "file").profiles()
    with pytest.raises(BadInput):
        StoreFiles(tmp_path / "file").append("planted", rows_of(1))
    (tmp_path / "planted.jsonl").mkdir()
    with pytest.raises(BadInput):
        StoreFiles(tmp_path).read("planted")


def test_this_machine_has_a_print_and_a_speed() -> None:
    facts = machine_facts({"redis": "8"}, local=True)
    assert {"cpu", "cores", "memory_gib", "arch", "target", "redis"} <= facts.keys()
    assert len(machine_key(facts)) == 16
    told = one_core(0.1)
    assert told["cpu_ms"] > 0
    assert told["loopback_us"] > 0
    assert all(0 <= share <= 1.5 for share in strain_since(strain_now()).values())
