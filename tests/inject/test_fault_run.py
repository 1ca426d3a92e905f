"""Is a fault that ended early, was ended before it began, or lost its server told as what it was?  Needs no server."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import NoAnswer, NotThere
from loadtests.inject.fault_run import FaultRun, Surroundings
from loadtests.inject.in_force import Exclusions
from loadtests.inject.journal import Entry, Journal
from loadtests.inject.kinds.kind import Escalation, Kind, Looks, Site
from loadtests.inject.proofs import Effective, Proof
from loadtests.model.injectwire import PlannedFault
from loadtests.model.records import FaultStep, Note

from .conftest import NS_PER_S, eventually

pytestmark = pytest.mark.group("LIFE")

REDIS = frozenset({"service redis"})


class Told:
    """Keeps what a life tells, and answers each announcement at once."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.life: FaultRun | None = None

    def record(self, record: Any) -> None:
        self.records.append(record)

    def announce(self, _: str) -> None:
        assert self.life is not None
        self.life.go()

    @property
    def steps(self) -> list[FaultStep]:
        return [record for record in self.records if isinstance(record, FaultStep)]

    def names(self) -> list[str]:
        return [step.step for step in self.steps]


class Server:
    """Holds one switch, which is the fault; what it answers is up to the test."""

    def __init__(self) -> None:
        self.on = False
        self.error: Exception | None = None
        self.undo_error: Exception | None = None
        self.looks = 0
        self.slow = threading.Event()
        self.slow.set()
        self.restarts = 0

    def not_in_force(self, *_: Any) -> list[str]:
        self.looks += 1
        error, on = self.error, self.on
        self.slow.wait(20)
        if error is not None:
            raise error
        return [] if on else ["the switch is off"]

    def apply(self, *_: Any) -> None:
        self.on = True

    def undo(self, *_: Any) -> None:
        if self.undo_error is not None:
            raise self.undo_error
        self.on = False

    def restart(self) -> None:
        self.restarts += 1
        self.on, self.undo_error = False, None

    def kind(self, looks: Looks = "each second") -> Kind:
        restart = Escalation(
            name="restarted redis", also_ends="all", act=self.restart, needs_answer=False, restarts="redis"
        )
        return Kind(
            name="switch",
            problems=lambda _: [],
            holds=lambda _: frozenset({"switch"}),
            undo_of=lambda _site, _fault: {},
            apply=self.apply,
            not_in_force=self.not_in_force,
            witness=lambda _site, _fault: Sees(self),
            undo=self.undo,
            remaining=lambda _site, _undo: ["the switch is on"] if self.on else [],
            escalations=lambda _site, _undo: [restart],
            looks=looks,
        )


class Sees:
    """A witness that believes what it sees at the start."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def before(self, watch: Watch) -> None:
        pass

    def last_look(self) -> None:
        pass

    def during(self, watch: Watch) -> Proof:
        return Proof(proved=self.server.on, effective={"on": int(self.server.on)})

    def after(self, watch: Watch) -> Effective:
        return {"clean": 1}

    def close(self) -> None:
        pass


class Played:
    """One life, begun."""

    def __init__(self, kind: Kind, folder: Path, *, for_s: float, journal: Journal | None = None) -> None:
        self.told, self.held = Told(), Exclusions()
        self.journal = journal or Journal(folder / "journal")
        now_ns = time.monotonic_ns()
        at_ns = NS_PER_S
        until_ns = at_ns + round(for_s * NS_PER_S)
        fault = PlannedFault(
            name="f", kind="switch", link="redis", direction="both", at_ns=at_ns, until_ns=until_ns, asked={}
        )
        around = Surroundings(
            origin_ns=now_ns, emitter=self.told, journal=self.journal, held=self.held, toxiproxy="127.0.0.1:9"
        )
        self.life = self.told.life = FaultRun(fault, kind, Site(link=None), around)

    def begin(self) -> Played:
        self.life.start()
        return self

    def await_step(self, step: str) -> None:
        eventually(lambda: step in self.told.names())

    def end(self) -> list[str]:
        self.life.end("by hand")
        eventually(lambda: self.life.join(0))
        return self.told.names()


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_fault_that_stands_is_looked_at_and_stays_proved(server: Server, tmp_path: Path) -> None:
    played = Played(server.kind(), tmp_path, for_s=60).begin()
    eventually(lambda: server.looks >= 3)
    assert played.end() == ["announced", "active", "proved", "lifted"]


def test_a_fault_that_ended_by_itself_is_not_proved_any_more(server: Server, tmp_path: Path) -> None:
    played = Played(server.kind(), tmp_path, for_s=60).begin()
    played.await_step("proved")
    eventually(lambda: server.looks >= 2)
    server.on = False
    played.await_step("not proved")
    assert played.end() == ["announced", "active", "proved", "not proved", "lifted"]
    active, lost = played.told.steps[1], played.told.steps[3]
    assert "not in force any more" in lost.detail
    assert "the switch is off" in lost.detail
    assert active.before_ns < lost.before_ns < lost.after_ns
    assert lost.effective["last_seen_in_force_ms"] == lost.before_ns // 1_000_000


@pytest.mark.parametrize("looks", ["each second", "at its end"])
def test_the_last_look_sees_what_ended_since_the_one_before(server: Server, tmp_path: Path, looks: Looks) -> None:
    played = Played(server.kind(looks), tmp_path, for_s=60).begin()
    played.await_step("proved")
    server.on = False
    assert played.end() == ["announced", "active", "proved", "not proved", "lifted"]


def test_a_kind_that_is_never_looked_at_is_not_doubted(server: Server, tmp_path: Path) -> None:
    played = Played(server.kind("never"), tmp_path, for_s=60).begin()
    played.await_step("proved")
    server.on = False
    assert played.end() == ["announced", "active", "proved", "lifted"]
    assert server.looks == 1


def test_a_look_that_fails_says_nothing(server: Server, tmp_path: Path) -> None:
    played = Played(server.kind(), tmp_path, for_s=60).begin()
    played.await_step("proved")
    server.error = NotThere("nobody listens")
    eventually(lambda: server.looks >= 3)
    assert played.end() == ["announced", "active", "proved", "lifted"]


def test_nobody_there_ends_it_where_another_fault_killed_the_service(server: Server, tmp_path: Path) -> None:
    played = Played(server.kind(), tmp_path, for_s=60).begin()
    played.await_step("proved")
    assert not played.held.take(REDIS)
    server.error = NotThere("nobody listens")
    played.await_step("not proved")
    assert "redis is under another fault" in played.told.steps[-1].detail
    played.end()


def test_silence_under_another_fault_ends_nothing(server: Server, tmp_path: Path) -> None:
    played = Played(server.kind(), tmp_path, for_s=60).begin()
    played.await_step("proved")
    assert not played.held.take(REDIS)
    server.error = NoAnswer("it may be paused")
    eventually(lambda: server.looks >= 3)
    assert played.end() == ["announced", "active", "proved", "lifted"]


def test_a_look_that_hangs_does_not_keep_the_fault(server: Server, tmp_path: Path) -> None:
    played = Played(server.kind(), tmp_path, for_s=60).begin()
    played.await_step("proved")
    server.slow.clear()
    looks = server.looks
    eventually(lambda: server.looks > looks)
    assert played.end() == ["announced", "active", "proved", "lifted"]
    server.slow.set()  # its answer, "off", came only after the lifting: it says nothing
    assert played.told.names() == ["announced", "active", "proved", "lifted"]


def test_a_service_under_another_fault_is_not_restarted_to_lift_this_one(server: Server, tmp_path: Path) -> None:
    played = Played(server.kind("never"), tmp_path, for_s=60).begin()
    played.await_step("proved")
    assert not played.held.take(REDIS)
    server.undo_error = NotThere("nobody listens")
    played.life.end("by hand")
    eventually(lambda: any(isinstance(record, Note) for record in played.told.records))
    assert not played.life.join(0.2)
    assert (server.restarts, server.on) == (0, True)
    server.undo_error = None  # the other fault is over
    played.held.release(REDIS)
    eventually(lambda: played.life.join(0))
    assert (server.restarts, server.on) == (0, False)
    assert played.told.names()[-1] == "lifted"
    assert played.journal.pending() == []


def test_what_still_is_not_lifted_then_is_restarted(server: Server, tmp_path: Path) -> None:
    played = Played(server.kind("never"), tmp_path, for_s=60).begin()
    played.await_step("proved")
    assert not played.held.take(REDIS)
    server.undo_error = NotThere("nobody listens")
    played.life.end("by hand")
    eventually(lambda: any(isinstance(record, Note) for record in played.told.records))
    played.held.release(REDIS)
    eventually(lambda: played.life.join(0))
    assert server.restarts == 1
    assert played.told.steps[-1].by == "escalation: restarted redis"


class EndedMeanwhile(Journal):
    """Somebody ends the fault just when its entry has been written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.then: Callable[[], None] = lambda: None

    def open(self, entry: Entry) -> None:
        super().open(entry)
        self.then()


def test_an_end_between_the_journal_and_the_announcement_is_told(server: Server, tmp_path: Path) -> None:
    journal = EndedMeanwhile(tmp_path / "journal")
    played = Played(server.kind(), tmp_path, for_s=60, journal=journal)
    journal.then = lambda: played.life.end("by hand")
    played.begin()
    eventually(lambda: played.life.join(0))
    (step,) = played.told.steps
    assert (step.step, step.by, step.detail) == ("failed", "by hand", "it was ended before it began")
    assert journal.pending() == []
    assert not server.on


def test_a_fault_that_was_never_in_force_is_told_so_once(server: Server, tmp_path: Path) -> None:
    kind = replace(server.kind(), apply=lambda *_: None)
    played = Played(kind, tmp_path, for_s=60).begin()
    played.await_step("not proved")
    assert played.end() == ["announced", "not in force", "not proved", "lifted"]
