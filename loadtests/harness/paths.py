"""Where do profiles and reports lie?  Below the project's root, unless the environment says otherwise."""

from __future__ import annotations

import os
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
