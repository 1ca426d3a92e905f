"""Does a broken system ever pass?  Runs against gateways that are broken in known ways, and what their checks say.

`shut` never lets one of its consumers in.  `broken` breaks its contract for one consumer each; its profile asks for a
delivery and no more, so that the default limits alone must name every breach, with its count.  `few` is slow for some
of many clients, its Redis refuses what is published for a while, and its health page attacks who asks.  Of `unproven`
nothing can be said: its fault touches nobody, and its frames are longer than we take.  That is UNKNOWN, never a pass
and never the target's failure; and so is a history whose samples are gone.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import redis

from loadtests.model import records as r
from loadtests.model.codec import Frame, decode_file, pack
from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_S, SLICE_NS
from loadtests.model.logins import client_options
from loadtests.model.profile.reading import read_profile
from proof.bench import DECOY_LINK, DIRECT, Bench, ProofError, RunOutcome, decoy, decoy_target, wait_for
from proof.ground_truth_log import read_book
from proof.history import read_history, records_of
from proof.sections import BUSY_GUARD, Options, Row, SectionResult, compared
from proof.truth import Truth, expected

WARM_UP_S = 0.5
RATE_PER_S, FAST_PER_S = 20, 100
"""Of each publisher; of one whose clients get enough for a percentile each."""

BANNED, LEFT, ALTERED, RESTAMPED, JUNK, HONEST, SILENT, PACKETS = range(8)
"""Consumers of `broken`, by what happens to them: sent away for good, sent away for a while, ..."""
_PLAIN, _BROWSERS = 6, 3  # Socket.IO has packets and a heartbeat
_DURATION_S, _BROKEN_S, _SILENT_S = 4.2, (1.0, 4.0), (1.5, 3.5)
_PINGS_MS = 400

BEHIND, MANY, DELAY_MS, SLOW_MS = 8, 64, 400, 200
"""Of so many clients in a fan-out those are late by so much; the limit is half of it."""

OURS_BYTES = 64 * 1024
_BUSY = """
local began = os.clock()
while os.clock() - began < 0.4 do end
return 1
"""


def prove_verdicts(bench: Bench, options: Options) -> SectionResult:
    """The section. Raises HarnessError where it could not be carried out."""
    began = time.monotonic()
    rows = [*_shut(bench, options), *_broken(bench, options), *_few(bench, options), *_unproven(bench, options)]
    return SectionResult(name="verdicts", rows=tuple(rows), seconds=time.monotonic() - began)


def _times(options: Options) -> int:
    """How much longer the runs last with --full."""
    return 5 if options.full else 1


def _workers(options: Options) -> int:
    return 2 if options.full else 0


# -- what the target breaks


def _shut(bench: Bench, options: Options) -> Iterable[Row]:
    options.say("verdicts: a gateway that lets one of three in never")
    gateway = bench.start_gateway({"lies": [{"kind": "refused", "consumers": [2]}]}, name="shut-gateway")
    text = _profile(
        bench.target(gateway), "shut", duration_s=2.0, families=("patterns",), connect_s=2.0,
        consumers=(("plain", 3, ""),),
    )  # fmt: skip
    results = bench.run(text, name="shut", seed=options.seed).results
    gateway.close_book()
    yield _fails(results["checks"], "refused from the first", "not_admitted", 1)
    yield _verdict("shut", "FAIL", results)


def _broken(bench: Bench, options: Options) -> Iterable[Row]:
    options.say("verdicts: a gateway that breaks its contract for one consumer each")
    share, due_s = 0.3, list(_BROKEN_S)
    lies = [
        {"kind": "dropped-connection", "consumers": [BANNED], "due_s": [2.0, 2.0], "refuse_s": 1e6, "code": 1008},
        {"kind": "dropped-connection", "consumers": [LEFT], "due_s": [2.0, 2.0], "refuse_s": 0.4, "code": 1001},
        {"kind": "altered", "consumers": [ALTERED], "share": share, "due_s": due_s},
        {"kind": "restamped", "consumers": [RESTAMPED], "share": share, "due_s": due_s, "ms": 500},
        {"kind": "protocol", "consumers": [PACKETS], "share": share, "due_s": due_s},
        {"kind": "undecodable", "consumers": [JUNK], "share": share, "due_s": due_s},
        {"kind": "silent", "consumers": [SILENT], "due_s": list(_SILENT_S)},
    ]
    pings = {"ping_interval_ms": _PINGS_MS, "ping_timeout_ms": _PINGS_MS}
    gateway = bench.start_gateway({"seed": options.seed, **pings, "lies": lies}, name="broken-gateway")
    text = _profile(
        bench.target(gateway), "broken", duration_s=_DURATION_S * _times(options),
        families=("patterns", "jobs", "twins"), consumers=(("plain", _PLAIN, ""), ("browsers", _BROWSERS, "socketio")),
    )  # fmt: skip
    outcome = bench.run(text, name="broken", seed=options.seed, workers=_workers(options))
    contract = Contract(read_profile(text, file="broken").profile)
    truth = Truth(read_book(gateway.close_book()), contract, outcome.run)
    yield from broken_rows(truth, outcome)


def broken_rows(truth: Truth, outcome: RunOutcome) -> Iterable[Row]:
    """Each breach by the check that names it, with its count by the book."""
    found = read_history(outcome.folder)
    block = expected(truth, found.edges, origin_ns=found.origin_ns, not_ok=found.not_ok)
    strange = Counter(kind for (_, kind), count in truth.strange().items() for _ in range(count))
    twins = next(index for index, family in enumerate(truth.contract.profile.families) if family.copies > 1)
    began_ns = next(x.at_ns for x in records_of(outcome.folder) if isinstance(x, r.PhaseMark) and x.phase == "warm-up")
    calm = -(-(began_ns + round(WARM_UP_S * NS_PER_S)) // SLICE_NS)
    once = sum(
        event.due_ns // SLICE_NS >= calm
        for connection in truth.connections.values()
        for got in truth.got(connection)
        if got.stream.route.family == twins
        for event in got.came
    )
    checks = outcome.results["checks"]
    yield _fails(checks, "sent away, for good or a while", "lost_disconnected", block.total("disconnected"))
    yield _fails(checks, "nothing replayed", "lost_not_replayed", block.total("not_replayed"))
    yield _fails(checks, "one copy of two", "missing_copies", once)
    for kind in ("altered", "restamped", "protocol", "undecodable"):
        yield _fails(checks, f"{kind} on the way", kind, strange[kind])
    left = found.edges.get((SILENT, 0))
    yield compared("silent: why its client left", "no heartbeat", left.why if left else "nothing")
    yield compared("silent: its client came back", True, (SILENT, 1) in found.edges)
    yield _verdict("broken", "FAIL", outcome.results)


# -- who is slow among many


def _few(bench: Bench, options: Options) -> Iterable[Row]:
    options.say(f"verdicts: {BEHIND} of {MANY} clients are late, Redis refuses for a while, a hostile health page")
    lies = [{"kind": "delayed", "consumers": list(range(BEHIND)), "ms": DELAY_MS}]
    gateway = bench.start_gateway({"seed": options.seed, "health": "hostile", "lies": lies}, name="slow-gateway")
    limits = "".join(
        f'[[thresholds]]\nmeasure = "{measure}"\nat_most = {SLOW_MS}\n'
        for measure in ("latency_p50_ms", "latency_p95_ms", "slowest_client_p95_ms", "health_ms")
    )
    text = _profile(
        bench.target(gateway), "few", duration_s=3.5 * _times(options), families=("patterns",), rate_per_s=FAST_PER_S,
        consumers=(("plain", MANY, ""),),
    )  # fmt: skip
    running = bench.start_run(text + limits, name="few", seed=options.seed, workers=_workers(options))
    running.folder()
    early = round(FAST_PER_S * (WARM_UP_S + 1))
    wait_for(lambda: _received(gateway.address) >= early, 60, "the run has published its first second")
    refused = refuse_publishes(bench.redis)
    results = running.outcome().results
    gateway.close_book()
    yield from few_rows(results)
    yield _fails(results["checks"], "refused by Redis", "publish_failed", refused)
    yield sampled_row("a health page that attacks who asks", "FAIL", results)


def few_rows(results: Mapping[str, Any]) -> Iterable[Row]:
    """An eighth is late: the median is not, the 95th percentile is, and so is the slowest client."""
    for measure, verdict in (("latency_p50_ms", "PASS"), ("latency_p95_ms", "FAIL"), ("slowest_client_p95_ms", "FAIL")):
        check = _check(results["checks"], measure)
        measured = None if check is None else check["measured"]
        there = measured is not None and (measured < SLOW_MS if verdict == "PASS" else measured >= DELAY_MS * 0.99)
        yield Row(
            what=f"{BEHIND} of {MANY} late: {measure}",
            planted=f"{verdict}, {'below' if verdict == 'PASS' else 'from'} {DELAY_MS} ms",
            found=f"{check['verdict'] if check else 'no check'}, {measured}",
            equal=there and check is not None and check["verdict"] == verdict,
        )


def refuse_publishes(address: str) -> int:
    """Keeps Redis busy with a script, which it then says instead of answering; how many PUBLISH it so refused."""
    host, _, port = address.rpartition(":")
    with redis.Redis(host=host, port=int(port), socket_timeout=30, **client_options(address, os.environ)) as server:
        known = server.config_get("lua-time-limit")
        before = _rejected(server)
        server.config_set("lua-time-limit", 20)
        try:
            server.eval(_BUSY, 0)
        finally:
            server.config_set("lua-time-limit", int(known["lua-time-limit"]))
        refused = _rejected(server) - before
    if not refused:
        raise ProofError("Redis refused nobody while its script ran")
    return refused


def _rejected(server: redis.Redis) -> int:
    told: Any = server.info("commandstats")
    return int(told.get("cmdstat_publish", {}).get("rejected_calls", 0))


def _received(address: str) -> int:
    with DIRECT.open(f"http://{address}/stats", timeout=5) as answer:
        return int(json.load(answer)["received"])


# -- of what nothing can be said


def _unproven(bench: Bench, options: Options) -> Iterable[Row]:
    options.say("verdicts: a fault that touches nobody, frames longer than we take, samples that are gone")
    lies = [{"kind": "oversize", "consumers": [1], "every": 20, "bytes": OURS_BYTES + 1}]
    gateway = bench.start_gateway({"seed": options.seed, "lies": lies}, name="unproven-gateway")
    more = f"""
[recovery]
limit_s = 1.2
[[faults]]
name = "cut"
kind = "down"
link = "{DECOY_LINK}"
at_s = 1.2
for_s = 0.5
[[thresholds]]
measure = "health_ms"
at_most = 1000
phases = ["all"]
"""
    with decoy(bench.toxiproxy, bench.redis) as ours:
        target = bench.target(gateway) + decoy_target(bench.toxiproxy)
        text = _profile(
            target, "unproven", duration_s=3.6 * _times(options), families=("patterns",), path=DECOY_LINK,
            consumers=(("plain", 3, ""),),
        )  # fmt: skip
        running = bench.start_run(text + more, name="unproven", seed=options.seed, workers=_workers(options))
        running.folder()
        wait_for(lambda: _received(gateway.address), 60, "the run has published its first message")
        ours.close()
        outcome = running.outcome()
    gateway.close_book()
    yield from unproven_rows(outcome.results)
    yield sampled_row("all samples there", "PASS", outcome.results)
    yield sampled_row("four of five samples gone", "UNKNOWN", _judged_without_samples(bench, outcome))


def _judged_without_samples(bench: Bench, outcome: RunOutcome) -> dict[str, Any]:
    """The same history, of whose probes of the health page every fifth is left."""
    at = bench.place("without-samples")
    shutil.copytree(outcome.folder, at / "run")
    count = itertools.count()
    for path in (at / "run" / "history").glob("*.tsh"):
        frames = [frame for frame in decode_file(path.read_bytes()) if isinstance(frame, Frame)]
        with path.open("wb") as file:
            for frame in frames:
                left = [x for x in frame.records if not _is_health(x) or next(count) % 5 == 0]
                file.writelines(pack(frame.number, left or frame.records[:1]))
    argv = [sys.executable, "-m", "loadtests.cli", "analyze", str(at / "run"), "--quiet", "--out", str(at)]
    child = bench.start(argv, name="analyze")
    child.wait(60)
    found = at / "results.json"
    if not found.exists():
        raise ProofError(f"analyze left no results; {child.last_words}")
    judged: dict[str, Any] = json.loads(found.read_bytes())
    return judged


def _is_health(record: r.Record) -> bool:
    return isinstance(record, r.PathProbe) and record.what == "health"


def sampled_row(what: str, wanted: str, results: Mapping[str, Any]) -> Row:
    """The verdict on the health page."""
    check = _check(results["checks"], "health_ms")
    return compared(f"{what}: health_ms", wanted, check["verdict"] if check else "no check")


def unproven_rows(results: Mapping[str, Any]) -> Iterable[Row]:
    """Nothing fails; the verdict says of each why it cannot be told."""
    said = "; ".join([*results["reasons"], *(c["summary"] for c in results["checks"] if c["verdict"] == "UNKNOWN")])
    for what, words in (
        ("a fault that touched nobody", "it touched nobody"),
        ("frames longer than we take", "longer than guard.message_bytes"),
    ):
        yield Row(what=what, planted=f"UNKNOWN: {words}", found=words if words in said else said, equal=words in said)
    failed = [check["name"] for check in results["checks"] if check["verdict"] == "FAIL"]
    yield compared("unproven: blamed on the target", [], failed)
    yield _verdict("unproven", "UNKNOWN", results)


# -- what they share


def _verdict(case: str, wanted: str, results: Mapping[str, Any]) -> Row:
    reasons = tuple(str(reason) for reason in results["reasons"])
    row = compared(f"{case}: verdict", wanted, results["verdict"])
    return row if row.equal else compared(f"{case}: verdict", wanted, results["verdict"], reasons)


def _check(checks: Iterable[Mapping[str, Any]], measure: str) -> Mapping[str, Any] | None:
    return next((check for check in checks if re.split(r"[<>]", check["name"])[0] == measure), None)


def _fails(checks: Iterable[Mapping[str, Any]], what: str, measure: str, count: int) -> Row:
    """The check of a measure fails, with this count."""
    if not count:
        raise ProofError(f"{what}: nothing was planted")
    check = _check(checks, measure)
    measured = None if check is None else check["measured"]
    found = (
        "no check" if check is None else check["verdict"] if measured is None else f"{check['verdict']}, {measured:g}"
    )
    return compared(f"{what}: {measure}", f"FAIL, {count:g}", found)


_FAMILIES = {
    "patterns": 'channel = "tickstock.events.patterns"\nevent = "pattern_detected"\nsymbols = 2\n',
    "jobs": 'channel = "tickstock.events.backtesting.progress"\nevent = "backtest_progress"\n'
    'keys = { job = ["a", "b"] }\noffline = "replayed"\nreplay_messages = 1000\nreplay_age_s = 60\n',
    "twins": 'channel = "tickstock.events.market_state"\nevent = "ranking_change"\nsymbols = 2\ncopies = 2\n',
}


def _profile(
    target: str,
    name: str,
    *,
    duration_s: float,
    families: Iterable[str],
    consumers: Iterable[tuple[str, int, str]],
    rate_per_s: float = RATE_PER_S,
    connect_s: float = 20.0,
    path: str = "",
) -> str:
    tables = "".join(
        f'[[families]]\nname = "{family}"\n{_FAMILIES[family]}' + (f'path = ["{path}"]\n' if path else "")
        + f'[[publishers]]\nname = "{family}"\nfamilies = ["{family}"]\n'
        f'shape = {{ kind = "constant", rate_per_s = {rate_per_s} }}\n'
        for family in families
    )  # fmt: skip
    groups = "".join(
        f'[[consumers]]\nname = "{group}"\ncount = {count}\ntransport = "{transport or "websocket"}"\n'
        "reconnect = { first_ms = 50, factor = 1.5, max_ms = 150, jitter = 0.1 }\n"
        for group, count, transport in consumers
    )
    return f"""
name = "prove-{name}"
question = "What is said of a system that is {name}?"
{target}
[run]
warm_up_s = {WARM_UP_S}
duration_s = {duration_s}
drain_s = 1.0
late_s = 0.8
settle_ms = 50
connect_s = {connect_s}
[steady]
hold_s = 0.5
{BUSY_GUARD}undecided_share = 0.1
message_bytes = {OURS_BYTES}
{tables}{groups}
[[thresholds]]
measure = "deliveries"
at_least = 1
"""
