"""Did traffic of the run or the target pass a port before a fault, and did the fault meet it?  Three answers (`Touch`).

A thread looks at the kernel's table now and then, from the calm before a fault to its end. Connections of the injector
itself are left out by their local ports, also those that were closed meanwhile. Connections that last for one request
are seen by what the kernel keeps of them after their end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from loadtests.inject.socket_table import Counted, Look, Peer
from loadtests.model.records import ACTED, NOT_OBSERVABLE, NOTHING, TOUCHED, TOUCHED_WHY


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """Whether a fault met traffic; without that, why not, or which key would make it observable."""

    touched: str
    why: str = ""
    connections: int | None = None  # that passed in the time before it
    closed: int | None = None  # of those that were open when it acted

    def effective(self) -> dict[str, float | int | str | None]:
        """As a step of the fault tells it."""
        found: dict[str, float | int | str | None] = {TOUCHED: self.touched}
        if self.touched != ACTED:
            found[TOUCHED_WHY] = self.why
        if self.connections is not None:
            found["traffic_connections"] = self.connections
        if self.closed is not None:
            found["traffic_closed"] = self.closed
        return found


BEFORE_NS = 2_300_000_000
"""Connections that passed so long before a fault are its traffic: two seconds, and the announcement."""

_EVERY_S, _LATER_EVERY_S = 0.1, 0.5  # before it acts, and while it is in force
_PAUSES = 10  # times as long as a look, until the next one
_JOIN_S = 1.5
_MOST_NEW = 1_000  # who came while it was in force: more of them prove no more

Meets = Literal["cuts", "cuts later", "resets", "delays", "silences", "closes late", "answers anew"]
"""What a fault does to connections: closes all at once; those that reach a limit; those that send; holds their bytes;
swallows them; passes their end on later; keeps new ones out."""


@dataclass(slots=True)
class _Passer:
    first_ns: int
    last_ns: int  # when it was last seen established, or first seen ended
    at_first: Counted | None
    at_act: Counted | None
    now: Counted | None
    was_there: bool  # at the first look already
    ended: bool = False
    left: bool = False  # it closed first


class Passage:
    """Who passes one port. `looks` reads the kernel's table; `own` tells the local ports of our own connections."""

    def __init__(self, looks: Callable[[], Look | None], own: Callable[[], frozenset[int]], where: str) -> None:
        self._looks, self._own, self._where = looks, own, where
        self._passers: dict[Peer, _Passer] = {}
        self._forgotten: frozenset[Peer] | None = None  # that had ended before the first look
        self._held: frozenset[Peer] = frozenset()  # established when it was about to act
        self._held_after: frozenset[Peer] | None = None  # the same at the first look after it had acted
        self._act_ns: int | None = None
        self._blind = False
        self._came = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"passage {where}", daemon=True)

    def start(self) -> None:
        """Looks from now on; the first look is taken here."""
        self.glance()
        self._thread.start()

    def about_to_act(self) -> None:
        """Who is there now is whom the fault may meet."""
        found = self.glance()
        with self._lock:
            self._act_ns = time.monotonic_ns()
            self._held = frozenset(found.held) if found is not None else frozenset()
            for passer in self._passers.values():
                passer.at_act = passer.now

    def has_acted(self) -> None:
        """It is in force."""
        found = self.glance()
        with self._lock:
            self._held_after = frozenset(found.held) if found is not None else None

    def glance(self) -> Look | None:
        """One look, now."""
        found, now_ns = self._looks(), time.monotonic_ns()
        with self._lock:
            if found is None:
                self._blind = True
                return None
            first = self._forgotten is None
            if self._forgotten is None:
                self._forgotten = found.ended
            for peer, counted in found.held.items():
                passer = self._passers.get(peer)
                if passer is None and not self._is_room():
                    continue
                if passer is None:
                    start = counted if first else None if counted is None else (0, 0)
                    at_act = None if self._act_ns is None else start
                    passer = self._passers[peer] = _Passer(now_ns, now_ns, start, at_act, counted, first)
                passer.last_ns, passer.now = now_ns, counted
            for peer in found.ended - self._forgotten:
                passer = self._passers.get(peer)
                if passer is None and not self._is_room():
                    continue
                if passer is None:
                    passer = self._passers[peer] = _Passer(now_ns, now_ns, None, None, None, False)
                passer.ended = True
                passer.left = passer.left or peer in found.left
        return found

    def _is_room(self) -> bool:
        self._came += self._act_ns is not None
        return self._came <= _MOST_NEW

    def touch(self, meets: Meets, ways: Iterable[str]) -> Touch:
        """What became of the traffic, up to now."""
        found = self.glance()
        with self._lock:
            if self._blind or found is None or self._act_ns is None:
                return Touch(touched=NOT_OBSERVABLE, why=f"the connections through {self._where} could not be read")
            return self._judge(found, meets, frozenset(ways))

    def _judge(self, found: Look, meets: Meets, ways: frozenset[str]) -> Touch:
        assert self._act_ns is not None
        own, act_ns = self._own(), self._act_ns
        others = {peer: passer for peer, passer in self._passers.items() if peer[1] not in own}
        held = {peer: passer for peer, passer in others.items() if peer in self._held}
        brief = {  # begun and ended in the time before it
            peer
            for peer, passer in others.items()
            if act_ns - BEFORE_NS <= passer.first_ns <= act_ns and not passer.was_there and peer not in self._held
        }
        before = len(held) + len(brief)
        if not before:
            why = f"no traffic of the run or the target went through {self._where} in the 2 s before"
            return Touch(touched=NOTHING, why=why, connections=0)
        after = self._held_after if self._held_after is not None else frozenset(found.held)
        there = after if meets in ("cuts", "answers anew") else frozenset(found.held)
        closed = sum(peer not in there for peer in held)
        came = {peer: passer for peer, passer in others.items() if passer.first_ns > act_ns}
        ended = sum(passer.ended for passer in came.values()) + sum(held[p].ended or p not in found.held for p in held)

        def told(met: bool | None, why: str) -> Touch:
            touched = NOT_OBSERVABLE if met is None else ACTED if met else NOTHING
            return Touch(touched=touched, why="" if met else why, connections=before, closed=closed)

        if meets in ("cuts", "resets", "answers anew"):
            return told(
                closed > 0 or bool(brief),
                f"it closed no connection through {self._where}; {before} went through it in the 2 s before",
            )
        if meets == "cuts later":
            return told(
                any(peer not in there and not passer.left for peer, passer in held.items()),
                f"no connection through {self._where} reached the limit; {before} went through it in the 2 s before",
            )
        if meets == "closes late":
            return told(ended > 0, f"no connection through {self._where} ended while it was in force")
        flows = [_flow(p.at_act, p.now, ways) for p in held.values()] + [
            _flow((0, 0), p.now, ways) for p in came.values()
        ]
        passed = any(flows) or any(p.ended for p in came.values())
        if meets == "silences":
            passed = passed or bool(brief) or any(_flow(p.at_first, p.at_act, ways) for p in held.values())
        if not passed and None in flows:
            return told(None, f"this system does not tell how many bytes pass through {self._where}")
        way = "" if len(ways) > 1 else f" {next(iter(ways))}"
        return told(passed, f"nothing passed{way} through {self._where} while it was in force")

    def close(self) -> None:
        """Looks no more; safe to repeat."""
        self._over.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)

    def _run(self) -> None:
        took_s = 0.0
        while not self._over.wait(max(_EVERY_S if self._held_after is None else _LATER_EVERY_S, _PAUSES * took_s)):
            began_s = time.monotonic()
            self.glance()
            took_s = time.monotonic() - began_s


def _flow(start: Counted | None, end: Counted | None, ways: frozenset[str]) -> bool | None:
    """Whether bytes passed in one of these ways between two looks; None where nobody counts them."""
    if start is None or end is None:
        return None
    up, down = end[0] - start[0], end[1] - start[1]
    return ("upstream" in ways and up > 0) or ("downstream" in ways and down > 0)
