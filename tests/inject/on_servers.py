"""How does a test play a fault on real servers?  An injector process beside a running stack, and a fault for it."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtests.inject.deadline import Watch
from loadtests.inject.kinds import KINDS
from loadtests.inject.kinds.kind import Site, lift
from loadtests.inject.servers import Database, RedisServer, SupervisorClient
from loadtests.model.fault_kinds import KINDS as NAMED
from loadtests.model.injectwire import Begin, End, PlannedFault, Schedule
from loadtests.model.records import FaultStep
from loadtests.stack.local import LocalStack

from .conftest import NS_PER_S, READY_S, Run, eventually

WHOLE = ["announced", "active", "proved", "lifted"]
PROVED_S = 8.0  # so long a fault may stay that is ended when it is proved
SOON_NS = 900_000_000


def begin_on(stack: LocalStack, folder: Path, *, test_system: bool = True) -> Begin:
    status = stack.status()
    return Begin(
        run="test",
        origin_ns=time.monotonic_ns(),
        toxiproxy=status.services["toxiproxy"].address,
        proxies={link: address.proxy for link, address in status.links.items()},
        upstream_kind={link: link.rpartition("-")[2] for link in status.links},
        journal=str(folder / "journal"),
        supervisor=str(stack.folder),
        probe_every_s=0.1,
        redis=status.services["redis"].address,
        postgres=status.services["postgres"].address,
        database="tickstock_test",
        user="app_readonly",
        test_system=test_system,
    )


def site_on(stack: LocalStack) -> Site:
    """What a kind gets when it is played without an injector."""
    services = stack.status().services
    return Site(
        link=None,
        supervisor=SupervisorClient(stack.folder),
        redis=RedisServer(services["redis"].address),
        postgres=Database(services["postgres"].address, database="tickstock_test", user="app_readonly"),
    )


@contextmanager
def injector(stack: LocalStack, folder: Path, *, test_system: bool = True) -> Iterator[Run]:
    run = Run(begin_on(stack, folder, test_system=test_system), folder)
    run.handle.wait_ready(READY_S)
    try:
        yield run
    finally:
        run.handle.close(20)


def fault_on(
    service: str, kind: str, *, at_ns: int = 0, for_s: float = 1.0, name: str = "fault", **asked
) -> PlannedFault:
    return PlannedFault(
        name=name,
        kind=kind,
        link=service,
        direction="both",
        at_ns=at_ns,
        until_ns=at_ns + int(for_s * NS_PER_S),
        asked=asked,
    )


def is_at_once(names: list[str]) -> bool:
    """Steps of a kind of which nothing stays in force: it is over when it has acted, whenever its effect is seen."""
    return names[:2] == ["announced", "active"] and sorted(names[2:]) == ["lifted", "proved"]


def play(run: Run, service: str, kind: str, *, for_s: float = PROVED_S, name: str = "fault", **asked) -> FaultStep:
    """Plays one fault, which is ended when it is proved, and returns its last step."""
    fault = fault_on(service, kind, at_ns=run.now_ns() + SOON_NS, for_s=for_s, name=name, **asked)
    run.handle.send(Schedule(faults=[fault]))
    if run.await_step(name, "proved", "lifted", "not lifted", "failed").step == "proved":
        run.handle.send(End(fault=name, by="test"))
    last = run.await_step(name, "lifted", "not lifted", "failed")
    if NAMED[kind].instant and last.step == "lifted":
        run.await_step(name, "proved", "not proved")
    return last


def is_whole(stack: LocalStack) -> bool:
    """Every service ready, and the gateway sees all of its servers."""
    services = stack.status().services
    if any(service.state != "ready" for service in services.values()):
        return False
    with urllib.request.urlopen(f"http://{services['gateway'].address}/health", timeout=5) as answer:
        return json.load(answer)["status"] == "ready"


def whole_again(stack: LocalStack) -> None:
    eventually(lambda: is_whole(stack), 40)


def witnessed(site: Site, fault: PlannedFault, *, applied: bool, for_s: float = 1.0):
    """What the witness says, with the fault applied or without it; the fault is lifted and read back in any case."""
    kind = KINDS[fault.kind]
    assert kind.problems(fault) == []
    undo = kind.undo_of(site, fault)
    witness = kind.witness(site, fault)
    try:
        witness.before(Watch.of_s(1.0))
        witness.last_look()
        if applied:
            kind.apply(site, fault)
        proof = witness.during(Watch.of_s(for_s, threading.Event()))
    finally:
        witness.close()
        lifted = lift(kind, site, undo, fault=fault.name, tell=print)
    assert lifted.clean, lifted
    return proof
