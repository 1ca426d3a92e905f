"""Is this payload an event of the pipeline, and of which kind?  Pure: bytes in, an Event or a named refusal out."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

PATTERNS = "tickstock.events.patterns"
MARKET_STATE = "tickstock.events.market_state"
PROGRESS = "tickstock.events.backtesting.progress"
RESULTS = "tickstock.events.backtesting.results"
NOTIFICATIONS = (
    "tickstock.universe.updated",
    "tickstock.cache.sync_complete",
    "tickstock.etf.correlation_update",
    "tickstock.cache.ipo_assignment",
    "tickstock.cache.delisting_cleanup",
)
PRODUCER_HEALTH = "tickstock.health.status"
CHANNELS = (PATTERNS, MARKET_STATE, PROGRESS, RESULTS, *NOTIFICATIONS)
MAX_PAYLOAD_BYTES = 1 << 20

BadKind = Literal[
    "not_json", "not_utf8", "missing_key", "wrong_type", "unknown_event_type", "unknown_channel", "oversize"
]
Share = Annotated[float, Meta(ge=0, le=1)]
Time = datetime | float | int | None


class BadEventError(Exception):
    """A payload that is not forwarded; `kind` is what the statistics count."""

    def __init__(self, kind: BadKind, reason: str) -> None:
        super().__init__(reason)
        self.kind: BadKind = kind


class _Payload(Struct, tag_field="event_type", frozen=True, kw_only=True):
    timestamp: Time = None
    source: str = ""


class PatternDetected(_Payload, frozen=True, kw_only=True, tag="pattern_detected"):
    """A pattern was found in a symbol's prices."""

    pattern: str
    symbol: str
    confidence: Share


class _MarketState(_Payload, frozen=True, kw_only=True):
    symbol: str
    rank_change: int = 0


class RankingChange(_MarketState, frozen=True, kw_only=True, tag="ranking_change"):
    """A symbol moved in the ranking."""


class SectorRotation(_MarketState, frozen=True, kw_only=True, tag="sector_rotation"):
    """Money moved between sectors."""


class StageChange(_MarketState, frozen=True, kw_only=True, tag="stage_change"):
    """A symbol entered another stage of its trend."""


class HealthCheck(_Payload, frozen=True, kw_only=True, tag="health_check"):
    """The market-state engine is alive."""


class BacktestProgress(_Payload, frozen=True, kw_only=True, tag="backtest_progress"):
    """How far a backtest has come."""

    job_id: str | int
    progress: Share
    status: str


class BacktestResults(_Payload, frozen=True, kw_only=True, tag="backtest_results"):
    """What a backtest found."""

    job_id: str | int
    results: dict[str, Any]
    completed_at: Time


class Notification(_Payload, frozen=True, kw_only=True, tag="notification"):
    """Something about the universe or a cache changed."""

    symbol: str | None = None


Payload = (
    PatternDetected
    | RankingChange
    | SectorRotation
    | StageChange
    | HealthCheck
    | BacktestProgress
    | BacktestResults
    | Notification
)

_KINDS: dict[str, tuple[type, ...]] = {
    PATTERNS: (PatternDetected,),
    MARKET_STATE: (RankingChange, SectorRotation, StageChange, HealthCheck),
    PROGRESS: (BacktestProgress,),
    RESULTS: (BacktestResults,),
    **dict.fromkeys(NOTIFICATIONS, (Notification,)),
}
# One decoder of all kinds for every channel: msgspec takes a lone kind's event_type for granted where it is absent.
_decode = msgspec.json.Decoder(Payload).decode


def decode(channel: str, payload: bytes) -> Payload:
    """The typed payload of a message on a channel. Raises BadEventError, and nothing else, for what is not one."""
    kinds = _KINDS.get(channel)
    if kinds is None:
        raise BadEventError("unknown_channel", f"nothing is expected on {channel}")
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise BadEventError("oversize", f"{len(payload)} bytes")
    try:
        payload.decode()
        typed: Payload = _decode(payload)
    except UnicodeDecodeError as error:
        raise BadEventError("not_utf8", str(error)) from None
    except msgspec.ValidationError as error:
        reason = str(error)
        raise BadEventError(_kind_of(reason), reason) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadEventError("not_json", str(error)) from None
    if type(typed) not in kinds:
        raise BadEventError("unknown_event_type", f"{type(typed).__name__} does not belong on {channel}")
    return typed


def _kind_of(reason: str) -> BadKind:
    if reason.startswith("Object missing required field"):
        return "missing_key"
    if reason.startswith("Invalid value") and reason.endswith("`$.event_type`"):
        return "unknown_event_type"
    return "wrong_type"


class Event:
    """A valid message, with what decides who gets it and its one encoding per transport.

    The encodings are made at the first use and then shared: every client gets the same bytes object.
    """

    __slots__ = ("channel", "event_type", "packet", "pattern", "payload", "plain", "socketio", "symbol")

    def __init__(self, channel: str, typed: Payload, payload: bytes) -> None:
        self.channel = channel
        self.event_type: str = typed.__struct_config__.tag  # type: ignore[assignment]
        self.pattern: str | None = getattr(typed, "pattern", None)
        self.symbol: str | None = getattr(typed, "symbol", None)
        self.payload = payload
        self.plain: bytes | None = None
        self.socketio: bytes | None = None
        self.packet: Any = None


def parse(channel: str, payload: bytes) -> Event:
    """The event in a message. The payload is passed on as it came, but for white space between its tokens.

    Raises BadEventError.
    """
    typed = decode(channel, payload)
    if b" " in payload or b"\n" in payload or b"\t" in payload or b"\r" in payload:
        payload = msgspec.json.format(payload, indent=-1)
    return Event(channel, typed, payload)
