"""How is the local stack's supervisor asked?  One JSON line over its Unix socket, one JSON line back."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec

from loadtests.inject.errors import NoAnswer, NotThere, Refused
from loadtests.model.stackwire import Answer, Ask, Service, Status

_MARGIN_S = 5.0  # beyond what the supervisor itself may take


class SupervisorClient:
    """The supervisor of one local stack, found through its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ask(self, ask: Ask) -> Answer:
        """Its answer. Raises NotThere, NoAnswer, or Refused where it says that it did not do it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(ask.wait_s + _MARGIN_S)
            try:
                sock.connect(self._address())
                sock.sendall(msgspec.json.encode(ask) + b"\n")
                line = _line(sock)
            except (FileNotFoundError, ConnectionRefusedError) as error:
                raise NotThere("the stack's supervisor is not there") from error
            except OSError as error:  # also the timeout
                raise NoAnswer(f"the stack's supervisor did not answer: {error}") from error
        try:
            answer = msgspec.json.decode(line, type=Answer)
        except msgspec.MsgspecError as error:
            raise Refused(f"the stack's supervisor answered what cannot be read: {error}") from error
        if not answer.ok:
            raise Refused(f"the stack's supervisor answered: {answer.error}")
        return answer

    def status(self) -> Status:
        """What runs, and where. Raises as `ask`."""
        status = self.ask(Ask(do="status", wait_s=2.0)).status
        if status is None:
            raise Refused("the stack's supervisor did not tell its status")
        return status

    def service(self, name: str) -> Service:
        """One service. Raises as `ask`, and Refused for one that there is not."""
        services = self.status().services
        if name not in services:
            raise Refused(f'the stack has no service "{name}"; there are {", ".join(services)}')
        return services[name]

    def _address(self) -> str:
        note = self._folder / "socket.path"  # a folder's path may be too long for a socket's
        return note.read_text().strip() if note.exists() else os.fspath(self._folder / "socket")


def _line(sock: socket.socket) -> bytes:
    got = bytearray()
    while b"\n" not in got:
        piece = sock.recv(65536)
        if not piece:
            raise NoAnswer("the stack's supervisor closed the connection without an answer")
        got += piece
    return bytes(got)
