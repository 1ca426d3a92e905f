"""Do all three reports come from the stored history alone, and does each show one planted gap?"""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from loadtests.cli.analyze_command import analyze_run
from loadtests.model import records as r
from loadtests.model.codec import Frame, decode, pack
from loadtests.model.results import Results, Verdict, from_json
from tests.cli.storing import store
from tests.measure.simulate import World, profile

FILES = ("results.json", "report.html", "junit.xml")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that passes."""
    folder = store(tmp_path_factory.mktemp("run") / "run-1", World(profile()).calm())
    assert analyze_run(str(folder), [], out=None, quiet=True) == 0
    return folder


def again(folder: Path, out: Path, files: tuple[str, ...] = FILES) -> tuple[Results, list[bytes]]:
    analyze_run(str(folder), [], out=out, quiet=True, html="report.html" in files)
    return from_json((out / "results.json").read_bytes()), [(out / name).read_bytes() for name in files]


def test_the_same_history_gives_the_same_bytes_wherever_it_lies(stored: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(stored, moved)
    results, files = again(moved, tmp_path / "out")
    assert results.verdict is Verdict.PASS
    assert files == [(stored / name).read_bytes() for name in FILES]


def test_one_planted_gap_changes_all_three_reports(stored: Path, tmp_path: Path) -> None:
    folder = tmp_path / "planted"
    shutil.copytree(stored, folder)
    path = folder / "history" / "main.tsh"
    frames = [f for f in decode(path.read_bytes()) if isinstance(f, Frame)]
    plain = next(x for f in frames for x in f.records if isinstance(x, r.Closing) and len(x.consumer) > 1)
    lot = len(plain.consumer)
    gap = r.Deviations(
        kind=["gap"] * lot,
        consumer=list(plain.consumer),
        epoch=list(plain.epoch),
        stream=[plain.stream[0]] * lot,
        first=[plain.first[0] + 40] * lot,
        last=[plain.first[0] + 40] * lot,
        at_ns=[5_000_000_000] * lot,
    )
    plain.unique[0] -= 1
    consumed = [x for f in frames for x in f.records if isinstance(x, r.Consumed) and x.unique > lot]
    fewer = msgspec.structs.replace(consumed[0], unique=consumed[0].unique - lot)
    with path.open("wb") as file:
        for frame in frames:
            records = [fewer if x is consumed[0] else x for x in frame.records]
            file.writelines(pack(frame.number, records))
        file.writelines(pack(frames[-1].number + 1, [gap]))
    results, files = again(folder, tmp_path / "out")
    assert results.verdict is Verdict.FAIL
    assert results.delivery.lost.defect == lot
    for name, data in zip(FILES, files, strict=True):
        assert data != (stored / name).read_bytes(), name
    assert b"<failure" in files[2]


def test_limits_that_were_widened_afterwards_are_noticed(stored: Path, tmp_path: Path) -> None:
    folder = tmp_path / "widened"
    shutil.copytree(stored, folder)
    text = (folder / "profile.toml").read_text(encoding="utf-8")
    assert "at_most = 0" in text
    (folder / "profile.toml").write_text(text.replace("at_most = 0", "at_most = 9"), encoding="utf-8")
    results, _ = again(folder, tmp_path / "out", files=("results.json",))
    assert results.verdict is Verdict.UNKNOWN
    assert any("profile.toml is not the one" in reason for reason in results.reasons)


def test_without_a_page_the_one_that_is_there_stays(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "judged"
    shutil.copytree(stored, folder)
    page = (folder / "report.html").read_bytes()
    assert analyze_run(str(folder), [], out=None, quiet=False, html=False) == 0
    assert (folder / "report.html").read_bytes() == page
    said = capsys.readouterr()
    assert "report.html" in said.out
    assert "earlier judging" not in said.err


def test_a_page_of_an_earlier_judging_is_called_so(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "judged"
    shutil.copytree(stored, folder)
    page = (folder / "report.html").read_bytes()
    sets = ["thresholds[0].at_most=7"]
    assert analyze_run(str(folder), sets, out=folder, quiet=False, html=False) == 0
    assert (folder / "report.html").read_bytes() == page
    said = capsys.readouterr()
    assert "report.html: of an earlier judging" in said.err
    assert "report.html" not in said.out
    assert analyze_run(str(folder), sets, out=folder, quiet=False, html=False) == 0
    assert "report.html: of an earlier judging" in capsys.readouterr().err, "judged twice, it is no newer"
