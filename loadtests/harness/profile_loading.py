"""Which profile runs?  The options that name it, the reading of its files; problems come as BadInput, all at once."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from loadtests.drive.publish.replays import read_bounded, read_replays
from loadtests.harness.files import did_you_mean, known_profiles, profile_path, shipped_profiles
from loadtests.model.contract import Contract
from loadtests.model.errors import BadInput
from loadtests.model.profile.reading import MAX_CHARACTERS, Loaded, beyond, read_profile
from loadtests.model.records import Effective
from loadtests.model.words import printable
from loadtests.plan.workload import Workload, replay_words

DEFAULT_PROFILE = "locust-quick"
LOOPBACK = "127.0.0.1"
PASSWORD = "TICKSTORM_WEB_PASSWORD"
"""Environment: the password of Locust's web UI."""
REPLAYS = "replays."
"""Keys of the effective values that say how much of a file a publisher group replays."""


class ProfileChoices(list[str]):
    """The shipped profiles for the form; on the command line a path is as good."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and profile_path(name).is_file())


def add_options(parser: Any) -> None:
    """Listener for Locust's `init_command_line_parser`."""
    _ask_for_login(parser)
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
        # The profile has a place of its own in the form: `decorate` of web_ui.py.
        vars(action).update(
            include_in_web_ui=action is not profile, is_secret=False, is_required=False, is_multiple=False
        )


def _ask_for_login(parser: Any) -> None:
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


def one_profile(ours: str, locusts: str, otherwise: str) -> str:
    """The profile that is named by our option or field, or by Locust's own of the name. Raises BadInput for two."""
    if ours and locusts and ours != locusts:
        raise BadInput(f'profile: found "{ours[:100]}" and "{locusts[:100]}", allowed is one')
    return ours or locusts or otherwise or DEFAULT_PROFILE


def sets_of(text: str) -> list[str]:
    """`key=value` pairs of one option, separated by semicolons or line ends."""
    return [part.strip() for line in text.splitlines() for part in line.split(";") if part.strip()]


def load(
    name: str, sets: Sequence[str] = (), seed: int | None = None, *, trusted: Collection[str] | None = None
) -> Loaded:
    """The effective profile: file < environment < `--set`. Raises BadInput with every problem.

    `trusted`: those of `sets` that may choose a target, a file or an address; None: all.
    """
    path = profile_path(name)
    try:
        data = read_bounded(path, 4 * MAX_CHARACTERS)
    except FileNotFoundError:
        shipped = ", ".join(shipped_profiles())
        meant = did_you_mean(path.name.removesuffix(".toml"), known_profiles())
        raise BadInput(
            f"{name}: there is no such profile{meant} Shipped are {shipped}; the path of a file is as good"
        ) from None
    except OSError as error:
        raise BadInput(f"{name}: cannot be read: {error.strerror}") from None
    environment = dict(os.environ)
    loaded = read_profile(data, file=name, environment=environment, sets=sets, seed=seed)
    if trusted is not None:
        named = read_profile(data, file=name, environment=environment, sets=[s for s in sets if s in trusted])
        if keys := beyond(loaded.profile, named.profile):  # before any file is opened
            raise BadInput(f"{', '.join(keys)}: allowed on the command line and in a profile, not in a form")
    return _with_replays(loaded, name, path.parent)


def _with_replays(loaded: Loaded, name: str, folder: Path) -> Loaded:
    """With what of its files a run will take, told beside the effective values."""
    if all(group.shape.file is None for group in loaded.profile.publishers):
        return loaded
    contract = Contract(loaded.profile)
    try:
        replays = read_replays(contract, folder)
    except BadInput as error:
        raise BadInput([printable(f"{name}: {problem}") for problem in error.problems]) from None
    span_ns = Workload(loaded.profile, contract).span_ns
    words = {
        REPLAYS + group.name: replay_words(replays[group.name], group, span_ns)
        for group in loaded.profile.publishers
        if group.name in replays
    }
    known = loaded.effective
    effective = Effective(
        key=[*known.key, *words],
        value=[*known.value, *(json.dumps(text, ensure_ascii=False) for text in words.values())],
        source=[*known.source, *("file" for _ in words)],
        relaxed=[*known.relaxed, *(False for _ in words)],
    )
    return replace(loaded, effective=effective)
