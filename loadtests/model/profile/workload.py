"""Who sends what to whom?  The tables of a profile that make its workload: families, publishers, consumers, readers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SkipValidation, create_model, model_validator

from loadtests.model.content import TIMESTAMP
from loadtests.model.kinds import ShapeKind, registry
from loadtests.model.profile.base import (
    Channel,
    Name,
    Positive,
    Seconds,
    Table,
    Text,
    needs_of_kind,
    refuse,
    takes,
    twice,
)
from loadtests.model.registry import ADDED, OWN_KEYS, PUBLISH, SINKS, TRANSPORTS, WEBSOCKET

# ruff: noqa: RUF012 - pydantic copies a default for every model


def _shape(name: str, *needs: str) -> ShapeKind:
    return ShapeKind(name=name, by=f"loadtests.plan.pacing:{name.replace('-', '_')}", needs=needs)


REPLAY = _shape("replay", "file")
SHAPES: Mapping[str, ShapeKind] = registry(
    "shapes",
    (
        _shape("constant", "rate_per_s"),
        _shape("ramp", "from_per_s", "to_per_s"),
        _shape("poisson", "rate_per_s"),
        _shape("burst", "base_per_s", "peak_per_s", "length_s", "period_s"),
        _shape("on-off", "rate_per_s", "length_s", "period_s"),
        REPLAY,
    ),
)
"""How a rate may go over time, by name; due times come from the function that a row names."""


Content = Annotated[
    Literal["checked", "unchecked"] | Annotated[list[Text], Field(min_length=1)],
    SkipValidation,  # of a union pydantic says what is wrong with each half; `content_problems` says it once
]


class Family(Table):
    """A route family and its delivery contract. Routes = all combinations of the keys' values, in order."""

    name: Name
    channel: Channel
    event: Text  # type in the event catalogue (model/catalogue.py)
    keys: dict[Literal["pattern", "symbol", "user", "job"], Annotated[list[Text], Field(min_length=1)]] = {}
    symbols: Annotated[int, Field(ge=0, le=100_000)] = 0  # shorthand: that many generated symbols as key "symbol"
    path: list[Name] = ["publisher-redis", "gateway-redis", "client-gateway"]
    mode: Literal["all", "latest", "unmeasured"] = "all"
    latest_within_s: Annotated[float, Field(gt=0, le=600)] = 1.0
    copies: Annotated[int, Field(ge=1, le=16)] = 1  # how often one consumer gets a message
    offline: Literal["lost", "replayed"] = "lost"
    replay_messages: Annotated[int, Field(ge=0, le=10**9)] = 0
    replay_age_s: Seconds = 0.0
    content: Content = "checked"  # the fields that must arrive as they were made: all but the timestamp, none, or these

    @model_validator(mode="after")
    def _parts_agree(self) -> Family:
        problems = [
            f'keys.{key}: found "{value}" twice, allowed each value once'
            for key, values in self.keys.items()
            for value in twice(values)
        ]
        problems += [f'path: found "{link}" twice, allowed each link once' for link in twice(self.path)]
        problems += _content_problems(self.content)
        if self.symbols and "symbol" in self.keys:
            problems.append(f"symbols: found {self.symbols} beside keys.symbol, allowed one of the two")
        if self.mode != "latest" and self.latest_within_s != Family.model_fields["latest_within_s"].default:
            problems.append(
                f'latest_within_s: found {self.latest_within_s} with mode "{self.mode}", allowed with "latest"'
            )
        if self.offline == "lost" and (self.replay_messages or self.replay_age_s):
            key = "replay_messages" if self.replay_messages else "replay_age_s"
            problems.append(f'{key}: found {getattr(self, key)} with offline "lost", allowed with "replayed"')
        if self.offline == "replayed" and not (self.replay_messages and self.replay_age_s):
            key = "replay_age_s" if self.replay_messages else "replay_messages"
            problems.append(f'{key}: found 0, allowed above 0, since offline is "replayed" up to a number and an age')
        refuse(problems)
        return self


def _content_problems(content: object) -> list[str]:
    """What is wrong with the `content` of a family, which pydantic skips."""
    allowed = 'allowed "checked", "unchecked" or a list of fields'
    if isinstance(content, str):
        return [] if content in ("checked", "unchecked") else [f'content: found "{content}", {allowed}']
    if not isinstance(content, list) or not content or not all(isinstance(f, str) and f for f in content):
        return [f"content: found {content!r}, {allowed}"]
    problems = [f'content: found "{field}" twice, allowed each field once' for field in twice(content)]
    if TIMESTAMP in content:
        problems.append(f'content: found "{TIMESTAMP}", allowed fields that are the same in many messages')
    return problems


if TYPE_CHECKING:
    ShapeName = str
    SinkName = str
    TransportName = str
else:
    ShapeName = Literal[tuple(SHAPES)]
    SinkName = Literal[tuple(SINKS)]
    TransportName = Literal[tuple(TRANSPORTS)]


class Shape(Table):
    """How the rate goes over time, messages per second of one publisher."""

    kind: ShapeName
    rate_per_s: Positive | None = None  # constant, poisson, on-off
    from_per_s: Annotated[float, Field(ge=0, le=1e9)] | None = None  # ramp
    to_per_s: Annotated[float, Field(ge=0, le=1e9)] | None = None  # ramp
    base_per_s: Annotated[float, Field(ge=0, le=1e9)] | None = None  # burst
    peak_per_s: Positive | None = None  # burst
    length_s: Positive | None = None  # burst: how long the peak lasts; on-off: how long it is on
    period_s: Positive | None = None  # burst, on-off: from start to start
    file: Text | None = None  # replay: JSON lines or CSV with a column of times
    speed: Positive = 1.0  # replay
    at_most: Annotated[int, Field(ge=1, le=10**12)] | None = None  # stop after so many messages

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Shape:
        needs = set(SHAPES[self.kind].needs)
        given = {k for k in SHAPE_KEYS if getattr(self, k) is not None}
        problems = needs_of_kind(self, self.kind, needs, given, needs)
        if self.length_s is not None and self.period_s is not None and self.length_s > self.period_s:
            problems.append(f"length_s: found {self.length_s}, allowed at most period_s, {self.period_s}")
        if self.base_per_s is not None and self.peak_per_s is not None and self.base_per_s > self.peak_per_s:
            problems.append(f"base_per_s: found {self.base_per_s}, allowed at most peak_per_s, {self.peak_per_s}")
        if self.from_per_s == 0 and self.to_per_s == 0:
            problems.append("to_per_s: found 0, allowed above 0 where from_per_s is 0")
        if "file" not in needs and self.speed != 1.0:
            problems.append(f'speed: found {self.speed} with kind "{self.kind}", allowed with "replay"')
        refuse(problems)
        return self


SHAPE_KEYS = ("rate_per_s", "from_per_s", "to_per_s", "base_per_s", "peak_per_s", "length_s", "period_s", "file")


class Publishers(Table):
    """A group of equal publishers; each is a Locust user with a slot of its own."""

    name: Name
    count: Annotated[int, Field(ge=1, le=10_000)] = 1
    families: Annotated[list[Name], Field(min_length=1)]
    shape: Shape
    payload_bytes: Annotated[int, Field(ge=0, le=1_000_000)] = 0  # pad the payload to about this size; 0 = as it is
    outstanding: Annotated[int, Field(ge=1, le=100_000)] = 1000  # commands without an answer
    sink: SinkName = PUBLISH.name


class Subscribe(Table):
    """Which routes the consumers of a group ask for; empty = all."""

    families: list[Name] = []
    patterns: list[Text] = []
    symbols: list[Text] = []
    symbol_share: Annotated[float, Field(gt=0, le=1)] = 1.0  # each consumer takes this seeded share of the symbols
    health: bool = False


class Reconnect(Table):
    """A consumer's policy after it lost its connection: seeded jitter of +- `jitter` x delay."""

    first_ms: Annotated[float, Field(ge=1, le=600_000)] = 100.0
    factor: Annotated[float, Field(ge=1, le=10)] = 2.0
    max_ms: Annotated[float, Field(ge=1, le=600_000)] = 1000.0
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.2


class Consumers(Table):
    """A group of equal consumers; each is a Locust user with a slot of its own."""

    name: Name
    count: Annotated[int, Field(ge=1, le=100_000)]
    transport: TransportName = WEBSOCKET.name
    subscribe: Subscribe = Subscribe()
    reconnect: Reconnect = Reconnect()
    read_bytes_per_s: Annotated[int, Field(ge=1, le=10**9)] | None = None  # a slow reader; absent = as fast as it comes
    expect_slow: bool = False  # the target may disconnect it; its losses are not the target's defects


Query = Literal["symbols_count", "symbols_first", "events_last", "patterns_distinct"]


class Readers(Table):
    """A group of database readers in the read-only role, open loop."""

    name: Name
    count: Annotated[int, Field(ge=1, le=1000)] = 1
    rate_per_s: Positive = 2.0  # queries per second of each reader, in turn
    queries: Annotated[list[Query], Field(min_length=1)] = [
        "symbols_count",
        "symbols_first",
        "events_last",
        "patterns_distinct",
    ]
    connect_each: bool = False  # a new connection for every query
    timeout_s: Annotated[float, Field(gt=0, le=600)] = 5.0


NO_KIND = r"^no kind is enabled$"
"""What no kind of user matches."""
if TYPE_CHECKING:
    UserKindName = str
else:
    UserKindName = Literal[tuple(ADDED)] if ADDED else Annotated[str, Field(pattern=NO_KIND)]


class Users(Table):
    """A group of equal users of a kind that an extension adds; each is a Locust user with a slot of its own."""

    name: Name
    kind: UserKindName
    count: Annotated[int, Field(ge=1, le=100_000)] = 1

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Users:
        row = ADDED[self.kind]
        given = {key for key in OWN_KEYS if getattr(self, key) is not None}
        needs = {name for name, key in row.keys.items() if key.default is None}
        refuse(needs_of_kind(self, self.kind, needs, given, set(row.keys)))
        return self

    def key(self, name: str) -> Any:
        """The value of a key of its kind, or its default."""
        value = getattr(self, name)
        return ADDED[self.kind].keys[name].default if value is None else value


if not TYPE_CHECKING and OWN_KEYS:
    Users = create_model("Users", __base__=Users, **{name: (takes(key) | None, None) for name, key in OWN_KEYS.items()})
