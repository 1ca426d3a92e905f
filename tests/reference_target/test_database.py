"""Is the schema as promised, is the read-only role read-only, and does every pattern reach the table?"""

from __future__ import annotations

import json
import time
from typing import Any

import psycopg2
import pytest
from target_clients import MARKET, PATTERNS, pattern, ranking
from target_servers import Gateway, Postgres, Producer, Redis, until


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO events (symbol, pattern, timestamp) VALUES ('A', 'Doji', now())",
        "UPDATE symbols SET name = ''",
        "DELETE FROM events",
        "CREATE TABLE mine (x int)",
        "CREATE TEMPORARY TABLE mine (x int)",
        "TRUNCATE events",
    ],
)
def test_the_read_only_role_may_not_write(postgres: Postgres, statement: str) -> None:
    connection = postgres.connect("app_readonly")
    try:
        with connection.cursor() as cursor:
            with pytest.raises(psycopg2.Error) as refused:
                cursor.execute(statement)
            assert refused.value.pgcode == "42501"
            cursor.execute("SELECT count(*) FROM symbols")
            assert cursor.fetchone()[0] >= 60
    finally:
        connection.close()


def rows(postgres: Postgres, run: str) -> list[tuple[Any, ...]]:
    connection = postgres.connect("app_readonly")
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT symbol, pattern, timestamp, details FROM events WHERE run = %s ORDER BY id", (run,))
            return list(cursor.fetchall())
    finally:
        connection.close()


def test_every_pattern_is_written_once_and_read_back_at_once(
    gateway: Gateway, redis_server: Redis, postgres: Postgres
) -> None:
    client = redis_server.client()
    with Producer(redis_port=redis_server.port, pg_port=postgres.port) as producer:
        producer.await_ready()
        for n in range(700):  # more than one INSERT takes
            client.publish(PATTERNS, pattern("AAPL", "Hammer", n=n, tickstorm={"run": "all", "seq": n}))
        client.publish(MARKET, ranking())
        client.publish(PATTERNS, b"bad")
        client.publish(PATTERNS, pattern(pattern_note="\x00", tickstorm={"run": "all", "seq": -1}))
        until(lambda: producer.stats()["written"] + producer.stats()["failed"] == 701, "all are written")
        stats = producer.stats()
        assert (stats["written"], stats["failed"], stats["overflowed"]) == (700, 1, 0)
        assert stats["received"] == 702
        assert stats["bad"] == {"not_json": 1}
        written = rows(postgres, "all")
        assert [details["n"] for *_, details in written] == list(range(700))
        assert written[0][3]["confidence"] == 0.85
        assert written[0][2].isoformat() == "2026-01-02T03:04:05.678000+00:00"

        newest = {"timestamp": "2099-01-01T00:00:00Z", "tickstorm": {"run": "newest"}}
        client.publish(PATTERNS, pattern("NVDA", "Engulfing", **newest))
        until(lambda: rows(postgres, "newest"), "it is written")
        status, recent = gateway.http("/api/events/recent?limit=5")
        assert status == 200
        assert len(recent) == 5
        assert (recent[0]["symbol"], recent[0]["pattern"]) == ("NVDA", "Engulfing")
        assert recent[0]["details"]["confidence"] == 0.85
        assert {"Hammer", "Engulfing"} <= set(gateway.http("/api/patterns")[1])
        assert gateway.http("/api/symbols")[1]["AAPL"] == "Apple"
        assert gateway.http("/api/events/recent?limit=0")[0] == 400
        assert producer.stop() == 0


def test_the_producer_reconnects_and_writes_exactly_once(redis_server: Redis, postgres: Postgres) -> None:
    client = redis_server.client()
    admin = postgres.connect()
    with Producer(redis_port=redis_server.port, pg_port=postgres.port, PRODUCER_FLUSH_MS="5") as producer:
        producer.await_ready()
        kills = 0
        for n in range(600):
            client.publish(PATTERNS, pattern(n=n, tickstorm={"run": "killed", "seq": n}))
            if n % 100 == 50:
                with admin.cursor() as cursor:
                    cursor.execute(
                        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                        " WHERE application_name = 'producer'"
                    )
                    kills += cursor.fetchone()[0]
        until(lambda: producer.stats()["written"] == 600, "all are written")
        assert sorted(details["n"] for *_, details in rows(postgres, "killed")) == list(range(600))
        assert kills >= 1
        assert producer.stats()["pg_reconnects"] >= 1
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        until(lambda: producer.stats()["redis_reconnects"] == 1, "it has subscribed again")
    admin.close()


def test_the_producer_says_that_it_lives_and_nothing_on_the_loads_channels(
    redis_server: Redis, postgres: Postgres
) -> None:
    listener = redis_server.client().pubsub()
    listener.psubscribe("tickstock.*")
    with Producer(redis_port=redis_server.port, pg_port=postgres.port):
        heard = []
        deadline = time.monotonic() + 30
        while len(heard) < 2:
            assert time.monotonic() < deadline
            message = listener.get_message(ignore_subscribe_messages=True, timeout=1)
            if message:
                heard.append(message)
    assert {message["channel"] for message in heard} == {b"tickstock.health.status"}
    body = json.loads(heard[0]["data"])
    assert (body["event_type"], body["source"]) == ("health", "tickstock_pl")
    listener.close()


def test_rows_beyond_the_queue_are_counted(redis_server: Redis) -> None:
    client = redis_server.client()
    with Producer(redis_port=redis_server.port, pg_port=1, PRODUCER_QUEUE="10") as producer:
        until(lambda: producer.health()["redis"] == "subscribed", "it has subscribed")
        assert producer.health()["status"] == "degraded"
        for n in range(25):
            client.publish(PATTERNS, pattern(n=n))
        until(lambda: producer.stats()["received"] == 25, "all were received")
        stats = producer.stats()
        assert (stats["overflowed"], stats["waiting"], stats["written"]) == (15, 10, 0)
