"""Which profile runs?  Finds the file and those it names, reads them; problems come as BadInput, all at once."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from loadtests.drive.publish.replays import read_bounded, read_replays
from loadtests.harness.paths import profile_path, shipped_profiles
from loadtests.model.contract import Contract
from loadtests.model.errors import BadInput
from loadtests.model.profile.effective import beyond
from loadtests.model.profile.reading import MAX_CHARACTERS, Loaded, read_profile
from loadtests.model.records import Effective
from loadtests.model.words import printable
from loadtests.plan.workload import Workload, replay_words

REPLAYS = "replays."
"""Keys of the effective values that say how much of a file a publisher group replays."""


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
        raise BadInput(f"{name}: there is no such profile; shipped are {shipped}, or give the path of a file") from None
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
