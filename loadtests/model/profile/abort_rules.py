"""Which abort guards could never speak?  Pure: a profile in, problems out, `path: found ..., allowed ...`."""

from __future__ import annotations

from collections.abc import Iterator

from loadtests.model.profile.tables import Profile
from loadtests.model.profile.threshold_rules import processes_of


def abort_problems(profile: Profile) -> Iterator[str]:
    """Guards about processes that nobody samples, that say the same twice, or whose time the plan does not have."""
    known = processes_of(profile)
    seen: dict[tuple[str, str | None], int] = {}
    for index, guard in enumerate(profile.aborts):
        where = f"aborts[{index}]"
        if guard.process is not None and guard.process not in known:
            allowed = ", ".join(f'"{name}"' for name in known)
            yield f'{where}.process: found "{guard.process}", allowed one of {allowed}'
        if guard.for_s >= profile.run.duration_s:
            yield f"{where}.for_s: found {guard.for_s:g}, allowed below run.duration_s, {profile.run.duration_s:g}"
        key = (guard.measure, guard.process)
        if key in seen:
            yield f'{where}.measure: found "{guard.measure}", limited in aborts[{seen[key]}] already, allowed once'
        seen.setdefault(key, index)
