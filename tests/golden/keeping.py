"""How does a run become a golden history?  `python -m tests.golden.keeping NAME FOLDER` packs it beside what it says.

Without arguments all histories are judged again, and all recordings are made again.

A golden history is a run that happened once: profile and records, and the results as they were judged then. What a
change of the code judges otherwise is either meant, and the results are kept anew in the same commit, or a mistake.
"""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from loadtests.cli.analyze_command import analyze_run

HERE = Path(__file__).resolve().parent
HISTORIES, RESULTS, RECORDED_IN = HERE / "histories", HERE / "results", HERE / "recorded"


def judged(archive: Path, folder: Path) -> dict[str, Any]:
    """What the code of today says of a golden history; `folder` is empty."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    analyze_run(str(folder), [], out=None, quiet=True, html=False)
    found: dict[str, Any] = json.loads((folder / "results.json").read_bytes())
    return found


def differences(kept: Any, found: Any, at: str = "results") -> list[str]:
    """Where something that was kept is missing or otherwise; what was added since is none."""
    if isinstance(kept, dict) and isinstance(found, dict):
        lacks = [f"{at}.{key}: missing" for key in kept.keys() - found.keys()]
        return lacks + [
            text for key in kept if key in found for text in differences(kept[key], found[key], f"{at}.{key}")
        ]
    if isinstance(kept, list) and isinstance(found, list) and len(kept) == len(found):
        pairs = enumerate(zip(kept, found, strict=True))
        return [text for index, (one, other) in pairs for text in differences(one, other, f"{at}[{index}]")]
    return [] if kept == found else [f"{at}: kept {kept!r}, found {found!r}"]


def keep(name: str, folder: Path) -> None:
    """Pack a run's folder, and write what it says."""
    archive = HISTORIES / f"{name}.tar.xz"
    with tarfile.open(archive, "w:xz", preset=9) as packed:
        for path in (folder / "profile.toml", *sorted((folder / "history").iterdir())):
            packed.add(path, str(path.relative_to(folder)), filter=_nobodys)
    judge_again(archive)


def judge_again(archive: Path) -> None:
    """Write what the code of today says."""
    with tempfile.TemporaryDirectory() as empty:
        text = json.dumps(judged(archive, Path(empty)), indent=1, ensure_ascii=False)
    (RESULTS / f"{archive.name.partition('.')[0]}.json").write_text(f"{text}\n", encoding="utf-8")


def _nobodys(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    if len(sys.argv) == 3:
        keep(sys.argv[1], Path(sys.argv[2]))
    else:
        for each in sorted(HISTORIES.glob("*.tar.xz")):
            judge_again(each)
        from tests.golden.recording import RECORDED, as_json

        for name in RECORDED:
            (RECORDED_IN / f"{name}.json").write_text(as_json(name), encoding="utf-8")
