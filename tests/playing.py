"""How are all tests played?  Groups side by side, each in a process of its own; what failed once more, alone; one sum.

Tests mostly wait for servers, so groups of them go side by side, each in a process of its own: Locust patches the
standard library of a whole process, and some must not be patched. Runs of the whole tool come after the others, because
what else runs beside a load generator is in its figures.
Tests of single faults come first: each fault has seconds to show, which a busy processor takes away.

A test that fails twice fails. One that passes the second time is listed: it, or what it tests, has a race.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]


FOLDERS = {
    "inject": "FAULTS",
    "drive": "DRIVE",
    "e2e": "WHOLE",
    "extensions": "EXTENSIONS",
    "report": "PAGES",
    "webui": "PAGES",
    "harness": "PAGES",
    "reference_target": "TARGET",
    "measure": "LAWS",
    "tally": "LAWS",
    "plan": "LAWS",
    "stack": "STACK",
    "capture": "ASKED",
    "proof": "ASKED",
    "benchmarks": "UNPATCHED",
    "lying_gateway": "UNPATCHED",
}
"""Folder of tests -> the group that plays its files; PARTS plays all others. A file that belongs elsewhere says so by
`pytestmark = pytest.mark.group("NAME")`."""
_GROUP = re.compile(r"^pytestmark = .*pytest\.mark\.group\(\"(\w+)\"\)", re.MULTILINE)


def group_of(path: Path) -> str:
    """The group of a file."""
    said = _GROUP.search(path.read_text(encoding="utf-8"))
    return said[1] if said else FOLDERS.get(path.relative_to(ROOT / "tests").parts[0], "PARTS")


def groups() -> dict[str, list[str]]:
    """Name -> files, as pytest is given them."""
    found: dict[str, list[str]] = {}
    for path in sorted(ROOT.glob("tests/**/test_*.py")):
        found.setdefault(group_of(path), []).append(str(path.relative_to(ROOT)))
    return found


STAGES: list[tuple[int, list[str]]] = [
    (3, ["LIFE", "USERS", "FAULTS"]),
    (
        6,
        [
            "LAWS",
            "PARTS",
            "SERVICES",
            "SERVERS",
            "ASKED",
            "PAGES",
            "DRIVE",
            "STACK",
            "COMMANDS",
            "ATTACKS",
            "UNPATCHED",
            "TARGET",
        ],
    ),
    (3, ["WEB", "JUDGED", "WHOLE", "PROVEN", "BLAMED", "DOORS", "EXTENSIONS", "PLAYED"]),
]
"""So many at a time, in this order."""
NICE = {"LAWS": 10, "PARTS": 10}
"""Groups that only count: they leave the processor to those beside them, whose faults have seconds to show."""

GROUP_S = 600  # longer than the longest group takes on a busy machine
KILLED = -9  # status of a group that hung: a test that hangs in gevent's hub hears no timeout
FAILED = 1  # pytest's exit status where tests failed; above it they did not come to their end
KEPT = ".again"  # what failed, and what was told at the end
SUMMARY, JUNIT = "summary.txt", "junit.xml"
_COUNT = re.compile(r"(\d+) (passed|failed|error)")


@dataclass(kw_only=True)
class Sum:
    """What came of all groups that were played."""

    passed: int = 0
    second_time: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # tests, and groups that did not come to their end

    def lines(self) -> list[str]:
        """What is told last; the very last line is plain."""
        return [
            "failed, and passed when played once more alone:",
            *(f"  {name}" for name in self.second_time or ["none"]),
            "failed:",
            *(f"  {name}" for name in self.failed or ["none"]),
            f"{self.passed} passed, {len(self.failed)} failed",
        ]


@dataclass(frozen=True, kw_only=True)
class Played:
    """One group, once."""

    name: str
    status: int
    passed: int
    failed: list[str]


def play(name: str, args: Sequence[str], root: Path, *more: str) -> Played:
    """Plays one group, and shows what it says when it has ended, so that no two mix."""
    began, cache = time.monotonic(), root / KEPT / name
    nice = ["nice", "-n", str(NICE.get(name, 0))]
    junit = root / KEPT / f"{name}{'.again' if more else ''}.xml"
    with subprocess.Popen(
        [*nice, sys.executable, "-m", "pytest", "-q", "-o", f"cache_dir={cache}", f"--junitxml={junit}", *more, *args],
        cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        hangs = Timer(GROUP_S, child.kill)
        hangs.start()
        said = child.stdout.read().decode("utf-8", "replace").rstrip()
        _, ended, used = os.wait4(child.pid, 0)  # says what it and all that it waited for took of the processor
        status = child.returncode = os.waitstatus_to_exitcode(ended)
        hangs.cancel()
    busy_s = used.ru_utime + used.ru_stime
    print(f"{name}, {time.monotonic() - began:.0f} s, {busy_s:.0f} s of a processor\n{said}", flush=True)
    counts = {what: int(count) for count, what in _COUNT.findall(said.rpartition("\n")[2])}
    kept = cache / "v/cache/lastfailed"
    failed = sorted(json.loads(kept.read_text())) if status and kept.exists() else []
    return Played(name=name, status=status, passed=counts.get("passed", 0), failed=failed)


def play_all(
    groups: Mapping[str, Sequence[str]], stages: Iterable[tuple[int, Sequence[str]]], root: Path, *, again: bool
) -> Sum:
    """Stage after stage; then once more, one group after the other, what failed."""
    first: list[Played] = []
    for abreast, names in stages:
        for name in names:
            shutil.rmtree(root / KEPT / name, ignore_errors=True)
        with ThreadPoolExecutor(abreast) as pool:
            first += pool.map(lambda name: play(name, groups[name], root), names)
    told = Sum()
    for played in first:
        told.passed += played.passed
        if played.status == FAILED and played.failed and again:
            print("once more, alone: ", end="")
            second = play(played.name, groups[played.name], root, "--last-failed", "--last-failed-no-failures", "none")
            told.passed += second.passed
            told.second_time += sorted(set(played.failed) - set(second.failed)) if second.status <= FAILED else []
            played = second
        elif played.status == KILLED and again:
            print("once more, alone: ", end="")
            played = play(played.name, groups[played.name], root)
            told.passed += played.passed
            told.second_time += [f"{played.name}: hung for {GROUP_S} s"]
        told.failed += played.failed
        if played.status > FAILED or played.status < 0 or (played.status and not played.failed):
            told.failed.append(f"{played.name}: its tests did not come to their end (status {played.status})")
    (root / KEPT).mkdir(exist_ok=True)
    _one_junit(
        [root / KEPT / f"{played.name}{of}.xml" for played in first for of in ("", ".again")], root / KEPT / JUNIT
    )
    (root / KEPT / SUMMARY).write_text("\n".join(told.lines()) + "\n")
    return told


def _one_junit(files: Iterable[Path], whole: Path) -> None:
    """All groups' suites in one file, those that were played once more behind their first playing."""
    suites = ElementTree.Element("testsuites")
    for file in files:
        if file.exists():  # else it did not come to its end
            suites.extend(ElementTree.parse(file).getroot())
            file.unlink()
    ElementTree.ElementTree(suites).write(whole, encoding="utf-8", xml_declaration=True)


def main(names: Sequence[str]) -> int:
    """Plays all groups, or those that are named, which are played once."""
    stages = [(abreast, [name for name in group if not names or name in names]) for abreast, group in STAGES]
    told = play_all(groups(), [(abreast, group) for abreast, group in stages if group], ROOT, again=not names)
    print("\n" + "\n".join(told.lines()), flush=True)
    return 1 if told.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
