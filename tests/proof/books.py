"""How does a test write a book?  One method per line of it, as lying_gateway/README.md has them."""

from __future__ import annotations

import json
from typing import Any

from loadtests.model.contract import Contract
from loadtests.model.ids import pack_stream
from loadtests.model.profile.reading import read_profile
from proof.ground_truth_log import GroundTruthLog, read_book
from proof.truth import Truth

ORIGIN = 5_000_000_000_000
MS = 1_000_000
RUN = "20260101-000000-hand-0001"

PROFILE = """
name = "hand"
question = "Is a book that was written by hand read as it is meant?"
[target]
kind = "external"
test_system = true
redis = "127.0.0.1:1"
gateway = "127.0.0.1:1"
gateway_http = "127.0.0.1:1"
[run]
duration_s = 10
warm_up_s = 0
drain_s = 2
late_s = 2
settle_ms = 100
[[families]]
name = "patterns"
channel = "tickstock.events.patterns"
event = "pattern_detected"
keys = { pattern = ["Doji", "Hammer"], symbol = ["A"] }
[[families]]
name = "prices"
channel = "tickstock.etf.correlation_update"
event = "notification"
keys = { symbol = ["A"] }
mode = "latest"
latest_within_s = 2
[[families]]
name = "jobs"
channel = "tickstock.events.backtesting.progress"
event = "backtest_progress"
keys = { job = ["a"] }
offline = "replayed"
replay_messages = 10
replay_age_s = 60
[[publishers]]
name = "all"
families = ["patterns", "prices", "jobs"]
shape = { kind = "constant", rate_per_s = 10 }
[[consumers]]
name = "everything"
count = 2
[[consumers]]
name = "dojis"
count = 1
transport = "socketio"
subscribe = { families = ["patterns"], patterns = ["Doji"] }
[[thresholds]]
measure = "lost_total"
at_most = 0
"""
DOJI, HAMMER, PRICE, JOB = (pack_stream(0, 0, route) for route in range(4))
CONTRACT = Contract(read_profile(PROFILE, file="hand").profile)


class Written:
    """A book that grows line by line; times are milliseconds of the run clock."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.n = 0
        self.deliveries = 0
        self._seqs: dict[int, int] = {}

    def add(self, book: str, **values: Any) -> None:
        """Any line."""
        self.lines.append(json.dumps({"book": book, **values}))

    def event(self, stream: int, at_ms: float, *, run: str | None = RUN, got_ms: float | None = None) -> int:
        """The next message of a stream, sent when it was due; its number."""
        route = CONTRACT.routes[stream & 0xFFFFF]
        seq = self._seqs.get(stream, 0)
        self._seqs[stream] = seq + 1
        at = round(at_ms * MS)
        self.add(
            "event", n=self.n, channel=route.channel, run=run, stream=stream, seq=seq, due=at, sent=at,
            got_ns=ORIGIN + (at if got_ms is None else round(got_ms * MS)),
            **{key: value for key, value in route.keys if key in ("pattern", "symbol")},
        )  # fmt: skip
        self.n += 1
        return self.n - 1

    def join(self, consumer: int, epoch: int = 0, at_ms: float = 0) -> int:
        """A consumer opens a connection and subscribes; the connection's number."""
        number = consumer * 100 + epoch
        plan = CONTRACT.consumer(consumer)
        at = ORIGIN + round(at_ms * MS)
        self.add("open", connection=number, run=RUN, consumer=consumer, epoch=epoch, transport="websocket", at_ns=at)
        self.add(
            "subscribed", connection=number, consumer=consumer, epoch=epoch, **{"from": self.n}, at_ns=at,
            channels=list(plan.channels), patterns=list(plan.patterns), symbols=list(plan.symbols),
        )  # fmt: skip
        return number

    def lie(self, connection: int, kind: str, n: int | None, stream: int | None, seq: int | None, **more: Any) -> None:
        """A planted lie."""
        self.add(
            "lie", kind=kind, rule=0, connection=connection, consumer=connection // 100, epoch=connection % 100, n=n,
            stream=stream, seq=seq, at_ns=ORIGIN, **more,
        )  # fmt: skip

    def leave(self, connection: int, at_ms: float, why: str = "client closed", unsent: tuple[int, ...] = ()) -> None:
        """The connection ends."""
        self.add("unsubscribed", connection=connection, to=self.n, why="asked", at_ns=ORIGIN + round(at_ms * MS))
        self.add(
            "closed", connection=connection, why=why, code=1000, unsent=list(unsent), at_ns=ORIGIN + round(at_ms * MS)
        )

    def book(self) -> GroundTruthLog:
        """As it is read."""
        return read_book([*self.lines, json.dumps({"book": "end", "deliveries": self.deliveries, "at_ns": ORIGIN})])

    def truth(self) -> Truth:
        """Of its one run."""
        return Truth(self.book(), CONTRACT, RUN)
