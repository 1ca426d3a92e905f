"""Are clients killed, memory squeezed and buffers cut on a real Redis, proved, and all settings restored?"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from loadtests.inject.deadline import Watch
from loadtests.inject.journal import Journal
from loadtests.inject.kinds import KINDS
from loadtests.inject.servers import RedisServer
from loadtests.inject.startup_sweep import heal
from loadtests.model.injectwire import End, Schedule
from loadtests.stack.local import LocalStack

from .conftest import Run, eventually
from .on_servers import SOON_NS, WHOLE, fault_on, injector, is_at_once, play, site_on, whole_again, witnessed

pytestmark = [pytest.mark.e2e, pytest.mark.group("SERVICES")]
SETTINGS = ("maxmemory", "maxmemory-policy", "client-output-buffer-limit")


@pytest.fixture(scope="module")
def run(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with injector(stack, tmp_path_factory.mktemp("injector")) as running:
        yield running


@pytest.fixture(scope="module")
def redis(stack: LocalStack) -> Iterator[RedisServer]:
    server = RedisServer(stack.status().services["redis"].address)
    yield server
    server.close()


@pytest.fixture
def as_before(redis: RedisServer) -> Iterator[None]:
    before = {name: redis.setting(name) for name in SETTINGS}
    yield
    assert {name: redis.setting(name) for name in SETTINGS} == before
    left = redis.ask("KEYS", "tickstorm:probe:*")  # a killed injector cannot remove them: they end by themselves
    assert all(redis.ask("TTL", key) in (-2, *range(31)) for key in left)


@contextmanager
def sockets(stack: LocalStack, count: int) -> Iterator[list[socket.socket]]:
    """Connections that are no subscribers."""
    host, _, port = stack.status().services["redis"].address.rpartition(":")
    with ExitStack() as held:
        opened = [held.enter_context(socket.create_connection((host, int(port)), timeout=5)) for _ in range(count)]
        for sock in opened:
            sock.sendall(b"PING\r\n")
            assert sock.recv(64) == b"+PONG\r\n"
        yield opened


def test_subscribers_alone_are_killed_and_counted(stack: LocalStack, run: Run, redis: RedisServer) -> None:
    whole_again(stack)
    before = redis.clients()
    with sockets(stack, 3) as bystanders:
        play(run, "redis", "client-kill", name="pubsub", for_s=2)
        after = redis.clients()
        ours = {"{}:{}".format(*each.getsockname()) for each in bystanders}
    assert is_at_once(run.ear.names("pubsub")), run.ear.told("pubsub")
    effective = run.ear.step("pubsub", "proved").effective
    subscribers = {number for number, who in before.items() if "P" in who["flags"]}
    assert effective["clients_before"] == effective["clients_closed"] == effective["clients_killed"] == len(subscribers)
    assert not subscribers & after.keys()
    assert ours <= {who["addr"] for who in after.values()}
    whole_again(stack)


def test_everybody_is_killed_but_ourselves(stack: LocalStack, run: Run, redis: RedisServer) -> None:
    before = redis.clients()
    subscribers = [number for number, who in before.items() if "P" in who["flags"]]  # others come and go
    with sockets(stack, 2):
        play(run, "redis", "client-kill", name="all", for_s=2, clients="all")
        assert not before.keys() & redis.clients().keys()
    assert is_at_once(run.ear.names("all")), run.ear.told("all")
    assert run.ear.step("all", "proved").effective["clients_closed"] >= len(subscribers) + 2
    whole_again(stack)


def test_a_full_redis_refuses_writes(run: Run, redis: RedisServer, as_before: None) -> None:
    lifted = play(run, "redis", "memory-pressure", name="full", headroom_kb=256)
    assert run.ear.names("full") == WHOLE, run.ear.told("full")
    effective = run.ear.step("full", "proved").effective
    assert redis.ask("KEYS", "tickstorm:probe:*") == []
    assert effective["write"] == "OOM"
    assert effective["policy"] == "noeviction"
    assert 0 < effective["written_bytes"] <= 512 * 1024
    assert effective["maxmemory_bytes"] > effective["used_bytes"] - 2**20
    assert lifted.effective["clean"] == 1


def test_a_limit_that_somebody_takes_back_is_not_proved_any_more(run: Run, redis: RedisServer, as_before: None) -> None:
    fault = fault_on("redis", "memory-pressure", at_ns=run.now_ns() + SOON_NS, for_s=60, name="back", headroom_kb=4096)
    run.handle.send(Schedule(faults=[fault]))
    run.await_step("back", "proved")
    redis.ask("CONFIG SET", "maxmemory", 0)
    lost = run.await_step("back", "not proved")
    assert 'maxmemory is "0"' in lost.detail
    run.handle.send(End(fault="back", by="by hand"))
    run.await_step("back", "lifted")
    assert run.ear.names("back") == ["announced", "active", "proved", "not proved", "lifted"]


def test_a_full_redis_throws_keys_away_where_it_may(run: Run, as_before: None) -> None:
    play(run, "redis", "memory-pressure", name="evict", headroom_kb=256, policy="volatile-lru")
    assert run.ear.names("evict") == WHOLE, run.ear.told("evict")
    assert run.ear.step("evict", "proved").effective["evicted_keys"] >= 1


def test_a_subscriber_that_is_behind_is_closed(run: Run, as_before: None) -> None:
    play(run, "redis", "output-buffer", name="buffer", limit_kb=256)
    assert run.ear.names("buffer") == WHOLE, run.ear.told("buffer")
    effective = run.ear.step("buffer", "proved").effective
    assert effective["limit"] == "262144 0 0"
    assert effective["disconnected"] >= 1
    assert effective["subscriber"] == "closed"


@pytest.mark.parametrize(
    ("kind", "asked", "reason"),
    [
        ("client-kill", {}, "still connected"),
        ("memory-pressure", {"headroom_kb": 64}, "none was refused"),
        ("output-buffer", {"limit_kb": 64}, "Redis kept it"),
    ],
)
def test_without_the_act_nothing_is_proved(stack: LocalStack, as_before: None, kind: str, asked, reason: str) -> None:
    whole_again(stack)
    proof = witnessed(site_on(stack), fault_on("redis", kind, **asked), applied=False, for_s=2)
    assert not proof.proved
    assert reason in proof.reason


def test_what_is_larger_than_any_proof_is_not_proved(stack: LocalStack, as_before: None) -> None:
    fault = fault_on("redis", "output-buffer", limit_kb=10**6)
    assert not witnessed(site_on(stack), fault, applied=True, for_s=3).proved


def test_nobody_to_kill_is_no_proof(stack: LocalStack) -> None:
    site = site_on(stack)
    witness = KINDS["client-kill"].witness(site, fault_on("redis", "client-kill"))
    proof = witness.during(Watch.of_s(0.1))
    assert (proof.proved, proof.reason) == (False, "nobody of that sort was connected")
    witness.close()


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("memory-pressure", {"headroom_kb": -1}),
        ("memory-pressure", {"headroom_kb": 1, "policy": "nonsense"}),
        ("output-buffer", {"limit_kb": 0}),
        ("client-kill", {"clients": "nobody"}),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(kind: str, asked) -> None:
    assert KINDS[kind].problems(fault_on("redis", kind, **asked))


@pytest.mark.parametrize(
    ("kind", "asked"), [("memory-pressure", {"headroom_kb": 4096}), ("output-buffer", {"limit_kb": 9000})]
)
def test_another_process_restores_it_from_the_journal_alone(
    stack: LocalStack, tmp_path: Path, redis: RedisServer, as_before: None, kind: str, asked
) -> None:
    before = {name: redis.setting(name) for name in SETTINGS}
    with injector(stack, tmp_path) as run:
        fault = fault_on("redis", kind, at_ns=run.now_ns() + SOON_NS, for_s=600, **asked)
        run.handle.send(Schedule(faults=[fault]))
        run.await_step("fault", "active")
        run.handle._closing = True  # so that nothing starts it again
        os.kill(run.handle.pid, signal.SIGKILL)
        eventually(lambda: not run.handle.alive)
    assert {name: redis.setting(name) for name in SETTINGS} != before
    done = heal(run.begin.toxiproxy, [Path(run.begin.journal)])
    assert any("Lifted" in text for text in done), done
    assert Journal(Path(run.begin.journal)).pending() == []
