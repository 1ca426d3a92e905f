"""Do readers ask what they should, at their rate, without stopping the hub, and is every failure told by its kind?"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import gevent
import pytest
from publish_servers import Clock, free_port, make_context, make_profile, until

from loadtests.drive import postgres
from loadtests.drive.database_reader import QueryReading
from loadtests.model.ids import NS_PER_S
from loadtests.model.profile.workload import Readers, Shape
from loadtests.model.records import Queried
from loadtests.tally.histogram import Histogram

sys.path.insert(0, str(Path(__file__).parents[1] / "reference_target"))
from target_servers import ROOT, Postgres

SHAPE = Shape(kind="constant", rate_per_s=1.0)


@pytest.fixture(scope="module")
def server():
    postgres.make_cooperative()
    with Postgres() as running:
        admin = running.connect(database="postgres")
        admin.cursor().execute("CREATE DATABASE tickstock_test")
        admin.close()
        schema = running.connect()
        schema.cursor().execute((ROOT / "reference_target" / "schema.sql").read_text("utf-8"))
        schema.close()
        yield running


def account(server, **other) -> postgres.DatabaseLogin:
    return postgres.DatabaseLogin(
        **{
            "address": ("127.0.0.1", server.port),
            "database": "tickstock_test",
            "user": "app_readonly",
            "timeout_s": 2.0,
            **other,
        }
    )


def reading(port: int, *, duration_s: float = 1.0, **spec):
    profile = make_profile(SHAPE, duration_s=duration_s)
    profile.readers.append(Readers(name="ui", **spec))
    context, records, _ = make_context(profile, ("127.0.0.1", 1))
    object.__setattr__(context.addresses, "postgres", ("127.0.0.1", port))
    return QueryReading(context, 0, None), context, records


def total(records, query=None) -> tuple[int, int]:
    found = [r for r in records if isinstance(r, Queried) and query in (None, r.query)]
    return sum(r.ok for r in found), sum(r.failed for r in found)


def start(context) -> None:
    context.t0.set(context.clock.now_ns() + NS_PER_S // 50)


def test_every_named_query_answers_in_the_read_only_role(server) -> None:
    connection = postgres.connect(account(server))
    try:
        assert isinstance(postgres.rows(connection, "symbols_count", 2)[0][0], int)
        assert len(postgres.rows(connection, "symbols_first", 2)) == 10
        for query in ("events_last", "patterns_distinct"):
            assert isinstance(postgres.rows(connection, query, 2), list)
        with connection.cursor() as cursor, pytest.raises(Exception, match=r"read-only|permission denied") as caught:
            cursor.execute("INSERT INTO symbols (symbol, name) VALUES ('X', 'x')")
        assert caught.value.pgcode in ("25006", "42501")
    finally:
        connection.close()


def test_the_password_of_the_environment_is_presented_and_never_shown(server, monkeypatch) -> None:
    monkeypatch.setenv("TEST_DB_PASSWORD", "s3cret-word")
    connection = postgres.connect(account(server))
    assert "password=xxx" in connection.dsn  # psycopg2 hides what it was given
    connection.close()
    monkeypatch.delenv("TEST_DB_PASSWORD")
    connection = postgres.connect(account(server))
    assert "password=" not in connection.dsn
    connection.close()


def test_the_rate_is_kept_and_connecting_is_timed_apart(server) -> None:
    work, context, records = reading(server.port, rate_per_s=40.0)
    start(context)
    work.run()
    ok, failed = total(records)
    assert (ok, failed) == (40, 0)
    assert {r.query for r in records} == set(postgres.QUERIES)
    connect, latency = Histogram(), Histogram()
    for r in records:
        connect.merge(r.connect)
        latency.merge(r.latency)
    assert (connect.count, latency.count) == (1, 40)
    assert {r.due_slice for r in records} >= set(range(1, 9))


def test_a_connection_for_each_query(server) -> None:
    work, context, records = reading(server.port, rate_per_s=10.0, connect_each=True)
    start(context)
    work.run()
    assert sum(sum(r.connect[1]) for r in records) == 10


def test_a_slow_query_does_not_stop_the_hub(server, monkeypatch) -> None:
    monkeypatch.setitem(postgres.QUERIES, "symbols_count", "SELECT pg_sleep(0.4)")
    connection = postgres.connect(account(server))
    asked = gevent.spawn(postgres.rows, connection, "symbols_count", 2)
    turns = 0
    while not asked.dead:
        gevent.sleep(0.005)
        turns += 1
    assert turns > 10
    assert asked.successful()
    connection.close()


def test_a_statement_beyond_its_time_is_cancelled_and_the_next_ones_count_their_wait(server, monkeypatch) -> None:
    monkeypatch.setitem(postgres.QUERIES, "symbols_count", "SELECT pg_sleep(0.25)")
    work, context, records = reading(server.port, rate_per_s=10.0, queries=["symbols_count"], duration_s=0.6)
    start(context)
    work.run()
    assert total(records) == (6, 0)
    latency = Histogram()
    for r in records:
        latency.merge(r.latency)
    assert latency.max_ms() > 700  # six of 250 ms, due 100 ms apart: the last waited for the five before it
    work, context, records = reading(
        server.port, rate_per_s=4.0, queries=["symbols_count"], timeout_s=0.1, duration_s=0.5
    )
    start(context)
    work.run()
    assert total(records)[0] == 0
    assert any(r.example.startswith("57014") for r in records)


def test_failures_carry_their_sqlstate(server, monkeypatch) -> None:
    monkeypatch.setitem(postgres.QUERIES, "symbols_count", "SELECT * FROM nothing_like_this")
    work, context, records = reading(server.port, rate_per_s=10.0, queries=["symbols_count"], duration_s=0.5)
    start(context)
    work.run()
    assert total(records) == (0, 5)
    assert all(r.example.startswith("42P01") for r in records)


def test_no_server_is_a_failure_of_each_query() -> None:
    postgres.make_cooperative()
    work, context, records = reading(free_port(), rate_per_s=10.0, duration_s=0.5)
    start(context)
    work.run()
    assert total(records) == (0, 5)
    assert all(r.example.startswith("connect") for r in records)


def test_a_terminated_backend_costs_one_query_and_a_new_connection(server) -> None:
    work, context, records = reading(server.port, rate_per_s=40.0, duration_s=1.0)
    running = gevent.spawn(work.run)
    start(context)
    until(lambda: context.clock.now_ns() > context.t0.get() + NS_PER_S // 3, "it reads")
    admin = server.connect()
    admin.cursor().execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tickstorm-reader'"
    )
    admin.close()
    running.get(timeout=20)
    ok, failed = total(records)
    assert failed == 1
    assert ok == 39
    # Cut off while idle, libpq hears of it without a SQLSTATE.
    assert any(r.example.startswith(("57P01", "lost")) for r in records)
    assert sum(sum(r.connect[1]) for r in records) == 2


def test_a_server_that_hangs_is_noticed_by_the_clock_of_the_reader(server) -> None:
    connection = postgres.connect(account(server))
    backend = connection.info.backend_pid
    os.kill(backend, signal.SIGSTOP)
    try:
        with pytest.raises(postgres.QueryError, match="timeout"):
            postgres.rows(connection, "symbols_count", 0.1)
        assert not postgres.usable(connection)
    finally:
        os.kill(backend, signal.SIGCONT)


def test_the_end_of_the_plan_stops_a_reader_at_once(server) -> None:
    work, context, _ = reading(server.port, rate_per_s=0.1, duration_s=60.0)
    running = gevent.spawn(work.run)
    start(context)
    context.plan_over.set()
    running.get(timeout=5)
    assert isinstance(context.clock, Clock)


def test_without_the_wait_callback_it_refuses(monkeypatch) -> None:
    monkeypatch.setattr(postgres, "is_cooperative", lambda: False)
    with pytest.raises(RuntimeError, match="make_cooperative"):
        reading(free_port())
