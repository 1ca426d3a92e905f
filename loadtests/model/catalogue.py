"""Which event types may a route family carry, on which channels, and by which keys may its routes differ?

Data only, so that a profile is refused before anything is planned; `plan.market` builds the payloads of these types.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """One type of event, as the systems under test speak it."""

    name: str
    channels: tuple[str, ...]  # where the reference target takes it; the first is the default
    keys: frozenset[str]  # keys that a family of this type may have
    always: frozenset[str]  # of the keys that a target filters by: those in every payload, named by the family or not
    fields: frozenset[str]  # that the payload may hold beside its timestamp and its keys


PATTERNS = "tickstock.events.patterns"
MARKET_STATE = "tickstock.events.market_state"
PROGRESS = "tickstock.events.backtesting.progress"
RESULTS = "tickstock.events.backtesting.results"
NOTICES = (
    "tickstock.universe.updated",
    "tickstock.cache.sync_complete",
    "tickstock.etf.correlation_update",
    "tickstock.cache.ipo_assignment",
    "tickstock.cache.delisting_cleanup",
)

_SYMBOL = frozenset({"symbol"})
_JOB = frozenset({"job", "user"})
_NONE: frozenset[str] = frozenset()
_ALL = frozenset({"event_type", "source", "padding"})
_CHANGE = _ALL | {"symbol", "rank_change", "metric"}
_NOTICE = _ALL | {
    "notification",
    "universe",
    "symbols_added",
    "symbols_removed",
    "entries",
    "changes",
    "etf",
    "against",
}
_NOTICE |= {"correlation", "ticker", "entries_removed"}

KEY_FIELDS: dict[str, str] = {"pattern": "pattern", "symbol": "symbol", "user": "user_id", "job": "job_id"}
"""Field of the payload that carries a key of the delivery contract."""

EVENT_TYPES: dict[str, EventType] = {
    kind.name: kind
    for kind in (
        EventType(
            name="pattern_detected",
            channels=(PATTERNS,),
            keys=frozenset({"pattern", "symbol"}),
            always=frozenset({"pattern", "symbol"}),
            fields=_ALL | {"pattern", "symbol", "confidence"},
        ),
        *(
            EventType(name=name, channels=(MARKET_STATE,), keys=_SYMBOL, always=_SYMBOL, fields=_CHANGE)
            for name in ("ranking_change", "sector_rotation", "stage_change")
        ),
        EventType(name="health_check", channels=(MARKET_STATE,), keys=_NONE, always=_NONE, fields=_ALL | {"status"}),
        EventType(
            name="backtest_progress",
            channels=(PROGRESS,),
            keys=_JOB,
            always=_NONE,
            fields=_ALL | {"job_id", "progress", "status"},
        ),
        EventType(
            name="backtest_results",
            channels=(RESULTS,),
            keys=_JOB,
            always=_NONE,
            fields=_ALL | {"job_id", "results", "completed_at"},
        ),
        EventType(name="notification", channels=NOTICES, keys=_SYMBOL, always=_NONE, fields=_NOTICE),
    )
}
"""By name. An external target may take a type on another channel; the local one takes it only where `channels` says."""
