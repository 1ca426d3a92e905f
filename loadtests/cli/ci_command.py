"""How does a CI server or a timer carry out the weekly comparison?  The command `ci` prints the job's file, filled in.

The files are texts beside this module with names between @ signs. All of them call `tickstorm` itself: what stands
between it and the server (such as make) would turn its exit statuses into others.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from loadtests.capture.store import DEFAULT
from loadtests.cli.suite_command import GATE_RUNS, GATED, deadline_s
from loadtests.harness.files import ROOT
from loadtests.harness.profile_loading import load
from loadtests.model.errors import BadInput
from loadtests.model.words import nearest

JOBS = {
    "github": "job_github.yml",
    "gitlab": "job_gitlab.yml",
    "cron": "job_cron.txt",
    "systemd": "job_systemd.txt",
}
"""Where a job runs -> the text of its file."""
BRANCH = "tickstorm-history"
"""In which the store lies on a CI server."""
MAX_AGE = "10d"
"""Of the newest week: one that is late by a holiday is no alarm, one that never came is."""
INSTALL_MIN = 20
_VERSION = ' --target-version "${TARGET_VERSION:?it must say what is tested, such as git describe of the target}"'
_GITHUB_ENV = """
        env: # of an external target: set the variable and the secret in the repository
          TARGET_VERSION: ${{ vars.TARGET_VERSION }}
          TEST_DB_PASSWORD: ${{ secrets.TEST_DB_PASSWORD }}"""
_ENV_FILE = ".config/tickstorm.env"
"""Below the home folder, for cron and systemd: NAME=value lines for an external target, TARGET_VERSION among them."""


def print_job(kind: str, profiles: Sequence[str]) -> int:
    """Write the file to standard output. Raises BadInput for another kind, and for a profile that cannot be run."""
    if kind not in JOBS:
        raise BadInput(f'ci: found "{kind}", allowed one of {", ".join(JOBS)}{nearest(kind, JOBS)}')
    sys.stdout.write(job(kind, profiles or [GATED], root=ROOT, programs=Path(sys.executable).parent))
    return 0


def job(kind: str, names: Sequence[str], *, root: Path, programs: Path) -> str:
    """The file of a job for some profiles; `programs`: the folder in which `tickstorm` lies. Raises BadInput."""
    loaded = [load(name).profile for name in names]
    external = any(profile.target.kind == "external" for profile in loaded)
    seconds = sum(deadline_s(profile) for profile in loaded) * GATE_RUNS
    cron = kind == "cron"
    return filled(
        resources.files("loadtests.cli").joinpath(JOBS[kind]).read_text("utf-8"),
        {
            "PROFILES": _cron_escaped(shlex.join(names), cron),
            "MINUTES": str(math.ceil(seconds / 60) + INSTALL_MIN),
            "BRANCH": BRANCH,
            "STORE": DEFAULT,
            "MAX_AGE": MAX_AGE,
            "ROOT": _cron_escaped(shlex.quote(str(root)), cron),
            "BIN": str(programs),
            "VERSION": _VERSION if external else "",
            "GITHUB_ENV": _GITHUB_ENV if external else "",
            "CRON_ENV": f"set -a && . ~/{_ENV_FILE} && " if external else "",
            "UNIT_ROOT": str(root).replace("%", "%%"),
            "UNIT_BIN": _unit_word(str(programs / "tickstorm")),
            "UNIT_PROFILES": " ".join(map(_unit_word, names)),
            "UNIT_ENV": f"EnvironmentFile=%h/{_ENV_FILE}\n" if external else "",
            "UNIT_VERSION": " --target-version ${TARGET_VERSION}" if external else "",
        },
    )


def filled(text: str, values: Mapping[str, str]) -> str:
    """The text with each @NAME@ replaced."""
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def _cron_escaped(text: str, cron: bool) -> str:
    """In a crontab a bare % ends the command."""
    return text.replace("%", r"\%") if cron else text


def _unit_word(text: str) -> str:
    """A word of ExecStart=: % and $ stand for themselves."""
    plain = text.replace("%", "%%").replace("$", "$$")
    return plain if shlex.quote(text) == text else json.dumps(plain, ensure_ascii=False)
