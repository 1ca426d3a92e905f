"""Which profile runs?  Finds the file, reads it with its overrides; problems come as BadInput, all at once."""

from __future__ import annotations

import os
from collections.abc import Sequence

from loadtests.harness.places import profile_path, shipped_profiles
from loadtests.model.errors import BadInput
from loadtests.model.profile_read import Loaded, read_profile


def load(name: str, sets: Sequence[str] = (), seed: int | None = None) -> Loaded:
    """The effective profile: file < environment < `--set`. Raises BadInput with every problem."""
    path = profile_path(name)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        shipped = ", ".join(shipped_profiles())
        raise BadInput(f"{name}: there is no such profile; shipped are {shipped}, or give the path of a file") from None
    except OSError as error:
        raise BadInput(f"{name}: cannot be read: {error.strerror}") from None
    return read_profile(data, file=name, environment=dict(os.environ), sets=sets, seed=seed)
