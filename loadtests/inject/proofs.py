"""Did a fault really act?  The port of a witness, which measures before, during and after; and that of a link."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Protocol

from loadtests.inject.deadline import Watch
from loadtests.inject.link import Link
from loadtests.inject.probe import Ping
from loadtests.inject.socket_table import Peer
from loadtests.model.ids import NS_PER_MS

Effective = dict[str, float | int | str | None]
"""What was measured, by name; None where the protocol or the time allowed no measurement."""

CALM_PINGS = 5
_LOOK_NS = 20 * NS_PER_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a witness says; without proof, `reason` says why."""

    proved: bool
    effective: Effective = field(default_factory=dict)
    reason: str = ""


class Witness(Protocol):
    """Measures one fault's effect. Each method ends with its watch; none raises because of what the target does."""

    def before(self, watch: Watch) -> None:
        """Measures how it is without the fault."""
        ...

    def last_look(self) -> None:
        """A quick look just before the act, such as who is connected."""
        ...

    def during(self, watch: Watch) -> Proof:
        """Measures until the effect is known or the watch ends."""
        ...

    def after(self, watch: Watch) -> Effective:
        """Shows whether the fault is gone."""
        ...

    def close(self) -> None:
        """Lets go of its connections; safe to repeat."""
        ...


def spread(took_ns: Sequence[int]) -> Effective:
    """Median, the 99th of a hundred (None where there are fewer than a hundred), and what lies between the ends."""
    ascending = sorted(took_ns)
    return {
        "p50_ms": ms(median(ascending)) if ascending else None,
        "p99_ms": ms(ascending[-(-99 * len(ascending) // 100) - 1]) if len(ascending) >= 100 else None,
        "spread_ms": ms(ascending[-1] - ascending[0]) if ascending else None,
    }


def ms(ns: float) -> float:
    """Nanoseconds as milliseconds, to a microsecond."""
    return round(ns / NS_PER_MS, 3)


class LinkWitness:
    """What every witness of a link does before and after; a kind adds `during`.

    Raises ControlError where Toxiproxy does not say where the link listens.
    """

    def __init__(self, link: Link) -> None:
        self.link = link
        self.port = link.address()[1]
        self.probe = link.probe()
        self.calm_ns: list[int] = []
        self.connections: frozenset[Peer] | None = None

    def before(self, watch: Watch) -> None:
        """Round trips without the fault; the first of a connection is not among them.

        While another fault is in force on the link it waits; if that lasts, what was calm before is remembered.
        """
        asked = 0
        while asked <= CALM_PINGS:
            if self.link.disturbed:
                if not watch.wait(time.monotonic_ns() + _LOOK_NS) or watch.over:
                    break
                continue
            ping = self.probe.ping(watch)
            if ping is None:
                break
            asked += 1
            counts = ping.seen == "answer" and (not ping.fresh or not self.probe.local_port)
            if counts and not self.link.disturbed:
                self.calm_ns.append(ping.took_ns)
        self.link.calm_ns.extend(self.calm_ns)
        self.calm_ns = self.calm_ns or list(self.link.calm_ns)

    def last_look(self) -> None:
        """Who is connected."""
        self.connections = self.link.connections(self.port, self.probe)

    def closed_connections(self) -> int | None:
        """How many of those that were connected at the last look are not any more."""
        if self.connections is None:
            return None
        now = self.link.connections(self.port, self.probe, must_listen=False)
        return None if now is None else len(self.connections - now)

    def with_hit(self, proof: Proof, *, closed: bool = False) -> Proof:
        """The same proof with how many connections the fault met, and how many of them it closed."""
        hit: Effective = {"connections_hit": None if self.connections is None else len(self.connections)}
        if closed:
            hit["connections_closed"] = self.closed_connections()
        return replace(proof, effective={**proof.effective, **hit})

    def calm_median_ns(self) -> float | None:
        """Median round trip without the fault."""
        return median(self.calm_ns) if self.calm_ns else None

    def after(self, watch: Watch) -> Effective:
        """A ping as quick as before the fault, or as long as the watch allows none such."""
        base = self.calm_median_ns()
        limit_ns = None if base is None else max(5 * base, base + 50 * NS_PER_MS)
        last: Ping | None = None
        for _ in range(4):
            ping = self.probe.ping(watch)
            if ping is None:
                break
            last = ping
            if ping.seen == "answer" and (limit_ns is None or ping.took_ns <= limit_ns):
                break
        clean = last is not None and last.seen == "answer" and (limit_ns is None or last.took_ns <= limit_ns)
        found: Effective = {"clean": int(clean), "probe": last.seen if last else None}
        if last is not None and last.seen == "answer" and self.probe.asks:
            found["rtt_ms"] = ms(last.took_ns)
        return found

    def close(self) -> None:
        """Closes the probe's connection."""
        self.probe.close()


def directions(direction: str) -> Sequence[str]:
    """The streams that a fault's direction names."""
    return ("downstream", "upstream") if direction == "both" else (direction,)
