"""Is a fault read back and proved as it is, though the server knows only a moment later?  Needs no server."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import NoAnswer
from loadtests.inject.kinds import KINDS, memory_limit
from loadtests.inject.kinds.connection_exhaustion import ENDING
from loadtests.inject.kinds.kind import Site
from loadtests.inject.kinds.memory_limit import MIB
from loadtests.inject.kinds.on_postgres import session_name, settled
from loadtests.inject.kinds.output_buffer import OutputBufferWitness
from loadtests.inject.kinds.slow_queries import Busy
from loadtests.inject.servers import FULL, NAME, Session, SqlRefused

from .on_servers import fault_on

LATE_S = 0.15


class Postgres:
    """So many connections; the backend of a session that was closed keeps its own for a moment, as real ones do."""

    def __init__(self, *, takes: int, late_s: float = LATE_S) -> None:
        self.takes, self.late_s = takes, late_s
        self.names: dict[int, str] = {}
        self.ended_s: dict[int, float] = {}
        self.opened = 0

    def there(self) -> list[str]:
        now_s = time.monotonic()
        gone = [n for n, ended_s in self.ended_s.items() if now_s - ended_s >= self.late_s]
        for number in gone:
            del self.ended_s[number], self.names[number]
        return list(self.names.values())

    def session(self, name: str = NAME, **_: Any) -> Connected:
        if len(self.there()) >= self.takes:
            raise SqlRefused("too many clients", FULL)
        self.opened += 1
        self.names[self.opened] = name
        return Connected(self, self.opened)

    def backends(self, name: str) -> list[str]:
        return [each for each in self.there() if each == name]


class Connected(Session):
    def __init__(self, server: Postgres, number: int) -> None:
        self._server, self._number = server, number

    def ask(self, _: Any, values: Any = ()) -> list[tuple[int]]:
        return [(len(self._server.backends(*values)),)]

    def close(self) -> None:
        self._server.ended_s.setdefault(self._number, time.monotonic())


def exhausted(server: Postgres, leave: int) -> tuple[Site, Any, list[str]]:
    site, fault, kind = (
        Site(link=None, postgres=server),
        fault_on("postgres", "connection-exhaustion", leave=leave),
        KINDS,
    )
    kind["connection-exhaustion"].apply(site, fault)
    return site, fault, kind["connection-exhaustion"].not_in_force(site, fault)


@pytest.mark.parametrize("leave", [0, 4])
def test_connections_that_were_given_back_are_awaited_before_the_read_back(leave: int) -> None:
    site, _, missing = exhausted(Postgres(takes=20), leave)
    assert missing == []
    assert len(site.held) == 20 - leave


def test_a_session_of_ours_that_is_still_ending_does_not_make_it_full() -> None:
    server = Postgres(takes=20)
    server.session().close()  # as who asked for something just before leaves it
    site, _, missing = exhausted(server, 0)
    assert (missing, len(site.held)) == ([], 20)


def test_what_a_look_itself_takes_is_no_exhaustion() -> None:
    server = Postgres(takes=20)
    site, fault, _ = exhausted(server, 4)
    witness = KINDS["connection-exhaustion"].witness(site, fault)
    for _ in range(2):
        site.held.pop().close()  # six are free, five were to be too many
    assert settled(server, session_name(fault), 14, Watch.of_s(1)) == 14
    proof = witness.during(Watch.of_s(0.5))
    assert not proof.proved, proof
    assert proof.reason in (ENDING, "5 new connections were accepted")


def test_exhaustion_is_proved_as_soon_as_nothing_of_ours_is_ending() -> None:
    server = Postgres(takes=20)
    site, fault, _ = exhausted(server, 4)
    server.session().close()
    proof = KINDS["connection-exhaustion"].witness(site, fault).during(Watch.of_s(2))
    assert (proof.proved, proof.effective["free"]) == (True, 4), proof


@pytest.mark.parametrize("kind", ["backend-kill", "client-kill"])
def test_one_look_that_is_not_answered_is_not_the_end_of_a_proof(kind: str) -> None:
    answers: list[Any] = [NoAnswer("busy"), []]

    class Deaf:
        def ask(self, *_: Any) -> Any:
            found = answers.pop(0) if len(answers) > 1 else answers[0]
            if isinstance(found, Exception):
                raise found
            return found

        def clients(self) -> Any:
            return dict(self.ask())

        def close(self) -> None:
            pass

    server = "postgres" if kind == "backend-kill" else "redis"
    site = Site(link=None, **{server: Deaf()}, ended={(7, "")})
    assert KINDS[kind].witness(site, fault_on(server, kind)).during(Watch.of_s(1)).proved


def test_sessions_that_begin_to_compute_late_are_awaited() -> None:
    counts = [0, 1, 2]

    class Server:
        def ask(self, *_: Any) -> list[tuple[int]]:
            return [(counts.pop(0) if len(counts) > 1 else counts[0],)]

    site = Site(link=None, postgres=Server())
    witness = KINDS["slow-queries"].witness(site, fault_on("postgres", "slow-queries", connections=2))
    assert witness._active(Watch.of_s(2)) == 2
    counts[:] = [1]
    assert witness._active(Watch.of_s(0.2)) == 1


def test_a_cancel_that_overtakes_its_query_is_repeated() -> None:
    class Slow:
        """Hears no cancel before its second."""

        def __init__(self) -> None:
            self.cancels, self.heard, self.closed = 0, threading.Event(), False

        def ask(self, *_: Any) -> list[Any]:
            assert self.heard.wait(10)
            return []

        def cancel(self) -> None:
            self.cancels += 1
            if self.cancels > 1:
                self.heard.set()

        def close(self) -> None:
            self.closed = True

    session = Slow()
    Busy(session).close()
    assert session.closed


def test_a_process_that_is_forked_while_it_is_limited_is_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Process:
        def __init__(self, pid: int) -> None:
            self.pid, self.soft = pid, -1

        def rlimit(self, _: int, limits: tuple[int, int]) -> None:
            self.soft = limits[0]

    family = [Process(1)]

    def forks_after_it_was_told(site: Site, fault: Any) -> list[Process]:
        found = list(family)
        if len(family) == 1:
            family.append(Process(2))
        return found

    by_pid = lambda pid: (next(p.soft for p in family if p.pid == pid), -1)
    monkeypatch.setattr(memory_limit, "family_of", forks_after_it_was_told)
    monkeypatch.setattr(memory_limit, "told", by_pid)
    fault = fault_on("postgres", "memory-limit", memory_mb=200)
    KINDS["memory-limit"].apply(Site(link=None), fault)
    assert [process.soft for process in family] == [200 * MIB, 200 * MIB]
    assert KINDS["memory-limit"].not_in_force(Site(link=None), fault) == []


def test_who_redis_closed_before_the_measurement_began_was_met() -> None:
    class Redis:
        def info(self, *_: Any) -> int:
            return 3

    witness = OutputBufferWitness(Site(link=None, redis=Redis()), fault_on("redis", "output-buffer", limit_kb=1))
    witness.last_look()
    assert witness._closed_before == 3
