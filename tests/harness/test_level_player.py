"""Is a level judged live by what was due in its hold, and does the next one wait until its backlog has gone?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from loadtests.harness.levels import DRAIN_S, GAP_S, LevelPlayer, LiveLevel
from loadtests.model import records as r
from loadtests.model.ids import NS_PER_MS, NS_PER_S, SLICE_NS
from loadtests.tally.histogram import bucket_of
from tests.measure.simulate import profile

S = NS_PER_S
LIMITS = [{"measure": "latency_p95_ms", "at_most": 100.0}, {"measure": "lost_defect", "at_most": 0.0}]


def consumed(due_s: float, count: int, ms: float, group: int = 0) -> r.Consumed:
    return r.Consumed(
        group=group, due_slice=int(due_s * S) // SLICE_NS, received_slice=int(due_s * S) // SLICE_NS + 1, clock="read",
        unique=count, repeated=0, bytes=0, latency=([bucket_of(round(ms * NS_PER_MS))], [count]), negative=0,
    )  # fmt: skip


def published(due_s: float, count: int) -> r.Published:
    at = int(due_s * S) // SLICE_NS
    return r.Published(stream=[0], due_slice=[at], sent_slice=[at], first=[0], last=[count - 1], bytes=[0])


def times(due_s: float, missed: int = 0, lag_ms: float = 0.2, sent: int = 2000) -> r.PublishTimes:
    return r.PublishTimes(
        publishers=0, due_slice=int(due_s * S) // SLICE_NS, sent=sent, not_offered=missed,
        own_lag=([bucket_of(round(lag_ms * NS_PER_MS))], [sent]), blocked=([], []), receivers_min=1, receivers_max=1,
        receivers_zero=0,
    )  # fmt: skip


def busy(at_s: float) -> r.HarnessSecond:
    return r.HarnessSecond(
        at_ns=int(at_s * S), cpu_percent=99.0, rss_bytes=0, hub_lag_p99_ns=0, hub_lag_max_ns=0, connected=4,
        publishing=1, messages=0, reads=0, read_delay_p99_ns=-1, saturated=True,
    )  # fmt: skip


def player(level: LiveLevel, **more: Any) -> LevelPlayer:
    made = profile(thresholds=LIMITS, capacity={"search": True}, **more)
    run: Any = SimpleNamespace(
        profile=made, fold=SimpleNamespace(level=level, open_level=lambda _level: None),
        config=SimpleNamespace(consumers=5), faults=None,
    )  # fmt: skip
    return LevelPlayer(run)


@pytest.mark.parametrize(
    ("records", "verdict", "why"),
    [
        ([published(11, 400), consumed(11, 2000, 5), times(11)], "GOOD", ""),
        ([published(11, 400), consumed(11, 2000, 150), times(11)], "BAD", "latency_p95_ms"),
        ([published(11, 400), consumed(11, 2000, 5), consumed(9, 2000, 900), times(11)], "GOOD", ""),
        ([published(11, 400), consumed(11, 1999, 5), times(11)], "BAD", "lost_defect"),
        ([published(11, 400), consumed(11, 2000, 150), times(11, missed=40)], "UNUSABLE", "not offered"),
        ([published(11, 400), consumed(11, 2000, 150), times(11, lag_ms=80)], "UNUSABLE", "own lag"),
        ([published(11, 400), consumed(11, 2000, 150), times(11), busy(12)], "UNUSABLE", "keep up"),
        ([published(11, 400), consumed(11, 2000, 5), times(11), busy(30)], "GOOD", ""),
        ([], "UNUSABLE", "not offered"),
    ],
)  # fmt: skip
def test_the_hold_alone_is_judged(records: list[r.Record], verdict: str, why: str) -> None:
    level = LiveLevel(10 * S, 18 * S)
    for record in records:
        level.add(record, lambda _stream: 5)
    found = player(level)._judged()
    assert (found[0], why in found[1]) == (verdict, True)


def test_a_limit_of_one_group_is_asked_of_that_group() -> None:
    level = LiveLevel(10 * S, 18 * S)
    for record in (published(11, 400), consumed(11, 800, 150, group=1), consumed(11, 1200, 5, group=0), times(11)):
        level.add(record, lambda _stream: 5)
    for group, verdict in (("plain", "GOOD"), ("sock", "BAD")):
        made = player(level)
        made._limits = [one.model_copy(update={"group": group}) for one in made._limits[:1]]
        assert made._judged()[0] == verdict


class Clock:
    """A run whose waiting is virtual, and whose backlog is a function of time."""

    def __init__(self, backlog: Any) -> None:
        self.now, self._backlog = 18 * S, backlog
        level = LiveLevel(10 * S, 18 * S)
        level.add(published(11, 400), lambda _stream: 5)
        self.fold = SimpleNamespace(level=level, unseen=lambda now_ns, since_ns: self._backlog((now_ns - since_ns) / S))
        self.profile = profile(thresholds=LIMITS, capacity={"search": True})
        self.config = SimpleNamespace(consumers=5)
        self.clock = SimpleNamespace(now_ns=lambda: self.now)
        self.faults = None

    def wait_to(self, at_ns: int) -> bool:
        self.now = max(self.now, at_ns)
        return True


LEVEL = r.Level(index=0, kind="search", factor=4.0, from_ns=8 * S, hold_ns=10 * S, to_ns=18 * S)


@pytest.mark.parametrize(
    ("backlog", "drained", "after_s"),
    [
        (lambda _s: 0, True, GAP_S),
        (lambda s: max(0, 900 - 100 * s), True, 9.0),  # gone after nine seconds
        (lambda _s: None, False, DRAIN_S),  # nothing is told any more
        (lambda s: 900 + s, False, DRAIN_S),
    ],
)
def test_the_gap_ends_when_the_backlog_has_gone(backlog: Any, drained: bool, after_s: float) -> None:
    run: Any = Clock(backlog)
    made = LevelPlayer(run)
    made._calm = 0.0
    assert made._drained(LEVEL) is drained
    assert (run.now - LEVEL.to_ns) / S == pytest.approx(after_s, abs=1.1)


def test_what_a_target_always_has_on_its_way_is_no_backlog() -> None:
    run: Any = Clock(lambda _s: 500)
    made = LevelPlayer(run)
    assert made._drained(LEVEL) is True
    assert made._calm == 500
