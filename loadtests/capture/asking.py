"""How is a server asked one question over HTTP?  And where does an address end?  Standard library only."""

from __future__ import annotations

import http.client
import json
from typing import Any


def split_address(address: str) -> tuple[str, int]:
    """Parts of a checked `host:port`."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def get_json(address: str, path: str, timeout_s: float) -> tuple[int, Any]:
    """Status and body of one HTTP GET over a connection of its own. Raises OSError or http.client.HTTPException."""
    host, port = split_address(address)
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        body = answer.read(1 << 20)
    finally:
        connection.close()
    try:
        return answer.status, json.loads(body)
    except ValueError:
        return answer.status, None
