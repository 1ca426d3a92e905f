"""Does the gateway survive bad input, lost servers and slow clients, and count what its switches do?"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest
from target_clients import MARKET, PATTERNS, PlainPeer, SocketPeer, eventually, pattern, websocket_key
from target_servers import Gateway, Postgres, Redis, free_port, until

BAD = [
    (PATTERNS, b"no json", "not_json"),
    (PATTERNS, b'{"event_type":"pattern_detected","x":"\xff"}', "not_utf8"),
    (PATTERNS, b'{"event_type":"pattern_detected","symbol":"A","confidence":0.5}', "missing_key"),
    (PATTERNS, b'{"pattern":"Doji","symbol":"A","confidence":0.5}', "missing_key"),
    (PATTERNS, b'{"event_type":"pattern_detected","pattern":"D","symbol":"A","confidence":1.5}', "wrong_type"),
    (PATTERNS, b'{"event_type":"pattern_detected","pattern":7,"symbol":"A","confidence":0.5}', "wrong_type"),
    (PATTERNS, b"[]", "wrong_type"),
    (PATTERNS, b'{"event_type":"ranking_change","symbol":"A"}', "unknown_event_type"),
    (MARKET, b'{"event_type":"surprise","symbol":"A"}', "unknown_event_type"),
    (MARKET, b'{"event_type":"stage_change","symbol":"A","rank_change":"up"}', "wrong_type"),
    ("tickstock.events.backtesting.progress", b'{"event_type":"backtest_progress","job_id":"j"}', "missing_key"),
]


def test_bad_messages_are_counted_by_kind_and_never_forwarded(gateway: Gateway, redis_server: Redis) -> None:
    async def scene() -> None:
        before = Counter(gateway.stats()["bad"])
        async with PlainPeer(gateway) as peer:
            await peer.subscribe()
            client = redis_server.client()
            for channel, payload, _ in BAD:
                client.publish(channel, payload)
            client.publish(PATTERNS, pattern(n=1))
            await eventually(lambda: peer.events, "the good one arrives")
            assert peer.numbers() == [1]
        assert Counter(gateway.stats()["bad"]) - before == Counter(kind for _, _, kind in BAD)

    asyncio.run(scene())


def test_the_subscription_returns_after_a_client_kill(gateway: Gateway, redis_server: Redis) -> None:
    async def scene() -> None:
        reconnects = gateway.stats()["redis_reconnects"]
        client = redis_server.client()
        async with PlainPeer(gateway) as plain, SocketPeer(gateway) as ws:
            await plain.subscribe()
            await ws.subscribe()
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            until(lambda: gateway.stats()["redis_reconnects"] == reconnects + 1, "it has subscribed again")
            assert client.publish(PATTERNS, pattern(n=1)) == 1
            await eventually(lambda: plain.events and ws.events, "events flow again")
        assert gateway.stats()["redis_missed_periods"] >= 1

    asyncio.run(scene())


def test_it_starts_without_any_server_and_recovers(postgres: Postgres) -> None:
    async def scene() -> None:
        redis_port = free_port()
        with Gateway(redis_port=redis_port, pg_port=postgres.port, PG_USER="nobody_knows") as gateway:
            assert gateway.http("/health?strict=1")[0] == 503
            health = gateway.health()
            assert health["status"] == "degraded"
            assert health["redis"] == "connecting"
            assert health["postgres"] == "down"
            assert gateway.http("/api/patterns")[0] == 503
            assert gateway.http("/switch", {"drop_every": 1})[0] == 403
            async with PlainPeer(gateway) as peer:
                await peer.subscribe()
                with Redis(redis_port) as server:
                    until(lambda: gateway.health()["redis"] == "subscribed", "it found Redis")
                    server.client().publish(PATTERNS, pattern(n=1))
                    await eventually(lambda: peer.numbers() == [1], "events flow")
                until(lambda: gateway.health()["redis"] == "connecting", "it noticed that Redis ended")

    asyncio.run(scene())


def test_a_silent_redis_is_found_dead_by_ping(postgres: Postgres) -> None:
    with (
        Redis() as server,
        Gateway(
            redis_port=server.port, pg_port=postgres.port, REDIS_PING_S="0.2", REDIS_PING_TIMEOUT_S="0.2"
        ) as gateway,
    ):
        gateway.await_ready()
        assert server.process is not None
        server.process.send_signal(19)  # SIGSTOP: the connection stays open and says nothing
        try:
            until(lambda: gateway.health()["redis"] == "connecting", "the silence was noticed")
        finally:
            server.process.send_signal(18)
        gateway.await_ready()


def stalled_client(gateway: Gateway, *, socketio: bool) -> socket.socket:
    """A subscribed client that never reads again."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", gateway.port))
    sock.settimeout(10)
    path = "/socket.io/?EIO=4&transport=websocket" if socketio else "/ws"
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {websocket_key()}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )

    def say(text: bytes, answer: bytes) -> None:
        sock.sendall(bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text)
        got = b""
        while answer not in got:
            got += sock.recv(4096)

    if socketio:
        say(b"40", b"40{")
        say(b'420["subscribe",{}]', b"430[")
    else:
        say(b'{"action":"subscribe"}', b"subscribed")
    return sock


@pytest.fixture(scope="module")
def narrow(redis_server: Redis, postgres: Postgres) -> Iterator[Gateway]:
    """A gateway with a short queue per client, and a switch that is on from its start and too rare to be seen."""
    switched = {"GATEWAY_SWITCHES": json.dumps({"drop_every": 1_000_000}), "GATEWAY_ALLOW_SWITCHES": "1"}
    with Gateway(redis_port=redis_server.port, pg_port=postgres.port, GATEWAY_QUEUE="200", **switched) as process:
        process.await_ready()
        yield process


@pytest.mark.parametrize("socketio", [False, True])
def test_a_slow_client_is_cut_off_and_harms_nobody(narrow: Gateway, redis_server: Redis, socketio: bool) -> None:
    async def scene() -> None:
        before = narrow.stats()["slow_disconnected"]
        async with PlainPeer(narrow) as plain, SocketPeer(narrow) as ws:
            await plain.subscribe()
            await ws.subscribe()
            stalled = stalled_client(narrow, socketio=socketio)
            client = redis_server.client()
            sent = 0
            deadline = time.monotonic() + 60
            while narrow.stats()["slow_disconnected"] == before:
                assert time.monotonic() < deadline, "it was cut off"
                for _ in range(50):
                    client.publish(PATTERNS, pattern(n=sent, padding="x" * 10_000))
                    sent += 1
                # the good ones have read it all before the next lot: they are not slow
                await eventually(lambda n=sent: len(plain.events) == len(ws.events) == n, "the others get it all")
            assert plain.numbers() == ws.numbers() == list(range(sent))
            assert narrow.stats()["slow_disconnected"] == before + 1
            until(lambda: narrow.stats()["subscribed"] == 2, "it is out of its room")
            stalled.close()

    asyncio.run(scene())


def deliver_with(gateway: Gateway, redis_server: Redis, events: int, **switches: int) -> list[list[int]]:
    """What four clients got of so many events; one more event, sent without switches, ends the wait."""

    async def scene() -> list[list[int]]:
        peers: list[PlainPeer | SocketPeer] = [kind(gateway) for kind in (PlainPeer, SocketPeer, PlainPeer, SocketPeer)]
        for peer in peers:
            await peer.__aenter__()
            await peer.subscribe()
        status, values = gateway.http("/switch", switches)
        assert status == 200
        assert values | switches == values
        client = redis_server.client()
        received = gateway.stats()["received"]
        for n in range(events):
            client.publish(PATTERNS, pattern(n=n))
        until(lambda: gateway.stats()["received"] == received + events, "all were received")
        gateway.http("/switch", dict.fromkeys(values, 0))
        client.publish(PATTERNS, pattern(n=-1))
        for peer in peers:
            await eventually(lambda peer=peer: -1 in peer.numbers(), "the end arrived")
        for peer in peers:
            await peer.__aexit__()
        return [peer.numbers()[:-1] for peer in peers]

    return asyncio.run(scene())


def test_drop_and_duplicate_count_exactly(gateway: Gateway, redis_server: Redis) -> None:
    before = gateway.stats()
    got = deliver_with(gateway, redis_server, 500, drop_every=50)
    after = gateway.stats()
    assert after["dropped_by_switch"] - before["dropped_by_switch"] == 4 * 500 // 50
    assert sum(500 - len(set(numbers)) for numbers in got) == 4 * 500 // 50
    assert after["deliveries"] - before["deliveries"] == 4 * 501 - 4 * 500 // 50

    got = deliver_with(gateway, redis_server, 500, duplicate_every=25)
    assert gateway.stats()["duplicated_by_switch"] - before["duplicated_by_switch"] == 4 * 500 // 25
    assert sum(len(numbers) - len(set(numbers)) for numbers in got) == 4 * 500 // 25
    assert all(set(numbers) == set(range(500)) for numbers in got)


def test_reorder_swaps_every_nth_with_its_successor(gateway: Gateway, redis_server: Redis) -> None:
    before = gateway.stats()["reordered_by_switch"]
    got = deliver_with(gateway, redis_server, 100, reorder_every=10)
    for numbers in got:
        assert sorted(numbers) == list(range(100))
        # the 10th, 20th, ... 90th come after their successors; the 100th had none and went out at the end
        assert sum(a > b for a, b in pairwise(numbers)) == 9
        assert numbers.index(9) == numbers.index(10) + 1
    assert gateway.stats()["reordered_by_switch"] - before == 4 * 10


def test_fail_leak_and_delay(gateway: Gateway, redis_server: Redis) -> None:
    before = gateway.stats()
    got = deliver_with(gateway, redis_server, 100, fail_every=10, leak_bytes_per_message=100_000, delay_ms=1)
    after = gateway.stats()
    assert [len(numbers) for numbers in got] == [90] * 4
    assert all(numbers == sorted(numbers) for numbers in got)
    assert after["failed_by_switch"] - before["failed_by_switch"] == 10
    assert after["leaked_by_switch_bytes"] - before["leaked_by_switch_bytes"] == 100 * 100_000
    assert after["rss_bytes"] - before["rss_bytes"] > 5_000_000
    assert gateway.http("/switch", {"drop_evry": 1})[0] == 400
    assert gateway.http("/switch", {"drop_every": -1})[0] == 400


def test_sigterm_closes_with_going_away_and_ends_in_time(redis_server: Redis, postgres: Postgres) -> None:
    async def scene() -> None:
        with Gateway(redis_port=redis_server.port, pg_port=postgres.port) as gateway:
            gateway.await_ready()
            async with PlainPeer(gateway) as plain, SocketPeer(gateway) as ws, SocketPeer(gateway, "polling") as poll:
                for peer in (plain, ws, poll):
                    await peer.subscribe()
                stalled = stalled_client(gateway, socketio=False)
                code = await asyncio.to_thread(gateway.stop, 10.0)
                assert code == 0
                await asyncio.wait_for(plain.closed.wait(), 10)
                assert plain.ws.close_code == 1001
                await eventually(lambda: not ws.client.connected, "the Socket.IO client was told")
                stalled.close()

    asyncio.run(scene())


def test_switches_from_the_environment(narrow: Gateway) -> None:
    assert narrow.http("/switch")[1]["drop_every"] == 1_000_000
