"""What may be done to one link?  A small control over its proxy; every act can be repeated and read back."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from loadtests.inject.errors import Refused
from loadtests.inject.passage import Passage
from loadtests.inject.probe import Carried, Pace, Ping, Probe
from loadtests.inject.probe_connection import Layer, OwnPorts
from loadtests.inject.probe_protocols import DIALECTS
from loadtests.inject.socket_table import Peer, look, open_connections, why_unseen, without_port
from loadtests.inject.toxics import Missing, Proxy, Toxic, ToxiproxyServer, differences
from loadtests.model.address import host_port
from loadtests.model.ids import NS_PER_S

ANSWER_S = 1.0
"""Who has waited so long for an answer has seen silence."""

OBSERVABLE_BY = "target.processes.toxiproxy, its process on this machine, would make it observable"

_WILDCARDS = ("", "0.0.0.0", "::", "*")


class Link:
    """One link. Every method that speaks to Toxiproxy raises a ControlError (NoAnswer, NotThere, Refused)."""

    def __init__(
        self,
        *,
        server: ToxiproxyServer,
        name: str,
        proxy: str,
        speaks: str = "",
        probe_every_s: float = 0.25,
        layer: Callable[[], Layer] | None = None,
        toxiproxy_pid: int = 0,
    ) -> None:
        self.own = OwnPorts()
        self._toxiproxy_pid = toxiproxy_pid or None
        self.server = server
        self.name = name
        self.proxy = proxy
        self.speaks = speaks
        self._layer = layer
        self._pace = Pace(probe_every_s)
        self._lock = threading.Lock()
        self._faults = 0
        self._seen: tuple[int, Ping] | None = None  # when the last reading of a witness began, monotonic
        self.calm_ns: deque[int] = deque(maxlen=20)  # round trips measured while no fault was in force
        self.calm_closes_ns: deque[int] = deque(maxlen=20)  # the same of passing on a close
        self.calm_loads: dict[tuple[str, int], Carried] = {}  # way, size -> the same of a load

    @property
    def disturbed(self) -> bool:
        """A fault of this run is in force on it, so that nothing calm can be measured."""
        return self._faults > 0

    def count_fault(self, change: int) -> None:
        """One fault more, or one less, is in force."""
        with self._lock:
            self._faults += change

    def state(self) -> Proxy:
        """The proxy as the server holds it now."""
        return self.server.proxy(self.proxy)

    def degrade(self, toxics: Sequence[Toxic]) -> None:
        """Adds them in order."""
        for toxic in toxics:
            self.server.add(self.proxy, toxic)

    def not_in_force(self, toxics: Sequence[Toxic]) -> list[str]:
        """How what the server holds differs from what was asked; empty when all is in force."""
        held = {toxic.name: toxic for toxic in self.state().toxics}
        return [text for toxic in toxics for text in differences(toxic, held.get(toxic.name))]

    def restore(self, names: Sequence[str]) -> None:
        """Removes them; those that are not there are removed."""
        for name in names:
            self.server.remove(self.proxy, name)

    def remaining(self, names: Sequence[str]) -> list[str]:
        """Which of them are still there. A proxy that is not there holds none, but is named."""
        try:
            held = {toxic.name for toxic in self.state().toxics}
        except Missing:
            return [f'proxy "{self.proxy}" is gone']
        return [f'"{name}" is still on "{self.proxy}"' for name in names if name in held]

    def cut(self) -> None:
        """Closes its connections and stops listening."""
        self.server.set_enabled(self.proxy, False)

    def mend(self) -> None:
        """Listens again."""
        self.server.set_enabled(self.proxy, True)

    def lead_to(self, upstream: str) -> None:
        """Leads to another server: closes its connections, and new ones reach that server."""
        self.server.set_upstream(self.proxy, upstream)

    def recreate(self, *, listen: str, upstream: str) -> None:
        """A new proxy in the place of the old one: same name, address and upstream, no toxic."""
        self.server.delete(self.proxy)
        self.server.create(self.proxy, listen=listen, upstream=upstream)

    def address(self) -> tuple[str, int]:
        """Where a client enters the link, as seen from here."""
        try:
            host, port = host_port(self.state().listen)
        except ValueError:
            raise Refused(f'proxy "{self.proxy}" listens at no address that can be read') from None
        return (self.server.host if host in _WILDCARDS else host), port

    @property
    def asks(self) -> bool:
        """Its probes speak the protocol behind it, so that they can measure times."""
        return self.speaks in DIALECTS

    def probe(self, pace: Pace | None = None) -> Probe:
        """A probe of its own for one fault; what it sees is known to all. With a pace, one that nobody else hears."""
        if pace is not None:
            return Probe(self.address(), self.speaks, pace, self._layer, own=self.own)
        return Probe(self.address(), self.speaks, self._pace, self._layer, self._saw, self.own)

    def passage(self) -> Passage | str:
        """Who passes it besides our probes; a sentence where that cannot be observed."""
        port, pid = self.address()[1], self._toxiproxy_pid
        if why := why_unseen(port, self.server.port, pid):
            return f"{why}; {OBSERVABLE_BY}"
        return Passage(lambda: look(port, pid), self.own.known, self.name)

    def seen_since(self, at_ns: int) -> tuple[int, Ping] | None:
        """The last reading of a fault's probe and when it began, on the monotonic clock; None where it was before."""
        seen = self._seen
        return seen if seen is not None and seen[0] + seen[1].took_ns >= at_ns else None

    def _saw(self, ping: Ping) -> None:
        waited = ping.seen in ("silent", "no connect")
        if not waited or ping.took_ns >= ANSWER_S * NS_PER_S:  # one that was cut short has not seen silence
            self._seen = (time.monotonic_ns() - ping.took_ns, ping)

    def connections(self, port: int, probe: Probe, *, must_listen: bool = True) -> frozenset[Peer] | None:
        """Who is connected through it, without the probe; None where this machine cannot know."""
        found = open_connections(port, must_listen=must_listen)
        return None if found is None else without_port(found, probe.local_port)
