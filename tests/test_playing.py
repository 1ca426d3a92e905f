"""Is every test in one group, is what failed played once more and listed, and does no sum hide a failure?"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import playing
import pytest
from playing import JUNIT, KEPT, ROOT, STAGES, SUMMARY, Sum, groups, play_all

pytestmark = pytest.mark.group("UNPATCHED")

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


def test_every_mark_names_a_group_and_stands_where_it_is_found() -> None:
    """The runner reads files, it imports none: a mark in another shape would be passed over."""
    marked = [path for path in ROOT.glob("tests/**/test_*.py") if "\npytestmark" in (text := path.read_text("utf-8"))
              and "mark.group(" in text]  # fmt: skip
    assert len(marked) > 20
    assert {playing.group_of(path) for path in marked} <= set(groups()) - {"PARTS", *playing.FOLDERS.values()} | {
        "UNPATCHED"
    }


def test_every_group_is_played_once_and_may_be_played_by_its_name() -> None:
    played = [name for _, names in STAGES for name in names]
    assert sorted(played) == sorted(groups())
    (named,) = re.findall(r"^GROUPS := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert sorted(named.split()) == sorted(groups())


FILES = {
    "once": ONCE,
    "wrong": WRONG,
    "unreadable": "import nothing_that_is_there\n",
    "leaves": "import os\nos._exit(9)\n",
    "empty": "# no test at all\n",
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tests")


@pytest.fixture(scope="module")
def told(root: Path) -> Sum:
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


def test_one_file_tells_ci_of_every_test(root: Path, told: Sum) -> None:
    assert told.failed
    cases = [case.get("name") for case in ElementTree.parse(root / KEPT / JUNIT).getroot().iter("testcase")]
    assert {"test_right", "test_wrong", "test_skipped"} <= set(cases)
    assert cases.count("test_with_a_race") == 2  # it was played once more


def test_the_last_line_is_the_sum(told: Sum) -> None:
    assert told.lines()[-1] == f"2 passed, {len(told.failed)} failed"


def test_that_nothing_was_played_twice_is_said() -> None:
    assert Sum(passed=3).lines()[:2] == ["failed, and passed when played once more alone:", "  none"]


@pytest.mark.prove_all
def test_a_group_that_hangs_is_ended_played_again_and_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing, "GROUP_S", 5.0)
    (tmp_path / "test_hang.py").write_text(
        "from pathlib import Path\nfrom time import sleep\n"
        "def test_hangs_once():\n"
        "    mark = Path(__file__).with_name('mark')\n"
        "    first = not mark.exists()\n    mark.touch()\n    sleep(60 * first)\n"
    )
    found = play_all({"HANGS": ["test_hang.py"]}, [(1, ["HANGS"])], tmp_path, again=True)
    assert found.second_time == ["HANGS: hung for 5.0 s"]
    assert (found.passed, found.failed) == (1, [])
