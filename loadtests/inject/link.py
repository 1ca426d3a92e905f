"""What may be done to one link, and what does every link do to a request right now?

`Link` is a small control over its proxy; every act can be repeated and read back.

`LinkProbes` asks each link now and then, with a fault or without one, in a thread for each. A connection is opened for
each ping and closed after it, so that none is left to count, to cut or to keep a link open. A link is left alone while
a fault acts on it: a new connection to a proxy that a stalled reader has wedged would make it worse. What the witness
of a fault has just measured is told again instead of asking once more.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError, Refused
from loadtests.inject.passage import Passage
from loadtests.inject.probe import Carried, Pace, Ping, Probe
from loadtests.inject.probe_connection import Layer, OwnPorts
from loadtests.inject.probe_protocols import DIALECTS
from loadtests.inject.socket_table import Peer, look, open_connections, why_unseen, without_port
from loadtests.inject.toxics import Missing, Proxy, Toxic, ToxiproxyServer, differences
from loadtests.model.address import host_port
from loadtests.model.ids import NS_PER_S
from loadtests.model.records import LINK_PROBE, PathProbe

ANSWER_S = 1.0
"""Who has waited so long for an answer has seen silence."""

OBSERVABLE_BY = "target.processes.toxiproxy, its process on this machine, would make it observable"

_WILDCARDS = ("", "0.0.0.0", "::", "*")
_HUSH_S = 0.2  # how long a fault that is about to act waits for a ping to end; a stop is noticed in a quarter of it


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


class LinkProbe:
    """Asks through one link, and tells what came of it."""

    def __init__(
        self, link: Link, every_s: float, first_s: float, tell: Callable[[int, Ping], None], stuck: Callable[[], bool]
    ) -> None:
        """`stuck`: a fault on it could not be lifted, so that nobody may connect."""
        self._link, self._every_s, self._first_s = link, every_s, first_s
        self._tell, self._stuck = tell, stuck
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._hushed = 0
        self._asking: threading.Event | None = None  # stops the ping that is on its way
        self._idle = threading.Event()
        self._idle.set()
        self._thread = threading.Thread(target=self._run, name=f"probe {link.name}", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def hush(self) -> None:
        """Asks nothing from now on, and breaks off what is being asked; each hush needs a resume."""
        with self._lock:
            self._hushed += 1
            if self._asking is not None:
                self._asking.set()

    def is_idle(self, timeout_s: float) -> bool:
        """Waits so long until no connection of it is open."""
        return self._idle.wait(timeout_s)

    def resume(self) -> None:
        """Takes a hush back."""
        with self._lock:
            self._hushed -= 1

    def end(self) -> None:
        """Ends it for good; safe to repeat."""
        self._ended.set()
        with self._lock:
            if self._asking is not None:
                self._asking.set()

    def _run(self) -> None:
        probe: Probe | None = None
        since_ns = time.monotonic_ns()
        turn_ns = since_ns + int(self._first_s * NS_PER_S)
        while Watch(turn_ns, self._ended).wait():
            now_ns = time.monotonic_ns()
            turn_ns = max(turn_ns, now_ns - int(self._every_s * NS_PER_S)) + int(self._every_s * NS_PER_S)
            if (seen := self._link.seen_since(since_ns)) is not None:
                self._tell(*seen)
            elif probe is None or not probe.asks:
                probe = self._made()
            since_ns = now_ns
            if seen is None and probe is not None and probe.asks:
                self._ask(probe)

    def _made(self) -> Probe | None:
        with self._lock:
            if self._hushed or self._stuck():
                return None
        try:
            return self._link.probe(Pace(0))
        except ControlError:
            return None  # who controls the link tells of it; its next turn comes

    def _ask(self, probe: Probe) -> None:
        with self._lock:
            if self._hushed or self._ended.is_set() or self._stuck():
                return
            stop = self._asking = threading.Event()
            self._idle.clear()
        try:
            ping = probe.ping(Watch.of_s(ANSWER_S, stop), fresh=True)
        finally:
            probe.close()
            with self._lock:
                self._asking = None
                self._idle.set()
        if ping is not None and not stop.is_set():
            self._tell(time.monotonic_ns() - ping.took_ns, ping)


class Quiet:
    """Some links left alone, from `begin` to `end`; both may be repeated."""

    def __init__(self, probes: Sequence[LinkProbe] = ()) -> None:
        self._probes = probes
        self._on = False

    def begin(self) -> None:
        """No connection is opened from here on, and those that are open end within a moment."""
        if self._on:
            return
        self._on = True
        for probe in self._probes:
            probe.hush()
        watch = Watch.of_s(_HUSH_S)
        for probe in self._probes:
            probe.is_idle(watch.left_s)

    def end(self) -> None:
        """They may be asked again."""
        if self._on:
            for probe in self._probes:
                probe.resume()
        self._on = False


class LinkProbes:
    """The probes of all links of a run."""

    def __init__(
        self,
        links: Mapping[str, Link],
        *,
        every_s: float,
        origin_ns: int,
        emit: Callable[[PathProbe], None],
        stuck: Callable[[str], bool],
    ) -> None:
        """No probe at all where `every_s` is 0, and none of a link whose protocol nobody here speaks."""
        self._probes: dict[str, LinkProbe] = {}
        asked = {name: link for name, link in links.items() if every_s > 0 and link.asks}

        def of(name: str, first_s: float) -> LinkProbe:
            def tell(at_ns: int, ping: Ping) -> None:
                ok = ping.seen == "answer"
                took_ns = ping.took_ns if ok else -1
                what = f"{LINK_PROBE}{name}"
                emit(PathProbe(what=what, at_ns=at_ns - origin_ns, took_ns=took_ns, ok=ok, detail=ping.seen))

            return LinkProbe(asked[name], every_s, first_s, tell, lambda: stuck(name))

        for number, name in enumerate(asked):
            self._probes[name] = of(name, every_s * number / len(asked))

    def start(self) -> None:
        """Begins, one link after the other."""
        for probe in self._probes.values():
            probe.start()

    def quiet(self, link: str = "") -> Quiet:
        """A quiet over one link, or over all where what is named is none."""
        return Quiet([self._probes[link]] if link in self._probes else list(self._probes.values()))

    def end(self) -> None:
        """Ends them for good; safe to repeat."""
        for probe in self._probes.values():
            probe.end()
