"""Does the book say what real clients got, for every kind of lie?"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from conftest import Start
from lying import (
    RUN,
    LyingGateway,
    PacketListener,
    PlainListener,
    Publisher,
    RedisServer,
    SocketListener,
    connection_of,
    displaced,
    of,
    owed,
)

MESSAGES = 60  # of each of the three streams

KINDS: dict[str, dict[str, Any]] = {
    "none": {},
    "lost-every": {"kind": "lost", "every": 7},
    "lost-share": {"kind": "lost", "share": 0.1},
    "lost-seqs": {"kind": "lost", "seqs": [0, 5, MESSAGES - 1]},
    "lost-stream": {"kind": "lost", "streams": [1 << 32 | 1], "every": 3},
    "lost-consumer": {"kind": "lost", "consumers": [1], "every": 3},
    "held": {"kind": "held", "due_s": [0.2, 0.4]},
    "repeated": {"kind": "repeated", "every": 9, "times": 3},
    "reordered": {"kind": "reordered", "every": 10, "after": 4},
    "delayed": {"kind": "delayed", "every": 8, "ms": 5},
    "foreign-run": {"kind": "foreign-run", "every": 11},
    "foreign-route": {"kind": "foreign-route", "every": 11},
    "no-identity": {"kind": "no-identity", "every": 11},
    "truncated": {"kind": "truncated", "every": 11},
    "truncated-too": {"kind": "truncated", "every": 11, "instead": False},
    "undecodable": {"kind": "undecodable", "every": 11},
    "protocol": {"kind": "protocol", "every": 11},
    "altered": {"kind": "altered", "every": 11},
    "restamped": {"kind": "restamped", "every": 11, "ms": 500},
    "oversize": {"kind": "oversize", "every": 11, "bytes": 70_000},
    "silent": {"kind": "silent", "due_s": [0.2, 0.4]},
    "queued": {"kind": "queued", "due_s": [0.1, 0.3]},
    "queued-limit": {"kind": "queued", "due_s": [0.1, 0.3], "limit": 10},
    "queued-age": {"kind": "queued", "due_s": [0.1, 0.3], "max_age_s": 0},
    "queued-to-the-end": {"kind": "queued", "due_s": [0.5, 99.0]},
    "conflated": {"kind": "conflated", "ms": 4},
}

SWALLOWED = ("undecodable", "truncated", "truncated-too", "protocol")
"""What libraries for Socket.IO do not hand on."""


async def listen(
    gateway: LyingGateway, redis_server: RedisServer, listeners: list[PlainListener | SocketListener]
) -> None:
    await asyncio.gather(*(listener.open() for listener in listeners))
    publisher = Publisher(redis_server)
    for _ in range(MESSAGES // 10):
        await asyncio.to_thread(publisher.publish, 10)
    publisher.last()
    await asyncio.gather(*(listener.leave() for listener in listeners))


@pytest.mark.parametrize("batch_ms", [0, 3])
@pytest.mark.parametrize("name", KINDS)
def test_plain_clients_get_what_the_book_says(
    start: Start, redis_server: RedisServer, name: str, batch_ms: float
) -> None:
    lie = KINDS[name]
    gateway = start({"seed": 5, "batch_ms": batch_ms, "lies": [lie] if lie else []})
    listeners: list[PlainListener | SocketListener] = [PlainListener(gateway, slot) for slot in range(3)]
    listeners.append(PlainListener(gateway, 3, symbols=["AAPL", "TSLA"]))
    asyncio.run(listen(gateway, redis_server, listeners))
    check(gateway, listeners, lie)


@pytest.mark.parametrize("name", [name for name in KINDS if name not in SWALLOWED])
def test_python_socketio_gets_what_the_book_says(start: Start, redis_server: RedisServer, name: str) -> None:
    lie = KINDS[name]
    gateway = start({"seed": 6, "lies": [lie] if lie else []})
    listeners: list[PlainListener | SocketListener] = [SocketListener(gateway, slot) for slot in range(2)]
    listeners += [SocketListener(gateway, 2, patterns=["Doji"], symbols=["AAPL"]), PlainListener(gateway, 3)]
    asyncio.run(listen(gateway, redis_server, listeners))
    check(gateway, listeners, lie)


@pytest.mark.parametrize("name", [*SWALLOWED, "foreign-run", "silent", "altered"])
def test_what_socketio_libraries_swallow_is_sent_as_booked(start: Start, redis_server: RedisServer, name: str) -> None:
    gateway = start({"seed": 6, "lies": [KINDS[name]]})
    listeners: list[PlainListener | SocketListener] = [PacketListener(gateway, slot) for slot in range(2)]
    asyncio.run(listen(gateway, redis_server, listeners))
    check(gateway, listeners, KINDS[name])


def test_the_first_lie_that_chooses_a_delivery_has_it(start: Start, redis_server: RedisServer) -> None:
    names = ("lost", "repeated", "foreign-run", "no-identity", "truncated")
    kinds: list[dict[str, Any]] = [{"kind": name, "share": 0.1} for name in names]
    kinds += [{"kind": "reordered", "after": 2, "share": 0.1}, {"kind": "delayed", "ms": 2, "share": 0.1}]
    gateway = start({"seed": 7, "lies": [*kinds, {"kind": "lost", "seqs": [40]}]})
    listeners: list[PlainListener | SocketListener] = [PlainListener(gateway, 0), PacketListener(gateway, 1)]
    asyncio.run(listen(gateway, redis_server, listeners))
    book = gateway.book()
    for listener in listeners:
        connection = connection_of(book, listener)
        assert Counter(listener.got()) == owed(book, connection)
        lies = of(book, "lie", connection=connection)
        assert {lie["kind"] for lie in lies} == {kind["kind"] for kind in kinds}
        assert max(Counter((lie["stream"], lie["seq"]) for lie in lies).values()) == 1


def check(gateway: LyingGateway, listeners: list[PlainListener | SocketListener], lie: dict[str, Any]) -> None:
    book = gateway.book()
    planted = frames = 0
    for listener in listeners:
        connection = connection_of(book, listener)
        lies = of(book, "lie", connection=connection)
        got = listener.got()
        assert Counter(got) == owed(book, connection)
        assert displaced(got) == Counter(lie["after"] for lie in lies if lie.get("after") and lie["out_ns"])
        (end,) = of(book, "closed", connection=connection)
        assert (end["why"], end["unsent"]) == ("client closed", [])
        planted += len(lies)
        frames += sum(1 for one in got if isinstance(one, tuple))
        concerned = lie and listener.slot in lie.get("consumers", range(99))
        assert bool(lies) == bool(concerned) or lie.get("streams"), "nothing was planted, or for the wrong consumer"
    assert {line["kind"] for line in of(book, "lie")} == ({lie["kind"]} if planted else set())
    spurious = len(of(book, "lie", kind="foreign-route"))
    assert of(book, "end")[0]["deliveries"] == frames - spurious + len(listeners)
    (first,) = of(book, "run")
    assert (first["run"], first["due0"]) == (RUN, 5_000_000_000)
