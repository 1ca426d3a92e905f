"""Consumers that vanish: a reset instead of a goodbye, again whenever they have been back for a second."""

from __future__ import annotations

from loadtests.inject.kinds.on_crew import SeenOfUsers, crew_kind
from loadtests.inject.proofs import Effective


def closings(seen: SeenOfUsers, *, back: bool) -> tuple[str, Effective]:
    """Everybody was closed at least once, and (where asked) as many are back; the gateway saw new connections."""
    closed, returned, chosen = seen.of("closed_once"), seen.of("back_once"), seen.of("chosen")
    connects = seen.grown("connects")
    found: Effective = {"closed": seen.of("closed"), "back": seen.of("back"), "gateway_connects": connects}
    if closed < chosen:
        return f"{closed} of {chosen} closed their connection", found
    if back and returned < chosen:
        return f"{returned} of {chosen} came back", found
    if back and connects is not None and connects < chosen:
        return f"the gateway counted {connects:g} new connections, {chosen} should have come", found
    return "", found


KIND = crew_kind("vanishing-consumers", lambda seen: closings(seen, back=False))
