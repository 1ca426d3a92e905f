"""What does Toxiproxy hold, and how is it changed?  The only user of toxiproxy-python (0.1.1), mended around here.

Of it remains how it reads an answer. Mended: the address belongs to one object, not to a class of the process; every
call has one deadline and a cap on its answer; every status that is not a success raises; a toxic and a proxy can be
updated by PATCH; environment variables for HTTP proxies are ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Literal, TypeVar, cast
from urllib.parse import quote

import msgspec
from toxiproxy.api import validate_response
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists

from loadtests.inject.errors import Refused
from loadtests.inject.probe_connection import Reply, ask
from loadtests.model.address import host_port
from loadtests.model.words import plain

CALL_TIMEOUT_S = 5.0
TOXIC_PREFIX = "tickstorm-"
"""Every toxic of ours carries it, so that a sweep never touches another owner's toxic."""

_LIBRARY_ERRORS = cast("tuple[type[Exception], ...]", (ProxyExists, NotFound, InvalidToxic))
Direction = Literal["downstream", "upstream"]
_NAME = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,199}\Z")
_MAX = 2**31 - 1
_ATTRIBUTES: Mapping[str, Mapping[str, int]] = {  # type -> attribute -> its least value
    "latency": {"latency": 0, "jitter": 0},
    "bandwidth": {"rate": 0},  # below 0 the server panics
    "slow_close": {"delay": 0},
    "timeout": {"timeout": 0},
    "reset_peer": {"timeout": 0},
    "slicer": {"average_size": 1, "size_variation": 0, "delay": 0},  # average_size 0 crashes the server
    "limit_data": {"bytes": 0},
}


class Toxic(msgspec.Struct, frozen=True, kw_only=True):
    """One toxic, as asked or as read back."""

    name: str
    type: str
    stream: Direction
    attributes: dict[str, int]
    toxicity: float = 1.0


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """One proxy, as read back."""

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: list[Toxic] = []


def toxic_name(fault: str, stream: str) -> str:
    """Name of a fault's toxic on one stream; a repeated fault's `#` would end a URL's path."""
    return f"{TOXIC_PREFIX}{re.sub(r'[^A-Za-z0-9_-]', '.', fault)}-{stream}"


def problems(toxic: Toxic) -> list[str]:
    """Why this toxic must not be sent: what the server would crash on, wedge on, or silently misread.

    Unknown attribute names are not among them: the server ignores those, and the read-back shows it.
    """
    found: list[str] = []
    if not _NAME.match(toxic.name):
        found.append(f'name "{toxic.name}": allowed are letters, digits, ".", "_" and "-"')
    if toxic.type not in _ATTRIBUTES:
        found.append(f'type "{toxic.type}": known are {sorted(_ATTRIBUTES)}')
    if toxic.stream not in ("downstream", "upstream"):
        found.append(f'stream "{toxic.stream}": allowed are downstream and upstream')
    if not 0 <= toxic.toxicity <= 1:
        found.append(f"toxicity {toxic.toxicity}: allowed is 0 to 1")
    least = _ATTRIBUTES.get(toxic.type, {})
    for key, value in toxic.attributes.items():
        if not isinstance(value, int) or isinstance(value, bool):
            found.append(f"{key} {value!r}: a whole number is needed")
        elif not least.get(key, 0) <= value <= _MAX:
            found.append(f"{key} {value}: allowed is {least.get(key, 0)} to {_MAX}")
    if toxic.type == "slicer":
        size = toxic.attributes.get("average_size", 0)
        if size < 1:
            found.append("average_size is missing: without it the server crashes")
        if toxic.attributes.get("size_variation", 0) > size:
            found.append("size_variation exceeds average_size: the server panics")
    return found


def differences(asked: Toxic, held: Toxic | None) -> list[str]:
    """What the server holds otherwise than asked; empty when the toxic is in force as asked."""
    if held is None:
        return [f'"{asked.name}" is not there']
    found = []
    for key in ("type", "stream"):
        if getattr(asked, key) != getattr(held, key):
            found.append(f"{key}: asked {getattr(asked, key)}, in force {getattr(held, key)}")
    if abs(asked.toxicity - held.toxicity) > 1e-6:
        found.append(f"toxicity: asked {asked.toxicity}, in force {held.toxicity}")
    for key, value in asked.attributes.items():
        if key not in held.attributes:
            found.append(f"{key}: asked {value}, unknown to the server; in force {held.attributes}")
        elif held.attributes[key] != value:
            found.append(f"{key}: asked {value}, in force {held.attributes[key]}")
    return found


class Missing(Refused):
    """The proxy or toxic is not there."""


class ToxiproxyServer:
    """One Toxiproxy server's HTTP API; may be used by several threads at once.

    Every method raises NoAnswer (what was asked may have happened), NotThere (nobody listens) or Refused (an error
    status, or an answer that cannot be read).
    """

    def __init__(self, address: str, *, timeout_s: float = CALL_TIMEOUT_S) -> None:
        self.address = address
        self.host, self.port = host_port(address)
        self._timeout_s = timeout_s

    def version(self) -> str:
        """The server's version, as it states it itself."""
        text = self._call("GET", "/version").content.decode(errors="replace").strip()
        try:
            return plain(msgspec.json.decode(text, type=dict[str, str]).get("version", text))
        except msgspec.MsgspecError:
            return plain(text)  # servers before 2.5 answer plain text

    def proxies(self) -> dict[str, Proxy]:
        """All proxies with their toxics."""
        return _decode(self._call("GET", "/proxies"), dict[str, Proxy])

    def proxy(self, name: str) -> Proxy:
        """One proxy with its toxics; raises Missing where it is not there."""
        return _decode(self._call("GET", f"/proxies/{_quoted(name)}"), Proxy)

    def add(self, proxy: str, toxic: Toxic) -> None:
        """Adds a toxic. Raises Refused, before anything is sent, where `problems` finds one."""
        found = problems(toxic)
        if found:
            raise Refused("not sent: " + "; ".join(found))
        self._call("POST", f"/proxies/{_quoted(proxy)}/toxics", msgspec.to_builtins(toxic))

    def remove(self, proxy: str, toxic: str) -> None:
        """Removes a toxic; one that is not there is removed."""
        with suppress(Missing):
            self._call("DELETE", f"/proxies/{_quoted(proxy)}/toxics/{_quoted(toxic)}")

    def update(self, proxy: str, toxic: Toxic) -> None:
        """Changes a toxic's attributes and toxicity. Raises Refused, before anything is sent, where it must not."""
        found = problems(toxic)
        if toxic.type == "timeout" and toxic.toxicity < 1:
            found.append("a timeout toxic below toxicity 1 leaves a hole in the bytes of living connections: remove it")
        if found:
            raise Refused("not sent: " + "; ".join(found))
        body = {"attributes": toxic.attributes, "toxicity": toxic.toxicity}
        self._call("PATCH", f"/proxies/{_quoted(proxy)}/toxics/{_quoted(toxic.name)}", body)

    def set_enabled(self, proxy: str, enabled: bool) -> None:
        """Lets a proxy listen, or stops it and closes its connections."""
        self._call("PATCH", f"/proxies/{_quoted(proxy)}", {"enabled": enabled})

    def set_upstream(self, proxy: str, upstream: str) -> None:
        """Leads a proxy to another server, and closes its connections."""
        self._call("PATCH", f"/proxies/{_quoted(proxy)}", {"upstream": upstream})

    def create(self, proxy: str, *, listen: str, upstream: str) -> None:
        """Creates a proxy that listens."""
        body = {"name": proxy, "listen": listen, "upstream": upstream, "enabled": True}
        self._call("POST", "/proxies", body)

    def delete(self, proxy: str) -> None:
        """Deletes a proxy with its connections and toxics; one that is not there is deleted."""
        with suppress(Missing):
            self._call("DELETE", f"/proxies/{_quoted(proxy)}")

    def _call(self, method: str, path: str, body: object = None) -> Reply:
        reply = ask("Toxiproxy", self.address, method, path, body, timeout_s=self._timeout_s)
        try:
            validate_response(reply)  # type: ignore[no-untyped-call]
        except _LIBRARY_ERRORS as error:
            kind = Missing if isinstance(error, NotFound) else Refused
            raise kind(f"Toxiproxy refused {method} {path}: {_short(reply.content)}") from error
        if not 200 <= reply.status_code < 300:  # the library lets 403, 500 and 503 pass
            raise Refused(f"Toxiproxy answered {reply.status_code} to {method} {path}: {_short(reply.content)}")
        return reply


_T = TypeVar("_T")


def _decode(reply: Reply, type_: type[_T]) -> _T:
    try:
        return msgspec.json.decode(reply.content, type=type_)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Refused(f"Toxiproxy's answer cannot be read: {plain(str(error))}") from error


def _quoted(name: str) -> str:
    return quote(name, safe="")


def _short(content: bytes) -> str:
    return plain(content.decode(errors="replace"))
