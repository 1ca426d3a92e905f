"""Is every kind proved on every sort of link of the local stack: to Redis, to PostgreSQL, to the gateway?"""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from loadtests.inject.startup_sweep import dirt
from loadtests.inject.toxics import ToxiproxyServer
from loadtests.model.injectwire import Begin, PlannedFault, Schedule
from loadtests.model.stackwire import Status
from loadtests.stack.local import LocalStack

from .conftest import NS_PER_S, READY_S, Run, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.group("LIFE")]

SPEAKS = {"gateway-redis": "redis", "gateway-postgres": "postgres", "client-gateway": "gateway"}
TURNS: dict[str, tuple[float, dict[str, float | int | str]]] = {
    "latency": (2.0, {"latency_ms": 60, "jitter_ms": 5}),
    "bandwidth": (2.5, {"rate_kb_per_s": 20}),
    "down": (2.0, {}),
    "reset": (2.5, {}),
    "black-hole": (2.5, {}),
}
"""Kind -> how long it stays, in s, and what is asked."""
PAUSE_S = 1.5  # between two kinds


def begin_on(status: Status, stack: LocalStack, folder: Path) -> Begin:
    return Begin(
        run="test",
        origin_ns=time.monotonic_ns(),
        toxiproxy=status.services["toxiproxy"].address,
        proxies={link: address.proxy for link, address in status.links.items()},
        upstream_kind=SPEAKS,
        journal=str(folder / "journal"),
        supervisor=str(stack.folder),
        probe_every_s=0.1,
    )


def is_ready(stack: LocalStack) -> bool:
    services = stack.status().services
    with urllib.request.urlopen(f"http://{services['gateway'].address}/health", timeout=5) as answer:
        health = json.load(answer)
    return health["status"] == "ready" and all(service.state == "ready" for service in services.values())


@pytest.fixture(scope="module")
def played(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One kind after the other, each on every sort of link at once."""
    folder = tmp_path_factory.mktemp("played")
    run = Run(begin_on(stack.status(), stack, folder), folder)
    assert run.handle.wait_ready(READY_S).swept == []
    at_ns, faults = run.now_ns() + 2 * NS_PER_S, []
    for kind, (for_s, asked) in TURNS.items():
        until_ns = at_ns + int(for_s * NS_PER_S)
        faults += [
            PlannedFault(
                name=f"{kind} on {link}",
                kind=kind,
                link=link,
                direction="both",
                at_ns=at_ns,
                until_ns=until_ns,
                asked=asked,
            )
            for link in SPEAKS
        ]
        at_ns = until_ns + int(PAUSE_S * NS_PER_S)
    run.handle.send(Schedule(faults=faults))
    for fault in faults:
        run.await_step(fault.name, "lifted", "not lifted", "failed")
    assert run.handle.close(15) == 0
    eventually(lambda: is_ready(stack), 40)
    return run


@pytest.mark.parametrize("kind", TURNS)
@pytest.mark.prove_all
def test_every_sort_of_link_is_proved_at_once(played: Run, kind: str) -> None:
    for link in SPEAKS:
        name = f"{kind} on {link}"
        assert played.ear.names(name) == ["announced", "active", "proved", "lifted"], played.ear.told(name)
        assert played.ear.step(name, "lifted").effective["clean"] == 1, played.ear.told(name)


@pytest.mark.prove_all
def test_a_toxiproxy_that_stands_still_is_restarted_by_the_stack(stack: LocalStack, tmp_path: Path) -> None:
    status = stack.status()
    begin = begin_on(status, stack, tmp_path)
    run = Run(begin, tmp_path)
    run.handle.wait_ready(READY_S)
    at_ns = run.now_ns() + NS_PER_S
    fault = PlannedFault(
        name="cut",
        kind="down",
        link="gateway-postgres",
        direction="both",
        at_ns=at_ns,
        until_ns=at_ns + NS_PER_S,
        asked={},
    )
    run.handle.send(Schedule(faults=[fault]))
    run.await_step("cut", "active")
    pid = status.services["toxiproxy"].pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    lifted = run.await_step("cut", "lifted", "not lifted", timeout_s=60)
    assert (lifted.step, lifted.by) == ("lifted", "escalation: restarted Toxiproxy"), lifted
    assert dirt(ToxiproxyServer(begin.toxiproxy), ()) == []
    assert set(ToxiproxyServer(begin.toxiproxy).proxies()) == {link.proxy for link in status.links.values()}
    assert run.handle.close(15) == 0
    eventually(lambda: is_ready(stack), 20)
