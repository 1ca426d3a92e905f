"""Are CPU and memory of a service limited, and defects of the gateway switched on, proved, and all taken back?"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from websockets.sync.client import connect

from loadtests.inject.errors import ControlError
from loadtests.inject.journal import Journal
from loadtests.inject.kinds import KINDS
from loadtests.inject.kinds.memory_limit import told
from loadtests.inject.servers import RedisServer
from loadtests.inject.startup_sweep import heal
from loadtests.model.injectwire import End, Schedule
from loadtests.stack.local import LocalStack

from .conftest import Run, eventually
from .on_servers import SOON_NS, WHOLE, fault_on, injector, play, site_on, whole_again, witnessed

pytestmark = [pytest.mark.e2e, pytest.mark.group("SERVERS")]
BUSY = "local x = 0 for i = 1, 500000 do x = x + i end return x"


@pytest.fixture(scope="module")
def run(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with injector(stack, tmp_path_factory.mktemp("injector")) as running:
        yield running


@pytest.fixture
def busy_redis(stack: LocalStack) -> Iterator[None]:
    """Somebody keeps Redis computing."""
    stop = threading.Event()
    server = RedisServer(stack.status().services["redis"].address)

    def compute() -> None:
        while not stop.is_set():
            try:
                server.ask("EVAL", BUSY, 0)
            except ControlError:  # under the limit it may take too long; the next one follows
                stop.wait(0.05)

    thread = threading.Thread(target=compute)
    thread.start()
    yield
    stop.set()
    thread.join()
    server.close()


@contextmanager
def traffic(stack: LocalStack) -> Iterator[None]:
    """A client that takes everything, and a hundred events a second for it."""
    services, stop = stack.status().services, threading.Event()
    redis = RedisServer(services["redis"].address)
    event = {"event_type": "pattern_detected", "pattern": "Doji", "symbol": "AAPL", "confidence": 0.5, "timestamp": 1}
    payload = json.dumps(event)

    def publish() -> None:
        while not stop.wait(0.01):
            redis.ask("PUBLISH", "tickstock.events.patterns", payload)

    with connect(f"ws://{services['gateway'].address}/ws", compression=None) as client:
        client.send(json.dumps({"action": "subscribe", "symbols": ["AAPL"]}))
        client.recv(timeout=10)

        def read() -> None:
            while not stop.is_set():
                try:
                    client.recv(timeout=0.2)
                except TimeoutError:
                    continue

        threads = [threading.Thread(target=each) for each in (publish, read)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    redis.close()


def still(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def test_a_busy_service_gets_less_of_the_processor(stack: LocalStack, run: Run, busy_redis: None) -> None:
    pid = stack.status().services["redis"].pid
    play(run, "redis", "cpu-limit", name="cpu", cpu_percent=5)
    assert run.ear.names("cpu") == WHOLE, run.ear.told("cpu")
    effective = run.ear.step("cpu", "proved").effective
    assert effective["cpu_percent"] < effective["cpu_percent_before"]
    assert effective["stopped_percent"] > 0
    eventually(lambda: not still(pid))


def test_a_limit_above_what_a_service_uses_is_no_proof(stack: LocalStack) -> None:
    proof = witnessed(site_on(stack), fault_on("producer", "cpu-limit", cpu_percent=90), applied=True)
    assert not proof.proved
    assert "took nothing from it" in proof.reason


def test_a_busy_service_without_the_limit_is_no_proof(stack: LocalStack, busy_redis: None) -> None:
    proof = witnessed(site_on(stack), fault_on("redis", "cpu-limit", cpu_percent=1), applied=False)
    assert not proof.proved


def test_another_process_lets_a_limited_service_go_on(stack: LocalStack, tmp_path: Path, busy_redis: None) -> None:
    pid = stack.status().services["redis"].pid
    with injector(stack, tmp_path) as run:
        fault = fault_on("redis", "cpu-limit", at_ns=run.now_ns() + SOON_NS, for_s=600, cpu_percent=1)
        run.handle.send(Schedule(faults=[fault]))
        run.await_step("fault", "active")
        run.handle._closing = True  # so that nothing starts it again
        eventually(lambda: still(pid))
        os.kill(run.handle.pid, signal.SIGKILL)
        eventually(lambda: not run.handle.alive)
    os.kill(pid, signal.SIGSTOP)  # as the injector may have left it
    done = heal(run.begin.toxiproxy, [Path(run.begin.journal)])
    assert any("Lifted" in text for text in done), done
    assert Journal(Path(run.begin.journal)).pending() == []
    assert not still(pid)


@pytest.mark.parametrize("service", ["redis", "postgres"])
def test_a_service_is_refused_more_memory(stack: LocalStack, run: Run, service: str) -> None:
    pid = stack.status().services[service].pid
    before = told(pid)
    name = f"memory-{service}"
    play(run, service, "memory-limit", name=name, memory_mb=200)
    assert run.ear.names(name) == WHOLE, run.ear.told(name)
    effective = run.ear.step(name, "proved").effective
    assert (effective["limit_mb"], effective["allocation"]) == (200.0, "refused")
    assert told(pid) == before
    assert stack.status().services[service].pid == pid
    whole_again(stack)


def test_a_limit_that_cannot_be_met_without_harm_is_not_proved(stack: LocalStack, run: Run) -> None:
    play(run, "gateway", "memory-limit", name="gateway", for_s=1.5, memory_mb=4096)
    assert run.ear.names("gateway") == ["announced", "active", "not proved", "lifted"]
    assert "without ending it" in run.ear.step("gateway", "not proved").detail


@pytest.mark.prove_all
def test_memory_that_is_granted_is_no_proof(stack: LocalStack) -> None:
    proof = witnessed(site_on(stack), fault_on("postgres", "memory-limit", memory_mb=120), applied=False)
    assert not proof.proved
    assert "it was granted" in proof.reason


DEFECTS = {
    "drop": (5, "dropped_by_switch"),
    "duplicate": (5, "duplicated_by_switch"),
    "reorder": (5, "reordered_by_switch"),
    "fail": (5, "failed_by_switch"),
    "leak": (1000, "leaked_by_switch_bytes"),
    "delay": (1500, "delay_ms"),  # a busy machine begins to look after some hundred
}


@pytest.fixture(scope="module")
def defects(stack: LocalStack, run: Run) -> Run:
    """All of them at once: each is a switch of its own."""
    at_ns = run.now_ns() + SOON_NS
    with traffic(stack):
        faults = [
            fault_on("gateway", "planted-defect", at_ns=at_ns, for_s=6, name=defect, defect=defect, amount=amount)
            for defect, (amount, _) in DEFECTS.items()
        ]
        run.handle.send(Schedule(faults=faults))
        for defect in DEFECTS:
            run.await_step(defect, "proved", "not proved", "failed")
        for defect in DEFECTS:
            run.handle.send(End(fault=defect, by="test"))
            run.await_step(defect, "lifted", "not lifted", "failed")
    return run


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_shows_in_the_gateways_own_counters(defects: Run, defect: str) -> None:
    assert defects.ear.names(defect) == WHOLE, defects.ear.told(defect)
    assert defects.ear.step(defect, "proved").effective[DEFECTS[defect][1]] > 0


def test_a_defect_that_no_message_met_is_no_proof(stack: LocalStack) -> None:
    for asked in ({"defect": "fail", "amount": 10**6}, {"defect": "delay", "amount": 50}):
        assert not witnessed(site_on(stack), fault_on("gateway", "planted-defect", **asked), applied=True).proved


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("cpu-limit", {"cpu_percent": 0}),
        ("memory-limit", {"memory_mb": 0}),
        ("planted-defect", {"defect": "nonsense", "amount": 1}),
        ("planted-defect", {"defect": "drop", "amount": 0}),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(kind: str, asked) -> None:
    assert KINDS[kind].problems(fault_on("redis", kind, **asked))
