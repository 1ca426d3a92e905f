"""Can a run's folder that somebody else made do more than be judged?  Links, pipes, devices, words for terminals."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from loadtests.cli import analyze_command, console
from loadtests.cli.analyze_command import analyze_run
from loadtests.measure.damage import MARGIN_S
from loadtests.model import records as r
from loadtests.model.codec import decode, pack
from loadtests.model.errors import BadInput
from loadtests.model.results import Results, Verdict, from_json
from tests.cli.storing import store
from tests.measure.simulate import S, World, profile

REPORTS = ("results.json", "junit.xml", "report.html")
FORGED = "redis\x1b]0;owned\x07\x9b31m\nPASS everything is fine"
pytestmark = pytest.mark.timeout(60)  # what waits for ever is ended


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that passes."""
    folder = store(tmp_path_factory.mktemp("run") / "run-1", World(profile()).calm())
    assert analyze_run(str(folder), [], out=None, quiet=True, html=False) == 0
    return folder


@pytest.fixture
def folder(stored: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "run-1"
    shutil.copytree(stored, copy)
    return copy


def judged(folder: Path) -> Results:
    analyze_run(str(folder), [], out=None, quiet=True, html=False)
    return from_json((folder / "results.json").read_bytes())


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_never_written_through_a_link(folder: Path, tmp_path: Path, name: str) -> None:
    ours = tmp_path / "ours"
    ours.write_bytes(b"kept")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(ours)
    assert analyze_run(str(folder), [], out=None, quiet=True) == 0
    assert ours.read_bytes() == b"kept"
    assert not (folder / name).is_symlink()
    assert (folder / name).stat().st_size > 100
    umask = os.umask(0)
    os.umask(umask)
    assert (folder / name).stat().st_mode & 0o777 == 0o644 & ~umask
    assert {path.name for path in folder.iterdir()} == {"history", "profile.toml", *REPORTS}


def test_the_folder_of_other_limits_is_none_that_a_link_names(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "again").symlink_to(elsewhere)
    with pytest.raises(BadInput, match="found a link"):
        analyze_run(str(folder), ["guard.cpu_percent=90"], out=None, quiet=True, html=False)
    assert not list(elsewhere.iterdir())


PLACED: dict[str, Callable[[Path], None]] = {
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to a file": lambda path: path.symlink_to("/etc/hostname"),
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
}


@pytest.mark.parametrize("what", sorted(PLACED))
def test_a_history_that_is_no_file_is_damage(folder: Path, what: str) -> None:
    PLACED[what](folder / "history" / "worker-9.tsh")
    assert judged(folder).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("what", sorted(PLACED))
def test_a_profile_that_is_no_file_is_refused(folder: Path, what: str) -> None:
    (folder / "profile.toml").unlink()
    PLACED[what](folder / "profile.toml")
    with pytest.raises(BadInput, match=r"profile\.toml is missing or unreadable"):
        judged(folder)


@pytest.mark.parametrize("what", sorted(PLACED))
def test_a_page_that_is_no_file_shows_other_results(folder: Path, what: str) -> None:
    PLACED[what](folder / "report.html")
    assert judged(folder).verdict is Verdict.PASS
    assert analyze_command.page_of(folder) is None


def test_a_history_longer_than_allowed_is_damage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (main,) = (folder / "history").iterdir()
    monkeypatch.setattr(analyze_command, "MOST_BYTES", main.stat().st_size)
    assert judged(folder).verdict is Verdict.PASS
    with main.open("ab") as file:
        file.truncate(main.stat().st_size + 1)
    results = judged(folder)
    assert results.verdict is Verdict.UNKNOWN
    assert "allowed so many" in results.reasons[0]


def rewritten(folder: Path, change: Callable[[r.Record], r.Record]) -> None:
    (path,) = (folder / "history").iterdir()
    frames = list(decode(path.read_bytes()))
    with path.open("wb") as file:
        for frame in frames:
            file.writelines(pack(frame.number, map(change, frame.records)))  # type: ignore[union-attr]


@pytest.mark.parametrize(("late_s", "verdict"), [(MARGIN_S - 60, Verdict.PASS), (2 * MARGIN_S, Verdict.UNKNOWN)])
def test_an_end_that_comes_late_counts_and_one_that_cannot_be_is_damage(
    folder: Path, late_s: float, verdict: Verdict
) -> None:
    def later(record: r.Record) -> r.Record:
        if not isinstance(record, r.Finish):
            return record
        return msgspec.structs.replace(record, at_ns=record.at_ns + round(late_s * S))

    rewritten(folder, later)
    assert judged(folder).verdict is verdict


def test_no_word_of_a_history_reaches_the_terminal_or_junit_as_it_is(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def forged(record: r.Record) -> r.Record:
        match record:
            case r.Header():
                return msgspec.structs.replace(record, run=FORGED, versions={FORGED: FORGED})
            case r.Finish():
                return msgspec.structs.replace(record, reason=FORGED)
        return record

    rewritten(folder, forged)
    (path,) = (folder / "history").iterdir()
    with path.open("ab") as file:
        last = len(list(decode(path.read_bytes())))
        file.writelines(
            pack(last, [r.ServiceEnded(at_ns=5 * S, service=FORGED, what=FORGED), r.Note(at_ns=S, text=FORGED)])
        )
    console.out.file = None  # type: ignore[assignment]  # what pytest reads
    analyze_run(str(folder), [], out=None, quiet=False, html=False)
    said = capsys.readouterr().out
    assert "owned" in said
    assert all(line.isprintable() for line in said.split("\n"))
    assert not [line for line in said.split("\n") if line.startswith("PASS everything")]
    suite = ElementTree.parse(folder / "junit.xml").getroot()
    written = [text for e in suite.iter() for text in (*e.attrib.values(), e.text or "")]
    assert any("owned" in text for text in written)
    assert not [text for text in written if "\x9b" in text or "\x1b" in text]
