"""Are sessions ended, connections exhausted, queries slowed and tables locked on a real PostgreSQL, and all undone?"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from loadtests.inject.deadline import Watch
from loadtests.inject.journal import Journal
from loadtests.inject.kinds import KINDS
from loadtests.inject.servers import Database, SqlRefused
from loadtests.inject.startup_sweep import heal
from loadtests.model.injectwire import End, Schedule
from loadtests.stack.local import LocalStack

from .conftest import Run, eventually
from .on_servers import SOON_NS, WHOLE, fault_on, injector, is_at_once, play, site_on, whole_again, witnessed

pytestmark = [pytest.mark.e2e, pytest.mark.group("SERVERS")]
OURS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'tickstorm-fault-%'"


@pytest.fixture(scope="module")
def run(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with injector(stack, tmp_path_factory.mktemp("injector")) as running:
        yield running


@pytest.fixture(scope="module")
def database(stack: LocalStack) -> Database:
    return Database(stack.status().services["postgres"].address, database="tickstock_test", user="app_readonly")


def effective(run: Run, name: str) -> dict[str, float | int | str | None]:
    lifted = run.ear.step(name, "lifted")
    if lifted.by == "instant":
        assert is_at_once(run.ear.names(name)), run.ear.told(name)
    else:
        assert run.ear.names(name) == WHOLE, run.ear.told(name)
        assert lifted.effective["clean"] == 1
    return run.ear.step(name, "proved").effective


def test_backends_of_one_role_are_ended(stack: LocalStack, run: Run, database: Database) -> None:
    whole_again(stack)
    bystander = database.session("bystander", admin=True)
    victim = database.session("victim")
    play(run, "postgres", "backend-kill", name="backends", for_s=2.5, user="app_readonly")
    found = effective(run, "backends")
    assert found["backends_before"] == found["backends_gone"] == found["backends_ended"] >= 2  # the gateway's, ours
    assert bystander.ask("SELECT 1") == [(1,)]
    with pytest.raises(Exception, match="terminat"):
        victim.ask("SELECT 1")
    bystander.close()
    whole_again(stack)


def test_nobody_can_connect_while_all_connections_are_held(run: Run, database: Database) -> None:
    play(run, "postgres", "connection-exhaustion", name="full")
    found = effective(run, "full")
    assert found["new_connection"] == "53300"
    assert found["free"] == 0
    assert found["connections_held"] > 50
    assert database.ask(OURS) == []


def test_so_many_connections_are_left_as_was_asked(run: Run) -> None:
    play(run, "postgres", "connection-exhaustion", name="some", leave=4)
    assert effective(run, "some")["free"] <= 4


def test_queries_are_slower_while_others_compute(run: Run, database: Database) -> None:
    sessions = max(8, 2 * (os.cpu_count() or 1))  # more than the machine can compute at once
    if sessions > 80:
        pytest.skip("PostgreSQL takes no more sessions than this machine has processors")
    play(run, "postgres", "slow-queries", name="slow", connections=sessions)
    found = effective(run, "slow")
    assert found["sessions_active"] == sessions
    assert found["query_ms"] > found["query_ms_before"]
    assert database.ask(OURS) == []


def test_readers_of_a_locked_table_wait(run: Run, database: Database) -> None:
    play(run, "postgres", "lock", name="lock")
    found = effective(run, "lock")
    assert (found["table"], found["read"]) == ("events", "locked")
    assert database.ask(OURS) == []


@contextmanager
def waiting_for_the_table(database: Database) -> Iterator[None]:
    """Somebody whom the lock meets."""
    session = database.session("somebody")

    def ask() -> None:
        with suppress(SqlRefused):
            session.ask("SELECT 1 FROM events LIMIT 1")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        session.cancel()
        thread.join()
        session.close()


def test_a_lock_whose_holder_was_ended_is_not_proved_any_more(run: Run, database: Database) -> None:
    fault = fault_on("postgres", "lock", at_ns=run.now_ns() + SOON_NS, for_s=60, name="ended")
    run.handle.send(Schedule(faults=[fault]))
    run.await_step("ended", "active")
    with waiting_for_the_table(database):
        run.await_step("ended", "proved")
    (holder,) = (pid for (pid,) in database.ask(OURS))
    database.ask("SELECT pg_terminate_backend(%s)", (holder,))
    lost = run.await_step("ended", "not proved")
    assert "no session of the fault holds events" in lost.detail
    run.handle.send(End(fault="ended", by="by hand"))
    run.await_step("ended", "lifted")
    assert run.ear.names("ended") == ["announced", "active", "proved", "not proved", "lifted"]


def test_a_table_that_is_not_there_is_a_failed_fault(run: Run) -> None:
    play(run, "postgres", "lock", name="nowhere", for_s=1.5, table="nowhere")
    step = run.await_step("nowhere", "failed")
    assert "nowhere" in step.detail
    assert run.await_step("nowhere", "lifted")


@pytest.mark.parametrize(
    ("kind", "asked", "reason"),
    [
        ("backend-kill", {}, "still there"),
        ("connection-exhaustion", {}, "were accepted"),
        ("slow-queries", {"connections": 2}, "0 sessions compute"),
        ("lock", {}, "a probe saw: read"),
    ],
)
def test_without_the_act_nothing_is_proved(stack: LocalStack, kind: str, asked, reason: str) -> None:
    whole_again(stack)
    proof = witnessed(site_on(stack), fault_on("postgres", kind, **asked), applied=False)
    assert not proof.proved
    assert reason in proof.reason


def test_sessions_that_slow_nothing_down_are_no_proof(stack: LocalStack) -> None:
    witness = KINDS["slow-queries"].witness(site_on(stack), fault_on("postgres", "slow-queries", connections=0))
    witness.before(Watch.of_s(2))
    witness.calm_ns = [10 * took_ns for took_ns in witness.calm_ns]
    proof = witness.during(Watch.of_s(2))
    witness.close()
    assert not proof.proved
    assert "hardly longer" in proof.reason


def test_a_table_locked_by_somebody_else_before_is_no_proof(stack: LocalStack, database: Database) -> None:
    other = database.session("somebody else", admin=True)
    other.ask("BEGIN")
    other.ask("LOCK TABLE symbols IN ACCESS EXCLUSIVE MODE")
    witness = KINDS["lock"].witness(site_on(stack), fault_on("postgres", "lock", table="symbols"))
    witness.before(Watch.of_s(0.3))
    proof = witness.during(Watch.of_s(0.5))
    other.close()
    assert not proof.proved
    assert "before the fault either" in proof.reason


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("slow-queries", {"connections": 0}),
        ("connection-exhaustion", {"leave": -1}),
        ("lock", {"table": 'x"; DROP TABLE events'}),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(kind: str, asked) -> None:
    assert KINDS[kind].problems(fault_on("postgres", kind, **asked))


@pytest.mark.parametrize(("kind", "asked"), [("slow-queries", {"connections": 2}), ("lock", {})])
def test_another_process_ends_it_from_the_journal_alone(
    stack: LocalStack, tmp_path: Path, database: Database, kind: str, asked
) -> None:
    with injector(stack, tmp_path) as run:
        fault = fault_on("postgres", kind, at_ns=run.now_ns() + SOON_NS, for_s=600, **asked)
        run.handle.send(Schedule(faults=[fault]))
        run.await_step("fault", "active")
        assert database.ask(OURS)
        run.handle._closing = True  # so that nothing starts it again
        os.kill(run.handle.pid, signal.SIGKILL)
        eventually(lambda: not run.handle.alive)
    if kind == "slow-queries":
        assert database.ask(OURS)  # a session that computes does not notice that its client is gone
    done = heal(run.begin.toxiproxy, [Path(run.begin.journal)])
    assert any("Lifted" in text for text in done), done
    assert Journal(Path(run.begin.journal)).pending() == []
    assert database.ask(OURS) == []
