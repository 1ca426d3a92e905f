"""What does the gateway ask PostgreSQL?  Reads only, by a role that may do nothing else."""

from __future__ import annotations

from typing import Any

MOST_EVENTS = 1_000

# A walk along the index, one step per pattern: DISTINCT would read every row of a table that only grows.
_PATTERNS = """
WITH RECURSIVE walk AS (
  (SELECT pattern FROM events ORDER BY pattern LIMIT 1)
  UNION ALL
  SELECT (SELECT e.pattern FROM events e WHERE e.pattern > walk.pattern ORDER BY e.pattern LIMIT 1)
  FROM walk WHERE walk.pattern IS NOT NULL
)
SELECT pattern FROM walk WHERE pattern IS NOT NULL
"""
_RECENT = "SELECT id, symbol, pattern, timestamp, details, run FROM events ORDER BY timestamp DESC, id DESC LIMIT %s"


def alive(connection: Any) -> None:
    """Whether a query is answered."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def symbols(connection: Any) -> dict[str, str]:
    """Names by symbol."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT symbol, name FROM symbols ORDER BY symbol")
        return dict(cursor.fetchall())


def patterns(connection: Any) -> list[str]:
    """The patterns that were ever detected."""
    with connection.cursor() as cursor:
        cursor.execute(_PATTERNS)
        return [row[0] for row in cursor.fetchall()]


def recent(connection: Any, limit: int) -> list[dict[str, object]]:
    """The newest events, newest first."""
    with connection.cursor() as cursor:
        cursor.execute(_RECENT, (limit,))
        return [
            {"id": i, "symbol": symbol, "pattern": pattern, "timestamp": at, "details": details, "run": run}
            for i, symbol, pattern, at, details, run in cursor.fetchall()
        ]
