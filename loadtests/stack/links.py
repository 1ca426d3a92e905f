"""Which port does each service and each link have?  Holds the chosen ports until the servers take them over.

A claim outlasts that: while a stack lives no other one takes its ports, not even those of a server that is dead or has
not listened yet.
"""

from __future__ import annotations

import errno
import random
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from loadtests.model.errors import BadInput
from loadtests.model.stackwire import LINKS, PROXY_PREFIX, SERVICES, LinkAddress
from loadtests.stack.errors import PortInUse, StackError

HOST = "127.0.0.1"

PREFERRED: Mapping[str, int] = {
    "redis": 16379,
    "postgres": 15432,
    "toxiproxy": 8474,
    "gateway": 15000,
    "producer": 15001,
    "publisher-redis": 26379,
    "producer-redis": 26380,
    "gateway-redis": 26381,
    "gateway-postgres": 25432,
    "producer-postgres": 25433,
    "client-gateway": 25000,
}
"""Service or link → port that it gets where nobody else has it."""

FREE_FROM, FREE_TO = 17_000, 31_000
"""Where another port is sought: below the range from which systems take ports for outgoing connections."""

TRIES = 200
_CLAIM = "\0tickstorm-port-{}"
"""An abstract address of Linux: one owner at a time, gone with its process, no file."""
SPARE = "spare"  # name of a port that is sought later than the others


class Ports:
    """The stack's ports, all taken at once; each is let go just before its server takes it, and held while that one is
    gone."""

    def __init__(self, wanted: Mapping[str, int] | None = None) -> None:
        """Raises PortInUse for a wanted port that is taken, BadInput for a name or number that cannot be."""
        self._held: dict[str, socket.socket] = {}
        self._claims: list[socket.socket] = []
        self._numbers: dict[str, int] = {}
        wanted = dict(wanted or {})
        problems = [
            f"{name}: there is no such service or link; there are {', '.join(PREFERRED)}"
            for name in sorted(wanted.keys() - PREFERRED.keys())
        ]
        problems += [
            f"{name}: {port} is not a port number; use 1 to 65535"
            for name, port in sorted(wanted.items())
            if not 0 < port < 65536
        ]
        twice = sorted(port for port in set(wanted.values()) if list(wanted.values()).count(port) > 1)
        problems += [f"port {port} is asked for more than once" for port in twice]
        if problems:
            raise BadInput(problems)
        try:
            for name, port in wanted.items():
                self._explicit(name, port)
            for name in PREFERRED:
                if name not in wanted:
                    self._any(name)
        except (PortInUse, StackError):
            self.close()
            raise

    def _explicit(self, name: str, port: int) -> None:
        try:
            self._take(name, port)
        except OSError as error:
            why = "is already in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise PortInUse(
                f"Port {port} for {name} {why}. Stop what listens there, choose another port for {name}, "
                "or name none and let the stack find a free one."
            ) from None

    def _any(self, name: str) -> None:
        # SystemRandom: several stacks may begin at once with equal seeds
        candidates = [
            *filter(None, [PREFERRED.get(name)]),
            *random.SystemRandom().sample(range(FREE_FROM, FREE_TO), TRIES),
        ]
        for port in candidates:
            if port in self._numbers.values():
                continue
            try:
                self._take(name, port)
            except OSError:
                continue
            return
        raise StackError(f"No free port was found for {name} between {FREE_FROM} and {FREE_TO}.")

    def _take(self, name: str, port: int) -> None:
        claim = _claim(port)
        holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind((HOST, port))
            holder.listen(1)
        except OSError:
            holder.close()
            claim.close()
            raise
        self._claims.append(claim)
        self._held[name] = holder
        self._numbers[name] = port

    def one_more(self) -> int:
        """A port that nobody has, and that is free at once. Raises StackError where there is none."""
        self._any(SPARE)
        number = self._numbers.pop(SPARE)
        self.let_go(SPARE)
        return number

    def __getitem__(self, name: str) -> int:
        return self._numbers[name]

    @property
    def numbers(self) -> dict[str, int]:
        """Service or link → its port."""
        return dict(self._numbers)

    def let_go(self, *names: str) -> None:
        """Free these ports for the server that starts next, and keep the claim; without names, all."""
        for name in names or tuple(self._held):
            holder = self._held.pop(name, None)
            if holder is not None:
                holder.close()

    def hold(self, *names: str) -> bool:
        """Take again what a server has left: nobody else listens there, and who connects is refused. Whether all are
        held now; where another process was faster, the server's next start tells which."""
        for name in names:
            if name in self._held:
                continue
            holder = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections may not be forgotten yet
                holder.bind((HOST, self._numbers[name]))
                # else Linux lets a second socket bind here, and listen
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            except OSError:
                holder.close()
            else:
                self._held[name] = holder
        return all(name in self._held for name in names)

    def close(self) -> None:
        """The stack is gone: free everything. Safe to repeat."""
        self.let_go()
        for claim in self._claims:
            claim.close()
        self._claims.clear()


def _claim(port: int) -> socket.socket:
    """Nobody else's stack takes this port while the socket is open; claims nothing where no such addresses are.

    Raises OSError where another stack has it.
    """
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        if sys.platform.startswith("linux"):
            claim.bind(_CLAIM.format(port))
    except OSError:
        claim.close()
        raise
    return claim


def addresses(ports: Mapping[str, int]) -> dict[str, str]:
    """Service → host:port."""
    return {name: f"{HOST}:{ports[name]}" for name in SERVICES}


def links(ports: Mapping[str, int]) -> dict[str, LinkAddress]:
    """Link → where it is entered and where it leads. A link's name says who connects, and to whom."""
    return {
        name: LinkAddress(
            proxy=PROXY_PREFIX + name,
            listen=f"{HOST}:{ports[name]}",
            upstream=f"{HOST}:{ports[name.rpartition('-')[2]]}",
        )
        for name in LINKS
    }


def write_config(path: Path, table: Mapping[str, LinkAddress]) -> None:
    """The file from which Toxiproxy creates its proxies at every start: after a restart they are there again."""
    proxies = [
        {"name": link.proxy, "listen": link.listen, "upstream": link.upstream, "enabled": True}
        for link in table.values()
    ]
    path.write_bytes(msgspec.json.format(msgspec.json.encode(proxies), indent=2) + b"\n")
