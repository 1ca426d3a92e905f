"""Consumers that are offline for a while: they leave in good order, and come back at the end."""

from __future__ import annotations

from loadtests.inject.kinds.on_crew import SeenOfUsers, crew_kind
from loadtests.inject.proofs import Effective


def judge(seen: SeenOfUsers) -> tuple[str, Effective]:
    """All of them are away, and the gateway has so many clients less."""
    away, chosen = seen.of("in_force"), seen.of("chosen")
    grown = seen.grown("clients")
    less = None if grown is None else 0 - grown
    found: Effective = {"offline": away, "gateway_clients_less": less}
    if away < chosen:
        return f"{away} of {chosen} are away", found
    if less is not None and less < chosen:
        return f"the gateway counts {less:g} clients less, {chosen} left", found
    return "", found


KIND = crew_kind("offline-consumers", judge)
