"""Does the book hold when connections, the gateway or Redis end, and when a client does not read?"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Start
from lying import (
    CHANNEL,
    DEADLINE_S,
    ROOT,
    PacketListener,
    PlainListener,
    Publisher,
    RedisServer,
    agent,
    connection_of,
    of,
    owed,
    told,
)


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return value


def lies(start: Start, redis_server: RedisServer, seed: int) -> list[dict[str, Any]]:
    plan = [{"kind": "lost", "share": 0.05}, {"kind": "reordered", "every": 20}, {"kind": "foreign-route", "every": 30}]
    gateway = start({"seed": seed, "lies": plan})

    async def listen() -> None:
        listeners = [PlainListener(gateway, 0), PlainListener(gateway, 4, symbols=["AAPL"]), PacketListener(gateway, 9)]
        for listener in listeners:
            await listener.open()
        publisher = Publisher(redis_server)
        await asyncio.to_thread(publisher.publish, 100)
        publisher.last()
        for listener in listeners:
            await listener.leave()

    asyncio.run(listen())
    timeless = [{k: v for k, v in line.items() if not k.endswith("_ns")} for line in of(gateway.book(), "lie")]
    return sorted(timeless, key=lambda line: (line["consumer"], line["n"]))


def test_the_same_plan_and_messages_give_the_same_lies(start: Start, redis_server: RedisServer) -> None:
    first = lies(start, redis_server, 1)
    assert first == lies(start, redis_server, 1)
    assert first != lies(start, redis_server, 2)
    assert {line["kind"] for line in first} == {"lost", "reordered", "foreign-route"}


@pytest.mark.parametrize("listener_kind", [PlainListener, PacketListener])
def test_the_end_of_the_gateway_completes_the_book(
    start: Start, redis_server: RedisServer, listener_kind: type[PlainListener]
) -> None:
    plan = [{"kind": "reordered", "every": 3, "after": 50, "within_ms": 60_000}, {"kind": "lost", "share": 0.1}]
    gateway = start({"lies": plan})
    listeners = [listener_kind(gateway, slot) for slot in range(3)]

    async def listen() -> list[dict[str, Any]]:
        for listener in listeners:
            await listener.open()
        await asyncio.to_thread(Publisher(redis_server).publish, 1000)
        await asyncio.to_thread(until, lambda: gateway.http("/stats")["received"] > 100, "some messages came")
        ending = asyncio.create_task(asyncio.to_thread(gateway.book))
        for listener in listeners:
            await listener.until(None)
        return await ending

    book = asyncio.run(listen())
    for listener in listeners:
        connection = connection_of(book, listener)
        assert listener.closed == (1001, "gateway stops")
        assert Counter(listener.got()) == owed(book, connection)
        (end,) = of(book, "closed", connection=connection)
        assert (end["why"], end["code"]) == ("gateway stops", 1001)
        given_up = of(book, "lie", connection=connection, kind="reordered", out_ns=None)
        assert {line["why"] for line in given_up} == {"left"}


@pytest.mark.parametrize(("code", "seen"), [(1006, 1006), (1011, 1011), (1013, 1013)])
def test_a_dropped_connection_ends_at_its_message_and_is_refused(
    start: Start, redis_server: RedisServer, code: int, seen: int
) -> None:
    drop = {"kind": "dropped-connection", "consumers": [1], "due_s": [0.3, 0.3], "code": code, "refuse_s": 0.3}
    gateway = start({"lies": [drop]})
    stays, dropped, comes_back = PlainListener(gateway, 0), PlainListener(gateway, 1), PlainListener(gateway, 1, 2)

    async def listen() -> int:
        await stays.open()
        await dropped.open()
        publisher = Publisher(redis_server)
        await asyncio.to_thread(publisher.publish, 50)
        await dropped.until(None)
        refused = 0
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            if await asyncio.to_thread(status_of_upgrade, gateway.port, agent(1, 1)) == 503:
                refused += 1
            else:
                break
            await asyncio.sleep(0.02)
        await comes_back.open()
        await asyncio.to_thread(publisher.publish, 50)
        publisher.last()
        await stays.leave()
        await comes_back.leave()
        return refused

    refused = asyncio.run(listen())
    book = gateway.book()
    for listener in (stays, dropped, comes_back):
        assert Counter(listener.got()) == owed(book, connection_of(book, listener))
    assert len(dropped.got()) == 3 * 30
    assert len(comes_back.got()) == 3 * 50
    assert dropped.closed is not None
    assert dropped.closed[0] == seen
    assert refused == len(of(book, "refused", consumer=1, epoch=1)) > 0
    (lie,) = of(book, "lie")
    connection = connection_of(book, dropped)
    assert (lie["connection"], lie["code"], lie["stream"]) == (connection, code, None)
    (unsubscribed,) = of(book, "unsubscribed", connection=connection)
    assert unsubscribed["to"] == lie["n"] == 90
    (end,) = of(book, "closed", connection=connection)
    assert (end["why"], end["unsent"]) == ("dropped", [])


def test_who_is_refused_from_the_first_never_comes_in(start: Start) -> None:
    gateway = start({"lies": [{"kind": "refused", "consumers": [1]}]})
    assert [status_of_upgrade(gateway.port, agent(slot)) for slot in (0, 1, 1)] == [101, 503, 503]
    book = gateway.book()
    assert [(line["consumer"], line["epoch"]) for line in of(book, "refused")] == [(1, 0)] * 2
    assert len(of(book, "open")) == 1


def test_a_silent_gateway_sends_no_pings_and_one_that_speaks_again_does(
    start: Start, redis_server: RedisServer
) -> None:
    silent = {"kind": "silent", "consumers": [1], "due_s": [0.1, 0.2]}
    gateway = start({"ping_interval_ms": 20, "ping_timeout_ms": 30, "lies": [silent]})
    hears, deaf = PacketListener(gateway, 0), PacketListener(gateway, 1)

    async def pings(listener: PacketListener, more: int) -> None:
        wanted = listener.texts.count("2") + more
        async with asyncio.timeout(DEADLINE_S):
            while listener.texts.count("2") < wanted:
                await asyncio.sleep(0.005)

    async def listen() -> None:
        publisher = Publisher(redis_server)
        for listener in (hears, deaf):
            await listener.open()
        assert '"pingInterval": 20, "pingTimeout": 30' in deaf.texts[0]
        await pings(deaf, 2)
        await asyncio.to_thread(publisher.publish, 15)  # into the window
        await hears.until('42["pattern_detected",{"event_type": "pattern_detected"')
        await pings(hears, 1)
        before = deaf.texts.count("2")
        await pings(hears, 5)
        assert deaf.texts.count("2") <= before + 1, "one may have been on its way"
        await asyncio.to_thread(publisher.publish, 15)  # beyond it
        await pings(deaf, 2)
        publisher.last()
        await hears.leave()
        await deaf.leave()

    asyncio.run(listen())
    book = gateway.book()
    assert len(of(book, "lie", kind="silent")) == 3 * 10, "those due from 0.1 to 0.2 s"
    for listener in (hears, deaf):
        assert Counter(listener.got()) == owed(book, connection_of(book, listener))


def test_health_is_hostile_as_soon_as_a_run_is_under_way(start: Start, redis_server: RedisServer) -> None:
    gateway = start({"health": "hostile"})
    assert gateway.http("/health")["status"] == "ready"
    listener = PlainListener(gateway, 0)

    async def listen() -> None:
        await listener.open()
        await asyncio.to_thread(Publisher(redis_server).publish, 1)
        Publisher(redis_server).last()
        await listener.leave()

    asyncio.run(listen())
    with pytest.raises(RecursionError):
        gateway.http("/health")
    assert len(str(gateway.http("/health")["clients"])) == 401
    with socket.create_connection(("127.0.0.1", gateway.port), DEADLINE_S) as held:
        held.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        held.settimeout(0.2)
        with pytest.raises(TimeoutError):
            held.recv(1)
    assert gateway.http("/stats")["received"] == 4


def status_of_upgrade(port: int, name: str) -> int:
    with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as sock:
        sock.sendall(
            f"GET /ws HTTP/1.1\r\nHost: x\r\nUser-Agent: {name}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        return int(sock.recv(4096).split()[1])


def test_what_was_kept_for_a_dropped_consumer_is_replayed(start: Start, redis_server: RedisServer) -> None:
    drop = {"kind": "dropped-connection", "consumers": [1], "due_s": [0.1, 0.1], "replay_limit": 12}
    gateway = start({"lies": [drop]})
    before, behind = PlainListener(gateway, 1, 0, symbols=["AAPL"]), PlainListener(gateway, 1, 1, symbols=["AAPL"])

    async def listen() -> None:
        await before.open()
        publisher = Publisher(redis_server)
        await asyncio.to_thread(publisher.publish, 30)
        await before.until(None)
        await asyncio.to_thread(until, lambda: gateway.http("/stats")["received"] == 90, "all came")
        await behind.open()
        await asyncio.to_thread(publisher.publish, 10)
        publisher.last()
        await behind.leave()

    asyncio.run(listen())
    book = gateway.book()
    assert Counter(behind.got()) == owed(book, connection_of(book, behind))
    assert before.got() == [(1 << 32, seq) for seq in range(10)]
    assert behind.got() == [(1 << 32, seq) for seq in range(18, 40)]
    assert [line["seq"] for line in of(book, "lie", kind="replayed", why="limit")] == list(range(10, 18))


def test_a_client_that_does_not_read_is_dropped_and_delays_nobody(start: Start, redis_server: RedisServer) -> None:
    gateway = start({})
    reads = PlainListener(gateway, 0)
    messages, pad = 700, 20_000

    async def listen() -> None:
        await reads.open()
        publisher = Publisher(redis_server)
        for _ in range(messages // 50):
            await asyncio.to_thread(publisher.publish, 50, pad)
        publisher.last()
        await reads.leave()

    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        slow.settimeout(DEADLINE_S)
        slow.connect(("127.0.0.1", gateway.port))
        slow.sendall(
            f"GET /ws HTTP/1.1\r\nHost: x\r\nUser-Agent: {agent(1)}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        request = b'{"action":"subscribe"}'
        slow.sendall(bytes((0x81, 0x80 | len(request), 0, 0, 0, 0)) + request)
        until(lambda: gateway.http("/stats")["subscribed"] == 1, "it is subscribed")
        asyncio.run(listen())
        assert gateway.http("/stats")["slow_disconnected"] == 1
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := slow.recv(1 << 16):
                received += piece
    book = gateway.book()
    assert Counter(reads.got()) == owed(book, connection_of(book, reads))
    (opened,) = of(book, "open", consumer=1)
    (end,) = of(book, "closed", connection=opened["connection"])
    assert end["why"] == "slow"
    assert len(end["unsent"]) > 100
    texts = whole_texts(received.partition(b"\r\n\r\n")[2])
    assert Counter(kind for text in texts if (kind := told(text)) is not None) == owed(book, opened["connection"])


def whole_texts(stream: bytes) -> list[str]:
    texts, at = [], 0
    while at + 4 <= len(stream):
        size, at = stream[at + 1], at + 2
        if size == 126:
            size, at = struct.unpack_from("!H", stream, at)[0], at + 2
        if at + size <= len(stream):
            texts.append(stream[at : at + size].decode())
        at += size
    return texts


@pytest.mark.parametrize("batch_ms", [0, 5])
def test_sends_are_recorded_around_the_call(start: Start, redis_server: RedisServer, batch_ms: float) -> None:
    gateway = start({"record_sends": True, "batch_ms": batch_ms, "lies": [{"kind": "delayed", "every": 10, "ms": 20}]})
    listener = PlainListener(gateway, 0)

    async def listen() -> None:
        await listener.open()
        publisher = Publisher(redis_server)
        await asyncio.to_thread(publisher.publish, 100)
        await asyncio.to_thread(until, lambda: gateway.http("/stats")["deliveries"] == 300, "the delayed are sent, too")
        publisher.last()
        await listener.leave()

    began_ns = time.monotonic_ns()
    asyncio.run(listen())
    book = gateway.book()
    lines = of(book, "sends", connection=connection_of(book, listener))
    columns = [[one for line in lines for one in line[key]] for key in ("n", "before_ns", "after_ns")]
    numbers, before, after = columns
    events = of(book, "event")
    assert [(events[n]["stream"], events[n]["seq"]) for n in numbers if events[n]["run"]] == listener.got()
    got = {line["n"]: line["got_ns"] for line in events}
    assert all(began_ns < got[n] <= b <= a for n, b, a in zip(numbers, before, after, strict=True))
    assert before == sorted(before)
    assert after == sorted(after)
    sent_ns = dict(zip(numbers, before, strict=True))
    delayed = of(book, "lie", kind="delayed")
    assert len(delayed) == 30
    assert all(sent_ns[lie["n"]] >= lie["out_ns"] >= lie["at_ns"] + 20_000_000 for lie in delayed)


def test_memory_leaks_at_the_planned_rate(start: Start) -> None:
    gateway = start({"leak_bytes_per_s": 40e6})
    before = gateway.http("/stats")
    after = until(lambda: (s := gateway.http("/stats"))["leaked_bytes"] > 30e6 and s, "30 MB are leaked")
    leaked = after["leaked_bytes"] - before["leaked_bytes"]
    assert leaked * 0.8 < after["rss_bytes"] - before["rss_bytes"] < leaked * 1.2 + 2e6
    lines = of(gateway.book(), "leak")
    seconds = (lines[-1]["at_ns"] - lines[0]["at_ns"]) / 1e9
    assert lines[-1]["bytes"] - lines[0]["bytes"] == pytest.approx(40e6 * seconds, rel=0.3, abs=5e6)


def test_a_lost_redis_is_booked_and_found_again(start: Start, redis_server: RedisServer) -> None:
    gateway = start({})
    assert gateway.http("/health") == {
        "status": "ready", "redis": "subscribed", "clients": 0, "subscribed": 0, "version": "lying",
    }  # fmt: skip
    listener = PlainListener(gateway, 0)

    async def listen() -> None:
        await listener.open()
        publisher = Publisher(redis_server)
        await asyncio.to_thread(publisher.publish, 10)
        await asyncio.to_thread(until, lambda: gateway.http("/stats")["received"] == 30, "the first came")
        redis_server.client().client_kill_filter(_type="pubsub")
        await asyncio.to_thread(until, lambda: gateway.http("/stats")["redis_reconnects"] == 1, "subscribed again")
        await asyncio.to_thread(publisher.publish, 10)
        publisher.last()
        await listener.leave()

    asyncio.run(listen())
    book = gateway.book()
    assert Counter(listener.got()) == owed(book, connection_of(book, listener))
    assert [(line["state"], line["n"]) for line in of(book, "redis")] == [
        ("subscribed", 0), ("lost", 30), ("subscribed", 30),
    ]  # fmt: skip


def test_what_is_no_event_goes_to_nobody(start: Start, redis_server: RedisServer) -> None:
    gateway = start({})
    listener = PlainListener(gateway, 0)

    async def listen() -> None:
        await listener.open()
        client = redis_server.client()
        for payload in ("{", "[]", "{}", b"\xff", "[" * 100_000):
            client.publish(CHANNEL, payload)
        client.publish("tickstock.health.status", json.dumps({"event_type": "health"}))
        client.publish(CHANNEL, json.dumps({"event_type": "x", "tickstorm": {"r": "run-1", "s": "1"}}))
        Publisher(redis_server).last()
        await listener.leave()

    asyncio.run(listen())
    assert [json.loads(text)["event"] for text in listener.texts] == ["subscribed", "x", "last", "unsubscribed"]
    events = of(gateway.book(), "event")
    assert [line.get("forwarded", True) for line in events] == [False] * 6 + [True] * 2
    assert {line["run"] for line in events} == {None}


def test_a_bad_plan_is_refused_with_all_its_problems(tmp_path: Path) -> None:
    lies = [{"kind": "lost", "every": 0, "evry": 3}, {"kind": "held"}, {"kind": "stolen"}]
    (tmp_path / "plan.json").write_text(json.dumps({"seed": "x", "lies": lies}))
    command = [sys.executable, "-m", "lying_gateway", "--redis", "127.0.0.1:1", "--plan", str(tmp_path / "plan.json")]
    done = subprocess.run(
        [*command, "--book", str(tmp_path / "book")], cwd=ROOT, capture_output=True, text=True, check=False, timeout=20
    )
    assert done.returncode == 2
    for problem in ("seed:", "lies[0].every:", "lies[0].evry:", "lies[1].due_s:", "lies[2].kind:"):
        assert problem in done.stderr
