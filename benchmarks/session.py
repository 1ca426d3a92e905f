"""What have this benchmark's experiments measured already?  Runs that several rows need are made once."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec

from benchmarks.bench import Bench
from benchmarks.figures import ClientRun, number
from benchmarks.ours import OwnRun, run_ours
from benchmarks.profile_text import Load

PLAIN_100 = Load(consumers=1000, rate_per_s=100)
PLAIN_20 = Load(consumers=1000, rate_per_s=20)
SOCKETIO_100 = Load(consumers=1000, rate_per_s=100, transport="socketio")
SOCKETIO_FEW = Load(consumers=100, rate_per_s=100, transport="socketio")
PERSONAL_20 = Load(consumers=1000, rate_per_s=20, personal=True)
PERSONAL_100 = Load(consumers=1000, rate_per_s=100, personal=True)
PERSONAL_SOCKETIO = Load(consumers=1000, rate_per_s=20, personal=True, transport="socketio")
PLAIN_FEW = Load(consumers=200, rate_per_s=20)
"""For a peer that cannot even open 1,000 connections while messages come."""
ONCE = (SOCKETIO_100, SOCKETIO_FEW, PLAIN_FEW, PERSONAL_SOCKETIO, PERSONAL_100)
"""Loads of ours that run once: twelve minutes are all there is."""


class Session:
    """A bench and what came of it; `points` are for the plot."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._pairs: dict[Load, tuple[list[OwnRun], list[ClientRun]]] = {}
        self._own: dict[Load, list[OwnRun]] = {}
        self.bars: dict[str, float] = {}  # client -> CPU-s per million at 1,000 x 20/s
        self.largest: OwnRun | None = None  # the run with the most deliveries
        self.curve: list[tuple[float, float]] = []  # (deliveries per second, CPU in percent)

    def beside_floor(self, load: Load) -> tuple[list[OwnRun], list[ClientRun]]:
        """Ours and the floor's in turn, the same frames at the same rate."""
        if load not in self._pairs:
            own: list[OwnRun] = []
            floor: list[ClientRun] = []
            for _ in range(1 if load in ONCE else self.bench.repeats):
                floor.append(self.bench.floor(load))
                own.append(self.run(load))
            self._pairs[load] = own, floor
            if load == PLAIN_20:
                self.bars |= {"C floor": median_cost(floor), "Tickstorm": median_cost(own)}
        return self._pairs[load]

    def run(self, load: Load) -> OwnRun:
        """One run of ours, kept in mind for the plot and for judging."""
        run = run_ours(self.bench, self._sized(load))
        if (
            not (load.batch_ms or load.personal)
            and load.transport == "websocket"
            and load.consumers == PLAIN_100.consumers
        ):
            self.curve.append((run.run.rate, run.run.cpu_percent))
        if self.largest is None or _delivered(run) > _delivered(self.largest):
            self.largest = run
        return run

    def own(self, load: Load) -> list[OwnRun]:
        """Ours alone; those beside the floor where they ran."""
        if load in self._pairs:
            return self._pairs[load][0]
        if load not in self._own:
            self._own[load] = [self.run(load) for _ in range(1 if load in ONCE else self.bench.repeats)]
        return self._own[load]

    def by_library(self, load: Load) -> OwnRun:
        """Ours once, its messages sent by a library."""
        if load not in self._own:
            with self.bench.library_sender(tls=load.tls, compression=load.compression) as sender:
                self._own[load] = [run_ours(self.bench, self._sized(load), gateway=sender.address)]
        return self._own[load][0]

    def _sized(self, load: Load) -> Load:
        return msgspec.structs.replace(load, seconds=3.0) if self.bench.quick else load


def _delivered(run: OwnRun) -> int:
    return int(run.results["delivery"]["unique"] or 0)


def costs(runs: Sequence[OwnRun] | Sequence[ClientRun]) -> list[float]:
    """CPU-s per million of each."""
    return [(run.run if isinstance(run, OwnRun) else run).cpu_s_per_million for run in runs]


def median_cost(runs: Sequence[OwnRun] | Sequence[ClientRun]) -> float:
    """CPU-s per million, the median."""
    return statistics.median(costs(runs))


def lost(runs: Sequence[OwnRun]) -> str:
    """For a detail: what was lost in all of them."""
    found = [run.run.lost for run in runs]
    return "lost: not known" if None in found else f"lost {sum(n or 0 for n in found)}"


def latency(run: ClientRun) -> str:
    """For a detail."""
    if run.p50_ms is None or run.p99_ms is None:
        return "latency not valid"
    return f"p50 {number(run.p50_ms)} ms, p99 {number(run.p99_ms)} ms"
