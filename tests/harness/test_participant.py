"""To which time does a process date what it says of itself?"""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from locust.env import Environment

from loadtests.capture.clock import clock_identity
from loadtests.harness.participant import Participant
from loadtests.harness.slots import LocalSlots, SlotBook
from loadtests.model.codec import Frame, decode
from loadtests.model.ids import NS_PER_MS
from loadtests.model.profile.reading import read_profile
from loadtests.model.records import HarnessSecond, Header
from loadtests.model.runconfig import RunConfig, sha256_of

PROFILE = """
name = "dated"
question = "When was this reading taken?"

[run]
duration_s = 2

[target]
kind = "external"
redis = "127.0.0.1:1"
gateway = "127.0.0.1:1"

[[families]]
name = "patterns"
channel = "tickstock.events.patterns"
event = "pattern_detected"

[[publishers]]
name = "detector"
families = ["patterns"]
shape = { kind = "constant", rate_per_s = 10 }

[[consumers]]
name = "plain"
count = 2

[[thresholds]]
measure = "lost_defect"
at_most = 0
"""
SLOW_S = 0.3


def participant(frames: list[bytes]) -> Participant:
    config = RunConfig(
        run="run-1", profile_text=PROFILE, profile_sha256=sha256_of(PROFILE), tickstorm="0", origin_ns=0,
        origin_unix_ns=0, clock=clock_identity(), clock_port=0, started_at="", redis="127.0.0.1:1",
        gateway="127.0.0.1:1", postgres="", users={"publisher": 1, "consumer": 2, "reader": 0}, profile_folder=".",
    )  # fmt: skip
    profile = read_profile(PROFILE, file="dated").profile
    slots = LocalSlots(SlotBook({}), "worker-0", lambda: 0)
    return Participant(
        config, profile, process="worker-0", role="standalone", environment=Environment(), slots=slots,
        out=lambda _, data: frames.append(data), tell=lambda _: None, versions={},
    )  # fmt: skip


def headers(frames: list[bytes]) -> list[Header]:
    return [x for f in decode(b"".join(frames)) if isinstance(f, Frame) for x in f.records if isinstance(x, Header)]


def test_a_flush_that_is_overtaken_by_the_end_of_its_run_adds_nothing_behind_it() -> None:
    frames: list[bytes] = []
    part = participant(frames)
    part.start()
    overtaken = gevent.spawn(part.flush)
    gevent.sleep(0)
    part.close()
    overtaken.get(timeout=5)
    assert [h.frames for h in headers(frames)] == [0, len(frames)]


def test_a_reading_is_dated_when_it_was_taken_not_when_its_flush_began(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond saturation a flush takes seconds, since it lets others run: what it saw of them is of these seconds."""
    frames: list[bytes] = []
    part = participant(frames)
    part.start()
    try:
        flush = part.context.receiver.flush

        def slow(now_ns: int, **more: Any) -> None:
            gevent.sleep(SLOW_S)
            flush(now_ns, **more)

        monkeypatch.setattr(part.context.receiver, "flush", slow)
        began_ns = part.clock.now_ns()
        part.flush()
    finally:
        part.close()
    seconds = [
        record
        for frame in decode(b"".join(frames))
        if isinstance(frame, Frame)
        for record in frame.records
        if isinstance(record, HarnessSecond)
    ]
    assert seconds[0].at_ns - began_ns >= SLOW_S * 1000 * NS_PER_MS
    part.close()  # safe to repeat
    assert [h.frames for h in headers(frames)] == [
        0,
        len(frames),
    ]  # it says of itself how long it is, in its last frame
