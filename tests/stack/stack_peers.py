"""What do the tests of the stack ask its servers?  Plain sockets, so that no client library hides what happens."""

from __future__ import annotations

import json
import socket
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import psutil


def until(what: str, condition: Callable[[], bool], *, within_s: float = 40.0) -> None:
    """Return as soon as the condition holds; fail with `what` after the deadline."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.03)


def redis_says(address: str, command: bytes = b"PING\r\n", *, answers: int = 1, timeout_s: float = 2.0) -> bytes:
    """The first bytes that a Redis answers, so many lines at least."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout_s) as link:
        link.sendall(command)
        said = link.recv(4096)
        while said.count(b"\n") < answers and (more := link.recv(4096)):
            said += more
        return said


def get(address: str, path: str, *, timeout_s: float = 5.0) -> dict[str, Any]:
    """The JSON object behind a path."""
    with urllib.request.urlopen(f"http://{address}{path}", timeout=timeout_s) as answer:
        return dict(json.load(answer))


def runs(pid: int) -> bool:
    """Whether a process is there and more than a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    root = psutil.Process(pid)
    return [pid, *(child.pid for child in root.children(recursive=True))]


def listening(number: int) -> socket.socket:
    """As every server does it, and whoever wants its port."""
    server = socket.socket()
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", number))
        server.listen()
    except OSError:
        server.close()
        raise
    return server
