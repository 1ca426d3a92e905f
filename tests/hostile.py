"""Servers that are broken, or mean harm: one answer for each connection, whatever was asked."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

Answer = Callable[[socket.socket], None]
"""What a server does with a connection, after the first that it was sent."""


def http(body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    head = [b"HTTP/1.1 200 OK", b"Content-Length: %d" % (len(body) if length is None else length), *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def says(data: bytes) -> Answer:
    return lambda sock: sock.sendall(data)


def drips(head: bytes) -> Answer:
    def answer(sock: socket.socket) -> None:
        sock.sendall(head)
        while True:
            sock.sendall(b"x")
            time.sleep(0.02)

    return answer


def floods(head: bytes) -> Answer:
    def answer(sock: socket.socket) -> None:
        sock.sendall(head)
        while True:
            sock.sendall(b"x" * 65536)

    return answer


def waits(sock: socket.socket) -> None:
    while sock.recv(1000):
        pass


def nested(depth: int) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


@contextmanager
def serving(*answers: Answer, last: Answer) -> Iterator[str]:
    """A server that gives one answer after the other, and then always the last."""
    left, over = list(answers), threading.Event()
    open_: list[socket.socket] = []

    def serve(sock: socket.socket, answer: Answer) -> None:
        with sock, suppress(OSError):
            sock.settimeout(20)
            sock.recv(4000)
            answer(sock)

    def accept() -> None:
        with suppress(OSError):
            while not over.is_set():
                sock, _ = listening.accept()
                open_.append(sock)
                answer = left.pop(0) if left else last
                threading.Thread(target=serve, args=(sock, answer), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            over.set()
            for sock in open_:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)
