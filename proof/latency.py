"""Are latencies true, however busy the worker is?  A gateway delays by known times and notes when it sent.

Truth: its clock before and after each send.  The worker's CPU is kept at known loads by `burner`; beyond saturation
nothing may be said of latencies but that; a target that stands still shows the whole stall.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log2
from pathlib import Path
from typing import Any

from loadtests.model import records as r
from loadtests.model.ids import NS_PER_MS, NS_PER_S
from proof.bench import Bench, BenchProcess, GatewayProcess, ProofError, wait_for
from proof.ground_truth_log import Sent, read_sends
from proof.history import records_of
from proof.sections import Options, Row, SectionResult
from proof.timetable import BEYOND, STALL, STALL_S, T0, VARIABLE, Stretch, Timetable, timetable

DELAYS_MS = (0.5, 5.0, 50.0, 500.0)
PERCENTS, FULL_PERCENTS = (20, 80), (20, 55, 80, 95)
ALLOWED_MS = {0.5: 0.2, 0.99: 1.0}
_LENGTH_S, _FULL_LENGTH_S = 2.0, 6.0
_EACH = 12
"""Consumers of each delay: two seconds of them have twelve samples beyond the 99th percentile."""
_STALL_ALLOWED_MS = STALL_S * 10
"""After a stall many messages come in one read, and the kernel stamps the last of them."""
_LATE_S = 0.6
_WARM_UP_S = 0.5
_CPU_OFF = 15
"""Percent by which the worker's CPU may miss its load unsaid."""
_BURNER = Path(__file__).with_name("burner.py")


def prove_latency(bench: Bench, options: Options) -> SectionResult:
    """Planted and found latencies. Raises ProofError where the run left nothing."""
    began = time.monotonic()
    table = timetable(*((FULL_PERCENTS, _FULL_LENGTH_S) if options.full else (PERCENTS, _LENGTH_S)))
    loads = ", ".join(stretch.name.removeprefix("cpu-") for stretch in table.levels)
    options.say(f"latency: delays of 0.5 to 500 ms at {loads} % CPU, a stall, and more than the worker can do")
    lies = [
        {"kind": "delayed", "ms": ms, "consumers": list(range(at * _EACH, (at + 1) * _EACH))}
        for at, ms in enumerate(DELAYS_MS)
    ]
    gateway = bench.start_gateway({"record_sends": True, "lies": lies}, name="delaying-gateway")
    replay = bench.place("replay") / "messages.csv"
    replay.write_text(table.replay(), encoding="utf-8")
    running = bench.start_locust(
        profile(bench.target(gateway), table, replay),
        users=_BURNER,
        name="latency",
        seed=options.seed,
        environment={VARIABLE: json.dumps(table.burns())},
    )
    loads_found = _watch(running, gateway, table)
    outcome = running.outcome()
    sent = read_sends(gateway.close_book(), outcome.folder)
    shared = shared_reads(records_of(outcome.folder))
    rows = compare(table, sent, outcome.results, shared)
    return SectionResult(
        name="latency",
        rows=tuple(rows),
        seconds=time.monotonic() - began,
        notes=(*loads_found, "errors are those beyond the histogram's grain of 0.4 %"),
    )


# -- the run


def profile(target: str, table: Timetable, replay: Path) -> str:
    """One publisher replays the timetable; each stretch is a family of its own."""
    families = "".join(
        f'[[families]]\nname = "{s.name}"\nchannel = "tickstock.events.patterns"\nevent = "pattern_detected"\n'
        f'keys = {{ pattern = ["{s.name}"] }}\n'
        for s in table.stretches
    )
    consumers = "".join(f'[[consumers]]\nname = "{_group(ms)}"\ncount = {_EACH}\n' for ms in DELAYS_MS)
    return f"""
name = "prove-latency"
question = "Are latencies what the gateway made them, however busy the worker is?"
{target}
[run]
warm_up_s = {_WARM_UP_S}
duration_s = {table.end_s - _WARM_UP_S:.1f}
drain_s = 1
late_s = {_LATE_S}
settle_ms = 50
[sampling]
stamps = "every"
[guard]
own_lag_p99_ms = 5000
cpu_percent = 99
clean_coverage_min = 0.99
not_offered_share = 1
{families}[[publishers]]
name = "replayer"
families = {json.dumps([s.name for s in table.stretches])}
shape = {{ kind = "replay", file = {json.dumps(str(replay))} }}
{consumers}[[thresholds]]
measure = "latency_p99_ms"
at_most = 5000
phases = ["all"]
"""


def _group(ms: float) -> str:
    return f"by-{ms:g}-ms".replace(".", "-")


def _watch(running: BenchProcess, gateway: GatewayProcess, table: Timetable) -> list[str]:
    """Stop the gateway for a while when it is time, and measure how busy the worker is; a sentence for each load."""

    def told() -> int:
        if running.process.poll() is not None:
            raise ProofError(f"the run ended with {running.process.returncode}; {running.last_words}")
        lines = [line for line in running.said.splitlines(keepends=True) if line.startswith(T0)]
        return int(lines[0].removeprefix(T0)) if lines and lines[0].endswith("\n") else 0

    t0_ns = int(wait_for(told, 60, "the run began"))
    found = []
    for stretch in table.levels:
        percent = _cpu_percent(running, t0_ns, stretch)
        short = percent < stretch.share * 100 - _CPU_OFF
        found.append(
            f"{stretch.name}: the worker used {percent:.0f} % of a core"
            + (", no more was left for it: the machine was busy elsewhere" if short else "")
        )
    _sleep_until(t0_ns, table.stop_s)
    os.kill(gateway.pid, signal.SIGSTOP)
    try:
        _sleep_until(t0_ns, table.stop_s + STALL_S)
    finally:
        os.kill(gateway.pid, signal.SIGCONT)
    return found


def _sleep_until(t0_ns: int, at_s: float) -> None:
    time.sleep(max(0.0, at_s - (time.monotonic_ns() - t0_ns) / NS_PER_S))


def _cpu_percent(child: BenchProcess, t0_ns: int, stretch: Stretch) -> float:
    _sleep_until(t0_ns, stretch.from_s)
    began, used = time.monotonic(), _cpu_s(child.pid)
    _sleep_until(t0_ns, stretch.to_s)
    return 100 * (_cpu_s(child.pid) - used) / (time.monotonic() - began)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- the truth, and the comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """Latencies of one stretch and delay: the least and the most that each may be, ascending, in ns."""

    least: list[int]
    most: list[int]

    def quantile_ms(self, q: float, shared: int) -> tuple[float, float]:
        """Between which values a quantile lies, where so many messages came in one read with a later one.

        The kernel stamps the last message of a read.  Where k of them get too late a time, a quantile of what was
        found lies at most k ranks further than that of the truth.
        """
        return nearest_rank(self.least, q) / NS_PER_MS, nearest_rank(self.most, q, shared) / NS_PER_MS

    def later_than(self, ns: int) -> int:
        """How many are surely later than a limit."""
        return sum(one > ns for one in self.least)


def truth_of(sent: Sent, consumers: Sequence[int], pattern: str) -> Latencies:
    """Of the messages of one pattern to some consumers."""
    own = [s for consumer in consumers for s in sent.of_consumer(consumer) if s.event.pattern == pattern]
    return Latencies(
        least=sorted(s.before_ns - s.event.due_ns for s in own), most=sorted(s.after_ns - s.event.due_ns for s in own)
    )


def compare(
    table: Timetable, sent: Sent, results: Mapping[str, Any], shared: Mapping[tuple[int, int], int]
) -> list[Row]:
    """A row for each load and delay, the stall, and what was excluded.

    `shared`: by number of stretch and delay, how many messages came in one read with a later one.
    """
    routes = {route["group"]: route for route in results["routes"]}
    rows = []
    for number, stretch in enumerate(table.levels):
        for at, ms in enumerate(DELAYS_MS):
            true = truth_of(sent, range(at * _EACH, (at + 1) * _EACH), stretch.name)
            spread = routes.get(f"{stretch.name}/{_group(ms)}", {}).get("latency_ms")
            together = shared.get((number, at), 0)
            rows.append(percentile_row(f"{stretch.name}, {ms:g} ms", ms, true, spread, together))
    for at, ms in enumerate(DELAYS_MS):
        true = truth_of(sent, range(at * _EACH, (at + 1) * _EACH), STALL)
        rows.append(stall_row(f"stall of {STALL_S:g} s, {ms:g} ms", true, routes.get(f"{STALL}/{_group(ms)}")))
    rows += excluded_rows(table, sent, routes, results)
    return rows


def percentile_row(what: str, ms: float, true: Latencies, spread: Mapping[str, Any] | None, shared: int = 0) -> Row:
    """p50 and p99 against the truth. Raises ProofError where the gateway did not do as it was told."""
    if not true.least or true.least[0] < ms * NS_PER_MS:
        raise ProofError(f"{what}: the gateway's own book has {true.least[:1]} ns for the shortest latency")
    planted, found, differences = [], [], []
    for q, name in ((0.5, "p50"), (0.99, "p99")):
        least, most = true.quantile_ms(q, shared)
        planted.append(f"{name} {least:.3f}" if most - least < 0.0005 else f"{name} {least:.3f} to {most:.3f}")
        value = None if spread is None else spread[name]
        if value is None:
            differences.append(f"{name}: nothing was found")
            continue
        error = error_ms(value, least, most)
        found.append(f"{name} {value:.3f} (error {error:.3f})")
        if error > ALLOWED_MS[q]:
            differences.append(f"{name}: {value:.3f} ms where {least:.3f} to {most:.3f} ms is true")
    count = 0 if spread is None else spread["count"]
    if count != len(true.least):
        differences.append(f"{count} deliveries where the gateway sent {len(true.least)}")
    return Row(
        what=f"{what}, {shared} of {len(true.least)} shared a read" if shared else what,
        planted=", ".join(planted) + " ms",
        found=", ".join(found) + " ms" if found else "nothing",
        equal=not differences,
        differences=tuple(differences),
    )


def stall_row(what: str, true: Latencies, route: Mapping[str, Any] | None) -> Row:
    """The longest latency, and how many were later than the delivery limit: all that were due in the stall."""
    longest = true.most[-1] / NS_PER_MS if true.most else 0.0
    if longest < STALL_S * 1000 * 0.95:
        raise ProofError(f"{what}: the gateway's own book has {longest:.0f} ms for the longest latency")
    late = true.later_than(round(_LATE_S * NS_PER_S))
    if route is None:
        return Row(what=what, planted=f"longest {longest:.0f} ms", found="nothing", equal=False)
    most = route["latency_ms"]["max"]
    # A message within a bucket of the limit may be counted on either side of it.
    near = abs(route["late"] - late) <= 2 * _EACH
    error = None if most is None else error_ms(most, true.least[-1] / NS_PER_MS, longest)
    return Row(
        what=what,
        planted=f"longest {longest:.1f} ms, {late} later than {_LATE_S:g} s",
        found=f"longest {most} ms, {route['late']} later",
        equal=near and error is not None and error <= _STALL_ALLOWED_MS,
    )


def excluded_rows(
    table: Timetable, sent: Sent, routes: Mapping[str, Mapping[str, Any]], results: Mapping[str, Any]
) -> list[Row]:
    """Beyond saturation no latency counts, the deliveries do, and the verdict says so."""
    stretch = table.beyond
    own = [routes.get(f"{BEYOND}/{_group(ms)}") for ms in DELAYS_MS]
    came = sum(route["unique"] or 0 for route in own if route)
    timed = sum(route["latency_ms"]["count"] for route in own if route)
    sends = len(truth_of(sent, range(len(DELAYS_MS) * _EACH), BEYOND).least)
    saturated, length = results["harness"]["saturated_s"], stretch.to_s - stretch.from_s
    coverage = results["harness"]["clean_coverage"]
    excluded = saturated is not None and length <= saturated <= length + 3
    said = [c for c in results["checks"] if c["verdict"] == "UNKNOWN"]
    return [
        Row(
            what="beyond saturation: seconds excluded",
            planted=f"at least {length:g}, by whole seconds",
            found=f"{saturated}, clean coverage {coverage}",
            equal=excluded and coverage is not None and coverage < 1,
        ),
        Row(
            what="beyond saturation: latencies that count",
            planted=f"0 of {sends}",
            found=f"{timed} of {came}",
            equal=timed == 0 and came == sends,
        ),
        Row(
            what="beyond saturation: verdict",
            planted="UNKNOWN, and why",
            found=f"{results['verdict']}: " + "; ".join(c["summary"] for c in said)[:120],
            equal=results["verdict"] == "UNKNOWN" and bool(said),
        ),
    ]


def shared_reads(records: Iterable[r.Record]) -> Counter[tuple[int, int]]:
    """By number of stretch and delay: messages that came in one read with a later one."""
    found: Counter[tuple[int, int]] = Counter()
    for record in records:
        if isinstance(record, r.Consumed) and record.clock == "read":
            found[divmod(record.group, len(DELAYS_MS))] += record.unique + record.repeated - record.reads
    return found


# -- the histogram's own grain, which is no error


_LINEAR_US = 256
_STEPS = 128
"""The scale cuts every power of two of microseconds into so many equal buckets; below 256 us, a bucket is one."""


def nearest_rank(ascending: Sequence[int], q: float, further: int = 0) -> int:
    """The q-quantile of what is sorted, or what lies so many ranks further. Raises IndexError for nothing."""
    return ascending[min(max(ceil(q * len(ascending)) - 1, 0) + further, len(ascending) - 1)]


def bucket_ms(middle_ms: float) -> tuple[float, float]:
    """What a bucket holds, from its middle."""
    us = middle_ms * 1000
    half = 0.5 if us < _LINEAR_US else 2 ** floor(log2(us)) / _STEPS / 2
    return (us - half) / 1000, (us + half) / 1000


def error_ms(found_ms: float, least_ms: float, most_ms: float) -> float:
    """How far a bucket lies from a truth that lies between two values; 0 where they meet."""
    low, high = bucket_ms(found_ms)
    return max(0.0, least_ms - high, low - most_ms)
