"""Consumers that stop reading: the socket stays open, and what comes waits in the kernel and then at the target."""

from __future__ import annotations

from loadtests.inject.kinds.on_crew import SeenOfUsers, crew_kind
from loadtests.inject.proofs import Effective


def judge(seen: SeenOfUsers) -> tuple[str, Effective]:
    """Bytes wait unread with every one that was measured, and nobody consumed a byte."""
    measured, waiting, read = seen.of("measured"), seen.of("with_unread"), seen.of("read_bytes")
    found: Effective = {"unread_bytes": seen.of("unread_bytes"), "read_bytes": read, "measured": measured}
    if not measured:
        return "nobody of them could be measured", found
    if read:
        return f"{read} bytes were read all the same", found
    if waiting < measured:
        return f"bytes wait unread with {waiting} of {measured}: the others were sent nothing", found
    return "", found


KIND = crew_kind("stalled-consumers", judge)
