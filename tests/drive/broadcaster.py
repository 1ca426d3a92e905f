"""A small target of its own kind: tells every subscriber the same messages, spoilt as planned; writes down what it did.

Run as a process: a plan, "port <n>" on stdout, starts when `clients` have subscribed. At its stdin's end
its log on stdout: per client (by the port it came from) the sent (stream, seq) in order.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import re
import sys
import time
from typing import Any

from loadtests.tally.identity import encode

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(payload: bytes, opcode: int = 1, fin: int = 0x80) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((fin | opcode, size)) + payload
    if size < 65536:
        return bytes((fin | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((fin | opcode, 127)) + size.to_bytes(8, "big") + payload


def agreement(head: bytes) -> bytes:
    """To permessage-deflate where it is offered; what is sent stays uncompressed, as the extension allows."""
    return b"\r\nSec-WebSocket-Extensions: permessage-deflate" if b"permessage-deflate" in head else b""


def refusal(body: str) -> bytes:
    return (
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body.encode())
    )


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ping_ms: int = 20_000) -> None:
        self.reader, self.writer = reader, writer
        self.port = writer.get_extra_info("peername")[1]
        self.socketio = False
        self.ping_ms = ping_ms  # so long it announces; it pings once
        self.agent = ""
        self.subscribed = False
        self.sent: list[tuple[int, int]] = []
        self.pongs = 0
        self.held: bytes | None = None
        self.joined: list[Any] = []

    def say(self, data: dict[str, Any], event: str, number: int | None) -> None:
        if not self.socketio:
            self.writer.write(frame(json.dumps({"event": event, "data": data | {"id": number}}).encode()))
        elif number is not None:
            self.writer.write(frame(b"43%d" % number + json.dumps([data]).encode()))
        else:
            self.writer.write(frame(b"42" + json.dumps([event, data]).encode()))

    async def upgrade(self) -> None:
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.socketio = head.startswith(b"GET /socket.io/?EIO=4&transport=websocket ")
        match = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
        assert match
        named = re.search(rb"\r\nUser-Agent: (.*)\r\n", head)
        self.agent = named[1].decode() if named else ""
        accept = base64.b64encode(hashlib.sha1(match[1] + GUID).digest())
        told = b'0{"sid":"x","upgrades":[],"pingInterval":%d,"pingTimeout":%d}' % (self.ping_ms, self.ping_ms)
        first = frame(told) if self.socketio else b""
        self.writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + agreement(head) + b"\r\n\r\n" + first
        )

    async def frame(self) -> tuple[int, bytes]:
        head = await self.reader.readexactly(2)
        assert head[1] & 0x80, "a client's frame must be masked"
        size = head[1] & 127
        if size > 125:
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
        mask = await self.reader.readexactly(4)
        body = await self.reader.readexactly(size)
        return head[0] & 15, bytes(b ^ mask[i & 3] for i, b in enumerate(body))


class Broadcaster:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.clients: list[Client] = []
        self.all: list[Client] = []
        self.random = random.Random(plan.get("seed", 1))
        self.enough = asyncio.Event()
        self.subscriptions = 0
        self.payload = b"x" * plan.get("pad", 60)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(reader, writer, self.plan.get("ping_ms", 20_000))
        self.all.append(client)
        try:
            if self.plan.get("refuse"):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(refusal(self.plan["refuse"]))
                return
            await client.upgrade()
            while True:
                opcode, body = await client.frame()
                if opcode == 8:
                    writer.write(frame(body, 8))
                    break
                if opcode == 10:
                    client.pongs += 1
                elif opcode == 1:
                    self.heard(client, body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            if client in self.clients:
                self.clients.remove(client)
            writer.close()

    def heard(self, client: Client, body: bytes) -> None:
        if self.plan.get("mute"):
            self.subscriptions += 1
            if self.subscriptions == self.plan["clients"]:
                print("asked", flush=True)
            return
        if client.socketio:
            if body == b"40":
                client.writer.write(frame(b'40{"sid":"y"}') + frame(b"2"))
                return
            if body == b"3":
                client.pongs += 1
                return
            match = re.fullmatch(rb"42(\d+)(\[.*)", body)
            assert match, body
            (action, request), number = json.loads(match[2]), int(match[1])
        else:
            request = json.loads(body)
            action, number = request["action"], request["id"]
        if action == "subscribe":
            client.say({k: request[k] for k in ("channels", "patterns", "symbols")}, "subscribed", number)
            client.writer.write(frame(b"are you there", 9))
            self.clients.append(client)
            self.subscriptions += 1
            if len(self.clients) >= self.plan["clients"] and self.subscriptions >= self.plan.get("subscriptions", 0):
                self.enough.set()
        elif action == "unsubscribe" and client in self.clients:
            self.clients.remove(client)
            client.say({}, "unsubscribed", number)

    def message(self, stream: int, seq: int, run: str | None = None) -> tuple[bytes, bytes]:
        now = time.monotonic_ns() - self.plan["origin_ns"]
        who = json.loads(encode("object", run or self.plan["run"], stream, seq, now, now))
        data = json.dumps(
            {"event_type": "t", "tickstorm": who, "pad": self.payload.decode()}, separators=(",", ":")
        ).encode()
        return frame(b'{"event":"t","channel":"c","data":' + data + b"}"), frame(b'42["t",' + data + b"]")

    def tell(self, client: Client, both: tuple[bytes, bytes], stream: int, seq: int) -> None:
        client.sent.append((stream, seq))
        if self.plan.get("join"):
            client.joined.append(json.loads(both[0][2 if both[0][1] < 126 else 4 :]))
            if len(client.joined) == 4:
                lines = self.plan["join"] == "lines"
                text = "\n".join(map(json.dumps, client.joined)) if lines else json.dumps(client.joined)
                client.writer.write(frame(text.encode()))
                client.joined.clear()
            return
        client.writer.write(both[client.socketio])

    async def broadcast(self) -> None:
        plan, draw = self.plan, self.random.random
        await self.enough.wait()
        spoil = plan.get("spoil", 0.0)
        waiting: dict[Client, tuple[tuple[bytes, bytes], int, int]] = {}
        began = time.monotonic()
        number = 0
        for seq in range(plan["count"]):
            if plan.get("skip_every") and seq % plan["skip_every"] == plan["skip_every"] - 1:
                continue
            for stream in plan["streams"]:
                both = self.message(stream, seq)
                if seq == plan.get("long_at"):
                    both = (frame(b'{"x":"%b"}' % (b"y" * plan["long_bytes"])),) * 2
                for client in list(self.clients):
                    kind = draw() if spoil else 1.0
                    if kind < spoil / 3:
                        continue
                    if kind < spoil * 2 / 3 and client not in waiting:
                        waiting[client] = (both, stream, seq)
                        continue
                    self.tell(client, both, stream, seq)
                    if kind < spoil:
                        self.tell(client, both, stream, seq)
                    if client in waiting and draw() < 0.3:
                        self.tell(client, *waiting.pop(client))
                number += 1
                ahead = began + number / plan["rate"] - time.monotonic()
                if ahead > 0.002:
                    await asyncio.sleep(ahead)
                elif number % 20 == 0:
                    await asyncio.sleep(0)
        for client, late in waiting.items():
            if client in self.clients:
                self.tell(client, *late)
        if plan.get("strange"):
            for client in self.clients:
                whole = self.message(plan["streams"][0], 0, "another-run")[client.socketio]
                client.writer.write(whole)
                broken = b'42["t",{"tickstorm":' if client.socketio else b'{"event":'
                client.writer.write(frame(broken))
                client.writer.write(frame(b'42["t",{}]' if client.socketio else b'{"event":"t","data":{}}'))
        for client in list(self.clients):
            if plan.get("cut"):
                client.writer.transport.abort()
            else:
                await client.writer.drain()
        print("done", flush=True)

    async def run(self) -> None:
        server = await asyncio.start_server(self.serve, "127.0.0.1", self.plan.get("port", 0))
        print("port", server.sockets[0].getsockname()[1], flush=True)
        telling = asyncio.create_task(self.broadcast())
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        telling.cancel()
        server.close()
        print(
            json.dumps([{"port": c.port, "agent": c.agent, "sent": c.sent, "pongs": c.pongs} for c in self.all]),
            flush=True,
        )


def main(plan: dict[str, Any]) -> None:
    asyncio.run(Broadcaster(plan).run())
