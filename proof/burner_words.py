"""What do the latency proof and the burner in its worker say to each other?"""

from __future__ import annotations

VARIABLE = "TICKSTORM_PROVE_BURN"
"""Environment: a JSON list of `[from_s, to_s, share, slice_ms]`, seconds since the run's T0."""

T0 = "burner: T0 is "
"""Begins a line of its standard output; monotonic ns follow."""
