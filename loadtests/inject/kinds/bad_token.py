"""Consumers that come back with a token that must be refused: missing, wrong or expired. At the end with a good one."""

from __future__ import annotations

from loadtests.inject.kinds.on_crew import SeenOfUsers, crew_kind
from loadtests.inject.proofs import Effective


def judge(seen: SeenOfUsers) -> tuple[str, Effective]:
    """Everybody was refused at least once and nobody was let in; the gateway, where it counts, says the same."""
    refused, once, accepted = seen.of("refused"), seen.of("refused_once"), seen.of("accepted")
    counted = seen.grown(f"refused.{seen.asked['token']}")
    found: Effective = {"refused": refused, "accepted": accepted, "gateway_refused": counted}
    if accepted:
        return f"{accepted} connections with a {seen.asked['token']} token were accepted", found
    if once < seen.of("chosen"):
        return f"{once} of {seen.of('chosen')} were refused", found
    if counted is not None and counted < once:
        return f"the gateway counted {counted:g} refusals, {once} were seen", found
    return "", found


KIND = crew_kind("bad-token", judge)
