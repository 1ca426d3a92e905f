"""Which environment variables hold what may stand in no file?  Names only."""

from __future__ import annotations

TOKEN_SECRET = "TICKSTORM_TOKEN_SECRET"
"""The secret that the target's tokens are signed with."""
