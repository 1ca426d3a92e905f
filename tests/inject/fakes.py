"""Servers that misbehave on purpose: a Toxiproxy whose calls hang or fail, a supervisor that says what it is told."""

from __future__ import annotations

import json
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class FakeToxiproxy:
    """Holds one proxy with one toxic. `trouble` maps (method, path) to a status, or to "hang"."""

    def __init__(self) -> None:
        self.trouble: dict[tuple[str, str], int | str] = {}
        self.calls: list[tuple[str, str]] = []
        self.bodies: list[Any] = []  # of the calls
        self.proxies: dict[str, dict[str, Any]] = {"tickstorm.x": self.fresh()}
        self.release = threading.Event()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length) or b"null")
                call = (self.command, self.path)
                fake.calls.append(call)
                fake.bodies.append(body)
                trouble = fake.trouble.get(call, 0)
                if trouble == "hang":
                    fake.release.wait(30)
                    return
                status, value = (trouble, {"error": "planted"}) if trouble else fake.do(self.command, self.path, body)
                data = b"" if value is None else json.dumps(value).encode()
                self.send_response(int(status))
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    @staticmethod
    def fresh() -> dict[str, Any]:
        toxic = {"name": "tickstorm-f-downstream", "type": "latency", "stream": "downstream", "toxicity": 1}
        return {
            "name": "tickstorm.x",
            "listen": "127.0.0.1:9",
            "upstream": "127.0.0.1:10",
            "enabled": True,
            "toxics": [toxic | {"attributes": {"latency": 5, "jitter": 0}}],
        }

    def do(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        parts = path.strip("/").split("/")
        if path == "/version":
            return 200, {"version": "fake"}
        if path == "/proxies":
            if method == "POST":
                self.proxies[body["name"]] = body | {"toxics": []}
                return 201, self.proxies[body["name"]]
            return 200, self.proxies
        proxy = self.proxies.get(parts[1])
        if proxy is None:
            return 404, {"error": "proxy not found"}
        if len(parts) == 2:
            if method == "DELETE":
                del self.proxies[parts[1]]
                return 204, None
            proxy |= body or {}
            return 200, proxy
        if method == "DELETE":
            proxy["toxics"] = [toxic for toxic in proxy["toxics"] if toxic["name"] != parts[3]]
            return 204, None
        return 200, body

    def close(self) -> None:
        self.release.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class FakeSupervisor:
    """Answers every question with the same line, and remembers what was asked."""

    def __init__(self, folder: Path, answer: bytes, on_ask: Any = lambda: None) -> None:
        self.asked: list[dict[str, Any]] = []
        fake = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                fake.asked.append(json.loads(self.rfile.readline()))
                on_ask()
                self.wfile.write(answer)

        self.server = socketserver.ThreadingUnixStreamServer(str(folder / "socket"), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
