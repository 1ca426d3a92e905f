"""How is a server asked one question over HTTP?  Standard library only."""

from __future__ import annotations

import http.client
import json
from typing import Any

from loadtests.model.address import host_port


def get_json(address: str, path: str, timeout_s: float) -> tuple[int, Any]:
    """Status and body of one HTTP GET over a connection of its own. Raises OSError or http.client.HTTPException."""
    host, port = host_port(address)
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
