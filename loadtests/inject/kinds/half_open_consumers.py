"""Consumers that fall silent without a close and answer nothing; at the end they drop the socket and come back."""

from __future__ import annotations

from loadtests.inject.kinds.on_crew import crew_kind
from loadtests.inject.kinds.stalled_consumers import judge

KIND = crew_kind("half-open-consumers", judge)
"""Seen from outside a stall and a silence look alike while they last, so they are proved alike."""
