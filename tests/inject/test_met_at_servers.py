"""Do the faults on services demand somebody who met them?  By what servers tell of others than us; needs no server."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from loadtests.inject.deadline import Watch
from loadtests.inject.encounter import Company, Encounter, ServerEncounter
from loadtests.inject.errors import NoAnswer
from loadtests.inject.kinds import KINDS
from loadtests.inject.kinds.lock import LockWitness
from loadtests.inject.kinds.on_postgres import Newcomers, Queries
from loadtests.inject.kinds.output_buffer import COUNTER, OutputBufferWitness
from loadtests.inject.link import Link
from loadtests.inject.passage import Touch
from loadtests.inject.probe_connection import OwnPorts
from loadtests.model.fault_kinds import KINDS as NAMED
from loadtests.model.records import ACTED, NOT_OBSERVABLE, NOTHING

from .on_servers import fault_on

BY_THEIR_PROOF = {"client-kill", "backend-kill", "output-buffer", "lock"}
"""Their witness itself says whom it met; the first two are not proved where they ended nobody."""


def test_every_kind_on_a_service_says_whom_it_met() -> None:
    silent = {name for name, kind in NAMED.items() if kind.place == "service" and KINDS[name].meets is None}
    assert silent == BY_THEIR_PROOF


class Server:
    """Answers from a list, one answer for each question; the last one again and again."""

    def __init__(self, *answers: Any) -> None:
        self._answers, self.opened = list(answers), 0

    def ask(self, *_: Any, **__: Any) -> Any:
        self.opened += 1
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(found, Exception):
            raise found
        return found

    def info(self, section: str, name: str) -> int:
        assert (section, name) == ("stats", COUNTER)
        return int(self.ask())


def met(encounter: Encounter) -> Touch:
    encounter.start()
    encounter.about_to_act()
    encounter.has_acted()
    touch = encounter.touch(Watch.of_s(0.2, threading.Event()))
    encounter.close()
    return touch


@pytest.mark.parametrize(
    ("server", "touched"),
    [
        (Server([(1, "9:00")], [(1, "9:00")], [(1, "9:01")]), ACTED),
        (Server([(1, "9:00")], [(1, "9:00"), (2, "9:01")]), ACTED),
        (Server([(1, "9:00")], []), NOTHING),  # it left, and asked nothing
        (Server([(1, "9:00")]), NOTHING),
        (Server(NoAnswer("deaf")), NOT_OBSERVABLE),
    ],
)
def test_slow_queries_met_who_asked_meanwhile(server: Any, touched: str) -> None:
    assert met(Queries(server)).touched == touched


@pytest.mark.parametrize(
    ("server", "touched"),
    [
        (Server([(10,)], [(11,)]), NOTHING),  # the one more is our own first question
        (Server([(10,)], [(13,)]), ACTED),
        (Server(NoAnswer("deaf")), NOT_OBSERVABLE),
    ],
)
def test_exhausted_connections_met_who_opens_some(server: Any, touched: str) -> None:
    assert met(Newcomers(server)).touched == touched


def test_a_limit_on_a_service_met_who_was_connected() -> None:
    def deaf() -> frozenset[int]:
        raise NoAnswer("deaf")

    assert met(Company(lambda: frozenset({1}), "redis")).touched == ACTED
    assert met(Company(frozenset, "redis")).touched == NOTHING
    assert met(Company(deaf, "redis")).touched == NOT_OBSERVABLE


@pytest.mark.parametrize(
    ("rolls", "ours", "touched"),
    [
        (({1, 2}, {1}), 0, ACTED),
        (({1, 2}, {1}), 1, NOTHING),  # the one that went may be our own probe
        (({1, 2}, {1, 2}), 0, NOTHING),
        (({1, 2}, NoAnswer("it is cut, too")), 0, NOT_OBSERVABLE),
    ],
)
def test_a_cut_out_of_sight_met_whom_the_server_lost(rolls: tuple[Any, ...], ours: int, touched: str) -> None:
    link = Link.__new__(Link)
    link.name, link.own = "gateway-redis", OwnPorts()
    for port in range(ours):
        link.own.opened(port)
    server = Server(*rolls)
    touch = met(ServerEncounter(lambda: frozenset(server.ask()), link, "Toxiproxy is elsewhere; a key would show it"))
    assert touch.touched == touched
    assert touched != NOT_OBSERVABLE or "a key would show it" in touch.why


@pytest.mark.parametrize(("counts", "touched"), [((1, 2, 2), ACTED), ((1,), NOTHING), ((0, 1), NOTHING)])
def test_a_squeeze_met_whom_redis_closed_besides_our_own(counts: tuple[int, ...], touched: str) -> None:
    witness = OutputBufferWitness.__new__(OutputBufferWitness)
    witness.redis = Server(*counts)  # type: ignore[assignment]
    assert witness._others(0, Watch.of_s(0.3)).touched == touched


@pytest.mark.parametrize(("waiting", "touched"), [((0, 0, 1), ACTED), ((0,), NOTHING)])
def test_a_lock_met_who_waited_for_it(waiting: tuple[int, ...], touched: str) -> None:
    witness = LockWitness.__new__(LockWitness)
    witness.fault, witness.database = fault_on("postgres", "lock"), Server(*([(n,)] for n in waiting))  # type: ignore[assignment]
    assert witness._waiting(Watch.of_s(0.4)).touched == touched
