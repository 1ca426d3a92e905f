"""Which environment variables hold what may stand in no file?  Names only."""

from __future__ import annotations

TOKEN_SECRET = "TICKSTORM_TOKEN_SECRET"
"""The secret that the target's tokens are signed with."""
DB_PASSWORD = "TEST_DB_PASSWORD"
"""Of the role by which readers and probes log in to PostgreSQL."""
DB_ADMIN_PASSWORD = "PG_ADMIN_PASSWORD"
"""Of PostgreSQL's administrator, whom faults of the database need."""
