"""What would the history of a known run be?  A pipeline in virtual time, in which every message is known.

Writes records as the processes do; the oracle counts the same world message by message, without the judge.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from loadtests.model import records as r
from loadtests.model.codec import Frame
from loadtests.model.contract import Contract
from loadtests.model.ids import SLICE_NS, pack_stream
from loadtests.model.profile.profile import Profile
from loadtests.tally.client_latency import ClientLatencies
from loadtests.tally.histogram import BUCKETS, Histogram, buckets_of_us

S = 1_000_000_000
MS = 1_000_000
T0 = 2 * S
READ_DELAY_NS = 100_000
WHY = "why it was not seen to act"


def profile(**changes: Any) -> Profile:
    """A small profile; `changes` replace whole tables."""
    raw: dict[str, Any] = {
        "name": "simulated",
        "question": "What does a simulated pipeline lose?",
        "run": {"duration_s": 8.0, "warm_up_s": 1.0, "drain_s": 2.0, "late_s": 0.5, "settle_ms": 100},
        "families": [
            {"name": "patterns", "channel": "tickstock.events.patterns", "event": "pattern_detected",
             "keys": {"pattern": ["Doji"], "symbol": ["A", "B"]}},
            {"name": "ranks", "channel": "tickstock.events.market_state", "event": "ranking_change",
             "keys": {"symbol": ["A", "B"]}},
        ],
        "publishers": [
            {"name": "first", "count": 1, "families": ["patterns", "ranks"],
             "shape": {"kind": "constant", "rate_per_s": 50.0}},
            {"name": "second", "count": 1, "families": ["patterns"], "shape": {"kind": "constant", "rate_per_s": 30.0}},
        ],
        "consumers": [{"name": "plain", "count": 3},
                      {"name": "sock", "count": 2, "transport": "socketio", "subscribe": {"families": ["patterns"]}}],
        "recovery": {"limit_s": 1.0},
        "steady": {"hold_s": 0.6, "group_ms": 300, "group_min_messages": 5},
        "thresholds": [{"measure": "lost_defect", "at_most": 0.0, "phases": ["all"]}],
    }  # fmt: skip
    return Profile.model_validate({**raw, **changes})


@dataclass(kw_only=True, slots=True)
class Message:
    """One publish."""

    slot: int
    epoch: int
    route: int
    seq: int
    due: int
    sent: int
    outcome: str = "OK"
    stream: int = field(init=False)

    def __post_init__(self) -> None:
        self.stream = pack_stream(self.slot, self.epoch, self.route)


@dataclass(kw_only=True)
class Stay:
    """One subscription of a consumer."""

    consumer: int
    epoch: int
    start: int
    end: int
    why: str = "end"
    got: list[tuple[int, Message]] = field(default_factory=list)  # in order of receipt


@dataclass(kw_only=True)
class FaultIn:
    """A fault of the simulated world."""

    name: str
    kind: str
    link: str
    start: int
    end: int
    proved: bool = True
    touched: str = ""  # as its proof tells; empty as in a history of before that was told


class World:
    """A run. Fill it by `calm`, change it, then ask for `history` and compare with the oracle."""

    def __init__(self, profile_: Profile, *, seed: int = 0, processes: int = 1) -> None:
        self.profile, self.contract = profile_, Contract(profile_)
        self.random = random.Random(seed)
        self.messages: list[Message] = []
        self.stays: list[Stay] = []
        self.faults: list[FaultIn] = []
        self.samples: list[r.Samples] = []
        self.extra: list[r.Record] = []
        self.processes = processes
        self.silent_workers: set[str] = set()  # killed: no closing, no left
        self.own_lag_ns = 200_000
        self.stamped: Callable[[Message, Stay], bool] | None = None  # which reads are sampled
        self.not_offered = 0
        self.finish: r.Finish | None = None
        self.sealed = False  # every file ends in a frame that says how many there are
        run = profile_.run
        self.warm = T0 + round(run.warm_up_s * S)
        self.plan_end = self.warm + round(run.duration_s * S)
        self.end = self.plan_end + round(run.drain_s * S)

    def process_of(self, consumer: int) -> str:
        return "main" if self.processes == 1 else f"worker-{consumer % self.processes}"

    def publish(self) -> None:
        """Every publisher sends to its routes in turn at its constant rate."""
        for slot in range(self.contract.publisher_count):
            _, group = self.contract.publisher_group(slot)
            routes = self.contract.publisher_routes(slot)
            rate = group.shape.rate_per_s or 10.0
            seqs: dict[int, int] = defaultdict(int)
            for n in range(int(rate * (self.plan_end - T0) / S)):
                due = T0 + int(n * S / rate) + slot * 1_234_567
                route = routes[n % len(routes)]
                sent = due + int(self.random.random() * 2 * MS)
                self.messages.append(Message(slot=slot, epoch=0, route=route, seq=seqs[route], due=due, sent=sent))
                seqs[route] += 1
        self.messages.sort(key=lambda m: (m.sent, m.slot))

    def subscribe(self) -> None:
        """Every planned consumer for the whole run."""
        for consumer in range(self.contract.consumer_count):
            self.stays.append(
                Stay(consumer=consumer, epoch=0, start=T0 - S + consumer * MS, end=self.end - consumer * MS)
            )

    def deliver(self, lose: Any = None, delay: Any = None) -> None:
        """Every message to every stay that was there; `lose` and `delay` of both may interfere."""
        routes = {c: self.contract.consumer(c).routes for c in {s.consumer for s in self.stays}}
        messages = sorted(self.messages, key=lambda m: (m.sent, m.slot))
        of = {
            wanted: [m for m in messages if m.route in wanted and m.outcome != "FAILED"] for wanted in routes.values()
        }
        for stay in self.stays:
            start, end = stay.start - MS, stay.end - MS
            # A connection keeps the order of what it carries.
            last = 0
            for m in of[routes[stay.consumer]]:
                if not start <= m.sent < end or (lose is not None and lose(m, stay)):
                    continue
                at = m.sent + 3 * MS + int(self.random.random() * 3 * MS) + (delay(m, stay) if delay else 0)
                last = at if at > last else last + 1
                stay.got.append((last, m))

    def calm(self) -> World:
        """Publish, subscribe, deliver; returns itself."""
        self.publish()
        self.subscribe()
        self.deliver()
        return self

    def ask_health(self) -> None:
        """The health page answers whenever it is asked."""
        every = round(r.HEALTH_EVERY_S * S)
        self.extra += [
            r.PathProbe(what="health", at_ns=at, took_ns=3 * MS, ok=True) for at in range(T0 - S, self.end, every)
        ]

    def query(self) -> None:
        """Every reader asks whenever it is due, and is answered."""
        took = Histogram()
        took.add(5 * MS)
        for index, group in enumerate(self.profile.readers):
            for number in range(int((self.plan_end - T0) / S * group.rate_per_s)):
                query = group.queries[number % len(group.queries)]
                due = T0 + round(number * S / group.rate_per_s)
                self.extra.append(
                    r.Queried(
                        readers=index, query=query, due_slice=due // SLICE_NS, ok=group.count, failed=0,
                        connect=([], []), latency=(took.sparse()[0], [group.count]),
                    )
                )  # fmt: skip

    # -- records

    def history(self, *, chunk: int = 10_000) -> list[tuple[str, Frame]]:
        """All frames, as the processes would have written them."""
        files: dict[str, list[r.Record]] = defaultdict(list)
        names = ["main"] + ([f"worker-{i}" for i in range(self.processes)] if self.processes > 1 else [])
        for name in names:
            files[name].append(self._header(name))
        main = files["main"]
        main += [r.PhaseMark(phase="connect", at_ns=T0 - 2 * S), r.PhaseMark(phase="warm-up", at_ns=T0)]
        main.append(r.PhaseMark(phase="baseline", at_ns=self.warm))
        for family in self.profile.families:
            main.append(r.PathProbe(what=f"family:{family.name}", at_ns=T0 - S // 2, took_ns=MS, ok=True))
        main += self._published()
        main += self._faults()
        main += list(self.samples)
        for name in names:
            files[name] += self._consumer_records(name)
            if name not in self.silent_workers:
                files[name] += self._seconds(name)
        main += list(self.extra)
        main.append(
            self.finish
            or r.Finish(at_ns=self.end + S // 10, reason="plan done", plan_done=True, drained=True, complete=True)
        )
        found = [
            (name, Frame(n, records[i : i + chunk]))
            for name, records in files.items()
            for n, i in enumerate(range(0, len(records), chunk))
        ]
        for name in names if self.sealed else ():
            count = 1 + sum(of == name for of, _ in found)
            found.append((name, Frame(count - 1, [msgspec.structs.replace(self._header(name), frames=count)])))
        return found

    def _header(self, name: str) -> r.Header:
        main = name == "main"
        return r.Header(
            run="run-1", process=name, role=("standalone" if self.processes == 1 else "master") if main else "worker",
            profile_sha256="0" * 64, origin_ns=0, origin_unix_ns=0, boot_id="b", slice_ns=SLICE_NS, versions={"x": "1"},
            receive="hub-epoll", started_at="2026-01-01T00:00:00Z",
            workers=0 if self.processes == 1 else self.processes,
            machine="two cores", frames=0 if self.sealed else -1,
        )  # fmt: skip

    def _published(self) -> list[r.Record]:
        rows: dict[tuple[int, int, int], list[Message]] = defaultdict(list)
        for m in self.messages:
            rows[m.stream, m.due // SLICE_NS, m.sent // SLICE_NS].append(m)
        keys = sorted(rows, key=lambda k: (k[0], rows[k][0].seq))
        found: list[r.Record] = [
            r.Published(
                stream=[k[0] for k in keys],
                due_slice=[k[1] for k in keys],
                sent_slice=[k[2] for k in keys],
                first=[min(m.seq for m in rows[k]) for k in keys],
                last=[max(m.seq for m in rows[k]) for k in keys],
                bytes=[100 * len(rows[k]) for k in keys],
            )
        ]
        bad = [m for m in self.messages if m.outcome != "OK"]
        found.append(
            r.Settled(
                stream=[m.stream for m in bad],
                first=[m.seq for m in bad],
                last=[m.seq for m in bad],
                outcome=[m.outcome for m in bad],
                at_ns=[m.sent + MS for m in bad],
            )
        )
        per: dict[tuple[int, int], int] = defaultdict(int)
        for m in self.messages:
            per[self.contract.publisher_group(m.slot)[0], m.due // SLICE_NS] += 1
        for number, ((group, due), n) in enumerate(sorted(per.items())):
            lag, blocked = Histogram(), Histogram()
            lag.add(self.own_lag_ns, n)
            blocked.add(0, n)
            found.append(
                r.PublishTimes(
                    publishers=group, due_slice=due, sent=n, not_offered=self.not_offered if number == 20 else 0,
                    own_lag=lag.sparse(), blocked=blocked.sparse(), receivers_min=1, receivers_max=1, receivers_zero=0,
                )
            )  # fmt: skip
        return found

    def _faults(self) -> list[r.Record]:
        found: list[r.Record] = []
        for f in self.faults:
            common: dict[str, Any] = {"name": f.name, "kind": f.kind, "link": f.link}
            found.append(
                r.FaultStep(step="announced", before_ns=f.start - 50 * MS, after_ns=f.start - 50 * MS, **common)
            )
            found.append(
                r.FaultStep(step="active", before_ns=f.start, after_ns=f.start + 2 * MS, asked={"for_s": 1}, **common)
            )
            if f.proved:
                found.append(
                    r.FaultStep(
                        step="proved",
                        before_ns=f.start + 3 * MS,
                        after_ns=f.start + 9 * MS,
                        effective={"cut": 1} | ({"touched": f.touched, "touched_why": WHY} if f.touched else {}),
                        **common,
                    )
                )
            found.append(r.FaultStep(step="lifted", before_ns=f.end - MS, after_ns=f.end, by="plan", **common))
        return found  # fmt: skip

    def _seconds(self, name: str) -> list[r.Record]:
        return [
            r.HarnessSecond(
                at_ns=at, cpu_percent=20.0, rss_bytes=50_000_000, hub_lag_p99_ns=MS, hub_lag_max_ns=2 * MS, connected=1,
                publishing=1, messages=10, reads=5, read_delay_p99_ns=10_000, saturated=False,
                frames=10 if name == "main" else 0, checked=9 if name == "main" else 0,
            )
            for at in range(T0 - S, self.end + S, S)
        ]  # fmt: skip

    def _consumer_records(self, name: str) -> list[r.Record]:
        stays = [s for s in self.stays if self.process_of(s.consumer) == name]
        found: list[r.Record] = []
        sets: dict[frozenset[int], int] = {}
        cells: dict[tuple[int, int, int], list[Any]] = {}
        kernel: dict[tuple[int, int, int], tuple[Histogram, Histogram]] = {}  # latency by the stamps, and as read
        of_cell: list[int] = []
        took_ns: list[int] = []
        touched: dict[int, dict[int, list[int]]] = defaultdict(dict)
        rows: list[tuple[str, int, int, int, int, int, int]] = []
        alike: dict[tuple[tuple[int, ...], ...], list[tuple[int, int]]] = defaultdict(list)
        groups = len(self.profile.consumers)
        timed: list[tuple[int, int, int]] = []
        families = [route.family for route in self.contract.routes]
        windows = [(f.start // SLICE_NS - 20, f.end // SLICE_NS + 200) for f in self.faults]
        run = range(T0 // SLICE_NS, self.end // SLICE_NS)
        shown = {at for at in run if any(a <= at <= b for a, b in windows)}
        for stay in stays:
            group = self.contract.consumer_group(stay.consumer)[0]
            routes = self.contract.consumer(stay.consumer).routes
            if routes not in sets:
                sets[routes] = len(sets)
                found.append(r.RouteSet(index=sets[routes], routes=sorted(routes)))

            def step(
                kind: Any,
                at: int,
                why: str = "",
                stay: Stay = stay,
                group: int = group,
                routes: frozenset[int] = routes,
            ) -> r.Record:
                return r.Subscription(
                    consumer=stay.consumer,
                    epoch=stay.epoch,
                    group=group,
                    step=kind,
                    at_ns=at,
                    route_set=sets[routes],
                    why=why,
                )

            found += [step("asked", stay.start - MS), step("confirmed", stay.start)]
            if name not in self.silent_workers:
                found += [step("leaving", stay.end)] if stay.why == "end" else []
                found.append(step("left", stay.end, stay.why))
            of_route = [family * groups + group for family in families]
            seen: dict[int, set[int]] = defaultdict(set)
            ends: dict[int, tuple[int, int]] = {}  # of what was seen of a stream: least and greatest
            for at, m in stay.got:
                due, stream, seq, at_slice = m.due, m.stream, m.seq, at // SLICE_NS
                key = (of_route[m.route], due // SLICE_NS, at_slice)
                cell = cells.get(key)
                if cell is None:
                    cell = cells[key] = [0, 0, len(cells), 0, 0]
                had = seen[stream]
                cell[3] += 100
                if at >= due:
                    timed.append((at, stay.consumer, at - due))
                    of_cell.append(cell[2])
                    took_ns.append(at - due)
                    if self.stamped is not None and self.stamped(m, stay):
                        stamp = max(at - READ_DELAY_NS, m.due)
                        pair = kernel.setdefault((*key[:2], stamp // SLICE_NS), (Histogram(), Histogram()))
                        pair[0].add(stamp - m.due)
                        pair[1].add(at - m.due)
                else:
                    cell[4] += 1
                if seq in had:
                    cell[1] += 1
                    rows.append(("repeated", stay.consumer, stay.epoch, stream, seq, seq, at))
                else:
                    cell[0] += 1
                    bottom, top = ends.get(stream, (seq, seq - 1))
                    ends[stream] = (bottom, seq) if seq > top else (min(bottom, seq), top)
                    if seq > top + 1:
                        rows.append(("gap", stay.consumer, stay.epoch, stream, top + 1, seq - 1, at))
                    elif seq < top:
                        if seq < bottom:
                            rows.append(("gap", stay.consumer, stay.epoch, stream, seq, bottom - 1, at))
                        rows.append(("filled", stay.consumer, stay.epoch, stream, seq, seq, at))
                    had.add(seq)
                if at_slice in shown:
                    t = touched[at_slice].setdefault(stay.consumer, [0, at, at, 0, 0])
                    t[0], t[2], t[3], t[4] = t[0] + 1, at, max(t[3], due), max(t[4], at - due)
            vector = tuple((k, *ends[k], len(v)) for k, v in sorted(seen.items()))
            alike[vector].append((stay.consumer, stay.epoch))
        latencies = _sparse_of_each(of_cell, took_ns, len(cells))
        for (group, due, at), (unique, repeated, number, size, negative) in sorted(cells.items()):
            latency = latencies[number]
            found.append(
                r.Consumed(
                    group=group, due_slice=due, received_slice=at, clock="read", unique=unique, repeated=repeated,
                    bytes=size,
                    latency=latency, negative=negative, service=latency, read_delay=([1], [unique]),
                    reads=1,
                )
            )  # fmt: skip
        for (group, due, at), (by_stamp, by_read) in sorted(kernel.items()):
            found.append(
                r.Consumed(
                    group=group, due_slice=due, received_slice=at, clock="kernel", unique=0, repeated=0, bytes=0,
                    latency=by_stamp.sparse(), negative=0, reads=by_read.count, sampled_read=by_read.sparse(),
                )
            )  # fmt: skip
        cuts = [self.warm, *(at for f in self.faults for at in (f.start - SLICE_NS, f.end + 100 * SLICE_NS))]
        found += _client_latencies(timed, cuts)
        for at in sorted(shown):
            cs = sorted(touched[at].items())
            cols = list(zip(*(v for _, v in cs), strict=True)) or [()] * 5
            found.append(
                r.Touched(
                    received_slice=at, consumer=[c for c, _ in cs], count=list(cols[0]), first_ns=list(cols[1]),
                    last_ns=list(cols[2]), greatest_due_ns=list(cols[3]), worst_latency_ns=list(cols[4]),
                    complete=True,
                )
            )  # fmt: skip
        if rows:
            kind, consumer, epoch, stream, first, last, at_ns = (list(c) for c in zip(*rows, strict=True))
            found.append(
                r.Deviations(
                    kind=kind, consumer=consumer, epoch=epoch, stream=stream, first=first, last=last, at_ns=at_ns
                )
            )
        if name not in self.silent_workers:
            for vector, members in alike.items():
                found.append(
                    r.Closing(
                        consumer=[c for c, _ in members], epoch=[e for _, e in members], stream=[v[0] for v in vector],
                        first=[v[1] for v in vector], last=[v[2] for v in vector], unique=[v[3] for v in vector],
                    )
                )  # fmt: skip
        return found


def _sparse_of_each(of_cell: list[int], took_ns: list[int], cells: int) -> list[tuple[list[int], list[int]]]:
    """The histogram of each cell, as records store it, of all latencies at once."""
    buckets = buckets_of_us(np.array(took_ns, dtype=np.int64) // 1000)
    marks, counts = np.unique(np.array(of_cell, dtype=np.int64) * BUCKETS + buckets, return_counts=True)
    ends = np.searchsorted(marks, np.arange(1, cells + 1) * BUCKETS).tolist()
    values, found, start = (marks % BUCKETS).tolist(), counts.tolist(), 0
    sparse = []
    for end in ends:
        sparse.append((values[start:end], found[start:end]))
        start = end
    return sparse


def _client_latencies(timed: list[tuple[int, int, int]], cuts: list[int]) -> list[r.Record]:
    """As a process writes them; `timed` is when something was received, by whom, and its latency."""
    clients = ClientLatencies()
    for at in cuts:
        clients.cut(at // SLICE_NS)
    found: list[r.Record] = []
    for slice_, of_slice in itertools.groupby(sorted(timed), key=lambda one: one[0] // SLICE_NS):
        rows = list(of_slice)
        found += clients.begin(slice_)
        clients.add(
            np.array([consumer for _, consumer, _ in rows], dtype=np.int64),
            buckets_of_us(np.array([latency for *_, latency in rows], dtype=np.int64) // 1000),
        )
    return [*found, *clients.take()]
