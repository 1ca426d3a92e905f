"""Does a probe show what every link does, fault or none, and is it nowhere while somebody acts on the link?"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from functools import cached_property
from pathlib import Path

import pytest
from beside import beside

from loadtests.inject.link import Link, LinkProbes
from loadtests.inject.socket_table import open_connections
from loadtests.inject.toxics import ToxiproxyServer
from loadtests.model.injectwire import Schedule
from loadtests.model.records import LINK_PROBE, PathProbe

from .conftest import NS_PER_S, READY_S, Place, Run, TestLink, begin_for, eventually, planned

pytestmark = [pytest.mark.e2e, pytest.mark.group("USERS")]
EVERY_S = 0.1


class Probed(Run):
    """An injector that probes its links ten times a second."""

    def __init__(self, toxiproxy: str, folder: Path, *links: TestLink) -> None:
        super().__init__(begin_for(toxiproxy, folder, *links, link_probe_every_s=EVERY_S), folder)

    def readings(self, link: TestLink, from_ns: int = 0) -> list[PathProbe]:
        return [
            record
            for record in self.ear.records
            if isinstance(record, PathProbe) and record.what == f"{LINK_PROBE}{link.name}" and record.at_ns >= from_ns
        ]

    def sees(self, link: TestLink, seen: str, *, from_ns: int = 0) -> PathProbe:
        """Waits until a ping that began after a time saw this."""
        eventually(lambda: any(r.detail == seen for r in self.readings(link, from_ns)))
        return next(r for r in self.readings(link, from_ns) if r.detail == seen)


class Counting:
    """A server that answers each PING after a while, and knows how many are connected to it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.came = 0
        self.open = 0
        self.answers = threading.Event()
        self.answers.set()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return self.listener.getsockname()[1]

    def _accept(self) -> None:
        while True:
            try:
                sock = self.listener.accept()[0]
            except OSError:
                return
            self.came += 1
            self.open += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            try:
                while sock.recv(4096):
                    if self.answers.is_set():
                        sock.sendall(b"+PONG\r\n")
            except OSError:
                pass
        self.open -= 1

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Own:
    """The probes of one link without an injector process."""

    def __init__(self, toxiproxy: str, link: TestLink, *, speaks: str = "redis") -> None:
        self.told: list[PathProbe] = []
        self.stuck = False
        found = Link(server=ToxiproxyServer(toxiproxy), name=link.name, proxy=link.proxy, speaks=speaks)
        self.probes = LinkProbes(
            {link.name: found},
            every_s=EVERY_S,
            origin_ns=time.monotonic_ns(),
            emit=self.told.append,
            stuck=lambda _: self.stuck,
        )
        self.probes.start()

    def silent_turns(self, server: Counting, turns: int = 5) -> bool:
        """No connection comes for several turns; waits for them by the clock, as nothing is there to be waited for."""
        came, until = server.came, time.monotonic() + turns * EVERY_S
        eventually(lambda: time.monotonic() > until or server.came != came)
        return server.came == came


class Here(Place):
    def probed(self, *links: TestLink) -> Probed:
        run = Probed(self.toxiproxy, self.tmp_path, *links)
        self.held.callback(run.handle.close, 15)
        run.handle.wait_ready(READY_S)
        return run

    @cached_property
    def counting(self) -> Counting:
        server = Counting()
        self.held.callback(server.close)
        return server

    @cached_property
    def own(self) -> Own:
        made = Own(self.toxiproxy, self.make_link(self.counting.port))
        self.held.callback(made.probes.end)
        return made


PLACE = Here


@beside
def test_every_link_is_asked_and_the_answer_has_its_time(probed, make_link) -> None:
    links = [make_link(), make_link()]
    run = probed(*links)
    for link in links:
        reading = run.sees(link, "answer")
        assert reading.ok
        assert 0 < reading.took_ns < NS_PER_S
        assert 0 <= reading.at_ns <= run.now_ns()


@beside
def test_a_latency_shows_as_delay_and_goes_with_the_fault(probed, make_link) -> None:
    slow, other = make_link(), make_link()
    run = probed(slow, other)
    fault = planned(slow, "latency", at_ns=run.now_ns() + NS_PER_S, for_s=1.2, latency_ms=100)
    run.handle.send(Schedule(faults=[fault]))
    active = run.await_step("fault", "active").after_ns
    lifted = run.await_step("fault", "lifted").before_ns
    run.sees(slow, "answer", from_ns=run.now_ns())
    under = [r for r in run.readings(slow, active) if r.ok and r.at_ns + r.took_ns < lifted]
    assert under
    assert all(r.took_ns > 180_000_000 for r in under), under
    eventually(lambda: any(r.ok and r.took_ns < 100_000_000 for r in run.readings(slow, lifted)))
    assert any(r.ok for r in run.readings(other, active)), "a fault on one link silences no other"


@beside
def test_a_cut_link_refuses_and_answers_after_it(probed, link: TestLink) -> None:
    run = probed(link)
    run.handle.send(Schedule(faults=[planned(link, "down", at_ns=run.now_ns() + NS_PER_S)]))
    reading = run.sees(link, "refused", from_ns=run.await_step("fault", "active").after_ns)
    assert (reading.ok, reading.took_ns) == (False, -1)
    run.sees(link, "answer", from_ns=run.await_step("fault", "lifted").before_ns)
    assert run.ear.names("fault") == ["announced", "active", "proved", "lifted"]


@beside
def test_a_black_hole_is_silence(probed, link: TestLink) -> None:
    run = probed(link)
    run.handle.send(Schedule(faults=[planned(link, "black-hole", at_ns=run.now_ns() + NS_PER_S, for_s=2.5)]))
    reading = run.sees(link, "silent", from_ns=run.await_step("fault", "active").after_ns)
    assert (reading.ok, reading.took_ns) == (False, -1)
    run.sees(link, "answer", from_ns=run.await_step("fault", "lifted").before_ns)


@beside
def test_the_connections_that_a_fault_met_are_not_the_probes(probed, link: TestLink) -> None:
    run = probed(link)
    run.sees(link, "answer")
    with link.connect():
        run.handle.send(Schedule(faults=[planned(link, "latency", at_ns=run.now_ns() + NS_PER_S, latency_ms=20)]))
        assert run.await_step("fault", "proved").effective["connections_hit"] == 1


@beside
def test_no_reading_is_told_while_somebody_acts(probed, link: TestLink) -> None:
    """From the announcement until the fault is read back there is none; the calm one before it and those after are."""
    run = probed(link)
    run.handle.send(Schedule(faults=[planned(link, "down", at_ns=run.now_ns() + NS_PER_S)]))
    announced = run.await_step("fault", "announced").after_ns
    active = run.await_step("fault", "active").before_ns
    run.sees(link, "refused", from_ns=active)
    assert any(r.at_ns < announced for r in run.readings(link))
    between = [r for r in run.readings(link) if announced + 50_000_000 < r.at_ns < active]
    assert not between


@beside
@pytest.mark.parametrize("ending", ["quit", "kill"])
def test_it_ends_with_the_injector_and_leaves_no_connection(probed, link: TestLink, ending: str) -> None:
    run = probed(link)
    run.sees(link, "answer")
    if ending == "kill":
        pid = run.handle.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        run.sees(link, "answer", from_ns=run.now_ns())  # of the one that took its place
    assert run.handle.close(15) == 0
    eventually(lambda: open_connections(link.port) == frozenset())


@beside
def test_a_probe_of_zero_seconds_is_none(start, link: TestLink) -> None:
    run = start(link)
    run.handle.send(Schedule(faults=[planned(link, "down", at_ns=run.now_ns() + NS_PER_S)]))
    run.await_step("fault", "lifted")
    assert not [record for record in run.ear.records if isinstance(record, PathProbe)]


@beside
def test_a_quiet_breaks_off_what_is_asked_and_lets_nobody_in(own: Own, counting: Counting) -> None:
    eventually(lambda: own.told)
    counting.answers.clear()
    eventually(lambda: counting.open)
    quiet = own.probes.quiet()
    quiet.begin()
    quiet.begin()  # may be repeated
    eventually(lambda: not counting.open, 0.9)  # sooner than its own deadline
    assert all(reading.ok for reading in own.told), "what was broken off has seen nothing"
    assert own.silent_turns(counting)
    counting.answers.set()
    quiet.end()
    quiet.end()
    told = len(own.told)
    eventually(lambda: len(own.told) > told)


@beside
def test_two_quiets_end_with_the_later_one(own: Own, counting: Counting) -> None:
    eventually(lambda: own.told)
    first, second = own.probes.quiet(), own.probes.quiet()
    first.begin()
    second.begin()
    first.end()
    assert own.silent_turns(counting)
    second.end()
    came = counting.came
    eventually(lambda: counting.came > came)


@beside
def test_a_link_whose_fault_could_not_be_lifted_is_left_alone(own: Own, counting: Counting) -> None:
    eventually(lambda: own.told)
    own.stuck = True
    eventually(lambda: not counting.open)
    assert own.silent_turns(counting)


@beside
def test_a_link_that_nobody_can_speak_on_is_not_measured(toxiproxy: str, make_link, counting: Counting) -> None:
    mute = Own(toxiproxy, make_link(counting.port), speaks="telnet")
    assert mute.silent_turns(counting)
    assert not mute.told
    mute.probes.end()


@beside
def test_it_never_keeps_a_connection(own: Own, counting: Counting) -> None:
    eventually(lambda: len(own.told) >= 5)
    own.probes.end()
    eventually(lambda: not counting.open)
    assert counting.came >= 5
