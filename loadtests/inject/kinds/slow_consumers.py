"""Consumers that read slowly: so many bytes per second each, while the target goes on sending."""

from __future__ import annotations

from loadtests.inject.kinds.on_crew import SeenOfUsers, crew_kind
from loadtests.inject.proofs import Effective

NOT_FASTER = 1.5
"""What was read may exceed the rate asked by so much: a read is one piece."""
SETTLED_MS = 500


def judge(seen: SeenOfUsers) -> tuple[str, Effective]:
    """The kernel holds bytes that nobody reads, and what is read is no more than asked."""
    measured, unread, asked = seen.of("measured"), seen.of("unread_bytes"), int(seen.asked["read_bytes_per_s"])
    found: Effective = {"read_bytes_per_s": None, "unread_bytes": unread, "measured": measured}
    if not measured:
        return "nobody of them could be measured", found
    found["read_bytes_per_s"] = rate = seen.of("rates") // measured
    if seen.of("for_ms") < SETTLED_MS * measured:
        return "it ended before a rate could be measured", found
    if rate > NOT_FASTER * asked:
        return f"each read {rate} bytes/s, {asked} asked", found
    if not unread:
        return "nothing waited to be read: they were sent no more than they may read", found
    return "", found


KIND = crew_kind("slow-consumers", judge)
