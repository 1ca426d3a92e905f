"""Which events exist, on which channel, and what must each hold?  The catalogue: per type a builder and a validator.

Values are seeded and realistic; prices follow a walk whose volatility is per second, never per tick, stay above 0
and lie on the tick grid with bid below ask.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from loadtests.model.catalogue import KEY_FIELDS

Event = dict[str, object]
Build = Callable[[random.Random], Event]

CHANNEL = re.compile(r"tickstock(\.[a-z_]+){2,}")
"""Two or more segments after `tickstock`; use with fullmatch, since `$` lets a trailing newline pass."""

STRICT_CHANNEL = re.compile(r"tickstock\.[a-z_]+\.[a-z_]+")
"""The three-part form of the cache and universe channels."""

SYMBOLS: tuple[str, ...] = (
    *("AAPL", "MSFT", "NVDA", "AMZN", "GOOGL", "META", "TSLA", "AVGO", "JPM", "V", "MA", "UNH", "XOM", "JNJ", "PG"),
    *("HD", "COST", "ABBV", "MRK", "KO", "PEP", "BAC", "CRM", "NFLX", "AMD", "ADBE", "ORCL", "CSCO", "INTC", "QCOM"),
    *("TXN", "IBM", "GE", "CAT", "BA", "DIS", "NKE", "MCD", "WMT", "T", "VZ", "PFE", "CVX", "WFC", "GS", "MS"),
    *("SPY", "QQQ", "IWM", "DIA"),
)
PATTERNS: tuple[str, ...] = (
    *("Doji", "Hammer", "ShootingStar", "BullishEngulfing", "BearishEngulfing", "MorningStar", "EveningStar"),
    *("Harami", "PiercingLine", "DarkCloudCover", "ThreeWhiteSoldiers", "ThreeBlackCrows", "DoubleTop"),
    *("DoubleBottom", "HeadAndShoulders", "BullFlag"),
)
TICK = 0.25
SOURCE = "tickstock_pl"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketEvent:
    """One type of event; `required` are the fields that its readers rely on, beside those of every event."""

    name: str
    event_type: str  # as the payload says it
    channel: str  # the default; a profile may name another
    required: Mapping[str, Callable[[object], bool]]
    build: Build


def _text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _share(value: object) -> bool:
    return _number(value) and 0 <= value <= 1  # type: ignore[operator]  # _number has just shown that it compares


def _price(value: object) -> bool:
    return _number(value) and value > 0 and value / TICK == int(value / TICK)  # type: ignore[operator]  # as above


def _volume(value: object) -> bool:
    return _whole(value) and 1 <= value <= 100  # type: ignore[operator]  # as above


def _texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(_text(item) for item in value)


def _results(value: object) -> bool:
    names = ("win_rate", "roi", "sharpe_ratio", "max_drawdown")
    return isinstance(value, dict) and all(_number(value.get(name)) for name in names)


def _pattern(draw: random.Random) -> Event:
    return {
        "pattern": draw.choice(PATTERNS),
        "symbol": draw.choice(SYMBOLS),
        "confidence": round(draw.uniform(0.5, 0.99), 2),
    }


def _market_state(draw: random.Random) -> Event:
    return {"symbol": draw.choice(SYMBOLS), "rank_change": draw.randint(-10, 10), "metric": "rs_rating"}


def _health(_: random.Random) -> Event:
    return {"status": "healthy"}


def _job(draw: random.Random) -> str:
    return f"job-{draw.getrandbits(32):08x}"


def _progress(draw: random.Random) -> Event:
    progress = draw.choice((0.0, 0.25, 0.5, 0.75, 1.0))
    return {"job_id": _job(draw), "progress": progress, "status": "completed" if progress == 1.0 else "processing"}


def _backtest_results(draw: random.Random) -> Event:
    return {
        "job_id": _job(draw),
        "results": {
            "win_rate": round(draw.uniform(0.4, 0.7), 2),
            "roi": round(draw.uniform(-0.1, 0.3), 2),
            "sharpe_ratio": round(draw.uniform(0.2, 2.5), 1),
            "max_drawdown": round(draw.uniform(0.02, 0.2), 2),
        },
        "completed_at": _day(draw, 2025) + "T20:00:00+00:00",
    }


def _backtest_job(draw: random.Random) -> Event:
    return {
        "job_type": "backtest",
        "job_id": _job(draw),
        "user_id": f"user-{draw.randrange(1000):03d}",
        "symbols": draw.sample(SYMBOLS, 3),
        "start_date": _day(draw, 2023),
        "end_date": _day(draw, 2024),
        "patterns": draw.sample(PATTERNS, 2),
    }


def _day(draw: random.Random, year: int) -> str:
    return f"{year}-{draw.randint(1, 12):02d}-{draw.randint(1, 28):02d}"


def _universe(draw: random.Random) -> Event:
    return {
        "notification": "universe_updated",
        "universe": draw.choice(("etf_sectors", "etf_growth", "etf_value", "stock_large_cap")),
        "symbols_added": draw.randint(0, 5),
        "symbols_removed": draw.randint(0, 3),
    }


def _cache_sync(draw: random.Random) -> Event:
    return {"notification": "cache_sync_complete", "entries": draw.randint(100, 5000), "changes": draw.randint(0, 200)}


def _correlation(draw: random.Random) -> Event:
    return {
        "notification": "etf_correlation_update",
        "etf": draw.choice(("SPY", "QQQ", "IWM", "DIA")),
        "against": draw.choice(SYMBOLS),
        "correlation": round(draw.uniform(-1, 1), 3),
    }


def _ipo(draw: random.Random) -> Event:
    return {"notification": "ipo_assignment", "ticker": draw.choice(SYMBOLS), "universe": "stock_small_cap"}


def _delisting(draw: random.Random) -> Event:
    return {"notification": "delisting_cleanup", "ticker": draw.choice(SYMBOLS), "entries_removed": draw.randint(1, 9)}


def _notice(_: random.Random) -> Event:
    return {"notification": "general"}


def _tick(draw: random.Random) -> Event:
    last = walk(draw, base=20_000.0, seconds=[0.01] * draw.randint(1, 100))[-1]
    return {
        "symbol": "MNQ",
        "bid": max(TICK, last - TICK),
        "ask": max(TICK, last - TICK) + TICK,
        "last": last,
        "volume": draw.randint(1, 100),
    }


def walk(
    draw: random.Random, *, base: float, seconds: Sequence[float], trend: float = 0.0, volatility: float = 0.02
) -> list[float]:
    """Prices after each gap of `seconds`; trend and volatility are per second, whatever the rate of ticks."""
    price, found = base, []
    for gap in seconds:
        price *= math.exp((trend - volatility * volatility / 2) * gap + draw.gauss(0.0, volatility * math.sqrt(gap)))
        found.append(max(TICK, round(price / TICK) * TICK))
    return found


_SYMBOL_CHANGE = {"symbol": _text, "rank_change": _whole}
_NOTICE = {"notification": _text}


def _types() -> tuple[MarketEvent, ...]:
    state, root = "tickstock.events.market_state", "tickstock"
    table: tuple[tuple[str, str, str, Mapping[str, Callable[[object], bool]], Build], ...] = (
        (
            "pattern_detected",
            "",
            "tickstock.events.patterns",
            {"pattern": _text, "symbol": _text, "confidence": _share},
            _pattern,
        ),
        ("ranking_change", "", state, _SYMBOL_CHANGE, _market_state),
        ("sector_rotation", "", state, _SYMBOL_CHANGE, _market_state),
        ("stage_change", "", state, _SYMBOL_CHANGE, _market_state),
        ("health_check", "", state, {}, _health),
        (
            "backtest_progress",
            "",
            "tickstock.events.backtesting.progress",
            {"job_id": _text, "progress": _share, "status": _text},
            _progress,
        ),
        (
            "backtest_results",
            "",
            "tickstock.events.backtesting.results",
            {"job_id": _text, "results": _results, "completed_at": _text},
            _backtest_results,
        ),
        (
            "backtest_job",
            "",
            "tickstock.jobs.backtest",
            {
                "job_type": _text,
                "job_id": _text,
                "user_id": _text,
                "symbols": _texts,
                "start_date": _text,
                "end_date": _text,
                "patterns": _texts,
            },
            _backtest_job,
        ),
        ("notification", "", f"{root}.universe.updated", _NOTICE, _notice),
        ("universe_updated", "notification", f"{root}.universe.updated", _NOTICE | {"universe": _text}, _universe),
        (
            "cache_sync_complete",
            "notification",
            f"{root}.cache.sync_complete",
            _NOTICE | {"entries": _whole},
            _cache_sync,
        ),
        (
            "etf_correlation_update",
            "notification",
            f"{root}.etf.correlation_update",
            _NOTICE | {"against": _text, "correlation": _number},
            _correlation,
        ),
        ("ipo_assignment", "notification", f"{root}.cache.ipo_assignment", _NOTICE | {"ticker": _text}, _ipo),
        (
            "delisting_cleanup",
            "notification",
            f"{root}.cache.delisting_cleanup",
            _NOTICE | {"ticker": _text},
            _delisting,
        ),
        (
            "tick",
            "",
            f"{root}.market.ticks",
            {"symbol": _text, "bid": _price, "ask": _price, "last": _price, "volume": _volume},
            _tick,
        ),
    )
    return tuple(
        MarketEvent(name=name, event_type=said or name, channel=channel, required=required, build=build)
        for name, said, channel, required, build in table
    )


CATALOGUE: Mapping[str, MarketEvent] = {kind.name: kind for kind in _types()}

REQUIRED_CHANNELS = ("tickstock.universe.updated", "tickstock.cache.sync_complete", "tickstock.etf.correlation_update")


_NOTICES = {kind.channel: kind for kind in CATALOGUE.values() if kind.event_type == "notification" != kind.name}


def build(
    name: str, draw: random.Random, *, timestamp: str, keys: Mapping[str, str] = {}, channel: str | None = None
) -> Event:
    """One event of a type; `keys` are values of the delivery contract.

    A notification says what its channel is about.  Raises KeyError for a type that is not in the catalogue.
    """
    kind = CATALOGUE[name]
    if name == "notification" and channel in _NOTICES:
        kind = _NOTICES[channel]
    event: Event = {"timestamp": timestamp, "event_type": kind.event_type, "source": SOURCE, **kind.build(draw)}
    for key, value in keys.items():
        event[KEY_FIELDS[key]] = value
    return event


def problems(name: str, event: Mapping[str, object]) -> list[str]:
    """What is wrong with an event of a type; empty = nothing.  Fields that are not known are allowed."""
    kind = CATALOGUE.get(name)
    if kind is None:
        return [f"event type {name!r} is not in the catalogue"]
    found = []
    if event.get("event_type") != kind.event_type:
        found.append(f"event_type: is {event.get('event_type')!r}, must be {kind.event_type!r}")
    if not (_text(event.get("timestamp")) or _number(event.get("timestamp"))):
        found.append("timestamp: missing, or neither text nor number")
    for field, holds in kind.required.items():
        if field not in event:
            found.append(f"{field}: missing")
        elif not holds(event[field]):
            found.append(f"{field}: {event[field]!r} is not allowed")
    if name == "tick" and not found and not event["bid"] < event["ask"]:  # type: ignore[operator]  # both are prices
        found.append("bid: must be below ask")
    return found
