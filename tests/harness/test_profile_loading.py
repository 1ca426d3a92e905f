"""Are a profile and the files that it names refused before anything starts, with everything that is wrong at once?"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from loadtests.drive.publish import replays
from loadtests.harness.profile_loading import load
from loadtests.model.errors import BadInput

PROFILE = """
name = "replays"
question = "Is what was recorded delivered once?"
consumers = [{ name = "all", count = 1 }]
thresholds = [{ measure = "lost_defect", at_most = 0 }]

[run]
duration_s = 4
warm_up_s = 1

[[families]]
name = "patterns"
channel = "tickstock.events.patterns"
event = "pattern_detected"
keys = { pattern = ["Doji"], symbol = ["0700", "AAPL"] }

[[publishers]]
name = "one"
families = ["patterns"]
shape = { kind = "replay", file = "one.csv" }

[[publishers]]
name = "two"
families = ["patterns"]
shape = { kind = "replay", file = "sub/two.jsonl", speed = 2.0 }
"""
ONE = "time,symbol,confidence\n" + "".join(f"{n},0700,0.5\n" for n in range(10))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "p.toml").write_text(PROFILE)
    (tmp_path / "sub").mkdir()
    (tmp_path / "one.csv").write_text(ONE)
    (tmp_path / "sub/two.jsonl").write_text('{"time": 0, "symbol": "AAPL"}\n{"time": 4, "symbol": "AAPL"}\n')
    return tmp_path


def refused(folder: Path) -> list[str]:
    with pytest.raises(BadInput) as caught:
        load(str(folder / "p.toml"))
    return caught.value.problems


def test_how_much_of_its_files_a_run_takes_is_among_its_effective_values(folder: Path) -> None:
    effective = load(str(folder / "p.toml")).effective
    told = {
        k: json.loads(v)
        for k, v, s in zip(effective.key, effective.value, effective.source, strict=True)
        if s == "file"
    }
    assert told == {
        "replays.one": "one.csv: 10 rows over 9.0 s at speed 1, 5 of them due in the 5.0 s of the run, 5 are left over",
        "replays.two": "sub/two.jsonl: 2 rows over 2.0 s at speed 2, 2 of them due in the 5.0 s of the run"
        "; nothing more is due for the last 3.0 s",
    }  # fmt: skip
    assert len(effective.key) == len(effective.value) == len(effective.source) == len(effective.relaxed)


def test_the_problems_of_all_files_are_told_at_once_with_file_and_line(folder: Path) -> None:
    (folder / "one.csv").write_text(ONE + "10,MSFT\n11,MSFT,0.5\n")
    (folder / "sub/two.jsonl").unlink()
    where = f"{folder / 'p.toml'}: publishers"
    assert refused(folder) == [
        f"{where}[0].shape.file: one.csv: line 12: found 2 values, allowed as many as the header has columns, 3",
        f'{where}[0].shape.file: one.csv: line 13: symbol: found "MSFT", allowed "0700", "AAPL"',
        f"{where}[1].shape.file: sub/two.jsonl: No such file or directory",
    ]


def test_a_file_is_a_regular_one_and_not_endless(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / "one.csv"
    file.unlink()
    os.mkfifo(file)
    assert refused(folder)[0].endswith("one.csv: found a device, pipe or socket, allowed a file")
    file.unlink()
    file.symlink_to("/dev/zero")
    assert refused(folder)[0].endswith("one.csv: found a device, pipe or socket, allowed a file")
    file.unlink()
    file.mkdir()
    assert refused(folder)[0].endswith("one.csv: found a folder, allowed a file")
    file.rmdir()
    file.write_text(ONE)
    monkeypatch.setattr(replays, "MAX_BYTES", 50)
    assert [problem[-43:] for problem in refused(folder)] == [
        "one.csv: found more than 50 bytes, allowed so many"[-43:]
    ] * 2


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_profile_is_a_regular_file_as_well(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "p.toml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(BadInput, match=r"cannot be read: found a .*, allowed a file"):
        load(str(path))
