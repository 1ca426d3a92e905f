"""Does every client get exactly what it asked for, once and in order?"""

from __future__ import annotations

import asyncio
import json

import pytest
from target_clients import MARKET, PATTERNS, PlainPeer, SocketPeer, eventually, pattern, ranking
from target_servers import Gateway, Redis

SYMBOLS = ("AAPL", "MSFT", "NVDA")
NAMES = ("Doji", "Hammer")


def passes(wanted: dict[str, list[str]], channel: str, name: str | None, symbol: str | None) -> bool:
    return all(
        not wanted.get(kind) or value in wanted[kind]
        for kind, value in (("channels", channel), ("patterns", name), ("symbols", symbol))
    )


FILTERS: list[dict[str, list[str]]] = [
    {},
    {"channels": [PATTERNS]},
    {"channels": [MARKET]},
    {"symbols": ["AAPL"]},
    {"patterns": ["Doji"]},
    {"patterns": ["Doji", "Hammer"], "symbols": ["MSFT", "NVDA"]},
    {"channels": [PATTERNS], "patterns": ["Hammer"], "symbols": ["NVDA"]},
    {"channels": [MARKET], "symbols": ["TSLA"]},
    {"symbols": ["AAPL", "MSFT"], "channels": [MARKET, PATTERNS]},
    {"channels": ["tickstock.universe.updated"]},
]


def test_filters_miss_nothing_and_let_nothing_foreign_pass(gateway: Gateway, redis_server: Redis) -> None:
    async def scene() -> None:
        plain = [PlainPeer(gateway) for _ in FILTERS]
        sockets = [SocketPeer(gateway) for _ in FILTERS]
        for peer in (*plain, *sockets):
            await peer.__aenter__()
        for index, wanted in enumerate(FILTERS):
            answer = await plain[index].subscribe(id=index, **wanted)
            expected = {"id": index, "channels": [], "patterns": [], "symbols": [], **wanted}
            assert answer == {"event": "subscribed", "data": expected}
            assert await sockets[index].subscribe(id=index, **wanted) == expected
        sent: list[tuple[str, str | None, str | None]] = []
        client = redis_server.client()
        for symbol in (*SYMBOLS, "TSLA"):
            for name in NAMES:
                sent.append((PATTERNS, name, symbol))
                client.publish(PATTERNS, pattern(symbol, name, n=len(sent)))
            sent.append((MARKET, None, symbol))
            client.publish(MARKET, ranking(symbol, n=len(sent)))
        sent.append((MARKET, None, None))
        client.publish(MARKET, json.dumps({"event_type": "health_check", "n": len(sent)}))
        sent.append(("tickstock.universe.updated", None, None))
        client.publish("tickstock.universe.updated", json.dumps({"event_type": "notification", "n": len(sent)}))
        # the last one reaches the first client, which asked for everything, after all others
        for peers in (plain, sockets):
            for wanted, peer in zip(FILTERS, peers, strict=True):
                owed = [n for n, event in enumerate(sent, 1) if passes(wanted, *event)]
                await eventually(lambda peer=peer, owed=owed: len(peer.numbers()) >= len(owed), f"{wanted} is served")
                assert peer.numbers() == owed
        for peer in (*plain, *sockets):
            await peer.__aexit__()

    asyncio.run(scene())


def test_payloads_arrive_with_all_their_keys(gateway: Gateway, redis_server: Redis) -> None:
    async def scene() -> None:
        async with PlainPeer(gateway) as plain, SocketPeer(gateway) as ws, SocketPeer(gateway, "polling") as polling:
            for peer in (plain, ws, polling):
                await peer.subscribe(channels=[PATTERNS])
            payload = pattern(
                n=1, tickstorm={"run": "r", "seq": 2**40}, text='é "quoted"\n\\', big=123456789012345678901
            )
            redis_server.client().publish(PATTERNS, payload)
            await eventually(lambda: plain.events and ws.events and polling.events, "all got it")
            expected = json.loads(payload)
            assert plain.events == [{"event": "pattern_detected", "channel": PATTERNS, "data": expected}]
            assert ws.events == polling.events == [{"event": "pattern_detected", "data": expected}]

    asyncio.run(scene())


@pytest.mark.prove_all
def test_a_hundred_clients_get_everything_once_and_in_order(gateway: Gateway, redis_server: Redis) -> None:
    async def scene() -> None:
        peers: list[PlainPeer | SocketPeer] = [
            PlainPeer(gateway) if index % 2 else SocketPeer(gateway, *(("polling",) if index % 50 == 0 else ()))
            for index in range(100)
        ]
        before = gateway.stats()
        for peer in peers:
            await peer.__aenter__()
            await peer.subscribe(channels=[PATTERNS])
        client = redis_server.client()
        for n in range(50):  # 50 per second for a second
            client.publish(PATTERNS, pattern(SYMBOLS[n % 3], n=n))
            await asyncio.sleep(0.02)
        for n in range(50, 300):  # and a burst
            client.publish(PATTERNS, pattern(SYMBOLS[n % 3], n=n))
        for peer in peers:
            await eventually(lambda peer=peer: len(peer.events) >= 300, "everything arrived", 60)
            assert peer.numbers() == list(range(300))
        after = gateway.stats()
        assert after["deliveries"] - before["deliveries"] == 30_000
        assert after["forwarded"] - before["forwarded"] == 300
        assert after["clients"] == {"plain": 50, "socketio": 50}
        assert after["subscribed"] == 100
        for peer in peers:
            await peer.__aexit__()

    asyncio.run(scene())


def test_an_upgrade_from_polling_neither_loses_nor_reorders(gateway: Gateway, redis_server: Redis) -> None:
    async def scene() -> None:
        stop = asyncio.Event()

        async def publish() -> int:
            client = redis_server.client()
            n = 0
            while not stop.is_set():
                client.publish(PATTERNS, pattern(n=n))
                n += 1
                await asyncio.sleep(0.001)
            return n

        publishing = asyncio.create_task(publish())
        peers = [SocketPeer(gateway, "polling", "websocket") for _ in range(10)]
        for peer in peers:
            await peer.__aenter__()
            await peer.subscribe()
            assert peer.client.transport() == "websocket"
        await eventually(lambda: all(len(peer.events) > 200 for peer in peers), "events flow")
        stop.set()
        last = await publishing - 1
        for peer in peers:
            await eventually(lambda peer=peer: last in peer.numbers()[-1:], "the last one arrived")
            numbers = peer.numbers()
            assert numbers == list(range(numbers[0], last + 1))
            await peer.__aexit__()

    asyncio.run(scene())


@pytest.mark.parametrize("kind", [PlainPeer, SocketPeer])
def test_a_new_subscription_replaces_the_old_one_and_none_follows_unsubscribed(
    gateway: Gateway, redis_server: Redis, kind: type[PlainPeer] | type[SocketPeer]
) -> None:
    async def scene() -> None:
        client = redis_server.client()
        async with kind(gateway) as peer, PlainPeer(gateway) as witness:
            await witness.subscribe()
            await peer.subscribe(symbols=["AAPL"])
            client.publish(PATTERNS, pattern("AAPL", n=1))
            await eventually(lambda: peer.numbers() == [1], "the first")
            await peer.subscribe(symbols=["MSFT"])
            client.publish(PATTERNS, pattern("AAPL", n=2))
            client.publish(PATTERNS, pattern("MSFT", n=3))
            await eventually(lambda: peer.numbers() == [1, 3], "only what the new one asks for")
            if isinstance(peer, PlainPeer):
                gone = await peer.ask(action="unsubscribe", id=7)
                assert gone == {"event": "unsubscribed", "data": {"id": 7}}
            else:
                assert await peer.client.call("unsubscribe", {"id": 7}) == {"id": 7}
            client.publish(PATTERNS, pattern("MSFT", n=4))
            await eventually(lambda: witness.numbers() == [1, 2, 3, 4], "the witness got the last one")
            if isinstance(peer, PlainPeer):
                assert (await peer.ask(action="ping", id=8))["data"] == {"id": 8}
            else:
                assert await peer.client.call("ping", {"id": 8}) == {"id": 8}
            assert peer.numbers() == [1, 3]

    asyncio.run(scene())


def test_socketio_answers_by_an_event_where_no_acknowledgement_was_asked_for(gateway: Gateway) -> None:
    async def scene() -> None:
        async with SocketPeer(gateway) as peer:
            await peer.client.emit("subscribe", {"id": 5, "symbols": ["T"]})
            data = {"id": 5, "channels": [], "patterns": [], "symbols": ["T"]}
            assert await asyncio.wait_for(peer.answers.get(), 10) == {"event": "subscribed", "data": data}
            await peer.client.emit("unsubscribe", {"id": 6})
            assert await asyncio.wait_for(peer.answers.get(), 10) == {"event": "unsubscribed", "data": {"id": 6}}
            await peer.client.emit("subscribe", {"id": 7, "symbols": 5})
            error = await asyncio.wait_for(peer.answers.get(), 10)
            assert error["event"] == "error"
            assert error["data"]["id"] == 7
            await peer.subscribe(health=True)
            health = await asyncio.wait_for(peer.answers.get(), 10)
            assert health["event"] == "health"
            assert health["data"]["status"] == "ready"

    asyncio.run(scene())


def test_bad_requests_are_answered_and_harm_nothing(gateway: Gateway) -> None:
    async def scene() -> None:
        async with PlainPeer(gateway) as peer:
            for request, request_id in (
                ("no json", None),
                ('{"action":"dance","id":1}', 1),
                ('{"action":"subscribe","id":"x","symbols":"AAPL"}', "x"),
                ("[1]", None),
                ('{"id":[]}', None),
            ):
                await peer.ws.send(request)
                answer = await asyncio.wait_for(peer.answers.get(), 10)
                assert answer["event"] == "error"
                assert answer["data"]["id"] == request_id
                assert answer["data"]["reason"]
            assert (await peer.ask(action="ping", id=2)) == {"event": "pong", "data": {"id": 2}}
            await peer.subscribe(id=3, health=True)
            health = await asyncio.wait_for(peer.answers.get(), 10)
            assert health["event"] == "health"

    asyncio.run(scene())
