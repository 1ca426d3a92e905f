"""Does the gateway let in whoever has a good token and nobody else, on both transports, and count whom it refused?"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import socketio
from target_clients import WAIT_S
from target_servers import Gateway, Postgres, Redis
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from reference_target.settings import GatewaySettings, load
from reference_target.tokens import RefusedError, check, presented, sign

SECRET = "of this test"


def token(expires_s: float = 60, secret: str = SECRET, subject: str = "somebody") -> str:
    claim = f"{subject}.{int(time.time() + expires_s)}"
    return f"{claim}.{sign(secret.encode(), claim)}"


BAD = {"missing": "", "wrong": token(secret="of another"), "expired": token(-5)}


@pytest.fixture(scope="module")
def guarded(redis_server: Redis, postgres: Postgres) -> Iterator[Gateway]:
    with Gateway(redis_port=redis_server.port, pg_port=postgres.port, GATEWAY_TOKEN_SECRET=SECRET) as process:
        process.await_ready()
        yield process


def counts(gateway: Gateway, kind: str) -> int:
    found: int = gateway.stats()["refused"].get(kind, 0)
    return found


def good(now_s: float = 1000.0) -> str:
    claim = f"somebody.{int(now_s) + 1}"
    return f"{claim}.{sign(b's', claim)}"


def test_a_good_token_is_taken_until_the_second_of_its_expiry() -> None:
    check(b"s", good(), 1000.9)
    with pytest.raises(RefusedError, match="expired"):
        check(b"s", good(), 1001.0)


@pytest.mark.parametrize(
    "bad",
    [
        "x",
        "a.b.c",
        good()[:-1],
        good().replace("somebody", "nobody"),
        good().replace("1001", "9999"),
        "ü.1001.ü",
        "a.²." + sign(b"s", "a.²"),
        f"a.{'9' * 2000}." + sign(b"s", f"a.{'9' * 2000}"),
    ],
)
def test_what_is_not_signed_as_it_stands_is_wrong(bad: str) -> None:
    with pytest.raises(RefusedError) as refused:
        check(b"s", bad, 1000.0)
    assert refused.value.kind == "wrong"


def test_a_wrong_token_is_never_called_expired() -> None:
    with pytest.raises(RefusedError, match="wrong"):
        check(b"another", good(), 5000.0)


def test_where_a_token_is_looked_for() -> None:
    assert presented({"token": "q"}, {}, None) == "q"
    assert presented({"token": "q"}, {"Authorization": "Bearer h"}, None) == "h"
    assert presented({"token": "q"}, {"Authorization": "Bearer h"}, {"token": "a"}) == "a"
    assert presented({}, {"Authorization": "Basic h"}, {"token": 3}) == ""


def test_the_secret_is_no_option_and_is_never_shown() -> None:
    settings = load(GatewaySettings, [], {"GATEWAY_TOKEN_SECRET": SECRET})
    assert settings.token_secret == SECRET
    assert SECRET not in repr(settings)
    with pytest.raises(SystemExit):
        load(GatewaySettings, ["--gateway-token-secret", SECRET], {})


@pytest.mark.parametrize("how", ["header", "query"])
def test_plain_clients_with_a_good_token_are_let_in(guarded: Gateway, how: str) -> None:
    async def ask() -> Any:
        url = f"ws://127.0.0.1:{guarded.port}/ws"
        headers = {"Authorization": f"Bearer {token()}"} if how == "header" else {}
        async with connect(url if how == "header" else f"{url}?token={token()}", additional_headers=headers) as ws:
            await ws.send(json.dumps({"action": "ping", "id": 7}))
            return json.loads(await asyncio.wait_for(ws.recv(), WAIT_S))

    before = guarded.stats()["connects"]["plain"]
    assert asyncio.run(ask()) == {"event": "pong", "data": {"id": 7}}
    assert guarded.stats()["connects"]["plain"] == before + 1
    assert guarded.health()["auth"] == "token"


@pytest.mark.parametrize("kind", sorted(BAD))
def test_plain_clients_without_one_are_refused_and_counted(guarded: Gateway, kind: str) -> None:
    async def ask() -> int:
        headers = {"Authorization": f"Bearer {BAD[kind]}"} if BAD[kind] else {}
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://127.0.0.1:{guarded.port}/ws", additional_headers=headers)
        return refused.value.response.status_code

    before, connects = counts(guarded, kind), guarded.stats()["connects"]
    assert asyncio.run(ask()) == (401 if kind == "missing" else 403)
    assert counts(guarded, kind) == before + 1
    assert guarded.stats()["connects"] == connects


@pytest.mark.parametrize("kind", ["good", *sorted(BAD)])
def test_socketio_clients_are_judged_by_their_connect(guarded: Gateway, kind: str) -> None:
    said: list[Any] = []

    async def ask() -> bool:
        client = socketio.AsyncClient(reconnection=False)
        client.on("connect_error", said.append)
        shown = token() if kind == "good" else BAD[kind]
        try:
            await client.connect(
                f"http://127.0.0.1:{guarded.port}",
                transports=["websocket"],
                auth={"token": shown} if shown else None,
                wait_timeout=WAIT_S,
            )
        except socketio.exceptions.ConnectionError:
            return False
        connected = client.connected
        await client.disconnect()
        return connected

    before = counts(guarded, kind)
    assert asyncio.run(ask()) is (kind == "good")
    assert counts(guarded, kind) == before + (kind != "good")
    if kind != "good":
        assert said == [f"{kind} token"] or said == [{"message": f"{kind} token"}], said


def test_without_a_secret_everybody_is_let_in(gateway: Gateway) -> None:
    async def ask() -> None:
        async with connect(f"ws://127.0.0.1:{gateway.port}/ws?token=whatever") as ws:
            await ws.send(json.dumps({"action": "ping", "id": 1}))
            await asyncio.wait_for(ws.recv(), WAIT_S)

    asyncio.run(ask())
    assert gateway.health()["auth"] == "none"
