"""Which parts from outside the tree take part?  Installed entry points, enabled by name: never by a profile or a form.

An extension is an entry point of the group `tickstorm.extensions` that names a `model.kinds.Extension`. It is enabled
by TICKSTORM_EXTENSIONS=NAME,NAME, which every process of a run inherits, or by `tickstorm --extension NAME`, which sets
it. `loadtests/__init__.py` calls `from_environment`, so that the rows are there before any table of kinds is read.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "TICKSTORM_EXTENSIONS"
GROUP = "tickstorm.extensions"
_enabled: dict[str, str] = {}


def from_environment() -> None:
    """Enable what the environment names. Ends the process with status 2 where it cannot be."""
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    if wrong := enable(names) if names else []:
        sys.stderr.write("".join(f"{text}\n" for text in wrong))
        raise SystemExit(2)


def enable(names: list[str]) -> list[str]:
    """Load extensions that are not loaded yet; what is wrong, empty where nothing is."""
    from importlib.metadata import entry_points

    from loadtests.model.kinds import Extension, add

    installed = {point.name: point for point in entry_points(group=GROUP)}
    wrong = []
    for name in dict.fromkeys(names):
        if name in _enabled:
            continue
        if name not in installed:
            known = ", ".join(sorted(installed)) or "none"
            wrong.append(f'{VARIABLE}: found "{name}", allowed an installed extension ({GROUP}): {known}')
            continue
        try:
            found = installed[name].load()
            if not isinstance(found, Extension):
                wrong.append(f"extension {name}: {installed[name].value} is no loadtests.model.kinds.Extension")
                continue
            add(found)
        except Exception as error:  # noqa: BLE001 - another's code, which may fail in any way
            wrong.append(f"extension {name}: {installed[name].value} cannot be loaded: {type(error).__name__}: {error}")
            continue
        _enabled[name] = getattr(installed[name].dist, "version", "")
    return wrong


def enabled() -> dict[str, str]:
    """Names and versions of what was loaded."""
    return dict(_enabled)
