"""By which words is a profile chosen for a suite?  Stages, categories, and the words of the sources; data only.

A profile says under `[labels]` in which stages it is played and to which categories it belongs. The sources name their
suites in words of their own: WORDS says which category each of them means, PENDING what is still missing for the rest.
How to empty PENDING: ship a profile with the category, and move the word to WORDS.
"""

from __future__ import annotations

from collections.abc import Mapping

STAGES: Mapping[str, str] = {
    "smoke": "with each commit: does it work at all",
    "integration": "with each pull request: faults, bursts, slow clients",
    "performance": "each night and before a release: limits of time, rate and memory",
    "resilience": "each week: the faults again and again, compared with the weeks before",
}
CATEGORIES: Mapping[str, str] = {
    "redis": "the way of an event through Redis into the gateway",
    "gateway": "what clients get from the gateway, and whether they stay connected",
    "database": "queries beside the stream of events",
    "end-to-end": "an event's whole way from publisher to client",
    "performance": "limits of latency, rate and users",
    "memory": "growth of the target's processes",
    "resilience": "faults, and the way back from them",
}
WORDS: Mapping[str, str] = {
    "redis_integration": "redis",
    "database_integration": "database",
    "e2e_workflows": "end-to-end",
    "performance_integration": "performance",
    "system_resilience": "resilience",
    "redis_flow": "redis",
    "latency": "performance",
    "load": "performance",
    "workflow": "end-to-end",
    "e2e": "end-to-end",
    "redis_subscriber": "redis",
    "websocket_broadcaster": "gateway",
    "end_to_end": "end-to-end",
    "websocket_stability": "gateway",
    "error_recovery": "resilience",
}
"""A word of the sources -> the category that it means; a category is a word too."""
PENDING: Mapping[str, str] = {
    "etf_universe": "events and queries of ETF universes",
    "phase3": "the workflows of the cache and its synchronisation",
    "sprint14": "the workflows of data loading and scenarios",
    "application": "the application's own pages and sessions",
    "trading_flow": "an order's way from signal to fill",
    "order_lifecycle": "orders that are opened, changed and cancelled",
    "position_tracking": "positions that follow from fills",
    "risk": "limits of risk and what breaks them",
    "market_data": "quotes and trades of a feed",
    "indicators": "indicators that are computed from market data",
}
"""A word of the sources that no shipped profile answers yet -> what such a profile would play."""
KNOWN: tuple[str, ...] = (*CATEGORIES, *WORDS, *PENDING)


def category_of(word: str) -> str | None:
    """The category that a word means; None where no profile has it yet. Raises KeyError for a word of nobody."""
    if word in PENDING:
        return None
    return word if word in CATEGORIES else WORDS[word]
