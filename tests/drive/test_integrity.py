"""A target that changes what it passes on: does each consumer's every such delivery show, and nothing that is honest?

Real commands of a publisher go through a gateway of a few lines to chunks, accounts and the judge.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from loadtests.drive.consume.chunks import Chunks
from loadtests.drive.consume.frames import BINARY, Cutter, wire
from loadtests.drive.consume.integrity import Integrity, IntegritySampling
from loadtests.drive.consume.read_accounting import account_read
from loadtests.drive.consume.socketio import SocketIoDialect
from loadtests.drive.consume.websocket import PlainDialect
from loadtests.drive.publish.commands import Commands
from loadtests.drive.publish.resp import Replies
from loadtests.model.contract import Contract
from loadtests.model.profile.profile import Profile
from loadtests.model.records import Closing, Consumed, HarnessSecond, Record, Strange
from loadtests.model.registry import TRANSPORTS
from loadtests.model.results import Results, Verdict
from loadtests.plan.payload import content_shapes
from loadtests.plan.replay import Replayed
from loadtests.tally.accountant import Accountant
from loadtests.tally.publishing import PublishTally
from tests.measure.simulate import MS, S, World
from tests.measure.simulate import profile as simulated

RUN = "2026-11-21_a-b"
LIMITS = ("altered", "restamped", "undecodable", "protocol", "foreign")
CONSUMERS = 5
BEGIN = 4 * S  # within the simulated run's baseline

Event = dict[str, Any]
Lie = Callable[[Event, int], "list[bytes | Event]"]
"""What a consumer is sent for an event: payloads, or frames as they are."""


def profile(**changes: Any) -> Profile:
    thresholds = [{"measure": name, "at_most": 0.0, "phases": ["all"]} for name in LIMITS]
    thresholds.append({"measure": "latency_p95_ms", "at_most": 100.0})
    return simulated(**{"thresholds": thresholds, **changes})


def published(profile_: Profile, count: int = 60, rows: list[Event] | None = None) -> Iterator[Event]:
    """What Redis hands to its subscribers, in turn from all routes."""
    contract = Contract(profile_)
    routes = list(contract.publisher_routes(0))
    made = Commands(contract, 0, run=RUN, identity=profile_.identity, seed=1, routes=len(routes)).streams(
        0, 0, PublishTally()
    )
    for n in range(count):
        due = BEGIN + n * MS
        built = made.build([routes[n % len(routes)]], [due], due + 300_000, rows[n : n + 1] if rows else [], (0, 0))
        ((reply, _),) = Replies().feed(built.data)
        assert isinstance(reply, list)
        event = msgspec.json.decode(reply[2])  # type: ignore[arg-type]  # bytes
        yield event


class Passed:
    """What became of the events behind a gateway."""

    def __init__(
        self,
        lie: Lie,
        profile_: Profile | None = None,
        *,
        transport: Any = "websocket",
        rows: list[Event] | None = None,
        consumers: int = CONSUMERS,
        count: int = 60,
    ) -> None:
        self.profile = profile() if profile_ is None else profile_
        contract = Contract(self.profile)
        self.accountant = Accountant(
            family_of_route=[route.family for route in contract.routes],
            copies_of_family=[1] * len(self.profile.families),
            consumer_groups=2,
            exceptions_per_s=1000,
            now_ns=BEGIN,
        )
        identity = self.profile.identity
        dialect = (PlainDialect if transport == "websocket" else SocketIoDialect)(identity.path, identity.form)
        replays = {"first": [Replayed(due_ns=0, fields=row) for row in rows]} if rows else {}
        self.sampling = IntegritySampling(self.profile.seed)
        integrity = Integrity(content_shapes(contract, replays), TRANSPORTS[transport].envelope, self.sampling)
        self.chunks = Chunks(dialect, self.accountant.streams, RUN, integrity=integrity)
        self.clients = [_Client(self, slot) for slot in range(consumers)]
        for event in published(self.profile, count, rows):
            for client in self.clients:
                for sent in lie(json.loads(json.dumps(event)), client.account.consumer):
                    client.take(sent if isinstance(sent, bytes) else _frame(transport, sent))
        for client in self.clients:
            self.accountant.close_account(client.account)
        self.records: list[Record] = list(self.accountant.flush(BEGIN + S, final=True))

    @property
    def strange(self) -> Counter[tuple[str, int]]:
        """Kind and consumer of what was counted."""
        found: Counter[tuple[str, int]] = Counter()
        for record in self.records:
            if isinstance(record, Strange):
                for kind, consumer, count in zip(record.kind, record.consumer, record.count, strict=True):
                    found[kind, consumer] += count
        return found

    def of(self, kind: str) -> list[int]:
        """How many of a kind each consumer was sent."""
        return [self.strange[kind, consumer] for consumer in range(len(self.clients))]

    @property
    def unique(self) -> int:
        """Deliveries that have an account, each once."""
        return sum(sum(r.unique) * len(r.consumer) for r in self.records if isinstance(r, Closing))

    def judged(self) -> Results:
        """The verdict over a run that was calm otherwise."""
        from loadtests.measure.judge import judge

        world = World(self.profile).calm()
        world.extra += [r for r in self.records if isinstance(r, Strange)]
        return judge(self.profile, world.history())


class _Client:
    """One consumer that reads one frame at a time."""

    def __init__(self, passed: Passed, slot: int) -> None:
        routes = frozenset(range(len(Contract(passed.profile).routes)))
        self.account = passed.accountant.account(consumer=slot, epoch=0, group=0, routes=routes, transport="t")
        self.chunks, self.cutter, self.clean = passed.chunks, Cutter(), True
        self.cached = passed.chunks.cached
        self._accountant, self._at = passed.accountant, BEGIN + 2 * MS

    def take(self, frame: bytes) -> None:
        self._at += MS
        account_read(self._accountant, self, frame, self._at)


def _frame(transport: str, event: Event) -> bytes:
    text = json.dumps(event, separators=(",", ":")).encode()
    name = str(event.get("event_type", "x")).encode()
    return wire(
        b'{"event":"%b","data":%b}' % (name, text) if transport == "websocket" else b'42["%b",%b]' % (name, text)
    )


def _binary(frame: bytes) -> bytes:
    return bytes((frame[0] & 0xF0 | BINARY,)) + frame[1:]


def verdicts(results: Results) -> dict[str, Verdict]:
    return {check.name.split("<=")[0]: check.verdict for check in results.checks}


def changed(event: Event, **identity: Any) -> Event:
    return event | {"tickstorm": event["tickstorm"] | identity}


# -- what an honest target may do


def _reordered(event: Event) -> Event:
    return {key: event[key] for key in sorted(event, reverse=True)} | {"gateway": {"node": 3}, "timestamp": 17}


def _as_node_does(event: Event) -> Event:
    if "confidence" in event:
        assert isinstance(event["confidence"], float)
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in event.items()}


HONEST: dict[str, Lie] = {
    "passes on": lambda event, who: [event],
    "in another order, with more and another timestamp": lambda event, who: [_reordered(event)],
    "as Node writes numbers": lambda event, who: [_as_node_does(event)],
    "with something of its own for each": lambda event, who: [event | {"for": who}],
}


@pytest.mark.parametrize("transport", ["websocket", "socketio"])
@pytest.mark.parametrize("name", HONEST)
@pytest.mark.parametrize("identity", [{}, {"path": "meta.who", "form": "text"}, {"path": "source", "form": "text"}])
def test_an_honest_target_changes_nothing(name: str, transport: str, identity: Event) -> None:
    passed = Passed(HONEST[name], profile(identity=identity), transport=transport)
    assert not passed.strange
    assert passed.unique == 60 * CONSUMERS
    frames, checked = passed.sampling.take()
    assert (frames, checked) == (60 * CONSUMERS,) * 2 if "each" in name else (60, 60)


# -- what it may not


def _swap() -> Lie:
    """The identity of this message with the content of the one before."""
    held: dict[int, Event] = {}

    def lie(event: Event, who: int) -> list[bytes | Event]:
        first = event["tickstorm"]["d"] == BEGIN
        before, held[who] = event if first else held[who], event
        return [before | {"tickstorm": event["tickstorm"]}]

    return lie


def _without(field: str) -> Lie:
    return lambda event, who: [{key: value for key, value in event.items() if key != field}]


def _gone(event: Event, who: int) -> list[bytes | Event]:
    return [{"tickstorm": event["tickstorm"]}]


ALTERED: dict[str, tuple[Lie, int]] = {
    "everything removed but the identity": (_gone, 60),
    "the content of another": (_swap(), 59),
    "a field removed": (_without("source"), 60),
    "a text cut short": (lambda event, who: [event | {"symbol": event["symbol"][:-1]}], 60),
    "a number as text": (lambda event, who: [event | {"source": 5}], 60),
    "without the content's check value": (lambda event, who: [changed(event, c=None)], 60),
    "a null": (lambda event, who: [event | {"event_type": None}], 60),
}


@pytest.mark.parametrize("transport", ["websocket", "socketio"])
@pytest.mark.parametrize("name", ALTERED)
def test_a_changed_content_is_counted_for_each_delivery_and_fails(name: str, transport: str) -> None:
    lie, count = ALTERED[name]
    passed = Passed(lie, profile(families=_symbols()), transport=transport)
    assert passed.of("altered") == [count] * CONSUMERS
    assert {kind for kind, _ in passed.strange} == {"altered"}
    assert passed.unique == 60 * CONSUMERS, "they count as delivered"
    results = passed.judged()
    assert results.delivery.altered == count * CONSUMERS
    assert verdicts(results)["altered"] is Verdict.FAIL
    assert verdicts(results)["latency_p95_ms"] is Verdict.PASS


def _symbols() -> list[Event]:
    """One family of one event, with a different symbol in each route, so that no two contents are alike."""
    return [
        {"name": "patterns", "channel": "tickstock.events.patterns", "event": "pattern_detected",
         "keys": {"symbol": [f"S{n}" for n in range(60)]}},
        {"name": "ranks", "channel": "tickstock.events.market_state", "event": "ranking_change",
         "keys": {"symbol": ["A"]}},
    ]  # fmt: skip


RESTAMPED: dict[str, Lie] = {
    "due and sent moved along": lambda event, who: [_moved(event, 500 * MS, "d", "t")],
    "due alone": lambda event, who: [_moved(event, 500 * MS, "d")],
    "sent alone, by the least": lambda event, who: [_moved(event, 1, "t")],
    "due as sent": lambda event, who: [changed(event, d=event["tickstorm"]["t"])],
    "the target's own clock": lambda event, who: [_moved(event, 1_795_842_000 * S, "d", "t")],
    "no time of any run": lambda event, who: [_moved(event, -(2**62), "d")],
    "no number at all": lambda event, who: [changed(event, t=2**100)],
    "exchanged": lambda event, who: [changed(event, d=event["tickstorm"]["t"], t=event["tickstorm"]["d"])],
    "without its check value": lambda event, who: [changed(event, k=None)],
    "moved, and the check value taken away": lambda event, who: [
        _moved(changed(event, k="", c=""), 500 * MS, "d", "t")
    ],
}


def _moved(event: Event, shift: int, *keys: str) -> Event:
    return changed(event, **{key: event["tickstorm"][key] + shift for key in keys})


@pytest.mark.parametrize("name", RESTAMPED)
def test_moved_times_are_counted_for_each_delivery_and_no_latency_is_believed(name: str) -> None:
    passed = Passed(RESTAMPED[name])
    assert passed.of("restamped") == [60] * CONSUMERS
    assert {kind for kind, _ in passed.strange} == {"restamped"}
    assert passed.unique == 60 * CONSUMERS, "they count as delivered"
    results = passed.judged()
    assert results.delivery.restamped == 60 * CONSUMERS
    found = verdicts(results)
    assert (found["restamped"], found["latency_p95_ms"]) == (Verdict.FAIL, Verdict.UNKNOWN)


def test_a_number_that_was_changed_shows_beside_what_it_breaks() -> None:
    passed = Passed(lambda event, who: [changed(event, q=event["tickstorm"]["q"] + 7)])
    assert passed.of("restamped") == [60] * CONSUMERS


def test_a_number_that_no_message_has_is_in_no_account() -> None:
    passed = Passed(lambda event, who: [event, changed(event, q=2**32), changed(event, q=2**61)])
    assert passed.of("restamped") == [120] * CONSUMERS
    assert passed.unique == 60 * CONSUMERS
    assert passed.judged().verdict is Verdict.FAIL


def test_no_record_is_of_a_time_that_lies_in_no_run() -> None:
    passed = Passed(lambda event, who: [_moved(event, 1_795_842_000 * S, "d", "t")])
    due = [x.due_slice for x in passed.records if isinstance(x, Consumed)]
    assert due
    assert max(abs(at) for at in due) < 1 << 25


def test_identities_exchanged_between_messages_show() -> None:
    """Two messages of different routes come with each other's identity: nothing is lost, and all is wrong."""
    held: dict[int, Event] = {}

    def lie(event: Event, who: int) -> list[bytes | Event]:
        before = held.pop(who, None)
        if before is None:
            held[who] = event
            return []
        return [before | {"tickstorm": event["tickstorm"]}, event | {"tickstorm": before["tickstorm"]}]

    passed = Passed(lie, profile(families=_symbols()))
    assert passed.of("altered") == [60] * CONSUMERS


def test_latencies_of_a_family_that_nobody_restamped_are_believed() -> None:
    limits = [
        {"measure": measure, "at_most": 100.0, "family": family, "phases": ["all"]}
        for measure in ("restamped", "latency_p95_ms", "late")
        for family in ("patterns", "ranks")
    ]
    of_ranks = lambda event, who: [_moved(event, 9, "d") if event["event_type"] == "ranking_change" else event]
    results = Passed(of_ranks, profile(thresholds=limits)).judged()
    found = {check.name.rpartition(" ")[2] + check.name.split("<=")[0]: check for check in results.checks[:6]}
    for measure in ("latency_p95_ms", "late"):
        assert found[f"patterns{measure}"].verdict is Verdict.PASS
        assert found[f"ranks{measure}"].verdict is Verdict.UNKNOWN
        assert "other numbers or times" in found[f"ranks{measure}"].summary
    assert found["patternsrestamped"].measured == 0
    assert found["ranksrestamped"].measured == 30 * CONSUMERS


def test_one_client_that_gets_another_content_shows_in_full() -> None:
    passed = Passed(lambda event, who: [event | ({"symbol": "X"} if who == 3 else {})])
    assert passed.of("altered") == [60 * (who == 3) for who in range(CONSUMERS)]


@pytest.mark.prove_all
def test_of_frames_that_differ_per_client_a_part_is_checked_that_does_not_grow_with_the_clients() -> None:
    passed = Passed(lambda event, who: [event | {"for": who}], consumers=80, count=400)
    frames, checked = passed.sampling.take()
    assert frames == 400 * 80
    assert 400 <= checked < 400 * 10
    lied = Passed(
        lambda event, who: [event | {"for": who} | ({"symbol": "X"} if who == 3 else {})], consumers=80, count=400
    )
    assert 0 < lied.of("altered")[3] < 400
    assert sum(lied.of("altered")) == lied.of("altered")[3]


def test_a_cached_frame_and_one_that_shares_a_read_are_counted_again() -> None:
    gone = lambda event, who: [_frame("websocket", {"tickstorm": event["tickstorm"]}) * (1 + who % 2)]
    passed = Passed(gone)
    assert passed.of("altered") == [60 * (1 + who % 2) for who in range(CONSUMERS)]
    assert passed.unique == 60 * CONSUMERS


def test_a_binary_frame_that_holds_a_message_again_is_a_repeat() -> None:
    passed = Passed(lambda event, who: [_frame("websocket", event), _binary(_frame("websocket", event))])
    assert not passed.strange
    assert passed.unique == 60 * CONSUMERS
    assert passed.accountant.sums().repeated == 60 * CONSUMERS


JUNK: dict[str, tuple[str, bytes, str]] = {
    "a message that breaks off": ("websocket", b'{"event":"ranking_change","data":{"tickstorm":{"run"', "undecodable"),
    "a list that breaks off": ("websocket", b" [1,2", "undecodable"),
    "text": ("websocket", b"hello", "stray"),
    "JSON without identity": ("websocket", b'{"event":"welcome"}', "stray"),
    "an event that breaks off": ("socketio", b'42["ranking_change",{"tick', "undecodable"),
    "an event of another namespace that breaks off": ("socketio", b'42/admin,["t",{"tick', "undecodable"),
    "an event without identity": ("socketio", b'42["welcome",{}]', "stray"),
    "no packet": ("socketio", b"hello", "protocol"),
    "a packet of no type": ("socketio", b"9", "protocol"),
}


@pytest.mark.parametrize("name", JUNK)
def test_junk_behind_each_message_has_its_measure(name: str) -> None:
    transport, text, measure = JUNK[name]
    passed = Passed(lambda event, who: [event, wire(text)], transport=transport)
    assert sum(passed.strange.values()) == 60 * CONSUMERS
    assert passed.unique == 60 * CONSUMERS
    results = passed.judged()
    counts = {name: getattr(results.delivery, name) for name in (*LIMITS, "stray")}
    assert counts == dict.fromkeys(counts, 0) | {measure: 60 * CONSUMERS}
    failed = {name for name, verdict in verdicts(results).items() if verdict is Verdict.FAIL}
    assert failed == {measure} - {"stray"}


def test_binary_junk_is_stray() -> None:
    passed = Passed(lambda event, who: [event, _binary(wire(b'{"a'))])
    assert {kind for kind, _ in passed.strange} == {"no identity"}


# -- what is checked


def _families(content: Any) -> list[Event]:
    return [family | {"content": content} for family in profile().model_dump(include={"families"})["families"]]


def test_what_nobody_checks_is_told_and_judged_by_nobody() -> None:
    limits = [{"measure": "latency_p95_ms", "at_most": 100.0}]
    passed = Passed(
        ALTERED["everything removed but the identity"][0], profile(families=_families("unchecked"), thresholds=limits)
    )
    assert not passed.strange
    assert passed.sampling.take() == (0, 0)
    results = passed.judged()
    assert (results.delivery.altered, results.delivery.contents) == (None, None)
    assert results.delivery.restamped == 0


def test_only_the_fields_that_are_named_are_checked() -> None:
    chosen = profile(families=_families(["symbol"]))
    assert not Passed(_without("source"), chosen).strange
    assert Passed(_without("symbol"), chosen).of("altered") == [60] * CONSUMERS


def test_columns_of_a_replayed_file_are_content_too() -> None:
    draw = random.Random(5)
    rows: list[Event] = [
        {"price": draw.random(), "book": {"bids": [{"p": n, "q": 1.0}], "asks": []}} | ({"note": "x"} if n % 2 else {})
        for n in range(60)
    ]
    assert not Passed(HONEST["in another order, with more and another timestamp"], rows=rows).strange
    assert Passed(_without("price"), rows=rows).of("altered") == [60] * CONSUMERS
    assert Passed(_without("note"), rows=rows).of("altered") == [30] * CONSUMERS

    def deeper(event: Event, who: int) -> list[bytes | Event]:
        event["book"]["bids"][0]["p"] += 1
        return [event]

    def more(event: Event, who: int) -> list[bytes | Event]:
        event["book"]["bids"][0]["added"] = 1
        return [event]

    assert Passed(deeper, rows=rows).of("altered") == [60] * CONSUMERS
    assert not Passed(more, rows=rows).strange


def test_padding_that_was_cut_shows() -> None:
    padded = profile().model_dump(include={"publishers"}, exclude_none=True)["publishers"]
    for group in padded:
        group["payload_bytes"] = 1000
    made = profile(publishers=padded)
    assert not Passed(HONEST["passes on"], made).strange
    cut = lambda event, who: [event | {"padding": event["padding"][:-1]}]
    assert Passed(cut, made).of("altered") == [60] * CONSUMERS


def test_a_history_of_before_says_nothing_of_contents() -> None:
    from loadtests.measure.judge import judge

    made = profile()
    world = World(made).calm()
    old = [(n, f._replace(records=[_older(x) for x in f.records])) for n, f in world.history()]
    results = judge(made, old)
    assert (results.delivery.altered, results.delivery.restamped, results.delivery.contents) == (None,) * 3
    assert results.delivery.undecodable == 0
    check = next(c for c in results.checks if c.name.startswith("altered"))
    assert (check.verdict, check.summary) == (Verdict.PASS, "the integrity of the content was not tested")


def _older(record: Any) -> Any:
    return msgspec.structs.replace(record, frames=-1, checked=-1) if isinstance(record, HarnessSecond) else record
