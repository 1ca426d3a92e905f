"""Is a run of a day judged with what one machine has?  Its history, written in virtual time as the tool writes it.

1,000 publishes a second on 20 streams reach 1,000 consumers, through one worker process; every 432 s the clients' link
is down for 3 s, and every consumer comes back by its reconnect policy.  Who received what is counted message by
message, so that the accounts close; the times of deliveries are drawn.  Records go through `pack`, as in a run.
"""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from loadtests.model import records as r
from loadtests.model.codec import pack, squeezed, thin
from loadtests.model.ids import NS_PER_MS, NS_PER_S, SLICE_NS, pack_stream
from loadtests.model.profile.reading import read_profile
from loadtests.model.runconfig import sha256_of
from proof.bench import Bench, ProofError
from proof.sections import Options, Row, SectionResult, compared

Ints = np.ndarray[Any, np.dtype[np.int64]]
STREAMS: Final = 20
CONSUMERS: Final = 1000
PERIOD_NS: Final = 20 * NS_PER_MS  # of each stream: 50/s
PHASE_NS: Final = 1_050_000  # between neighbours: the last stream's last message of a slice leaves in the next one
LAG_NS: Final = 300_000
TOOK_NS: Final = 2_500_000
EVERY_S: Final = 432.0
FIRST_S: Final = 200.0
DOWN_S: Final = 3.0
LIMIT_S: Final = 10.0
HOLD_S: Final = 3.0
WARM_S: Final = 3.0
T0_NS: Final = 6 * NS_PER_S
ONE_IN: Final = 6400
"""One read in so many has its kernel stamp kept: 160 a second; the tool's default is made for short runs."""
COARSE: Final = 16
"""Buckets that are one in a client's own histogram."""
_SIZE: Final = 370
_POOL: Final = 40
_TRIES_S: Final = (0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0)
_SLICES_A_S: Final = NS_PER_S // SLICE_NS


HOURS: Final = (1.5, 24.0)
"""What is played: by default, and in full."""
MOST_MEMORY_MB: Final = 2_000
MOST_REPORT_MB: Final = 5.0
MOST_HISTORY_MB_A_DAY: Final = 5_000
JUDGED_WITHIN_S: Final = 1_800.0
"""How long the judge may take before the proof gives up; what it is to take is in the notes."""
_PROFILE = """name = "day"
question = "Did every client get everything, all day?"
[target]
kind = "external"
redis = "127.0.0.1:1"
gateway = "127.0.0.1:2"
toxiproxy = "127.0.0.1:3"
[target.proxies]
client-gateway = "day"
[run]
duration_s = {seconds}
warm_up_s = {warm_up}
drain_s = 1.0
late_s = 1.0
settle_ms = 100
connect_s = 6.0
[guard]
cpu_percent = 100.0
[[families]]
name = "load"
channel = "tickstock.events.patterns"
event = "pattern_detected"
symbols = 1
keys = {{ pattern = ["Doji"] }}
[[publishers]]
name = "feed"
count = {streams}
families = ["load"]
shape = {{ kind = "constant", rate_per_s = 50.0 }}
payload_bytes = 200
[[consumers]]
name = "clients"
count = {consumers}
subscribe = {{ families = ["load"] }}
[[faults]]
name = "cut"
kind = "down"
link = "client-gateway"
at_s = {first}
repeat = {{ times = {times}, every_s = {every} }}
for_s = {down}
recovery_limit_s = {limit}
[[thresholds]]
measure = "lost_defect"
at_most = 0
[sampling]
one_in = {one_in}
"""


def prove_day(bench: Bench, options: Options) -> SectionResult:
    """Write a history of hours, have the command judge it, and compare; `full` is a whole day."""
    began = time.monotonic()
    hours = HOURS[options.full]
    folder = bench.folder / "day"
    options.say(f"writing the history of {hours:g} hours")
    day = write_run(folder, hours)
    size_mb = sum(path.stat().st_size for path in (folder / "history").iterdir()) / 1e6
    options.say(f"judging {size_mb:,.0f} MB of it")
    since, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    judge = [sys.executable, "-m", "loadtests.cli", "analyze", str(folder), "--quiet"]
    try:
        done = subprocess.run(
            judge, capture_output=True, text=True, timeout=JUDGED_WITHIN_S, check=False, env=os.environ
        )
    except subprocess.TimeoutExpired:
        raise ProofError(f"{hours:g} hours were not judged within {JUDGED_WITHIN_S:.0f} s") from None
    took_s, after = time.monotonic() - since, resource.getrusage(resource.RUSAGE_CHILDREN)
    if not (folder / "results.json").exists():
        raise ProofError(f"analyze left no results (exit {done.returncode}): {done.stderr[-500:]}")
    found = json.loads((folder / "results.json").read_bytes())
    report_mb = (folder / "report.html").stat().st_size / 1e6
    peak_mb = after.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6  # of the largest child so far
    delivery, recoveries = found["delivery"], found["recovery"]
    rows = [
        compared("verdict", "PASS", found["verdict"]),
        compared("published", int(day.messages.sum()), delivery["published"]),
        compared("delivered", sum(int(got.sum(dtype=np.int64)) for got in day.got), delivery["delivered"]),
        compared("lost", 0, delivery["lost"]["total"]),
        compared("faults recovered from", faults_of(hours), sum(one["verdict"] == "PASS" for one in recoveries)),
        _at_most("memory of the judge", peak_mb, MOST_MEMORY_MB, "MB"),
        _at_most("report", report_mb, MOST_REPORT_MB, "MB"),
        _at_most("history, for a day", size_mb * 24 / hours, MOST_HISTORY_MB_A_DAY, "MB"),
    ]
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    note = f"{hours:g} hours were judged in {took_s:.0f} s, {cpu_s:.0f} s of CPU; target 180 s for a day"
    return SectionResult(name="day", rows=tuple(rows), seconds=time.monotonic() - began, notes=(note,))


def _at_most(what: str, found: float, limit: float, unit: str) -> Row:
    over = () if found <= limit else (f"{what}: {found:,.1f} {unit}, at most {limit:,} {unit} allowed",)
    return Row(
        what=what, planted=f"at most {limit:,} {unit}", found=f"{found:,.1f} {unit}", equal=not over, differences=over
    )  # fmt: skip


def faults_of(hours: float) -> int:
    """How many faults a run of so many hours has: 200 a day."""
    return max(1, math.floor((hours * 3600 - FIRST_S - DOWN_S - 2 * LIMIT_S) / EVERY_S) + 1)


def write_run(folder: Path, hours: float) -> Day:
    """A run's folder with profile and history; what happened in it."""
    text = _PROFILE.format(
        seconds=hours * 3600, warm_up=WARM_S, streams=STREAMS, consumers=CONSUMERS, first=FIRST_S,
        times=faults_of(hours), every=EVERY_S, down=DOWN_S, limit=LIMIT_S, one_in=ONE_IN,
    )  # fmt: skip
    effective = read_profile(text, file="profile.toml", environment={}, sets=[])
    (folder / "history").mkdir(parents=True)
    (folder / "profile.toml").write_text(text, encoding="utf-8")
    assert effective.profile.steady.hold_s == HOLD_S
    day = Day(hours, sha256_of(text))
    for name in ("worker-0", "main"):  # the leading process tells how many frames the others have
        with (folder / "history" / f"{name}.tsh").open("wb") as file:
            number = 0
            for records in day.seconds(name):
                for frame in pack(number, map(thin, records)):
                    file.write(squeezed(frame))
                    number += 1
            seal = msgspec.structs.replace(day.header(name), frames=number + 1)
            file.writelines(map(squeezed, pack(number, [seal])))
            day.frames[name] = number + 1
    return day


def _buckets(us: Ints) -> Ints:
    """The history's scale: below 256 us a bucket is one, and each further power of two has 128 of them."""
    doublings = np.maximum(np.floor(np.log2(np.maximum(us, 1))).astype(np.int64) - 7, 0)
    found: Ints = doublings * 128 + (us >> doublings)
    return found


@cache
def _pool(kind: str, n: int, low_us: float, spread: float) -> list[r.Sparse]:
    """Histograms of `n` log-normal times."""
    random = np.random.default_rng(len(kind) + n)
    found = []
    for _ in range(_POOL if n else 1):
        counts = np.bincount(_buckets((low_us * random.lognormal(0, spread, n)).astype(np.int64)), minlength=1)
        used = np.flatnonzero(counts)
        found.append((used.tolist(), counts[used].tolist()))
    return found


class Day:
    """The world: who was there when, and the records that tell of it."""

    def __init__(self, hours: float, profile_sha256: str) -> None:
        self.random = np.random.default_rng(7)
        self.sha = profile_sha256
        self.frames: dict[str, int] = {}
        self.warm_ns = T0_NS + round(WARM_S * NS_PER_S)
        self.plan_end = self.warm_ns + round(hours * 3600 * NS_PER_S)
        self.end = self.plan_end + NS_PER_S
        self.cuts = [
            self.warm_ns + round((FIRST_S + n * EVERY_S) * NS_PER_S) + 13 * NS_PER_MS for n in range(faults_of(hours))
        ]
        self.streams = np.array([pack_stream(slot, 0, 0) for slot in range(STREAMS)], dtype=np.int64)
        self.phase = T0_NS + PHASE_NS * np.arange(STREAMS)
        self.messages = (self.plan_end - self.phase + PERIOD_NS - 1) // PERIOD_NS  # of each stream
        self.epoch = np.zeros(CONSUMERS, dtype=np.int64)
        self._live()

    def _live(self) -> None:
        """Draw the whole life of every consumer: subscriptions by second, closings by second, who got each message."""
        self.subscriptions: dict[int, list[r.Record]] = {}
        self.closings: dict[int, list[r.Record]] = {}
        self.firsts: dict[int, list[r.Record]] = {}
        change = [np.zeros(int(n) + 1, dtype=np.int16) for n in self.messages]
        since = np.sort(self.random.integers(T0_NS - 4 * NS_PER_S, T0_NS - NS_PER_S, CONSUMERS))
        self.stays: list[tuple[Ints, Ints]] = []  # since, until per consumer: one pair for each time between faults
        for consumer, at in enumerate(since.tolist()):
            self._step(consumer, "asked", at - 9 * NS_PER_MS)
            self._step(consumer, "confirmed", at)
        for cut in [*self.cuts, self.end]:
            last = cut == self.end
            until = cut + self.random.integers(0, 2 * NS_PER_MS, CONSUMERS)
            self._close(since, until, change)
            self.stays.append((since, until))
            for consumer, at in enumerate(until.tolist()):
                if last:
                    self._step(consumer, "leaving", at)
                    self._step(consumer, "left", at + 5 * NS_PER_MS, "own")
                else:
                    self._step(consumer, "left", at, "peer closed", "end of stream")
            if not last:
                since = self._come_back(until, cut + round(DOWN_S * NS_PER_S))
        self.got = [np.cumsum(c[:-1], dtype=np.int16) for c in change]  # consumers that got each message of a stream

    def _come_back(self, until: Ints, healed: int) -> Ints:
        back = np.zeros(CONSUMERS, dtype=np.int64)
        kinds: list[str] = []
        who: list[int] = []
        when: list[int] = []
        for consumer, left in enumerate(until.tolist()):
            at = left
            for wait in _TRIES_S:
                at += round(wait * self.random.uniform(0.8, 1.2) * NS_PER_S)
                self.epoch[consumer] += 1
                if at > healed + 12 * NS_PER_MS:
                    break
                self._step(consumer, "left", at, "connect failed", "[Errno 111] Connection refused")
            self._step(consumer, "asked", at)
            back[consumer] = at + NS_PER_MS
            self._step(consumer, "confirmed", at + NS_PER_MS)
            kinds += ["byte", "fresh"]
            who += [consumer] * 2
            when += [at + 4 * NS_PER_MS] * 2
        first = r.FirstAfter(healed_ns=healed + 12 * NS_PER_MS, kind=kinds, consumer=who, at_ns=when)
        self.firsts.setdefault(max(when) // NS_PER_S, []).append(first)
        return back

    def _step(self, consumer: int, step: Any, at_ns: int, why: str = "", detail: str = "") -> None:
        record = r.Subscription(
            consumer=consumer, epoch=int(self.epoch[consumer]), group=0, step=step, at_ns=at_ns, route_set=0, why=why,
            detail=detail,
        )  # fmt: skip
        self.subscriptions.setdefault(at_ns // NS_PER_S, []).append(record)

    def _close(self, since: Ints, until: Ints, change: list[Any]) -> None:
        first = np.maximum(-(-(since[:, None] - LAG_NS - self.phase) // PERIOD_NS), 0)
        last = np.minimum((until[:, None] - LAG_NS - self.phase) // PERIOD_NS, self.messages - 1)
        for stream, steps in enumerate(change):
            np.add.at(steps, first[:, stream], np.int16(1))
            np.add.at(steps, last[:, stream] + 1, np.int16(-1))
        alike: dict[bytes, list[int]] = {}
        for consumer in range(CONSUMERS):
            alike.setdefault(first[consumer].tobytes() + last[consumer].tobytes(), []).append(consumer)
        for members in alike.values():
            begin, end = first[members[0]].tolist(), last[members[0]].tolist()
            self.closings.setdefault(int(until.max()) // NS_PER_S + 1, []).append(
                r.Closing(
                    consumer=members, epoch=self.epoch[members].tolist(), stream=self.streams.tolist(), first=begin,
                    last=end, unique=[b - a + 1 for a, b in zip(begin, end, strict=True)],
                )
            )  # fmt: skip

    # -- what each process writes in each second

    def header(self, process: str) -> r.Header:
        """The first record of a file."""
        return r.Header(
            run="20260101-000000-day-0000", process=process, role="standalone", profile_sha256=self.sha,
            origin_ns=0, origin_unix_ns=0, boot_id="virtual", slice_ns=SLICE_NS, versions={"tickstorm": "virtual"},
            receive="hub-epoll" if process != "main" else "", started_at="2026-01-01T00:00:00Z", frames=0,
        )  # fmt: skip

    def seconds(self, process: str) -> Iterator[list[r.Record]]:
        """Records second by second."""
        yield [self.header(process)]
        if process != "main":
            yield [r.RouteSet(index=0, routes=[0])]
        write = self._main if process == "main" else self._worker
        for second in range(self.end // NS_PER_S + 1):
            yield list(write(second))
        if process != "main":
            at = self.end // NS_PER_S + 1
            yield [*self.subscriptions.get(at, ()), *self.closings.get(at, ())]
        else:
            yield [r.Finish(at_ns=self.end + NS_PER_S, reason="plan done", plan_done=True, drained=True, complete=True,
                            frames=self.frames)]  # fmt: skip

    def _main(self, second: int) -> Iterator[r.Record]:
        at = second * NS_PER_S
        if second == 0:
            yield r.PhaseMark(phase="connect", at_ns=20 * NS_PER_MS)
            yield r.WantedUsers(at_ns=30 * NS_PER_MS, wanted={"EventPublisher": STREAMS, "WebSocketClient": CONSUMERS})
            yield r.PathProbe(what="family:load", at_ns=T0_NS - NS_PER_S // 2, took_ns=3 * NS_PER_MS, ok=True)
            yield r.PhaseMark(phase="warm-up", at_ns=T0_NS)
            yield r.PhaseMark(phase="baseline", at_ns=self.warm_ns)
        yield r.Samples(source="redis", at_ns=at, metric=_REDIS, value=_floats(self.random, len(_REDIS)))
        for source in ("gateway", "toxiproxy"):
            values = [5e7 + self.random.normal(0, 1e5), 4e7 + self.random.normal(0, 1e5), self.random.uniform(20, 60)]
            yield r.Samples(source=source, at_ns=at, metric=["rss_bytes", "uss_bytes", "cpu_percent"], value=values)
        for quarter in range(4):
            yield r.PathProbe(what="health", at_ns=at + quarter * NS_PER_S // 4, took_ns=3 * NS_PER_MS, ok=True,
                              detail="200")  # fmt: skip
        for link in ("client-gateway", "gateway-redis"):
            yield r.PathProbe(what=f"{r.LINK_PROBE}{link}", at_ns=at, took_ns=self._drawn_ns(900_000, 3_000_000),
                              ok=True, detail="answer")  # fmt: skip
        yield self._own(at, 9.0, 0)
        for number, cut in enumerate(self.cuts):
            if cut - NS_PER_S <= at < cut:
                yield from self._fault(number, cut)
        if at <= self.plan_end < at + NS_PER_S:
            yield r.PhaseMark(phase="drain", at_ns=self.plan_end)

    def _fault(self, number: int, cut: int) -> Iterator[r.Record]:
        healed, ms = cut + round(DOWN_S * NS_PER_S), NS_PER_MS
        steps: list[tuple[Any, int, int, dict[str, Any], str]] = [
            ("announced", cut - 200 * ms, cut - 200 * ms, {}, ""),
            ("active", cut - 8 * ms, cut + ms, {}, ""),
            ("proved", cut + ms, healed - 5 * ms, {"connections_closed": CONSUMERS, "touched": "acted"}, ""),
            ("lifted", healed, healed + 12 * ms, {"clean": 1, "probe": "answer", "rtt_ms": 3.1}, "plan"),
        ]
        name = f"cut#{number + 1}"
        for step, before, after, effective, by in steps:
            yield r.FaultStep(
                name=name, kind="down", link="client-gateway", step=step, before_ns=before, after_ns=after,
                asked={"direction": "both"}, effective=effective, by=by,
            )  # fmt: skip
        yield r.PhaseMark(phase="fault", at_ns=cut, detail=name)
        yield r.PhaseMark(phase="recovery", at_ns=healed + 50 * ms, detail=name)

    def _own(self, at: int, cpu: float, connected: int) -> r.HarnessSecond:
        return r.HarnessSecond(
            at_ns=at, cpu_percent=round(cpu + self.random.uniform(0, 3), 1), rss_bytes=120_000_000,
            hub_lag_p99_ns=self._drawn_ns(1_000_000, 2_000_000), hub_lag_max_ns=self._drawn_ns(2_000_000, 5_000_000),
            connected=connected, publishing=STREAMS, messages=10**6, reads=10**6, read_delay_p99_ns=2_000_000,
            saturated=False, frames=1000, checked=1000,
        )  # fmt: skip

    def _worker(self, second: int) -> Iterator[r.Record]:
        at = second * NS_PER_S
        yield from self.subscriptions.get(second, ())
        if at >= T0_NS:
            yield from self._publishes(at)
            yield from self._deliveries(second * _SLICES_A_S)
        yield from self._touched(second * _SLICES_A_S)
        yield from self.firsts.get(second, ())
        yield self._own(at, 70.0, CONSUMERS)
        yield from self.closings.get(second, ())

    def _drawn_ns(self, least: int, beyond: int) -> int:
        return int(self.random.integers(least, beyond))

    def _seqs(self, from_ns: int, to_ns: int) -> tuple[Ints, Ints, Ints]:
        """Stream, seq and due time of what is due between two moments, stream by stream."""
        low = np.maximum(-(-(from_ns - self.phase) // PERIOD_NS), 0)
        high = np.minimum(-(-(to_ns - self.phase) // PERIOD_NS), self.messages)
        count = np.maximum(high - low, 0)
        stream = np.repeat(np.arange(STREAMS), count)
        seq = low[stream] + np.arange(len(stream)) - (np.cumsum(count) - count)[stream]
        return stream, seq, self.phase[stream] + seq * PERIOD_NS

    def _publishes(self, at: int) -> Iterator[r.Record]:
        stream, seq, due = self._seqs(at, at + NS_PER_S)
        if not len(stream):
            return
        sent = (due + LAG_NS) // SLICE_NS
        due = due // SLICE_NS
        new = np.concatenate(([True], (np.diff(stream) != 0) | (np.diff(due) != 0) | (np.diff(sent) != 0)))
        begin = np.flatnonzero(new)
        count = np.diff(np.concatenate((begin, [len(stream)])))
        yield r.Published(
            stream=self.streams[stream[begin]].tolist(), due_slice=due[begin].tolist(), sent_slice=sent[begin].tolist(),
            first=seq[begin].tolist(), last=(seq[begin] + count - 1).tolist(), bytes=(count * _SIZE).tolist(),
        )  # fmt: skip
        for slice_, n in zip(*np.unique(due, return_counts=True), strict=True):
            lags = self._drawn("own lag", int(n), 300, 0.3)
            yield r.PublishTimes(
                publishers=0, due_slice=int(slice_), sent=int(n), not_offered=0, own_lag=lags, blocked=([0], [int(n)]),
                receivers_min=1, receivers_max=1, receivers_zero=0,
            )  # fmt: skip

    def _drawn(self, kind: str, n: int, middle_us: float, spread: float) -> r.Sparse:
        if n > 2000 and n % 1000:  # a slice of its own: not kept
            return _pool.__wrapped__(kind, n, middle_us, spread)[0]
        pool = _pool(kind, n, middle_us, spread)
        return pool[int(self.random.integers(len(pool)))]

    def _deliveries(self, first_slice: int) -> Iterator[r.Record]:
        stream, seq, due = self._seqs((first_slice - 1) * SLICE_NS, (first_slice + _SLICES_A_S) * SLICE_NS)
        got = np.zeros(len(stream), dtype=np.int64)
        for one in range(STREAMS):
            mine = stream == one
            got[mine] = self.got[one][seq[mine]]
        received = (due + TOOK_NS) // SLICE_NS
        due = due // SLICE_NS
        for slice_ in range(first_slice, first_slice + _SLICES_A_S):
            for due_slice in (slice_ - 1, slice_):
                of = (received == slice_) & (due == due_slice)
                if n := int(got[of].sum()):
                    yield from self._cells(due_slice, slice_, n)
            if slice_ % 100 == 0:
                yield self._clients(slice_ - 100)

    def _cells(self, due: int, received: int, n: int) -> Iterator[r.Record]:
        late_us = 2500.0 if due == received else 3500.0
        yield r.Consumed(
            group=0, due_slice=due, received_slice=received, clock="read", unique=n, repeated=0, bytes=n * _SIZE,
            latency=self._drawn("read", n, late_us, 0.35), negative=0, reads=n,
        )  # fmt: skip
        k = n // ONE_IN
        if k:
            yield r.Consumed(
                group=0, due_slice=due, received_slice=received, clock="kernel", unique=0, repeated=0, bytes=0,
                latency=self._drawn("kernel", k, late_us * 0.8, 0.35), negative=0,
                service=self._drawn("service", k, late_us * 0.7, 0.35),
                read_delay=self._drawn("delay", k, late_us * 0.2, 0.5), reads=k,
                sampled_read=self._drawn("sampled", k, late_us, 0.35),
            )  # fmt: skip

    def _clients(self, first: int) -> r.ClientLatency:
        return msgspec.structs.replace(self._clients_like, first_slice=first, last_slice=first + 99)

    @property
    def _clients_like(self) -> r.ClientLatency:
        pool = _clients_pool()
        return pool[int(self.random.integers(len(pool)))]

    def _touched(self, first_slice: int) -> Iterator[r.Record]:
        for slice_ in range(first_slice, first_slice + _SLICES_A_S):
            start = slice_ * SLICE_NS
            for number, cut in enumerate(self.cuts):
                if not cut - 2.2 * NS_PER_S <= start <= cut + (DOWN_S + LIMIT_S + HOLD_S) * NS_PER_S:
                    continue
                yield self._rows(slice_, self.stays[number][1], self.stays[number + 1][0])

    def _rows(self, slice_: int, until: Ints, since: Ints) -> r.Record:
        """What each consumer got in a slice round a fault."""
        _, _, due = self._seqs((slice_ - 1) * SLICE_NS, (slice_ + 1) * SLICE_NS)
        at = due + TOOK_NS
        here = at // SLICE_NS == slice_
        at, sent, due = np.sort(at[here]), np.sort((due + LAG_NS)[here]), np.sort(due[here])
        got = (sent <= until[:, None]) | (sent >= since[:, None])
        who = np.flatnonzero(got.any(axis=1))
        got, jitter = got[who], self.random.integers(0, 2 * NS_PER_MS, len(who))
        last = len(at) - 1 - np.argmax(got[:, ::-1], axis=1)
        return r.Touched(
            received_slice=slice_, consumer=who.tolist(), count=got.sum(axis=1).tolist(),
            first_ns=(at[np.argmax(got, axis=1)] + jitter).tolist(), last_ns=(at[last] + jitter).tolist(),
            greatest_due_ns=due[last].tolist(), worst_latency_ns=(TOOK_NS + jitter).tolist(), complete=True,
            late_ns=[0] * len(who),
        )  # fmt: skip


@cache
def _clients_pool() -> list[r.ClientLatency]:
    """Coarse histograms of 10,000 deliveries to each consumer."""
    random, found = np.random.default_rng(3), []
    for _ in range(8):
        buckets, bucket, count = [], [], []
        for _ in range(CONSUMERS):
            times = (2500 * random.lognormal(0, 0.35, 10_000)).astype(np.int64)
            dense = np.bincount(_buckets(times) // COARSE)
            used = np.flatnonzero(dense)
            buckets.append(len(used))
            bucket += used.tolist()
            count += dense[used].tolist()
        found.append(
            r.ClientLatency(
                first_slice=0, last_slice=0, consumer=list(range(CONSUMERS)), buckets=buckets, bucket=bucket,
                count=count,
            )
        )  # fmt: skip
    return found


def _floats(random: np.random.Generator, n: int) -> list[float]:
    found: list[float] = np.round(random.uniform(1, 1e7, n)).tolist()
    return found


_REDIS = [
    "used_memory", "used_memory_rss", "used_memory_peak", "maxmemory", "mem_clients_normal", "connected_clients",
    "blocked_clients", "client_recent_max_output_buffer", "pubsub_channels", "pubsub_patterns", "pubsub_clients",
    "total_commands_processed", "total_net_input_bytes", "total_net_output_bytes", "instantaneous_output_kbps",
    "client_query_buffer_limit_disconnections", "rejected_connections", "evicted_keys", "subscribers",
    "subscriber_buffers_bytes", "subscriber_buffer_max_bytes",
]  # fmt: skip
