"""Which options does Tickstorm add to Locust's?  The profile, overrides and the seed; shown in the start form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from loadtests.harness.paths import shipped_profiles

DEFAULT_PROFILE = "locust-quick"
LOOPBACK = "127.0.0.1"
PASSWORD = "TICKSTORM_WEB_PASSWORD"
"""Environment: who uses Locust's web UI has to know it."""


class ProfileChoices(list[str]):
    """The shipped profiles for the form; on the command line a path is as good."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and Path(name).is_file())


def add_options(parser: Any) -> None:
    """Listener for Locust's `init_command_line_parser`."""
    _close_doors(parser)
    group = parser.add_argument_group("Tickstorm")
    profile = group.add_argument(
        "--run-profile",
        env_var="TICKSTORM_PROFILE",
        default=DEFAULT_PROFILE,
        choices=ProfileChoices(_offered()),
        metavar="NAME",
        help="what to run: a shipped profile; on the command line also the path of a profile file",
    )
    sets = group.add_argument(
        "--run-set",
        env_var="TICKSTORM_SET",
        default="",
        metavar="KEY=VALUE",
        help='values that replace the profile\'s, e.g. "run.duration_s=30; consumers.plain.count=500"',
    )
    seed = group.add_argument(
        "--run-seed", env_var="TICKSTORM_SEED", default="", metavar="N", help="seed in place of the profile's"
    )
    for action in (profile, sets, seed):  # the start form shows what has these; an action of a group has none
        vars(action).update(include_in_web_ui=True, is_secret=False, is_required=False, is_multiple=False)


def _close_doors(parser: Any) -> None:
    """Locust listens on all interfaces and asks for no login, unless it is told otherwise; here it is the other way."""
    for action in parser._actions:
        if action.dest == "web_host":
            action.default = LOOPBACK
            action.help = f"Host to bind the web interface to, {LOOPBACK} by default; others need a login ({PASSWORD})."
        elif action.dest == "web_login":
            action.default = bool(os.environ.get(PASSWORD))
            action.help = f"Ask for a login; where {PASSWORD} is set, it is asked for anyway."


def _offered() -> list[str]:
    offered = shipped_profiles()
    named = os.environ.get("TICKSTORM_PROFILE", "")
    return offered if not named or named in offered else [*offered, named]


def sets_of(text: str) -> list[str]:
    """`key=value` pairs of one option, separated by semicolons or line ends."""
    return [part.strip() for line in text.splitlines() for part in line.split(";") if part.strip()]
