"""Do consumers and publishers really play each fault against a real gateway, only the chosen ones, and come back?"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
from publish_servers import RUN, Clock, Redis, free_port, until

from loadtests.drive.consume.consumer import Consuming
from loadtests.drive.consume.handshake import Tokens
from loadtests.drive.consume.kernel_socket import gauge
from loadtests.drive.consume.receiver import Receiver
from loadtests.drive.publish.bad_input import OVERSIZE_BYTES, payloads
from loadtests.drive.publish.publishing import Publishing
from loadtests.drive.run_context import Addresses, Lease, RunContext
from loadtests.model.contract import Contract, chosen
from loadtests.model.errors import BadInput
from loadtests.model.ids import NS_PER_S
from loadtests.model.injectwire import UserFaultOrder
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.tables import Identity, Run, Sampling, Target, Threshold
from loadtests.model.profile.workload import Consumers, Family, Publishers, Reconnect, Shape
from loadtests.model.records import Record, Subscription

pytestmark = [pytest.mark.e2e, pytest.mark.group("ATTACKS")]
ROOT = Path(__file__).parents[2]
SECRET = "of this test"
CHANNEL = "tickstock.events.patterns"
PLAIN, SIO = 6, 2
BIG = json.dumps(
    {"event_type": "pattern_detected", "pattern": "Doji", "symbol": "A", "confidence": 1, "pad": "x" * 50_000}
)


class Gateway:
    """A reference gateway of its own, without PostgreSQL."""

    def __init__(self, redis: Redis, **environ: str) -> None:
        variables = {"REDIS_PORT": str(redis.port), "PG_PORT": str(free_port()), "GATEWAY_PORT": "0", **environ}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "reference_target.gateway"],
            env={**os.environ, **variables}, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])
        until(lambda: self.get("health")["redis"] == "subscribed", "the gateway hears Redis")

    def get(self, what: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{what}", timeout=5) as answer:
            return json.load(answer)

    @property
    def clients(self) -> int:
        return sum(self.get("stats")["clients"].values())

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    server = Redis()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def gateway(redis: Redis) -> Iterator[Gateway]:
    made = Gateway(redis)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def guarded(redis: Redis) -> Iterator[Gateway]:
    made = Gateway(redis, GATEWAY_TOKEN_SECRET=SECRET)
    yield made
    made.stop()


def profile(policy: Reconnect) -> Profile:
    return Profile.model_construct(
        name="test",
        question="do they play?",
        seed=3,
        target=Target(),
        run=Run(duration_s=60, warm_up_s=0.0),
        identity=Identity(),
        families=[Family(name="patterns", channel=CHANNEL, event="pattern_detected", symbols=2)],
        publishers=[Publishers(name="p", count=1, families=["patterns"], shape=Shape(kind="constant", rate_per_s=50))],
        consumers=[
            Consumers(name="plain", count=PLAIN, reconnect=policy),
            Consumers(name="sio", count=SIO, transport="socketio", reconnect=policy),
        ],
        sampling=Sampling(),
        readers=[],
        faults=[],
        thresholds=[Threshold(measure="lost_defect", at_most=0)],
    )


class Rig:
    """Consumers of a process that somebody gives orders to."""

    def __init__(self, redis: Redis, gateway: Gateway, policy: Reconnect, source: str | None, secret: str) -> None:
        self.redis, self.gateway, self.records = redis, gateway, list[Record]()
        what = profile(policy)
        self.context = RunContext(
            run=RUN,
            profile=what,
            contract=Contract(what),
            clock=Clock(),
            emit=self.records.append,
            slots=None,  # type: ignore[arg-type]
            addresses=Addresses(redis=redis.address, gateway=("127.0.0.1", gateway.port), postgres=None),
            trouble=lambda _from, _to, sentence: pytest.fail(sentence),
            tokens=Tokens(secret) if secret else None,
        )
        self.receiver = self.context.receiver = Receiver(self.context, source=source)
        self.context.publishing = Publishing(self.context)
        self.greenlets = [gevent.spawn(self._consume, slot) for slot in range(PLAIN + SIO)]
        until(lambda: self.connected == PLAIN + SIO, "all are subscribed")
        self.clients = gateway.clients

    def _consume(self, slot: int) -> None:
        consuming = Consuming(self.context, Lease(kind="consumer", slot=slot, epoch=0), lambda *_: None)
        try:
            consuming.run()
        finally:
            consuming.stop()

    @property
    def connected(self) -> int:
        return self.receiver.health().connected

    def order(
        self, kind: str, *, on: bool = True, for_s: float = 30.0, where: str = "consumers", **asked: Any
    ) -> set[int]:
        order = UserFaultOrder(
            fault="f", kind=kind, where=where, on=on, asked=asked,
            until_ns=self.context.clock.now_ns() + int(for_s * NS_PER_S),
        )  # fmt: skip
        slots = chosen(self.context.contract, fault="f", kind=kind, where=where, asked=asked, consumers=PLAIN + SIO)
        self.context.user_faults.obey(order, slots, self.context.clock.now_ns())
        return set(slots)

    def state(self) -> dict[str, int]:
        return self.context.user_faults.states()["f"]

    def count(self, what: str) -> int:
        return self.state().get(what, 0)

    def publish(self, text: str = BIG, times: int = 1) -> None:
        for _ in range(times):
            assert self.redis.ask("PUBLISH", CHANNEL, text) >= 1

    def have_read(self) -> set[int]:
        """Who took all three big messages."""
        gauges = {c.account.consumer: gauge(c.sock) for c in self.receiver._connections}
        return {consumer for consumer, found in gauges.items() if found is not None and found.read > 3 * 50_000}

    def left(self, why: str = "fault") -> set[int]:
        return {r.consumer for r in self.records if isinstance(r, Subscription) and (r.step, r.why) == ("left", why)}

    def close(self) -> None:
        self.context.user_faults.end_all()
        self.context.plan_over.set()
        self.context.over.set()
        gevent.joinall(self.greenlets, timeout=10)
        self.context.publishing.close()
        self.receiver.close()


QUICK = Reconnect(first_ms=50, factor=1.0, max_ms=50, jitter=0.0)
LAZY = Reconnect(first_ms=20_000, factor=1.0, max_ms=20_000, jitter=0.0)


@contextmanager
def rigged(
    redis: Redis, gateway: Gateway, policy: Reconnect = QUICK, source: str | None = None, secret: str = ""
) -> Iterator[Rig]:
    rig = Rig(redis, gateway, policy, source, secret)
    try:
        yield rig
    finally:
        rig.close()
    assert all(greenlet.ready() for greenlet in rig.greenlets)


@pytest.mark.parametrize("source", ["epoll", "greenlet"])
def test_a_share_stalls_while_the_others_read_and_then_reads_on(redis: Redis, gateway: Gateway, source: str) -> None:
    with rigged(redis, gateway, source=None if source == "epoll" else source) as rig:
        hit = rig.order("stalled-consumers", share=0.5, where="plain")
        assert len(hit) == 3
        until(lambda: rig.count("in_force") == 3, "they stall")
        rig.publish(times=3)
        until(lambda: rig.count("with_unread") == 3, "bytes wait unread with each")
        until(lambda: rig.have_read() == set(range(PLAIN + SIO)) - hit, "the others read all")
        assert rig.count("read_bytes") == 0
        assert rig.count("unread_bytes") >= 3 * 50_000
        rig.order("stalled-consumers", on=False)
        until(lambda: rig.count("in_force") == 0, "they read on")
        rig.publish()
        assert rig.connected == PLAIN + SIO
        assert rig.left() == set()


def test_slow_ones_read_as_slowly_as_asked_and_then_as_before(redis: Redis, gateway: Gateway) -> None:
    with rigged(redis, gateway) as rig:
        rig.order("slow-consumers", where="plain", read_bytes_per_s=20_000)
        until(lambda: rig.count("in_force") == PLAIN, "they are slow")
        rig.publish(times=4)
        until(lambda: rig.count("for_ms") > 1000 * PLAIN, "a second passed")
        assert 0 < rig.count("rates") / PLAIN <= 1.5 * 20_000
        assert rig.count("unread_bytes") > 0
        rig.order("slow-consumers", on=False)
        until(lambda: rig.count("in_force") == 0, "they are quick again")
        assert {c.read_bytes_per_s for c in rig.receiver._connections} == {None}


def test_a_fault_ends_by_itself_where_nobody_lifts_it(redis: Redis, gateway: Gateway) -> None:
    with rigged(redis, gateway) as rig:
        rig.order("stalled-consumers", for_s=0.5)
        until(lambda: rig.count("in_force") == PLAIN + SIO, "they stall")
        until(lambda: rig.count("in_force") == 0, "they read again", 5)


def test_half_open_ones_drop_the_socket_at_the_end_and_come_back(redis: Redis, gateway: Gateway) -> None:
    with rigged(redis, gateway) as rig:
        hit = rig.order("half-open-consumers", share=0.5)
        until(lambda: rig.count("in_force") == len(hit) == 4, "they fall silent")
        assert rig.left() == set()
        assert gateway.clients == rig.clients
        rig.order("half-open-consumers", on=False)
        until(lambda: rig.left() == hit and rig.connected == PLAIN + SIO, "exactly they have come back")


def test_vanishing_ones_vanish_again_until_it_ends(redis: Redis, gateway: Gateway) -> None:
    with rigged(redis, gateway) as rig:
        hit = rig.order("vanishing-consumers", share=0.5)
        until(lambda: rig.count("closed_once") == len(hit), "they vanish")
        until(lambda: rig.count("closed") >= 2 * len(hit), "and again")
        rig.order("vanishing-consumers", on=False)
        until(lambda: rig.connected == PLAIN + SIO, "they are back")
        assert rig.left() == hit


def test_offline_ones_stay_away_until_the_end(redis: Redis, gateway: Gateway) -> None:
    with rigged(redis, gateway) as rig:
        hit = rig.order("offline-consumers", share=0.5)
        until(lambda: rig.count("in_force") == len(hit) == 4, "they are away")
        until(lambda: gateway.clients == rig.clients - 4, "the gateway has less")
        gevent.sleep(0)
        assert rig.connected == PLAIN + SIO - 4
        rig.order("offline-consumers", on=False)
        until(lambda: rig.connected == PLAIN + SIO, "they are back")
        assert rig.left() == hit


def test_in_a_storm_nobody_waits_by_the_policy(redis: Redis, gateway: Gateway) -> None:
    with rigged(redis, gateway, LAZY) as rig:
        connects = sum(gateway.get("stats")["connects"].values())
        rig.order("reconnect-storm")
        until(lambda: rig.count("back_once") == PLAIN + SIO, "all are back, though the policy waits 20 s", 10)
        assert rig.count("closed_once") == PLAIN + SIO
        assert sum(gateway.get("stats")["connects"].values()) >= connects + PLAIN + SIO


@pytest.mark.parametrize("how", ["missing", "wrong", "expired"])
def test_bad_tokens_are_refused_on_both_transports_and_good_ones_let_in_again(
    redis: Redis, guarded: Gateway, how: str
) -> None:
    with rigged(redis, guarded, secret=SECRET) as rig:
        before = guarded.get("stats")["refused"].get(how, 0)
        rig.order("bad-token", token=how)
        until(lambda: rig.count("refused_once") == PLAIN + SIO, "all are refused")
        assert rig.count("in_force") == PLAIN + SIO
        assert rig.count("accepted") == 0
        assert guarded.get("stats")["refused"][how] >= before + PLAIN + SIO
        rig.order("bad-token", on=False)
        until(lambda: rig.connected == PLAIN + SIO, "all are back")


def test_a_gateway_that_lets_bad_tokens_in_is_told(redis: Redis, gateway: Gateway) -> None:
    with rigged(redis, gateway, secret=SECRET) as rig:
        rig.order("bad-token", token="expired")
        until(lambda: rig.count("accepted_once") == PLAIN + SIO, "all were let in")
        assert rig.count("refused") == 0


@pytest.mark.parametrize(
    ("form", "kind"), [("malformed", "not_"), ("oversize", "oversize"), ("unknown", "unknown_event")]
)
def test_bad_messages_go_beside_the_plan_and_are_never_counted(
    redis: Redis, gateway: Gateway, form: str, kind: str
) -> None:
    with rigged(redis, gateway) as rig:
        context = rig.context
        publisher = gevent.spawn(context.publishing.serve, Lease(kind="publisher", slot=0, epoch=0))
        context.t0.set(context.clock.now_ns())
        bad = sum(gateway.get("stats")["bad"].values())
        rig.order("bad-input", where="publishers", form=form, share=0.2)
        until(lambda: rig.count("acknowledged") >= 4, "Redis took some", 20)
        assert rig.count("in_force") == 1
        rig.order("bad-input", on=False)
        until(lambda: rig.count("in_force") == 0, "no more are sent")
        sent, acknowledged = rig.count("sent"), rig.count("acknowledged")
        assert acknowledged <= sent <= acknowledged + 20
        until(lambda: sum(gateway.get("stats")["bad"].values()) - bad >= acknowledged, "the gateway rejected all")
        assert any(name.startswith(kind) for name in gateway.get("stats")["bad"])
        health = context.publishing.health()
        assert health.sent + health.not_offered == health.planned
        assert sent < 0.5 * health.planned + 10
        context.plan_over.set()
        context.over.set()
        publisher.join(10)


def test_who_is_chosen_is_the_same_everywhere_and_never_nobody() -> None:
    contract = Contract(profile(QUICK))

    def draw(fault: str, share: float, where: str = "consumers") -> list[int]:
        asked: dict[str, int | float | str] = {"share": share}
        return chosen(contract, fault=fault, kind="stalled-consumers", where=where, asked=asked, consumers=8)

    assert draw("a", 0.5) == draw("a", 0.5)
    assert len({tuple(draw(f"f#{n}", 0.5)) for n in range(20)}) > 5
    assert len(draw("a", 0.01)) == 1
    assert draw("a", 1) == list(range(8))
    assert draw("a", 1, "sio") == [6, 7]
    assert draw("a", 1, "nobody") == []


def test_bad_messages_are_what_they_are_called() -> None:
    def some(form: str) -> list[bytes]:
        bad = payloads(form, ["pattern_detected"], "seed")
        return [next(bad) for _ in range(40)]

    for text in some("malformed"):
        with pytest.raises((json.JSONDecodeError, UnicodeDecodeError)):
            json.loads(text)
    assert {len(text) for text in some("oversize")} == {OVERSIZE_BYTES + 11}
    assert all(json.loads(text)["event_type"].startswith("unheard_of") for text in some("unknown"))
    assert some("malformed") == some("malformed")


def test_without_the_secret_no_token_can_be_made() -> None:
    with pytest.raises(BadInput, match="TICKSTORM_TOKEN_SECRET"):
        Tokens.from_environment({})
