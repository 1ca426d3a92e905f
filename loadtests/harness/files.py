"""Where do the files of profiles and reports lie, and how is one written?  Below the project's root by default."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

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
    """File of a shipped profile's name, or the path itself."""
    shipped = profiles_folder() / f"{name}.toml"
    return shipped if "/" not in name and shipped.exists() else Path(name)


def report_of(folder: Path) -> Path:
    """What to look at in a run's folder: the page, or where there is none the results."""
    page = folder / "report.html"
    return page if page.exists() else folder / "results.json"


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
