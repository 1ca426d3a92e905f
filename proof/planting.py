"""Which run is made for the section `account`, and which lies are planted in it, at which consumers and streams?

Every number follows from how many deliveries are wanted.  The plan is such that each lie's truth is unambiguous: what
is late is late by far, what is lost before a lost connection is held until then, and so on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from loadtests.model.contract import Contract
from loadtests.model.ids import pack_stream
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.reading import read_profile
from proof.sections import BUSY_GUARD

WARM_UP_S = 0.5
SETTLE_MS = 100
CONFLATED_MS = 200
WITHIN_S = 3.0
"""So long beyond the delivery limit a newer message may come in place of one that was left out: far from any stall of
this machine, or the book itself could not tell which of the two it was."""
FULL_PER_S = 50_000
"""Deliveries per second of the full run: gateway, master and two workers share two cores."""
SMALL = 30_000
"""Below it the run is as short as the plan allows; from it on a run takes its time."""

_GROUPS = (
    # name, transport, count at least, share of what is added, subscription
    ("everything", "websocket", 8, 3, ""),
    ("browsers", "socketio", 8, 3, ""),
    ("dojis", "websocket", 4, 1, 'families = ["patterns"], patterns = ["Doji"]'),
    ("hammers", "socketio", 3, 1, 'families = ["patterns"], patterns = ["Hammer"]'),
    ("ones", "websocket", 3, 1, 'families = ["patterns", "ranks"], symbols = ["TEST_0001"]'),
    ("zeros", "socketio", 3, 1, 'families = ["patterns", "ranks"], symbols = ["TEST_0000"]'),
    ("desks", "websocket", 3, 1, 'families = ["ranks", "jobs"]'),
    ("queues", "socketio", 2, 1, 'families = ["jobs"]'),
)

_FAMILIES = """
[[families]]
name = "patterns"
channel = "tickstock.events.patterns"
event = "pattern_detected"
keys = { pattern = ["Doji", "Hammer"], symbol = ["TEST_0000", "TEST_0001"] }

[[families]]
name = "ranks"
channel = "tickstock.events.market_state"
event = "ranking_change"
keys = { symbol = ["TEST_0000", "TEST_0001"] }

[[families]]
name = "jobs"
channel = "tickstock.events.backtesting.progress"
event = "backtest_progress"
keys = { job = ["a", "b"] }
offline = "replayed"
replay_messages = 1000
replay_age_s = 60

[[families]]
name = "prices"
channel = "tickstock.etf.correlation_update"
event = "notification"
keys = { symbol = ["TEST_0000", "TEST_0001"] }
mode = "latest"
latest_within_s = @within@
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planting:
    """A run and its lies."""

    profile_text: str  # [target] goes before its first table
    profile: Profile
    contract: Contract
    plan: dict[str, Any]

    def text(self, target: str) -> str:
        """The profile for a target."""
        return self.profile_text.replace("@target@", target)


def planting(*, deliveries: int, seed: int, full: bool = False) -> Planting:
    """A run of about so many deliveries."""
    shape = _shape(deliveries, full=full)
    text = _profile(shape, seed)
    profile = read_profile(text.replace("@target@", _NOWHERE), file="account").profile
    contract = Contract(profile)
    return Planting(profile_text=text, profile=profile, contract=contract, plan=_plan(contract, shape, seed))


_NOWHERE = """[target]
kind = "external"
test_system = true
redis = "127.0.0.1:1"
gateway = "127.0.0.1:1"
gateway_http = "127.0.0.1:1"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """Sizes that make the wanted number of deliveries."""

    duration_s: float
    detectors: int
    clerks: int
    rate_per_s: float  # of one publisher
    late_s: float  # far from how late anything is
    conflated_ms: int  # of a route only the newest comes, at most once in so long
    counts: dict[str, int]  # consumers per group


_EMPTY = {name: 0 for name, *_ in _GROUPS}


def _shape(deliveries: int, *, full: bool) -> _Shape:
    detectors, clerks = (12, 7) if full else (2, 2)
    counts = {name: least for name, _, least, _, _ in _GROUPS}
    duration_s, rate = (3.0, 20.0) if deliveries < SMALL else (10.0, 40.0)
    if full:
        duration_s, rate = max(10.0, deliveries / FULL_PER_S), 4.0
        shares = sum(share for *_, share, _ in _GROUPS)
        for name, _, _, share, _ in _GROUPS:
            counts[name] = 1000 * share // shares
        counts["everything"] += 1000 - sum(counts.values())
    conflated_ms = 4 * CONFLATED_MS if full else CONFLATED_MS
    made = _deliveries_per_s(detectors, clerks, rate, counts, conflated_ms) * (duration_s + WARM_UP_S)
    missing = deliveries - made
    if missing > 0 and not full:  # more consumers of everything: each gets what all publishers send
        one = _EMPTY | {"everything": 1}
        each = _deliveries_per_s(detectors, clerks, rate, one, conflated_ms) * (duration_s + WARM_UP_S)
        more = round(missing / each / 2)
        counts["everything"] += more
        counts["browsers"] += more
    elif full:
        rate *= deliveries / made
    return _Shape(
        duration_s=duration_s,
        detectors=detectors,
        clerks=clerks,
        rate_per_s=round(rate, 3),
        late_s=4.0 if full else 1.5,
        conflated_ms=conflated_ms,
        counts=counts,
    )


def _deliveries_per_s(detectors: int, clerks: int, rate: float, counts: dict[str, int], conflated_ms: int) -> float:
    """By which share of the routes of each publisher group a consumer group follows."""
    follows = {
        "everything": (1, 1, 1), "browsers": (1, 1, 1), "dojis": (0.5, 0, 0), "hammers": (0.5, 0, 0),
        "ones": (0.5, 0.25, 0), "zeros": (0.5, 0.25, 0), "desks": (0, 1, 0), "queues": (0, 0.5, 0),
    }  # fmt: skip
    ticker = min(1.0, 2 * 1000 / conflated_ms / rate)  # of its two routes only the newest ones come
    return sum(
        counts[name] * rate * (detectors * of_detectors + clerks * of_clerks + ticker * of_ticker)
        for name, (of_detectors, of_clerks, of_ticker) in follows.items()
    )


def _profile(shape: _Shape, seed: int) -> str:
    groups = "".join(
        f'\n[[consumers]]\nname = "{name}"\ncount = {shape.counts[name]}\ntransport = "{transport}"\n'
        + (f"subscribe = {{ {subscribe} }}\n" if subscribe else "")
        + "reconnect = { first_ms = 50, factor = 1.5, max_ms = 150, jitter = 0.1 }\n"
        for name, transport, _, _, subscribe in _GROUPS
    )
    publishers = "".join(
        f'\n[[publishers]]\nname = "{name}"\ncount = {count}\nfamilies = {families}\n'
        f'shape = {{ kind = "constant", rate_per_s = {shape.rate_per_s} }}\n'
        for name, count, families in (
            ("detector", shape.detectors, '["patterns"]'),
            ("clerk", shape.clerks, '["ranks", "jobs"]'),
            ("ticker", 1, '["prices"]'),
        )
    )
    return f"""
name = "prove-account"
question = "Does the account of every consumer equal the book of a gateway that lies?"
seed = {seed}

@target@
[run]
warm_up_s = {WARM_UP_S}
duration_s = {shape.duration_s}
drain_s = {round(1.8 * shape.late_s, 3)}
late_s = {shape.late_s}
settle_ms = {SETTLE_MS}
connect_s = 60

{BUSY_GUARD}undecided_share = 0.5
exceptions_per_s = 1000000
{_FAMILIES.replace("@within@", str(shape.late_s + WITHIN_S))}{publishers}{groups}
[[thresholds]]
measure = "lost_total"
at_most = 0
phases = ["all"]
"""


def _plan(contract: Contract, shape: _Shape, seed: int) -> dict[str, Any]:
    """Every kind of lie, each for consumers of its own and some together; windows are seconds from T0."""
    slots = _Slots(shape.counts)
    e, b, d, h = (slots.of(name) for name in ("everything", "browsers", "dojis", "hammers"))
    o, z, k, q = (slots.of(name) for name in ("ones", "zeros", "desks", "queues"))
    whole = WARM_UP_S + shape.duration_s
    half, late = round(whole * 0.5, 3), round(whole * 0.75, 3)
    first = pack_stream(0, 0, 0)
    soon = round((shape.late_s - 1.05) * 1000)  # behind its successors, and yet far from late
    prices = [f.channel for f in contract.profile.families if f.mode == "latest"]
    lies: list[dict[str, Any]] = [
        {"kind": "held", "consumers": [e[6], b[7]], "due_s": [half, half + 0.3]},
        {"kind": "held", "consumers": [k[1]], "channels": ["tickstock.events.market_state"], "due_s": [1, 1.5]},
        {"kind": "held", "consumers": [z[2], d[3]], "due_s": [round(late - shape.late_s - 0.3, 3), late]},
        {"kind": "dropped-connection", "consumers": [z[2], b[3]], "due_s": [late, late], "code": 1011},
        {"kind": "dropped-connection", "consumers": [d[3], e[7]], "due_s": [late, late], "refuse_s": 0.3},
        {"kind": "dropped-connection", "consumers": [h[2], k[2]], "due_s": [half, half], "code": 1013},
        {
            "kind": "dropped-connection", "consumers": [q[1]], "due_s": [half, half], "refuse_s": 0.1,
            "replay_limit": 1000,
        },
        {"kind": "queued", "consumers": [b[5], k[0]], "due_s": [half, half + 0.4]},
        {"kind": "queued", "consumers": [e[3]], "due_s": [half, half + 0.4], "limit": 5},
        {"kind": "conflated", "consumers": "all", "channels": prices, "ms": shape.conflated_ms},
        {"kind": "lost", "consumers": "all", "streams": [first], "seqs": [4, 5, 6, 9]},
        {"kind": "lost", "consumers": [e[0], b[0], d[0], h[0], z[0], k[0]], "share": 0.03},
        {"kind": "repeated", "consumers": [e[0], b[0], d[1], h[1]], "share": 0.03},
        {"kind": "repeated", "consumers": [e[1], b[1], k[0], q[0]], "every": 17, "times": 3},
        {"kind": "reordered", "consumers": [e[0], b[2], o[0]], "share": 0.03, "within_ms": soon},
        {"kind": "reordered", "consumers": [e[2], b[0]], "share": 0.02, "after": 2, "within_ms": soon},
        {"kind": "foreign-run", "consumers": [e[0], b[3], d[0]], "share": 0.02},
        {"kind": "foreign-route", "consumers": [d[0], h[0], o[0], z[0], k[0], q[0]], "share": 0.05},
        {"kind": "no-identity", "consumers": [e[3], b[0], d[1], k[1]], "share": 0.02},
        {"kind": "undecodable", "consumers": [e[0], b[4], h[1]], "share": 0.02},
        {"kind": "truncated", "consumers": [e[4], b[5], d[2], z[1]], "share": 0.02},
        {"kind": "delayed", "consumers": [e[5], b[6], o[1], k[2], q[0]], "share": 0.02, "ms": shape.late_s * 1500},
    ]  # fmt: skip
    return {"seed": seed, "lies": lies}


class _Slots:
    """Numbers of the consumers of each group, in the profile's order."""

    def __init__(self, counts: dict[str, int]) -> None:
        self._counts = counts

    def of(self, group: str) -> range:
        """All slots of a group."""
        first = 0
        for name, *_ in _GROUPS:
            if name == group:
                return range(first, first + self._counts[name])
            first += self._counts[name]
        raise KeyError(group)
