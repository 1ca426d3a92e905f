"""Is a fault that ended nobody, or held nothing back, never proved by what went by itself?  Needs no server."""

from __future__ import annotations

import time
from typing import Any

import pytest

from loadtests.inject.deadline import Watch
from loadtests.inject.kinds import KINDS
from loadtests.inject.kinds.cpu_limit import CpuWitness, Limiter
from loadtests.inject.kinds.kind import Site
from loadtests.inject.proofs import Proof

from .on_servers import fault_on


class Clients:
    """A PostgreSQL and a Redis whose clients come and go as the test says; `deaf` ones outlive every end."""

    def __init__(self, *there: int, deaf: bool = False) -> None:
        self.there, self.deaf = set(there), deaf

    def ask(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        if "pg_terminate_backend" not in sql:
            return [(number, f"born {number}") for number in sorted(self.there)]
        return [(number, self._end(number)) for number in parameters[0]]

    def clients(self) -> dict[int, dict[str, str]]:
        return {number: {"flags": "P"} for number in self.there}

    def ask_all(self, commands: list[tuple[str, str, int]]) -> list[int]:
        return [int(self._end(number)) for _, _, number in commands]

    def _end(self, number: int) -> bool:
        was = number in self.there
        if not self.deaf:
            self.there.discard(number)
        return was

    def close(self) -> None:
        pass


def ended(kind: str, clients: Clients, *, gone_by_itself: tuple[int, ...] = (), come: tuple[int, ...] = ()) -> Proof:
    server = "postgres" if kind == "backend-kill" else "redis"
    site = Site(link=None, **{server: clients})
    fault = fault_on(server, kind)
    witness = KINDS[kind].witness(site, fault)
    witness.last_look()
    clients.there = (clients.there - set(gone_by_itself)) | set(come)
    KINDS[kind].apply(site, fault)
    proof = witness.during(Watch.of_s(0.05))
    witness.close()
    return proof


KILLS = pytest.mark.parametrize("kind", ["backend-kill", "client-kill"])


@KILLS
def test_who_left_by_himself_proves_no_kill(kind: str) -> None:
    proof = ended(kind, Clients(7), gone_by_itself=(7,))
    assert not proof.proved
    assert "went by themselves" in proof.reason


@KILLS
def test_one_that_was_ended_is_proof_though_another_left_by_itself(kind: str) -> None:
    assert ended(kind, Clients(7, 8), gone_by_itself=(7,)).proved


@KILLS
def test_one_that_was_told_to_end_and_stays_is_no_proof(kind: str) -> None:
    proof = ended(kind, Clients(7, deaf=True))
    assert not proof.proved
    assert "still" in proof.reason


@KILLS
def test_one_that_came_after_the_last_look_and_stays_is_no_proof(kind: str) -> None:
    assert not ended(kind, Clients(7, deaf=True), gone_by_itself=(7,), come=(8,)).proved


class Held(Limiter):
    """A limiter that only tells for how long it stopped its family."""

    def __init__(self, stopped_percent: float) -> None:
        self.began_ns = time.monotonic_ns() - 10_000_000_000
        self.stopped_ns = round(stopped_percent * 100_000_000)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("limit", "calm", "under", "stopped", "proved"),
    [
        (2, 2.5, 6.4, 0.2, False),  # it used more than before
        (20, 60.0, 12.0, 0.2, False),  # it had less to do: hardly ever stopped
        (2, 2.5, 2.4, 0.9, False),
        (20, 60.0, 21.0, 70.0, True),
        (5, 95.0, 6.0, 93.0, True),
    ],
)
def test_a_processor_limit_must_have_held_it_back(
    monkeypatch: pytest.MonkeyPatch, limit: int, calm: float, under: float, stopped: float, proved: bool
) -> None:
    witness = CpuWitness.__new__(CpuWitness)
    witness.fault, witness.calm_percent = fault_on("redis", "cpu-limit", cpu_percent=limit), calm
    witness.site = Site(link=None, held=[Held(stopped)])
    monkeypatch.setattr(CpuWitness, "_measure", lambda self, watch: under)
    assert witness.during(Watch.of_s(1)).proved is proved
