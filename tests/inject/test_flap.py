"""Is a flapping link cut and mended period by period, seen as such, and left open whoever ends it?"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from beside import beside

from loadtests.inject.kinds.flap import FlapLook, Phase, judge
from loadtests.inject.startup_sweep import heal
from loadtests.inject.toxics import ToxiproxyServer
from loadtests.model.injectwire import Schedule

from .conftest import Run, TestLink, eventually, planned

pytestmark = [pytest.mark.e2e, pytest.mark.group("USERS")]
MS = 1_000_000
SOON_NS = 900 * MS


@beside
def test_every_cut_and_mend_is_seen(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    idle = link.connect()
    fault = planned(link, "flap", at_ns=run.now_ns() + SOON_NS, for_s=2, period_s=0.5, down_share=0.4)
    run.handle.send(Schedule(faults=[fault]))
    run.await_step("fault", "lifted")
    assert run.ear.names("fault") == ["announced", "active", "proved", "lifted"], run.ear.told("fault")
    effective = run.ear.step("fault", "proved").effective
    assert effective["cuts"] == 4
    assert effective["cuts_seen"] >= 2
    assert effective["mends_seen"] >= 1
    assert 0.4 < effective["period_s"] < 0.6
    assert 0.2 < effective["down_share"] < 0.6
    assert effective["connections_hit"] == effective["connections_closed"] == 1
    assert idle.recv(1) == b""
    idle.close()
    assert link.is_clean


@beside
def test_ended_while_it_is_cut_it_is_mended(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    fault = planned(link, "flap", at_ns=run.now_ns() + SOON_NS, for_s=600, period_s=300, down_share=0.9)
    run.handle.send(Schedule(faults=[fault]))
    run.await_step("fault", "active")
    assert not link.is_clean
    assert run.handle.heal_all("finish", 10).left == []
    assert link.is_clean


@beside
def test_another_process_mends_what_a_killed_one_left_cut(
    start: Callable[..., Run], link: TestLink, toxiproxy: str
) -> None:
    run = start(link)
    fault = planned(link, "flap", at_ns=run.now_ns() + SOON_NS, for_s=600, period_s=300, down_share=0.9)
    run.handle.send(Schedule(faults=[fault]))
    run.await_step("fault", "active")
    assert run.handle.pid is not None
    run.handle._starts = 99  # it is not started again: the journal alone must do
    os.kill(run.handle.pid, signal.SIGKILL)
    eventually(lambda: not run.handle.alive)
    heal(toxiproxy, [Path(run.begin.journal)])
    assert link.is_clean


@beside
def test_a_link_that_is_opened_by_somebody_else_is_not_proved(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    fault = planned(link, "flap", at_ns=run.now_ns() + SOON_NS, for_s=2, period_s=0.5)
    run.handle.send(Schedule(faults=[fault]))
    run.await_step("fault", "active")
    server, pause = ToxiproxyServer(run.begin.toxiproxy), threading.Event()
    while run.ear.step("fault", "proved", "not proved") is None:
        server.set_enabled(link.proxy, True)
        pause.wait(0.01)
    assert run.ear.step("fault", "not proved")
    run.await_step("fault", "lifted")
    assert link.is_clean


@beside
@pytest.mark.parametrize("asked", [{"period_s": 0.1}, {"period_s": 1, "down_share": 1}, {}])
def test_what_cannot_be_done_is_not_begun(start, link: TestLink, asked: dict[str, float]) -> None:
    run = start(link)
    run.handle.send(Schedule(faults=[planned(link, "flap", at_ns=run.now_ns() + SOON_NS, **asked)]))
    run.await_step("fault", "failed")
    assert run.ear.names("fault") == ["failed"]


def phase(number: int, trouble: str = "") -> Phase:
    return Phase(down=number % 2 == 0, before_ns=number * 100, since_ns=number * 100 + 10, trouble=trouble)


@beside
def test_the_looks_alone_tell_a_link_that_does_not_flap() -> None:
    phases = [phase(number) for number in range(4)]
    right = [
        FlapLook(from_ns=n * 100 + 20, to_ns=n * 100 + 30, seen="answer" if n % 2 else "refused") for n in range(4)
    ]
    assert judge(phases, right, until_ns=400).proved
    assert not judge(phases, [], until_ns=400).proved
    assert not judge(phases, [look for look in right if look.seen == "refused"], until_ns=400).proved
    assert not judge(phases, [look for look in right if look.seen == "answer"], until_ns=400).proved
    always = [FlapLook(from_ns=look.from_ns, to_ns=look.to_ns, seen="answer") for look in right]
    assert not judge(phases, always, until_ns=400).proved
    assert not judge([*phases[:3], phase(3, "it does not listen")], right, until_ns=400).proved
