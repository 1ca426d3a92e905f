"""What does the gateway itself count?  Its statistics over HTTP, as numbers by dotted name; None where it is silent."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import requests

TIMEOUT_S = 1.0


class GatewayCounts:
    """The statistics of one gateway, read past every proxy. Used by one thread."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy of the environment stands between

    def read(self) -> dict[str, float] | None:
        """All its numbers now; None where it does not answer, or where nobody told its address."""
        if not self._address:
            return None
        try:
            answer = self._session.get(f"http://{self._address}/stats", timeout=TIMEOUT_S)
            body = msgspec.json.decode(answer.content)
        except (requests.RequestException, msgspec.DecodeError):
            return None
        return dict(_numbers("", body)) if answer.status_code == 200 else None

    def close(self) -> None:
        """Let go of the connection."""
        self._session.close()


def total(counts: dict[str, float] | None, name: str) -> float | None:
    """The sum of a number and of all below it; None where there is none of that name."""
    if counts is None:
        return None
    found = [value for key, value in counts.items() if key == name or key.startswith(f"{name}.")]
    return sum(found) if found else None


def _numbers(prefix: str, body: object) -> Iterator[tuple[str, float]]:
    if isinstance(body, dict):
        if not body:  # a table of counts before the first of them
            yield prefix, 0.0
        for key, value in body.items():
            yield from _numbers(f"{prefix}.{key}" if prefix else str(key), value)
    elif isinstance(body, int | float) and not isinstance(body, bool):
        yield prefix, float(body)
