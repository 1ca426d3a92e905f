"""A reconnect storm: all close at once and come back without waiting. Instant; it is watched until its end."""

from __future__ import annotations

from loadtests.inject.kinds.on_crew import crew_kind
from loadtests.inject.kinds.vanishing_consumers import closings

KIND = crew_kind("reconnect-storm", lambda seen: closings(seen, back=True))
