"""Does a link lead to a second server, is it seen which one answers, and is it led back?"""

from __future__ import annotations

import os
import signal
import urllib.request
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import msgspec
import pytest
from beside import beside

from loadtests.inject.journal import Entry, Journal
from loadtests.inject.link import Link
from loadtests.inject.startup_sweep import heal
from loadtests.inject.toxics import ToxiproxyServer
from loadtests.model.injectwire import Begin, End, PlannedFault, Schedule
from loadtests.model.stackwire import Ask
from loadtests.stack.local import LocalStack

from .conftest import NS_PER_S, READY_S, Place, Run, TestLink, end, eventually, free_port, planned, run_server
from .test_on_stack import SPEAKS, begin_on, is_ready

pytestmark = [pytest.mark.e2e, pytest.mark.group("USERS")]
MS = 1_000_000
SOON_NS = 900 * MS
WHOLE = ["announced", "active", "proved", "lifted"]


class Here(Place):
    """Both servers are its own: that nobody else connects in the same instant shows which one was reached."""

    def redis(self, name: str) -> int:
        port = free_port()
        argv = [str(self.programs.redis.path), "--port", str(port), "--bind", "127.0.0.1"]
        argv += ["--save", "", "--dir", str(self.tmp_path)]
        self.held.callback(end, run_server(argv, port, self.tmp_path / f"{name}.log"))
        return port

    @cached_property
    def first_redis(self) -> int:
        return self.redis("first")

    @cached_property
    def second_redis(self) -> int:
        return self.redis("second")

    @cached_property
    def link(self) -> TestLink:
        return self.make_link(self.first_redis)


PLACE = Here


def upstream(link: TestLink) -> str:
    return link.server.proxy(link.proxy).upstream


@beside
def test_the_second_server_names_itself_and_the_first_one_is_back(start, link: TestLink, second_redis: int) -> None:
    run = start(link)
    first = upstream(link)
    idle = link.connect()
    fault = planned(link, "failover", at_ns=run.now_ns() + SOON_NS, for_s=2.5, to=f"127.0.0.1:{second_redis}")
    run.handle.send(Schedule(faults=[fault]))
    run.await_step("fault", "active")
    assert upstream(link).endswith(f":{second_redis}")
    lifted = run.await_step("fault", "lifted")
    assert run.ear.names("fault") == WHOLE, run.ear.told("fault")
    effective = run.ear.step("fault", "proved").effective
    assert effective["answers"].startswith("run_id ")
    assert effective["answers"] != effective["answers_before"] == lifted.effective["answers_after"]
    assert effective["connected_to"] == "the new server"
    assert effective["connections_closed"] == 1
    assert upstream(link) == first
    idle.close()


@beside
def test_it_stays_there_where_it_is_kept(start: Callable[..., Run], link: TestLink, second_redis: int) -> None:
    run = start(link)
    fault = planned(link, "failover", at_ns=run.now_ns() + SOON_NS, for_s=2.5, to=f"127.0.0.1:{second_redis}", keep=1)
    run.handle.send(Schedule(faults=[fault]))
    lifted = run.await_step("fault", "lifted")
    assert lifted.effective["answers_after"] == run.ear.step("fault", "proved").effective["answers"]
    assert run.handle.heal_all("finish", 10).left == []
    assert upstream(link).endswith(f":{second_redis}")


@beside
def test_a_switch_to_the_same_server_is_not_proved(start: Callable[..., Run], link: TestLink, first_redis: int) -> None:
    run = start(link)
    fault = planned(link, "failover", at_ns=run.now_ns() + SOON_NS, to=f"127.0.0.1:{first_redis}")
    run.handle.send(Schedule(faults=[fault]))
    run.await_step("fault", "lifted")
    assert run.ear.names("fault") == ["announced", "active", "not proved", "lifted"]


@beside
def test_another_process_leads_back_what_a_killed_one_left(
    start: Callable[..., Run], link: TestLink, second_redis: int, toxiproxy: str
) -> None:
    run = start(link)
    first = upstream(link)
    fault = planned(link, "failover", at_ns=run.now_ns() + SOON_NS, for_s=600, to=f"127.0.0.1:{second_redis}")
    run.handle.send(Schedule(faults=[fault]))
    run.await_step("fault", "active")
    assert run.handle.pid is not None
    run.handle._starts = 99  # it is not started again: the journal alone must do
    os.kill(run.handle.pid, signal.SIGKILL)
    eventually(lambda: not run.handle.alive)
    heal(toxiproxy, [Path(run.begin.journal)])
    assert upstream(link) == first


@beside
@pytest.mark.parametrize("to", ["", "nowhere", "host:99999", "spare"])
def test_what_cannot_be_done_is_not_begun(start: Callable[..., Run], link: TestLink, to: str) -> None:
    run = start(link)  # without a stack there is no spare either
    run.handle.send(Schedule(faults=[planned(link, "failover", at_ns=run.now_ns() + SOON_NS, to=to)]))
    run.await_step("fault", "failed")
    assert run.ear.names("fault") == ["failed"]


def begin_with_login(stack: LocalStack, folder: Path) -> Begin:
    status = stack.status()
    return msgspec.structs.replace(
        begin_on(status, stack, folder),
        postgres=status.services["postgres"].address,
        database="tickstock_test",
        user="app_readonly",
    )


@pytest.mark.prove_all
def test_the_stack_starts_a_spare_of_each_and_ends_it(stack: LocalStack, tmp_path: Path) -> None:
    run = Run(begin_with_login(stack, tmp_path), tmp_path)
    run.handle.wait_ready(READY_S)
    at_ns = run.now_ns() + 13 * NS_PER_S  # a kind that starts a server begins 12 s before
    faults = [
        PlannedFault(
            name=f"on-{link}",
            kind="failover",
            link=link,
            direction="both",
            at_ns=at_ns + number * NS_PER_S // 4,
            until_ns=at_ns + number * NS_PER_S // 4 + 3 * NS_PER_S,
            asked={"to": "spare"},
        )
        for number, link in enumerate(SPEAKS)
    ]
    run.handle.send(Schedule(faults=faults))
    for fault in faults:
        run.await_step(fault.name, "lifted", "not lifted", "failed", timeout_s=30)
        assert run.ear.names(fault.name) == WHOLE, run.ear.told(fault.name)
        effective = run.ear.step(fault.name, "proved").effective
        assert effective["answers"] != effective["answers_before"], effective
    words = {run.ear.step(fault.name, "proved").effective["answers"].split()[0] for fault in faults}
    assert words == {"run_id", "system", "pid"}
    assert stack.status().spares == {}
    assert run.handle.close(15) == 0
    eventually(lambda: is_ready(stack), 20)


@beside
def test_a_spare_is_a_server_of_its_own_and_ends_with_its_stack(tmp_path: Path) -> None:
    with LocalStack.up(tmp_path / "stack") as own:
        answers = [own.ask(Ask(do="spare", service=name)) for name in ("redis", "gateway", "redis")]
        assert all(answer.ok for answer in answers), answers
        spares = own.status().spares
        assert set(spares) == {"redis", "gateway"}
        assert answers[0].status.spares["redis"].pid == spares["redis"].pid
        pids = {service.pid for service in (*spares.values(), *own.status().services.values())}
        assert len(pids) == 7
        with urllib.request.urlopen(f"http://{spares['gateway'].address}/health", timeout=5) as answer:
            assert msgspec.json.decode(answer.read())["pid"] == spares["gateway"].pid
        refused = own.ask(Ask(do="spare", service="toxiproxy"))
        assert not refused.ok
        assert "redis, postgres, gateway" in refused.error
    for service in spares.values():
        with pytest.raises(ProcessLookupError):
            os.kill(service.pid, 0)


def dead_with_a_spare(stack: LocalStack, folder: Path, at_s: float, **asked: object) -> Run:
    """A run whose injector was killed when the spare ran and the fault had not been announced yet."""
    run = Run(begin_with_login(stack, folder), folder)
    run.handle.wait_ready(READY_S)
    run.handle._starts = 99  # it is not started again: the journal alone must do
    at_ns = run.now_ns() + round(at_s * NS_PER_S)
    fault = PlannedFault(
        name="fault",
        kind="failover",
        link="gateway-redis",
        direction="both",
        at_ns=at_ns,
        until_ns=at_ns + 5 * NS_PER_S,
        asked={"to": "spare", **asked},
    )
    run.handle.send(Schedule(faults=[fault]))
    eventually(lambda: stack.status().spares, 20)
    assert run.ear.names("fault") == []
    run.handle._closing = True  # nor does its parent lift what it left
    os.kill(run.handle.pid, signal.SIGKILL)
    eventually(lambda: not run.handle.alive)
    return run


@pytest.mark.parametrize("asked", [{}, {"keep": 1}])
@pytest.mark.prove_all
def test_a_spare_whose_fault_never_began_is_ended_by_the_journal(stack: LocalStack, tmp_path: Path, asked) -> None:
    run = dead_with_a_spare(stack, tmp_path, 16, **asked)
    (entry,) = Journal(Path(run.begin.journal)).pending()
    assert entry.undo["spare"] == "redis"
    assert stack.status().spares
    done = heal(run.begin.toxiproxy, [Path(run.begin.journal)])
    assert any('Lifted fault "fault"' in text for text in done), done
    assert stack.status().spares == {}
    assert Journal(Path(run.begin.journal)).pending() == []


def test_a_spare_that_no_journal_names_is_ended_and_one_that_a_link_leads_to_is_not(
    stack: LocalStack, tmp_path: Path
) -> None:
    status = stack.status()
    toxiproxy, link = status.services["toxiproxy"].address, status.links["gateway-redis"]
    spare = stack.ask(Ask(do="spare", service="redis")).status.spares["redis"].address
    server = ToxiproxyServer(toxiproxy)
    control = Link(server=server, name="gateway-redis", proxy=link.proxy)
    control.lead_to(spare)
    assert heal(toxiproxy, [], stack.folder) == []
    control.lead_to(link.upstream)
    journal = Journal(tmp_path / "journal")
    journal.open(Entry(do="open", fault="f", kind="of-tomorrow", undo={"spare": "redis"}))
    assert not any("Ended" in text for text in heal(toxiproxy, [journal.path], stack.folder))
    journal.close("f")
    assert heal(toxiproxy, [journal.path], stack.folder) == ["Ended the second redis, which no fault needs any more."]
    assert stack.status().spares == {}


def test_a_fault_that_is_dropped_while_its_spare_runs_ends_it(stack: LocalStack, tmp_path: Path) -> None:
    run = Run(begin_with_login(stack, tmp_path), tmp_path)
    run.handle.wait_ready(READY_S)
    at_ns = run.now_ns() + 16 * NS_PER_S
    fault = PlannedFault(
        name="fault",
        kind="failover",
        link="gateway-redis",
        direction="both",
        at_ns=at_ns,
        until_ns=at_ns + NS_PER_S,
        asked={"to": "spare"},
    )
    run.handle.send(Schedule(faults=[fault]))
    eventually(lambda: stack.status().spares, 20)
    run.handle.send(End(fault="fault", by="by hand"))
    run.await_step("fault", "failed")
    eventually(lambda: stack.status().spares == {})
    eventually(lambda: Journal(Path(run.begin.journal)).pending() == [])
    assert run.handle.close(15) == 0
