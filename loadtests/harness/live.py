"""What is known of a run so far, and how is it told?  Live figures for the page, the log and the status pipe.

`LiveFold` folds frames into a `Live` value as the writer's thread writes them; never evidence. `StatusLine` writes log
lines for people, and JSON lines for `tickstorm run` where that asks.

One value per second of the run clock, of what happened in it: sent, received, latency of what was received, connected,
memory, CPU. So a cut is a hole that stays, and what is replayed after it a spike, as in the report. What is owed, and
whether it came, is counted by due time: unseen is what may still come in time.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import defaultdict, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from gevent import monkey

from loadtests.harness.files import report_of
from loadtests.harness.levels import LiveLevel
from loadtests.harness.live_pipeline import LiveFaults, LiveLinks, links_and_services
from loadtests.model.codec import Torn, decode
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_S, SLICE_NS, unpack_stream
from loadtests.model.injectwire import PlannedFault
from loadtests.model.live import Live, LiveLink, LiveService
from loadtests.model.profile.profile import Profile
from loadtests.model.records import (
    Consumed,
    Deviations,
    FirstAfter,
    HarnessSecond,
    Phase,
    Published,
    PublishTimes,
    RouteSet,
    Samples,
    Settled,
    Subscription,
    Trouble,
)
from loadtests.model.words import printable
from loadtests.tally.histogram import Histogram

allocate_lock = monkey.get_original("_thread", "allocate_lock")  # taken by the writer's OS thread too
_PER_SECOND = NS_PER_S // SLICE_NS
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_HIGH = (0.95, 0.9, 0.75, 0.5)
_LATE_S = 10
"""Records of a second are all there that long after it."""
STALE_S = 5
"""A process of which nothing was read for so long says nothing about now."""
_SETTLES_S = 16
"""Seconds with publishes of which a stream knows when they were due: an outcome comes within a publish's timeout."""
KEPT_S = 900
"""Seconds of series kept for the page; older ones leave it, the report has all."""


OURS = "load generator "
"""Before the name of a process of our own, where it stands among the target's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveSecond:
    """One second of the run clock as far as it is known; None where there is nothing to say."""

    published: int  # sent in it
    failed: int  # settled in it, as FAILED or UNKNOWN
    owed: int
    delivered: int  # of what was due in it
    connected: int | None
    high_ms: float | None  # latency of what was received in it: p95, or the highest percentile below that it carries


class LiveFold:
    """Fold with `take(process, frame)`; `live()` may be called from another thread."""

    def __init__(self, run: str, profile: Profile, contract: Contract) -> None:
        self._run, self._profile, self._contract = run, profile, contract
        self._lock = allocate_lock()
        self.published = self.not_offered = self.delivered = self.repeated = self.owed = 0
        self._gaps = 0
        self._published: defaultdict[int, int] = defaultdict(int)  # by second of sending
        self._received: defaultdict[int, int] = defaultdict(int)
        self._delivered: defaultdict[int, int] = defaultdict(int)  # by second of due time, as is the next
        self._owed: defaultdict[int, int] = defaultdict(int)
        self._rows: defaultdict[int, deque[tuple[int, int, int]]] = defaultdict(lambda: deque(maxlen=_SETTLES_S))
        """By stream: the last number of each second, that second, and who followed it then."""
        self._late_s = ceil(profile.run.late_s)
        self._level = self._overdue = 0  # unseen and overdue of the seconds that are forgotten
        self._failed: defaultdict[int, int] = defaultdict(int)
        self._fresh: defaultdict[int, set[int]] = defaultdict(set)  # by healing: consumers with a fresh message since
        self._latency: dict[int, Histogram] = {}
        self._connected: dict[int, dict[str, int]] = {}
        self._memory: dict[str, dict[int, float]] = defaultdict(dict)
        self._cpu: dict[str, dict[int, float]] = defaultdict(dict)
        self._read_ns: dict[str, int] = {}  # process -> when memory and CPU were last read
        self._routes: dict[tuple[str, int], list[int]] = {}
        self._followers: defaultdict[int, int] = defaultdict(int)
        self._following: dict[tuple[int, int], list[int]] = {}
        self._faults = LiveFaults(profile)
        self._links = LiveLinks()
        self._trouble: list[str] = []
        self.t0_ns = 0
        self._percentiles: dict[int, tuple[float | None, ...]] = {}  # of seconds that are long over
        self.level: LiveLevel | None = None

    def take(self, process: str, data: bytes) -> None:
        """Fold the frames in some written bytes."""
        with self._lock:
            for frame in decode(data):
                if isinstance(frame, Torn):
                    self._trouble.append(f"{process}: {frame.reason}")
                    continue
                for record in frame.records:
                    self._add(process, record)

    def _add(self, process: str, record: object) -> None:
        self._faults.add(record, self.t0_ns)
        self._links.add(record)
        if self.level is not None:
            self.level.add(record, lambda stream: self._followers[unpack_stream(stream).route])
        match record:
            case Published():
                for stream, due, sent, first, last in zip(
                    record.stream, record.due_slice, record.sent_slice, record.first, record.last, strict=True
                ):
                    count, second = last - first + 1, due // _PER_SECOND
                    followers = self._followers[unpack_stream(stream).route]
                    self.published += count
                    self.owed += count * followers
                    self._published[sent // _PER_SECOND] += count
                    self._owed[second] += count * followers
                    rows = self._rows[stream]
                    if rows and rows[-1][1] == second:
                        rows.pop()
                    rows.append((last, second, followers))
            case Settled():
                self._settled(record)
            case FirstAfter():
                fresh = zip(record.kind, record.consumer, strict=True)
                self._fresh[record.healed_ns].update(consumer for kind, consumer in fresh if kind == "fresh")
            case PublishTimes():
                self.not_offered += record.not_offered
            case Consumed():
                self.delivered += record.unique
                self.repeated += record.repeated
                self._delivered[record.due_slice // _PER_SECOND] += record.unique
                self._received[record.received_slice // _PER_SECOND] += record.unique
                if record.clock == "read":
                    second = record.received_slice // _PER_SECOND
                    self._latency.setdefault(second, Histogram()).merge(record.latency)
            case Deviations():
                for kind, first, last in zip(record.kind, record.first, record.last, strict=True):
                    self._gaps += (last - first + 1) * {"gap": 1, "filled": -1}.get(kind, 0)
            case RouteSet():
                self._routes[process, record.index] = record.routes
            case Subscription():
                self._subscribed(process, record)
            case HarnessSecond():
                second = record.at_ns // NS_PER_S
                self._connected.setdefault(second, {})[process] = record.connected
                self._cpu[f"{OURS}{process}"][second] = record.cpu_percent
                self._memory[f"{OURS}{process}"][second] = record.rss_bytes / 1e6
                self._read_ns[f"{OURS}{process}"] = record.at_ns
                self._forget(second)
            case Samples():
                second = record.at_ns // NS_PER_S
                for metric, value in zip(record.metric, record.value, strict=True):
                    if metric in ("rss_bytes", "cpu_percent"):
                        self._read_ns[record.source] = record.at_ns
                    if metric == "rss_bytes":
                        self._memory[record.source][second] = value / 1e6
                    elif metric == "cpu_percent":
                        self._cpu[record.source][second] = value
            case Trouble():
                self._trouble.append(f"{record.process}: {record.what}")

    def _settled(self, record: Settled) -> None:
        """What failed is owed to nobody, and what is unknown only where it comes."""
        for stream, first, last, at_ns in zip(record.stream, record.first, record.last, record.at_ns, strict=True):
            self._failed[at_ns // NS_PER_S] += last - first + 1
            for until, second, followers in self._rows[stream]:
                count = min(last, until) - first + 1
                if count <= 0:
                    continue
                first += count
                self.owed -= count * followers
                self._owed[second] -= count * followers

    def _subscribed(self, process: str, record: Subscription) -> None:
        key = (record.consumer, record.epoch)
        if record.step == "confirmed" and key not in self._following:
            self._following[key] = self._routes.get((process, record.route_set), [])
            for route in self._following[key]:
                self._followers[route] += 1
        elif record.step in ("leaving", "left"):
            for route in self._following.pop(key, []):
                self._followers[route] -= 1

    def second(self, second: int) -> LiveSecond:
        """One second of the run clock."""
        with self._lock:
            connected = self._connected.get(second)
            found = self._latency.get(second)
            return LiveSecond(
                published=self._published.get(second, 0),
                failed=self._failed.get(second, 0),
                owed=self._owed.get(second, 0),
                delivered=self._delivered.get(second, 0),
                connected=None if connected is None else sum(connected.values()),
                high_ms=None
                if found is None
                else next((v for q in _HIGH if (v := found.quantile_ms(q)) is not None), None),
            )

    def fresh(self, healed_ns: int) -> int:
        """How many consumers have got a message since a healing that was due after it."""
        with self._lock:
            return len(self._fresh.get(healed_ns, ()))

    def open_level(self, level: LiveLevel) -> None:
        """From here on records are folded into it."""
        with self._lock:
            self.level = level

    def unseen(self, now_ns: int, since_ns: int) -> int | None:
        """Sent and not yet received at the end of the last second that is known; None: it began before a moment."""
        with self._lock:
            second = self._whole(now_ns)
            if second is None or second * NS_PER_S < since_ns:
                return None
            return self._account(second)[2].get(second, 0)

    def memory_mb(self, since_s: int) -> dict[str, float]:
        """Latest reading of each process of the target that has one since a second of the run clock."""
        with self._lock:
            return {
                process: values[max(values)]
                for process, values in self._memory.items()
                if values and max(values) >= since_s and not process.startswith(OURS)
            }

    def _forget(self, newest: int) -> None:
        """Drop seconds that the page draws no more; of a second that is long over the quantiles are enough."""
        for second in [s for s in self._latency if s < newest - 2 * _LATE_S]:
            self._latencies(second, newest)
            del self._latency[second]
        tables: list[dict[int, Any]] = [self._published, self._received, self._failed, self._connected]
        tables += [self._delivered, self._owed, self._faults.subscribers]
        tables += [self._percentiles, *self._memory.values(), *self._cpu.values()]
        oldest = newest - KEPT_S - 2 * _LATE_S - self._late_s
        for second in {s for table in (self._owed, self._delivered, self._received) for s in table if s < oldest}:
            owed, overdue = self._of(second)
            self.owed += owed - self._owed.get(second, 0)
            self._level += owed - self._received.get(second, 0) - overdue
            self._overdue += overdue
        for table in tables:
            for second in [s for s in table if s < oldest]:
                del table[second]

    def _of(self, second: int) -> tuple[int, int]:
        """Of what was due in a second: how much was owed, and how much of that has not come."""
        delivered = self._delivered.get(second, 0)
        owed = max(self._owed.get(second, 0), delivered)  # what came was owed: replayed, or its outcome was unknown
        return owed, owed - delivered

    def _account(self, last: int) -> tuple[int, int, dict[int, int]]:
        """Owed so far; overdue at the end of a second; unseen at the end of each second up to it."""
        owed = self.owed + sum(max(0, came - self._owed.get(s, 0)) for s, came in self._delivered.items())
        level, overdue, unseen = self._level, self._overdue, {}
        seconds = [*self._owed, *self._received]
        for second in range(min(seconds, default=last + 1), last + 1):
            late = self._of(second - self._late_s)[1]
            overdue += late
            level += self._of(second)[0] - self._received.get(second, 0) - late
            unseen[second] = max(0, level)
        return owed, overdue, unseen

    def _whole(self, now_ns: int) -> int | None:
        """The last second of which every process has told all; None where none of the last few is."""
        now = now_ns // NS_PER_S
        recent = range(now, now - STALE_S, -1)
        everybody = {process for told in recent for process in self._connected.get(told, ())}
        begun = self.t0_ns // NS_PER_S
        whole = (t - 1 for t in recent if everybody and t > begun and len(self._connected.get(t, ())) == len(everybody))
        return next(whole, None)

    def disturbed(self, now_ns: int, consumers: int) -> Phase | None:
        """The phase that faults make of this moment, as the report will have it."""
        with self._lock:
            return self._faults.disturbed(now_ns, consumers)

    def _latencies(self, second: int, last: int) -> tuple[float | None, ...]:
        known = self._percentiles.get(second)
        if known is not None:
            return known
        found = self._latency.get(second)
        values = tuple(found.quantile_ms(q) if found is not None else None for q in _QUANTILES.values())
        if second < last - _LATE_S:
            self._percentiles[second] = values
        return values

    def pipeline(self, now_ns: int | None, links: Collection[str]) -> tuple[list[LiveLink], list[LiveService]]:
        """Links and services with what is known of them at a time; None: nobody looks any more, and nothing is."""
        if now_ns is None:
            return links_and_services(links, {}, None, None)
        with self._lock:
            second = self._whole(now_ns)
            known = {} if second is None else {"published": self._published, "received": self._received}
            latency = self._latency.get(second) if second is not None else None
            drawn, services = links_and_services(
                links,
                {name: table.get(second or 0, 0) for name, table in known.items()},
                latency.quantile_ms(0.5) if latency is not None else None,
                self._faults.subscribers.get(second) if second is not None else None,
                age_s=_age_s(second, now_ns),
            )
            recent = now_ns // NS_PER_S - STALE_S
            memory_mb, cpu_percent = (
                {p: v[max(v)] for p, v in table.items() if v and max(v) >= recent}
                for table in (self._memory, self._cpu)
            )
            return [self._links.with_probe(link, now_ns) for link in drawn], [
                self._faults.looked_at(
                    s.name, now_ns, memory_mb.get(s.name), cpu_percent.get(s.name), self._read_ns.get(s.name)
                )
                for s in services
            ]

    def live(
        self,
        now_ns: int,
        base: Mapping[str, object],
        *,
        planned: Mapping[str, PlannedFault] | None = None,
        with_series: bool = True,
        since_s: float | None = None,
    ) -> Live:
        """The value at a time of the run clock; `base` holds what the harness knows beside the records.

        Series begin where the run did, or some seconds before `since_s`: the page keeps what it has.
        """
        with self._lock:
            last = now_ns // NS_PER_S - 1
            first = max(self.t0_ns // NS_PER_S, last - KEPT_S)
            if since_s is not None:
                first = max(first, int(since_s + self.t0_ns / NS_PER_S) - _LATE_S)
            seconds = range(first, last + 1) if with_series else range(0)
            whole = self._whole(now_ns)
            told = range(first, (last - STALE_S if whole is None else whole) + 1)  # of later ones records are missing
            owed, overdue, unseen = self._account(last)
            lost = max(0, self._gaps)
            overdue = max(0, overdue - lost)
            series: dict[str, list[float | None]] = {
                "t": [float(s - self.t0_ns / NS_PER_S) for s in seconds],
                "published": [self._published.get(s, 0) if s in told else None for s in seconds],
                "delivered": [self._received.get(s, 0) if s in told else None for s in seconds],
                "unseen": [unseen.get(s, 0) if s in told else None for s in seconds],
                "connected": [sum(self._connected[s].values()) if s in self._connected else None for s in seconds],
            }
            latencies = [self._latencies(s, last) for s in seconds]
            for number, name in enumerate(_QUANTILES):
                series[name] = [values[number] for values in latencies]
            for label, table in (("memory_mb", self._memory), ("cpu", self._cpu)):
                for process, values in table.items():
                    series[f"{label}:{process}"] = [values.get(s) for s in seconds]
            series |= self._links.series(seconds)
            recent = (self._latency.get(whole) if whole is not None else None) or Histogram()
            return Live(
                run=self._run,
                profile=self._profile.name,
                now_s=(now_ns - self.t0_ns) / NS_PER_S,
                published=self.published,
                not_offered=self.not_offered,
                owed=owed,
                delivered=self.delivered,
                repeated=self.repeated,
                lost_so_far=lost,
                overdue=overdue,
                unseen=max(0, owed - self.delivered - lost - overdue),
                latency_ms={name: recent.quantile_ms(q) for name, q in _QUANTILES.items()},
                age_s=_age_s(whole, now_ns),
                read_age_s={p: max(0, now_ns - at_ns) / NS_PER_S for p, at_ns in self._read_ns.items()},
                memory_mb={p: v[max(v)] for p, v in self._memory.items() if v},
                cpu_percent={p: v[max(v)] for p, v in self._cpu.items() if v},
                faults=self._faults.shown(planned or {}, self.t0_ns),
                notes=self._faults.written(self.t0_ns),
                series=series,
                trouble=self._trouble[-20:],
                **base,  # type: ignore[arg-type]
            )


def _age_s(second: int | None, now_ns: int) -> float | None:
    return None if second is None else max(0, now_ns - (second + 1) * NS_PER_S) / NS_PER_S


log = logging.getLogger("tickstorm")
STATUS_FD = "TICKSTORM_STATUS_FD"
"""Environment variable with the number of an inherited pipe."""


class StatusLine:
    """Says each change of state once, and numbers at every call to the reader of the pipe."""

    def __init__(self) -> None:
        text = os.environ.get(STATUS_FD, "")
        self._fd = int(text) if text.isdigit() else None
        self._last = ""

    def say(self, text: str) -> None:
        """A sentence."""
        log.info("%s", printable(text))
        self._put({"say": text})

    def secret(self, text: str) -> None:
        """A sentence for the terminal alone: no log may have it, and Locust shows its own log to everybody."""
        if self._fd is None:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
        else:  # our output is a file then
            self._put({"say": text})

    def failed(self, text: str, status: int) -> None:
        """The run cannot begin."""
        self._put({"failed": text, "status": status})

    def state(self, live: Live, folder: Path) -> None:
        """Where the run is whose history is kept in a folder."""
        now = f"{live.state} {live.phase}"
        if now != self._last:
            self._last = now
            log.info("run %s: %s, %s; %d consumers connected", live.run, live.state, live.phase, live.connected)
            if live.state == "done":
                log.info("run %s: %s", live.run, printable("; ".join([live.verdict, *live.reasons[:3]])))
                if (report := report_of(folder)).exists():
                    log.info("report: %s", report)
        self._put(
            {
                "run": live.run,
                "state": live.state,
                "phase": live.phase,
                "now_s": round(live.now_s, 1),
                "plan_s": live.plan_s,
                "planned": live.planned,
                "connected": live.connected,
                "published": live.published,
                "owed": live.owed,
                "delivered": live.delivered,
                "latency_ms": live.latency_ms,
                "faults": [f.name for f in live.faults if f.state == "active"],
                "verdict": live.verdict,
                "reasons": live.reasons[:3],
            }
        )

    def _put(self, data: dict[str, Any]) -> None:
        if self._fd is None:
            return
        try:
            os.write(self._fd, json.dumps(data).encode() + b"\n")
        except OSError:
            self._fd = None

    def close(self) -> None:
        """No more lines."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
