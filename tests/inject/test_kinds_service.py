"""Are kill, restart and pause applied, proved and lifted on every service, whoever is left to lift them?"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from loadtests.inject.journal import Journal
from loadtests.inject.kinds import KINDS
from loadtests.inject.kinds.kind import Site, lift
from loadtests.inject.servers import SupervisorClient
from loadtests.inject.startup_sweep import heal
from loadtests.inject.toxics import ToxiproxyServer
from loadtests.model.injectwire import PlannedFault, Schedule
from loadtests.model.stackwire import SERVICES, Ask
from loadtests.stack.local import LocalStack

from .conftest import NS_PER_S, Run, eventually
from .on_servers import SOON_NS, WHOLE, fault_on, injector, is_at_once, is_whole, play, site_on, whole_again, witnessed

pytestmark = [pytest.mark.e2e, pytest.mark.group("SERVICES")]


@pytest.fixture(scope="module")
def run(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with injector(stack, tmp_path_factory.mktemp("injector")) as running:
        yield running


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_is_gone_and_started_again(stack: LocalStack, run: Run, service: str) -> None:
    whole_again(stack)
    old = stack.status().services[service].pid
    name = f"kill-{service}"
    lifted = play(run, service, "kill", name=name)
    assert run.ear.names(name) == WHOLE, run.ear.told(name)
    effective = run.ear.step(name, "proved").effective
    assert (effective["killed_pid"], effective["process"], effective["connect"]) == (old, "gone", "refused")
    assert effective["connections_closed"] == effective["connections_before"]
    now = stack.status().services[service]
    assert lifted.effective["clean"] == 1
    assert lifted.effective["pid"] == now.pid != old
    assert 0 < lifted.effective["start_to_ready_ms"] < lifted.effective["down_s"] * 1000
    assert lifted.before_ns - run.ear.step(name, "active").after_ns < lifted.effective["down_s"] * NS_PER_S
    whole_again(stack)


@pytest.mark.parametrize("service", SERVICES)
def test_a_paused_service_is_silent_and_the_same_goes_on(stack: LocalStack, run: Run, service: str) -> None:
    whole_again(stack)
    old = stack.status().services[service].pid
    name = f"pause-{service}"
    lifted = play(run, service, "pause", name=name)
    assert run.ear.names(name) == WHOLE, run.ear.told(name)
    effective = run.ear.step(name, "proved").effective
    assert (effective["stopped_pid"], effective["process"]) == (old, "stopped")
    assert effective["silent_ms"] >= 300
    assert lifted.effective["pid"] == old
    assert psutil.Process(old).status() != psutil.STATUS_STOPPED
    whole_again(stack)


def test_a_restarted_service_is_another_process(stack: LocalStack, run: Run) -> None:
    old = stack.status().services["redis"].pid
    play(run, "redis", "restart", name="restart-redis")
    assert is_at_once(run.ear.names("restart-redis")), run.ear.told("restart-redis")
    effective = run.ear.step("restart-redis", "proved").effective
    assert effective["old_pid"] == old
    assert effective["pid"] == stack.status().services["redis"].pid != old
    assert effective["down_s"] > 0
    assert effective["connections_closed"] == effective["connections_before"] > 0
    whole_again(stack)


def test_faults_on_links_end_when_toxiproxy_is_killed(stack: LocalStack, run: Run) -> None:
    at_ns = run.now_ns() + SOON_NS
    slow = PlannedFault(
        name="slow",
        kind="latency",
        link="gateway-redis",
        direction="both",
        at_ns=at_ns,
        until_ns=at_ns + 5 * NS_PER_S,
        asked={"latency_ms": 30},
    )
    kill = fault_on("toxiproxy", "kill", name="forget", at_ns=at_ns + NS_PER_S)
    late = PlannedFault(
        name="late",
        kind="down",
        link="gateway-redis",
        direction="both",
        at_ns=at_ns + NS_PER_S * 3 // 2,
        until_ns=at_ns + NS_PER_S * 5 // 2,
        asked={},
    )
    run.handle.send(Schedule(faults=[slow, kill]))
    run.await_step("forget", "active")
    run.handle.send(Schedule(faults=[late]))
    run.await_step("forget", "lifted")
    ended = run.await_step("slow", "lifted")
    assert 'fault "forget"' in ended.by
    assert ended.after_ns < kill.until_ns
    assert run.ear.names("late") == ["failed"]
    assert "Toxiproxy itself" in run.ear.step("late", "failed").detail
    status = stack.status()
    proxies = ToxiproxyServer(status.services["toxiproxy"].address).proxies()
    assert set(proxies) == {link.proxy for link in status.links.values()}
    assert not any(proxy.toxics for proxy in proxies.values())
    whole_again(stack)


def test_a_fault_on_a_link_that_comes_too_late_does_not_end_the_kill_of_toxiproxy(stack: LocalStack, run: Run) -> None:
    whole_again(stack)
    kill = fault_on("toxiproxy", "kill", name="dead", at_ns=run.now_ns() + SOON_NS * 3, for_s=4)
    late = PlannedFault(
        name="too-late",
        kind="latency",
        link="gateway-redis",
        direction="both",
        at_ns=kill.at_ns + NS_PER_S * 3 // 20,
        until_ns=kill.at_ns + NS_PER_S,
        asked={"latency_ms": 30},
    )
    run.handle.send(Schedule(faults=[kill, late]))
    failed = run.await_step("too-late", "failed")
    lifted = run.await_step("dead", "lifted")
    assert "Toxiproxy" in failed.detail
    assert run.ear.names("dead") == WHOLE
    assert lifted.by == "plan"
    assert lifted.before_ns >= kill.until_ns
    assert not any(step.by.startswith("escalation") for step in run.ear.steps("too-late"))
    whole_again(stack)


def test_without_the_act_nothing_is_proved(stack: LocalStack) -> None:
    for kind in ("kill", "pause", "restart"):
        proof = witnessed(site_on(stack), fault_on("producer", kind), applied=False, for_s=0.8)
        assert not proof.proved
        assert "running" in proof.reason


def test_a_service_that_was_silent_before_is_no_proof(stack: LocalStack) -> None:
    site = site_on(stack)
    site.the_supervisor().ask(Ask(do="pause", service="producer"))
    proof = witnessed(site, fault_on("producer", "pause"), applied=True, for_s=1.5)
    assert (proof.proved, proof.reason) == (False, "it did not answer before the fault either")
    whole_again(stack)


def test_destructive_kinds_are_refused_on_what_is_no_test_system(stack: LocalStack, tmp_path: Path) -> None:
    with injector(stack, tmp_path, test_system=False) as run:
        before = stack.status().services["redis"].pid
        assert play(run, "redis", "kill").step == "failed"
        assert "destructive" in run.ear.step("fault", "failed").detail
        assert stack.status().services["redis"].pid == before


@pytest.mark.parametrize("service", ["redis", "toxiproxy"])
@pytest.mark.parametrize("kind", ["kill", "pause"])
def test_another_process_lifts_it_from_the_journal_alone(
    stack: LocalStack, tmp_path: Path, kind: str, service: str
) -> None:
    whole_again(stack)
    with injector(stack, tmp_path) as run:
        fault = fault_on(service, kind, at_ns=run.now_ns() + SOON_NS, for_s=600)
        run.handle.send(Schedule(faults=[fault]))
        run.await_step("fault", "active")
        run.handle._closing = True  # so that nothing starts it again
        os.kill(run.handle.pid, signal.SIGKILL)
        eventually(lambda: not run.handle.alive)
    assert not is_whole_now(stack)
    journal = Path(run.begin.journal)
    done = heal(run.begin.toxiproxy, [journal])
    assert any("Lifted" in text for text in done), done
    assert Journal(journal).pending() == []
    whole_again(stack)


def is_whole_now(stack: LocalStack) -> bool:
    try:
        return is_whole(stack)
    except OSError:
        return False


def test_an_injector_that_died_while_toxiproxy_was_dead_is_started_again_and_sweeps(
    stack: LocalStack, tmp_path: Path
) -> None:
    whole_again(stack)
    with injector(stack, tmp_path) as run:
        fault = fault_on("toxiproxy", "kill", at_ns=run.now_ns() + SOON_NS, for_s=600)
        run.handle.send(Schedule(faults=[fault]))
        run.await_step("fault", "active")
        os.kill(run.handle.pid, signal.SIGKILL)
        lifted = run.await_step("fault", "lifted", "not lifted", timeout_s=30)
        assert (lifted.step, lifted.by) == ("lifted", "sweep")
        assert run.handle.alive
    whole_again(stack)


def test_when_the_supervisor_is_gone_too_the_command_is_said(tmp_path: Path) -> None:
    undo = {"service": "redis", "address": "127.0.0.1:1"}
    site = Site(link=None, supervisor=SupervisorClient(tmp_path / "no stack"))
    lifted = lift(KINDS["kill"], site, undo, fault="f", tell=print)
    assert not lifted.clean
    assert "`tickstorm stack up`" in lifted.left
