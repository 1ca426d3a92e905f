"""What does every link do to a request right now, with a fault or without one?  A thread for each asks now and then.

A connection is opened for each ping and closed after it, so that none is left to count, to cut or to keep a link open.
A link is left alone while a fault acts on it: a new connection to a proxy that a stalled reader has wedged would make
it worse. What the witness of a fault has just measured is told again instead of asking once more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError
from loadtests.inject.link import ANSWER_S, Link
from loadtests.inject.probe import Pace, Ping, Probe
from loadtests.model.ids import NS_PER_S
from loadtests.model.records import LINK_PROBE, PathProbe

_HUSH_S = 0.2  # how long a fault that is about to act waits for a ping to end; a stop is noticed in a quarter of it


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
