"""Is a long run judged as it would be row by row?  Worlds with whatever may tell moments apart, folded both ways."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtests.measure.calm import Blocks, analysed
from loadtests.measure.history_tables import fold
from loadtests.measure.judge import concluded
from loadtests.measure.stages import analyse
from loadtests.model import records as r
from loadtests.model.codec import Frame, Reader, decode_file, pack, thin
from loadtests.model.ids import SLICE_NS
from loadtests.model.results import to_json
from tests.measure.simulate import MS, T0, FaultIn, Message, S, Stay, World, profile

BLOCK = 10
RUN = {"duration_s": 75.0, "warm_up_s": 1.0, "drain_s": 2.0, "late_s": 0.5, "settle_ms": 100}
EVENTS = (
    "fault", "gap", "tail", "silence", "late", "failed", "repeated", "away", "moved users", "trouble", "saturated",
    "blocked", "two processes", "stamped", "replayed", "unasked",
)  # fmt: skip
several = st.lists(st.sampled_from(EVENTS), unique=True, max_size=5)


def world_of(seed: int, events: list[str]) -> World:
    """75 s in which these happen, each at a time of its own."""
    changes: dict[str, Any] = {"run": RUN}
    if "replayed" in events:
        families = [dict(f.model_dump(exclude_unset=True)) for f in profile().families]
        families[0] |= {"offline": "replayed", "replay_messages": 40, "replay_age_s": 3.0}
        changes["families"] = families
    world = World(profile(**changes), seed=seed, processes=2 if "two processes" in events else 1)
    drawn = random.Random(seed)
    at = {event: T0 + round(drawn.uniform(3, 70) * S) for event in EVENTS}
    world.publish()
    world.subscribe()
    if "failed" in events:
        for m in world.messages:
            if at["failed"] <= m.sent < at["failed"] + S // 3:
                m.outcome = "FAILED" if m.seq % 2 else "UNKNOWN"
    if "blocked" in events:
        world.not_offered = 3
        for m in world.messages:
            if at["blocked"] <= m.sent < at["blocked"] + S:
                m.sent += S + S // 3
        world.messages.sort(key=lambda m: (m.sent, m.slot))
    if "away" in events:
        whole = world.stays[0]
        back = at["away"] + 2 * S
        world.stays[0] = Stay(consumer=0, epoch=0, start=whole.start, end=at["away"], why="peer closed")
        world.stays.append(Stay(consumer=0, epoch=1, start=back, end=whole.end))
    if "fault" in events:
        world.faults.append(
            FaultIn(name="cut", kind="down", link="client-gateway", start=at["fault"], end=at["fault"] + 2 * S)
        )

    def lose(m: Message, stay: Stay) -> bool:
        gone = "gap" in events and stay.consumer == 1 and at["gap"] <= m.sent < at["gap"] + S // 4
        gone |= "tail" in events and stay.consumer == 2 and m.route == 0 and m.sent >= at["tail"]
        gone |= "silence" in events and stay.consumer == 3 and at["silence"] <= m.sent < at["silence"] + 7 * S
        return gone or ("fault" in events and at["fault"] <= m.sent < at["fault"] + 2 * S)

    def delay(m: Message, stay: Stay) -> int:
        slow = "late" in events and stay.consumer == 1 and at["late"] <= m.sent < at["late"] + S // 2
        return 4 * S if slow else 0

    world.deliver(lose, delay)
    if "repeated" in events:
        stay = world.stays[1]
        stay.got += [(t + 50 * MS, m) for t, m in stay.got if at["repeated"] <= t < at["repeated"] + S // 2]
        stay.got.sort(key=lambda got: got[0])
    if "unasked" in events and "away" in events:  # old messages come to a new connection
        old = [m for _, m in world.stays[0].got[-40:-30]]
        new = world.stays[-1]
        new.got = sorted([*((new.start + MS + n, m) for n, m in enumerate(old)), *new.got], key=lambda got: got[0])
    if "moved users" in events:
        world.extra += [
            r.WantedUsers(at_ns=T0 - S, wanted={"plain": 3, "sock": 2}),
            r.WantedUsers(at_ns=at["moved users"], wanted={"plain": 2, "sock": 2}),
        ]
    if "trouble" in events:
        world.extra.append(
            r.Trouble(process="main", from_ns=at["trouble"], to_ns=at["trouble"] + S, what="the machine slept")
        )
    if "saturated" in events:
        world.extra.append(
            r.HarnessSecond(
                at_ns=at["saturated"], cpu_percent=99.0, rss_bytes=1, hub_lag_p99_ns=MS, hub_lag_max_ns=MS, connected=1,
                publishing=1, messages=1, reads=1, read_delay_p99_ns=900 * MS, saturated=True,
            )
        )  # fmt: skip
    if "stamped" in events:
        world.stamped = lambda m, _: m.seq % 5 == 0
    return world


def as_stored(part: tuple[str, Frame]) -> tuple[str, Frame]:
    """As a file has it: with columns that are bytes."""
    name, frame = part
    (found,) = decode_file(b"".join(pack(frame.number, map(thin, frame.records))), Reader(whole=False))
    assert isinstance(found, Frame)
    return name, found


def both(world: World) -> tuple[bytes, bytes, int, int]:
    """Results row by row and folded, and the published rows of both."""
    history: list[tuple[str, Frame]] = sorted(world.history(chunk=300), key=lambda part: part[0])
    plain = analyse(world.profile, fold(history))
    found = analysed(world.profile, lambda: map(as_stored, history), long_s=0, block=BLOCK)
    return to_json(concluded(plain)), to_json(concluded(found)), len(plain.table.start), len(found.table.start)


@pytest.mark.parametrize("event", ["none", *EVENTS])
def test_each_event_is_judged_as_row_by_row(event: str) -> None:
    plain, found, rows, fewer = both(world_of(1, [event] + ["away"] * (event == "unasked")))
    assert found == plain
    assert fewer < rows


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10_000), several)
def test_whatever_happens_together_is_judged_as_row_by_row(seed: int, events: list[str]) -> None:
    plain, found, rows, fewer = both(world_of(seed, events))
    assert found == plain
    assert fewer <= rows


def test_a_calm_run_is_folded_to_a_few_rows() -> None:
    _, _, rows, fewer = both(world_of(3, []))
    assert fewer < rows / 4


def test_blocks_become_fine_where_they_are_touched_and_say_whether_any_was_not() -> None:
    blocks = Blocks(low=50, size=10, fine=np.zeros(6, dtype=np.bool_))
    assert blocks.refine([(60 * SLICE_NS, 69 * SLICE_NS), (0, 55 * SLICE_NS)])
    assert blocks.fine.tolist() == [True, True, False, False, False, False]
    assert not blocks.refine([(51 * SLICE_NS, 52 * SLICE_NS)])
    assert blocks.coarse(np.array([49, 55, 70, 109, 110])).tolist() == [False, False, True, True, False]
    assert blocks.mark(np.array([75, 200]))
    assert blocks.fine.tolist() == [True, True, True, False, False, False]
