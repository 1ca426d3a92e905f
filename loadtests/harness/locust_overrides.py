"""What did the user tell Locust that is not the profile's?  Rows for the history's effective values, with their source.

A reader of the verdict must see that the run is not the one that the profile plans, and which option asked for that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from loadtests.model.kinds import CONSUMER, USERS
from loadtests.model.records import Effective

BY_OPTION = "option"
CLASSES = "LOCUST_USER_CLASSES"
NAMES = {
    "num_users": "users",
    "run_time": "run_time",
    "user_classes": "user_classes",
    "config_users": "config_users",
    "tags": "tags",
    "exclude_tags": "exclude_tags",
    "stop_timeout": "stop_timeout",
}
"""Locust's options that change what is played, by their names in Locust's code."""


class Override(NamedTuple):
    """One effective value that is not the profile's."""

    key: str
    value: str  # JSON text
    source: str


def told_to_locust(options: Any = None, argv: list[str] | None = None) -> list[Override]:
    """What command line, variables and files say of `NAMES`, and what a form has changed since (`profile_options`).

    Locust has parsed them before: they are good.
    """
    from locust.argument_parser import get_parser

    parser = get_parser()
    given, _ = parser.parse_known_args(argv)
    sources: dict[str, str] = {}
    for where, settings in parser.get_source_to_settings_dict().items():
        kind, _, path = where.partition("|")
        for key, (action, _text) in settings.items():
            if action is not None and kind != "defaults":
                sources[action.dest] = f"environment {key}" if kind == "environment_variables" else f"file {path}"
    if given.user_classes == os.environ.get(CLASSES, "").split():
        sources["user_classes"] = f"environment {CLASSES}"
    found = []
    for dest, name in NAMES.items():
        value, source = getattr(given, dest), sources.get(dest, BY_OPTION)
        now = getattr(options, dest, value)
        if dest != "num_users" and now != value:  # of that we tell Locust ourselves
            value, source = now, "start form"
        if value:
            found.append(Override(f"locust.{name}", json.dumps(value), source))
    return found


def of_the_users(planned: Mapping[str, int], chosen: Collection[str], consumers: int | None) -> list[Override]:
    """Users that the profile plans and the run lacks: another number of consumers, classes that were not chosen."""
    found = []
    for kind in USERS.values():
        if planned[kind.name] and kind.user_class not in chosen:
            found.append(Override(kind.key, "0", BY_OPTION))
        elif kind is CONSUMER and consumers is not None:
            found.append(Override(kind.key, json.dumps(consumers), BY_OPTION))
    return found


def of_the_rate(users_per_s: float | None) -> list[Override]:
    """Users that start in a second, where it is not what the profile's connect_s asks for."""
    return [] if users_per_s is None else [Override("locust.spawn_rate", json.dumps(users_per_s), BY_OPTION)]


def effective(overrides: Collection[Override]) -> list[Effective]:
    """As a record, none where there is nothing to say."""
    if not overrides:
        return []
    key, value, source = (list(column) for column in zip(*overrides, strict=True))
    return [Effective(key=key, value=value, source=source, relaxed=[False] * len(key))]
