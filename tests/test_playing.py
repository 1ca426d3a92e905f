"""Is every test in one group, is what failed played once more and listed, and does no sum hide a failure?"""

from __future__ import annotations

import re
from pathlib import Path

import playing
import pytest
from playing import GROUPS, KEPT, PROOF, ROOT, STAGES, SUMMARY, Sum, play_all

ONCE = """
from pathlib import Path
HERE = Path(__file__).parent
def test_right(): pass
def test_with_a_race():
    mark = HERE / "played"
    played = mark.exists()
    mark.touch()
    assert played
"""
WRONG = "import pytest\ndef test_wrong(): assert False\ndef test_skipped(): pytest.skip('nothing here')\n"


def takes(args: list[str], file: str) -> bool:
    """Whether pytest, told so, plays tests of the file."""
    ignored = [arg.removeprefix("--ignore=") for arg in args if arg.startswith("--ignore=")]
    named = [arg.partition("::")[0] for arg in args if arg.startswith("tests")]
    within = lambda paths: any(file == path or file.startswith(path + "/") for path in paths)
    return within(named) and not within(ignored)


def test_every_file_of_tests_is_in_one_group() -> None:
    files = [str(path.relative_to(ROOT)) for path in ROOT.glob("tests/**/test_*.py")]
    groups = {file: [name for name, args in GROUPS.items() if takes(args, file)] for file in files}
    shared = {file: names for file, names in groups.items() if len(names) != 1}
    assert shared == {PROOF.partition("::")[0]: ["PROVEN", "PROOF"]}  # one of its tests goes alone


def test_every_path_that_a_group_names_exists() -> None:
    named = {arg.removeprefix("--ignore=").partition("::")[0] for args in GROUPS.values() for arg in args}
    assert [path for path in sorted(named) if "tests" in path and not (ROOT / path).exists()] == []


def test_every_group_is_played_once_and_may_be_played_by_its_name() -> None:
    played = [name for _, names in STAGES for name in names]
    assert sorted(played) == sorted(GROUPS)
    (named,) = re.findall(r"^GROUPS := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert sorted(named.split()) == sorted(GROUPS)


FILES = {
    "once": ONCE,
    "wrong": WRONG,
    "unreadable": "import nothing_that_is_there\n",
    "leaves": "import os\nos._exit(9)\n",
    "empty": "# no test at all\n",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Sum:
    root = tmp_path_factory.mktemp("tests")
    (root / "pytest.ini").write_text("[pytest]\n")
    for name, text in FILES.items():
        (root / f"test_{name}.py").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # it starts in half the time
        sums = play_all({name: [f"test_{name}.py"] for name in FILES}, [(2, list(FILES))], root, again=True)
    assert (root / KEPT / SUMMARY).read_text().splitlines() == sums.lines()
    return sums


def test_what_passes_the_second_time_is_listed_and_no_failure(told: Sum) -> None:
    assert told.passed == 2
    assert told.second_time == ["test_once.py::test_with_a_race"]


def test_what_fails_twice_fails(told: Sum) -> None:
    assert "test_wrong.py::test_wrong" in told.failed


@pytest.mark.parametrize("name", ["unreadable", "leaves", "empty"])
def test_tests_that_do_not_come_to_their_end_are_no_pass(told: Sum, name: str) -> None:
    assert any(name in failed for failed in told.failed)


def test_the_last_line_is_the_sum(told: Sum) -> None:
    assert told.lines()[-1] == f"2 passed, {len(told.failed)} failed"


def test_that_nothing_was_played_twice_is_said() -> None:
    assert Sum(passed=3).lines()[:2] == ["failed, and passed when played once more alone:", "  none"]


def test_a_group_that_hangs_is_ended_played_again_and_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing, "GROUP_S", 3.0)
    (tmp_path / "test_hang.py").write_text(
        "from pathlib import Path\nfrom time import sleep\n"
        "def test_hangs_once():\n"
        "    mark = Path(__file__).with_name('mark')\n"
        "    first = not mark.exists()\n    mark.touch()\n    sleep(60 * first)\n"
    )
    found = play_all({"HANGS": ["test_hang.py"]}, [(1, ["HANGS"])], tmp_path, again=True)
    assert found.second_time == ["HANGS: hung for 3.0 s"]
    assert (found.passed, found.failed) == (1, [])
