"""What does the gateway itself count?  Its statistics over HTTP, as numbers by dotted name; None where it is silent."""

from __future__ import annotations

import http.client
import io
from collections.abc import Iterator

import msgspec

from loadtests.inject.deadline import Watch
from loadtests.inject.probe_protocols import http_get
from loadtests.inject.socketry import Cut, ProbeConnection
from loadtests.model.address import host_port

TIMEOUT_S = 1.0
"""For the whole exchange."""
_LARGEST = 1e300
"""What is larger counts nothing."""


class _Said(io.BytesIO):
    """Bytes that came, as HTTPResponse wants them."""

    def makefile(self, _mode: str) -> io.BytesIO:
        return self


class GatewayCounts:
    """The statistics of one gateway, read past every proxy."""

    def __init__(self, address: str) -> None:
        self._address = host_port(address) if address else None

    def read(self) -> dict[str, float] | None:
        """All its numbers now; None where it does not answer, or where nobody told its address."""
        if self._address is None:
            return None
        watch = Watch.of_s(TIMEOUT_S)
        try:
            connection = ProbeConnection(self._address, watch)
            try:
                got = connection.ask(*http_get("/stats"), watch)
            finally:
                connection.close()
            answer = http.client.HTTPResponse(_Said(got), method="GET")  # type: ignore[arg-type]
            answer.begin()
            counts = dict(_numbers("", msgspec.json.decode(answer.read(len(got)))))
        except (Cut, http.client.HTTPException, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None  # whatever a gateway may say that is no table of numbers
        return counts if answer.status == 200 else None


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
    elif isinstance(body, int | float) and not isinstance(body, bool) and abs(body) < _LARGEST:
        yield prefix, float(body)
