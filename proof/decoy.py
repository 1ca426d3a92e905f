"""How is a fault played that touches nobody of the run?  At a proxy of its own in front of Redis, which nobody uses."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from proof.asking import DIRECT
from proof.running import ProofError

PROXY = "tickstorm-prove-decoy"
LINK = "decoy-redis"


def target(toxiproxy: str) -> str:
    """Lines of a profile's [target] by which the decoy is one of its links."""
    return f'toxiproxy = "{toxiproxy}"\nproxies = {{ {LINK} = "{PROXY}" }}\n'


@contextmanager
def decoy(toxiproxy: str, redis: str) -> Iterator[socket.socket]:
    """The proxy, with one connection of ours, which a fault there can touch. Raises ProofError."""
    _ask(toxiproxy, "DELETE", f"/proxies/{PROXY}", missing=True)
    body = {"name": PROXY, "listen": "127.0.0.1:0", "upstream": redis, "enabled": True}
    host, _, port = str(_ask(toxiproxy, "POST", "/proxies", body)["listen"]).rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=5) as ours:
            yield ours
    finally:
        _ask(toxiproxy, "DELETE", f"/proxies/{PROXY}", missing=True)


def _ask(
    toxiproxy: str, method: str, path: str, body: Mapping[str, Any] | None = None, *, missing: bool = False
) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{toxiproxy}{path}", data=data, method=method)
    try:
        with DIRECT.open(request, timeout=5) as answer:
            found: dict[str, Any] = json.loads(answer.read() or b"{}")
            return found
    except urllib.error.HTTPError as error:
        if not (missing and error.code == 404):
            raise ProofError(f"Toxiproxy answered {error.code} to {method} {path}") from None
    except OSError as error:
        raise ProofError(f"Toxiproxy at {toxiproxy} does not answer: {error}") from None
    return {}
