"""Which profiles and stored runs are there, and how is a file written?  Below the project's root by default.

Imports nothing heavy: the shell asks here whenever somebody presses Tab.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Collection
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import msgspec

from loadtests.model.errors import BadInput
from loadtests.model.live import PastRun
from loadtests.model.words import nearest

ROOT = Path(__file__).resolve().parent.parent.parent


def profiles_folder() -> Path:
    """The shipped profiles."""
    return ROOT / "profiles"


def reports_folder() -> Path:
    """Where runs are stored: TICKSTORM_REPORTS, else reports/."""
    return Path(os.environ.get("TICKSTORM_REPORTS") or ROOT / "reports")


def journals() -> list[Path]:
    """Journals of the faults of all stored runs, oldest first."""
    return sorted(reports_folder().glob("*/faults.journal"))


def shipped_profiles() -> list[str]:
    """Names of the shipped profiles; the one that the web UI offers first comes first."""
    names = sorted(p.stem for p in profiles_folder().glob("*.toml"))
    return sorted(names, key=lambda n: n != "locust-quick")


def profile_path(name: str) -> Path:
    """File of a shipped profile's name, or the path itself; of both, the suffix may be left out."""
    stem = name.removesuffix(".toml")
    shipped, given = profiles_folder() / f"{stem}.toml", Path(name)
    if "/" not in name and os.path.exists(shipped) and (stem == name or not os.path.exists(given)):
        return shipped
    whole = Path(f"{name}.toml")
    return whole if os.path.isfile(whole) and not os.path.exists(given) else given


def known_profiles() -> list[str]:
    """Names that a profile can be called by in this folder: the shipped ones, then the files that lie here."""
    return list(dict.fromkeys([*shipped_profiles(), *sorted(path.stem for path in Path().glob("*.toml"))]))


def report_of(folder: Path) -> Path:
    """What to look at in a run's folder: the page, or where there is none the results."""
    page = folder / "report.html"
    return page if page.exists() else folder / "results.json"


# -- stored runs


LAST = "last"
"""Names the newest run."""
AMONG = 5
"""So many of several that are meant are told."""
MOST_BYTES = 50_000_000
"""Of a `results.json` that is read for a list."""
RUN_ID = re.compile(r"(?P<at>\d{8}-\d{6})-(?P<profile>.+)-[0-9a-f]{4}")


def new_id(what: str, at: datetime | None = None) -> str:
    """The id of something that begins now, or at a time in UTC; of a run, `what` is its profile's name."""
    return f"{at or datetime.now(UTC):%Y%m%d-%H%M%S}-{what}-{secrets.token_hex(2)}"


def _holds_a_run(folder: Path | str) -> bool:
    return os.path.isfile(os.path.join(folder, "profile.toml")) or os.path.isdir(os.path.join(folder, "history"))


def run_folders() -> list[Path]:
    """Folders of the stored runs, newest first: by the time in their names, else by when their profile was written."""
    try:
        with os.scandir(reports_folder()) as entries:
            found = [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith(".")]
    except OSError:
        return []
    return sorted(filter(_holds_a_run, found), key=lambda folder: (_began(folder), folder.name), reverse=True)


def _began(folder: Path) -> float:
    """Seconds since the epoch; 0 where nothing says."""
    if (named := RUN_ID.fullmatch(folder.name)) is not None:
        try:
            return datetime.strptime(named["at"], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()
        except ValueError:
            pass
    try:
        return (folder / "profile.toml").stat().st_mtime
    except OSError:
        return 0.0


def find_run(named: str) -> Path:
    """Folder of the run that is named by its path, its id, the beginning of an id that no other has, or `last`.

    Raises BadInput where none is meant, or several.
    """
    if named != LAST and _holds_a_run(named):
        return Path(named)
    folders = {folder.name: folder for folder in run_folders()}
    if not folders:
        raise BadInput(f"{named}: there is no such run, for {reports_folder()} holds none: `tickstorm run` makes one")
    if named == LAST:
        return next(iter(folders.values()))
    meant = [named] if named in folders else [name for name in folders if named and name.startswith(named)]
    if len(meant) == 1:
        return folders[meant[0]]
    if meant:
        more = f", and {len(meant) - AMONG} more" if len(meant) > AMONG else ""
        raise BadInput(f"{named}: found {len(meant)} runs that begin so, allowed one: {', '.join(meant[:AMONG])}{more}")
    near = next((name for name in folders if named and named in name), "")
    raise BadInput(
        f"{named}: there is no such run in {reports_folder()}{did_you_mean(named, folders, near)} "
        '`tickstorm list` shows all; a path to a folder that holds "history" is as good'
    )


def did_you_mean(named: str, known: Collection[str], near: str = "") -> str:
    """The end of a sentence that says what is not there, with the name that is nearest, if one is near."""
    return (f'; did you mean "{near}"?' if near else nearest(named, known)) or "."


class _Run(msgspec.Struct, frozen=True):
    profile: str = ""
    started_at: str | None = None
    duration_s: float | None = None


class _Results(msgspec.Struct, frozen=True):
    """What a list of runs takes of a `results.json`."""

    run: _Run
    verdict: str
    reasons: list[str] = []


def past_run(folder: Path) -> PastRun:
    """What is to be told of a stored run; of one that was never judged, what its name says."""
    results, page = folder / "results.json", (folder / "report.html").is_file()
    try:
        stat = results.stat()
        found = _judged(results, stat.st_mtime_ns, stat.st_size)
    except (OSError, msgspec.MsgspecError):
        found = None
    if found is not None:
        return msgspec.structs.replace(found, page=page)
    named = RUN_ID.fullmatch(folder.name)
    at = f"{datetime.fromtimestamp(began, UTC):%Y-%m-%dT%H:%M:%SZ}" if (began := _began(folder)) else ""
    return PastRun(run=folder.name, profile=named["profile"] if named else "", started_at=at, page=page)


@lru_cache(maxsize=1000)
def _judged(results: Path, _mtime_ns: int, size: int) -> PastRun | None:
    if size > MOST_BYTES:
        return None
    found = msgspec.json.decode(results.read_bytes(), type=_Results)
    return PastRun(
        run=results.parent.name,
        profile=found.run.profile,
        started_at=found.run.started_at or "",
        duration_s=found.run.duration_s,
        verdict=found.verdict,
        reason=found.reasons[0] if found.reasons else "",
    )


def replace_file(path: Path, data: bytes) -> None:
    """All of it, or nothing, and never through a link at its place: beside it, then moved there. Raises OSError."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
