"""Publishers that send, beside their plan, messages on which no subscriber should choke."""

from __future__ import annotations

from loadtests.inject.kinds.on_crew import SeenOfUsers, crew_kind
from loadtests.inject.proofs import Effective


def judge(seen: SeenOfUsers) -> tuple[str, Effective]:
    """Redis acknowledged them, and the gateway, where it counts bad messages, has rejected some."""
    sent, acknowledged, rejected = seen.of("sent"), seen.of("acknowledged"), seen.grown("bad")
    found: Effective = {"sent": sent, "acknowledged": acknowledged, "gateway_rejected": rejected}
    if not acknowledged:
        return f"Redis acknowledged none of {sent}", found
    if rejected is not None and rejected < 1:
        return f"the gateway rejected none of {acknowledged} that Redis took", found
    return "", found


KIND = crew_kind("bad-input", judge)
