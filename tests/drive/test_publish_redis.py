"""Does every publish end in one outcome, and is that outcome true?  On a real Redis: killed, paused, refusing."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from types import SimpleNamespace

import gevent
import msgspec
import pytest
from gevent import monkey
from locust.env import Environment
from publish_servers import RUN, Books, Redis, listener, make_context, make_profile, until

from loadtests.drive.consume.sources import EpollSource
from loadtests.drive.publish import publishing, slot
from loadtests.drive.publish.publishing import PROBE_SLOT, EventPublisher, Publishing
from loadtests.drive.publish.replays import read_replays
from loadtests.drive.run_context import Lease, NoSlot
from loadtests.drive.timer import Timer
from loadtests.model.contract import Contract
from loadtests.model.errors import BadInput
from loadtests.model.ids import NS_PER_S, unpack_stream
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.tables import Identity
from loadtests.model.profile.workload import Shape
from loadtests.plan.workload import Workload
from loadtests.tally.histogram import Histogram, middle_ms
from loadtests.tally.identity import decoder, probe_run

PLAIN = Identity()
FAST = Shape(kind="constant", rate_per_s=2000.0)


@pytest.fixture
def redis():
    server = Redis()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def patient(monkeypatch):
    """A machine that is short of time makes nothing "not offered": without it the plan is kept late, but whole."""
    monkeypatch.setattr(slot, "OWN_LAG_LIMIT_NS", 60 * NS_PER_S)


class Rig:
    """Publishers of all slots of a profile, from T0 until their plan is done."""

    def __init__(self, profile: Profile, redis: Redis, **options) -> None:
        self.profile = profile
        self.context, self.records, self.troubles = make_context(profile, redis.address)
        self.publishing = self.context.publishing = Publishing(self.context, **options)
        self.users = [
            gevent.spawn(self.publishing.serve, Lease(kind="publisher", slot=n, epoch=0))
            for n in range(self.context.contract.publisher_count)
        ]

    def go(self) -> None:
        until(lambda: self.publishing.health().connected == len(self.users), "all publishers are connected")
        self.context.t0.set(self.context.clock.now_ns() + NS_PER_S // 20)

    def finish(self, between: int = 1) -> Books:
        work = Workload(self.profile, self.context.contract)
        until(lambda: self.context.clock.now_ns() > self.context.t0.get() + work.span_ns, "the plan's time is over", 30)
        planned = self.planned()
        health = self.publishing.health
        # The moment of leaving a slot is stated once, so a message may lie between two holders.
        until(lambda: not health().connected and health().planned >= planned - between, "every plan is done", 20)
        return self.end()

    def end(self) -> Books:
        self.context.plan_over.set()
        self.context.over.set()
        gevent.joinall(self.users, timeout=5)
        assert all(user.dead for user in self.users)
        self.publishing.flush(self.context.clock.now_ns(), final=True)
        assert not self.troubles
        return Books(self.records)

    def planned(self) -> int:
        work = Workload(self.profile, self.context.contract)
        slots = range(self.context.contract.publisher_count)
        return sum(len(work.publisher(slot).planned(0, work.span_ns)) for slot in slots)


def identities(heard: list[bytes], identity: Identity = PLAIN) -> list[tuple[int, int]]:
    read = decoder(identity.form, identity.path, ("data",))
    found = [read(b'{"data":' + payload + b"}") for payload in heard]
    assert all(who is not None and who.run == RUN and who.sent_ns >= who.due_ns for who in found)
    return [(who.stream, who.seq) for who in found]


def times_ms(books: Books, which: str) -> Histogram:
    total = Histogram()
    for record in books.times:
        total.merge(getattr(record, which))
    return total


@pytest.mark.parametrize("identity", [Identity(), Identity(path="source", form="text")])
def test_in_calm_every_planned_message_arrives_once_with_its_identity(redis, patient, identity) -> None:
    shape = Shape(kind="burst", base_per_s=200.0, peak_per_s=8000.0, length_s=0.05, period_s=0.5)
    with listener(redis) as heard:
        rig = Rig(make_profile(shape, count=3, identity=identity, duration_s=1.0, late_s=60.0), redis)
        rig.go()
        books = rig.finish()
        until(lambda: len(heard) >= books.sent, "all are heard")
    assert books.sent == rig.planned() > 2000
    assert books.not_offered == 0
    assert len(books.of("OK")) == books.sent
    assert Counter(identities(heard, identity)) == Counter(books.outcome.keys())
    assert {t.receivers_min for t in books.times if t.sent} == {1}
    per_stream = Counter(stream for stream, _ in books.outcome)
    assert {unpack_stream(s).slot for s in per_stream} == {0, 1, 2}
    event = msgspec.json.decode(heard[0])
    assert event["event_type"] in ("pattern_detected", "ranking_change")
    assert event["timestamp"].endswith("Z")
    for stream in per_stream:
        seqs = [seq for s, seq in identities(heard, identity) if s == stream]
        assert seqs == list(range(len(seqs)))


def test_a_killed_connection_leaves_only_its_open_commands_unknown(redis) -> None:
    with listener(redis) as heard:
        rig = Rig(make_profile(Shape(kind="constant", rate_per_s=10_000.0), duration_s=1.2, outstanding=300), redis)
        rig.go()
        for wanted in (2000, 6000):
            until(lambda wanted=wanted: rig.publishing.health().sent > wanted, "publishing goes on")
            os.kill(redis.process.pid, signal.SIGSTOP)
            until(lambda: rig.publishing.health().outstanding == 300, "commands without an answer pile up")
            os.kill(redis.process.pid, signal.SIGCONT)
            redis.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        books = rig.finish()
        until(lambda: len(heard) >= len(books.of("OK")), "all are heard")
    delivered = Counter(identities(heard))
    assert max(delivered.values()) == 1
    assert books.of("OK") <= delivered.keys()
    assert not books.of("FAILED") & delivered.keys()
    assert len(books.of("UNKNOWN")) <= 600
    epochs = {unpack_stream(stream).epoch for stream, _ in books.outcome}
    assert epochs == {0, 1, 2}
    assert books.sent + books.not_offered == rig.planned()


def test_a_connection_lost_with_answers_open_makes_them_unknown_and_no_more(redis, patient) -> None:
    rig = Rig(make_profile(FAST, duration_s=1.0, outstanding=50, late_s=60.0), redis)
    rig.go()
    until(lambda: rig.publishing.health().sent > 300, "publishing goes on")
    os.kill(redis.process.pid, signal.SIGSTOP)
    until(lambda: rig.publishing.health().outstanding == 50, "commands without an answer pile up")
    redis.process.kill()
    until(lambda: rig.publishing.health().outstanding == 0, "the loss is seen")
    assert rig.publishing.health().unknown == 50
    redis.stop()
    redis.start()
    books = rig.finish()
    assert len(books.of("UNKNOWN")) == 50
    assert books.sent + books.not_offered == rig.planned()
    assert books.not_offered == 0


def test_no_answer_in_time_is_unknown(redis, patient) -> None:
    rig = Rig(make_profile(FAST, duration_s=1.0, outstanding=20, late_s=60.0), redis, reply_timeout_s=0.3)
    rig.go()
    until(lambda: rig.publishing.health().sent > 100, "publishing goes on")
    os.kill(redis.process.pid, signal.SIGSTOP)
    until(lambda: rig.publishing.health().unknown == 20, "the time is up")
    os.kill(redis.process.pid, signal.SIGCONT)
    until(lambda: rig.publishing.health().sent == rig.planned(), "what was due is sent late")
    books = rig.finish()
    assert len(books.of("UNKNOWN")) == 20
    assert not books.of("FAILED")


def test_a_pause_is_blocked_time_and_no_lag_of_ours(redis, patient) -> None:
    rig = Rig(make_profile(FAST, duration_s=1.0, outstanding=10, late_s=60.0), redis)
    rig.go()
    until(lambda: rig.publishing.health().sent > 200, "publishing goes on")
    os.kill(redis.process.pid, signal.SIGSTOP)
    until(lambda: rig.publishing.health().outstanding == 10, "nothing more may be sent")
    gevent.sleep(0.5)  # the length of the pause is the stimulus
    os.kill(redis.process.pid, signal.SIGCONT)
    books = rig.finish()
    assert len(books.of("OK")) == books.sent == rig.planned()
    blocked, own = times_ms(books, "blocked"), times_ms(books, "own_lag")
    late = sum(count for bucket, count in blocked.counts.items() if bucket > 0)
    assert late > 500
    assert blocked.max_ms() > 400
    assert sum(own.counts.values()) == books.sent
    own_total, blocked_total = (sum(middle_ms(b) * c for b, c in h.counts.items()) for h in (own, blocked))
    assert own_total < 0.2 * blocked_total


def test_what_is_blocked_beyond_the_delivery_limit_is_given_up_surely_unsent(redis, patient) -> None:
    with listener(redis) as heard:
        rig = Rig(make_profile(FAST, duration_s=1.2, outstanding=10, late_s=0.2), redis)
        rig.go()
        until(lambda: rig.publishing.health().sent > 200, "publishing goes on")
        os.kill(redis.process.pid, signal.SIGSTOP)
        until(lambda: rig.publishing.health().failed > 300, "messages are given up")
        os.kill(redis.process.pid, signal.SIGCONT)
        books = rig.finish()
        until(lambda: len(heard) >= len(books.of("OK")), "all are heard")
    assert set(identities(heard)) == books.of("OK")
    assert len(books.of("FAILED")) > 300
    assert books.sent == rig.planned()


def test_a_refusal_is_failed(redis) -> None:
    redis.ask("CONFIG", "SET", "acl-pubsub-default", "resetchannels")
    with listener(redis) as heard:
        rig = Rig(make_profile(FAST, duration_s=1.0), redis)
        rig.go()
        until(lambda: rig.publishing.health().sent > 200, "publishing goes on")
        redis.ask("ACL", "SETUSER", "default", "-publish")
        until(lambda: rig.publishing.health().failed > 200, "refusals come")
        redis.ask("ACL", "SETUSER", "default", "+publish")
        books = rig.finish()
        until(lambda: len(heard) >= len(books.of("OK")), "all are heard")
    assert set(identities(heard)) == books.of("OK")
    assert books.of("FAILED")
    assert not books.of("UNKNOWN")
    errors = rig.publishing.displays["publish"].take()["tickstock.events.patterns"].errors
    assert any("NOPERM" in text for text in errors)


def test_redis_absent_at_first_delays_no_plan(redis, patient) -> None:
    redis.stop()
    rig = Rig(make_profile(FAST, duration_s=1.0, late_s=30.0), redis)
    rig.context.t0.set(rig.context.clock.now_ns() + 300_000_000)  # its users have begun by then
    until(lambda: "connect p0" in rig.publishing.displays["publish"].take(), "it tries")
    redis.start()
    books = rig.finish()
    assert len(books.of("OK")) == rig.planned() == books.sent
    assert {unpack_stream(s).epoch for s, _ in books.outcome} == {0}


def test_a_stalled_process_is_own_lag_and_beyond_a_second_not_offered(redis) -> None:
    rig = Rig(make_profile(FAST, duration_s=2.0), redis)
    rig.go()
    until(lambda: rig.publishing.health().sent > 200, "publishing goes on")
    monkey.get_original("time", "sleep")(1.4)  # stalls the hub itself: that is the stimulus
    books = rig.finish()
    assert books.sent + books.not_offered == rig.planned()
    assert 300 < books.not_offered < 2000
    assert times_ms(books, "own_lag").max_ms() > 800
    assert times_ms(books, "blocked").max_ms() < 600


def test_a_slot_taken_over_resumes_now_in_a_new_epoch_and_counts_what_was_missed(redis, patient) -> None:
    rig = Rig(make_profile(FAST, duration_s=1.2, late_s=60.0), redis)
    rig.go()
    until(lambda: rig.publishing.health().sent > 200, "publishing goes on")
    lease = Lease(kind="publisher", slot=0, epoch=0)
    leaving = rig.context.clock.now_ns()
    rig.users[0].kill()
    left = rig.context.clock.now_ns()
    between = 1 + 2000 * (left - leaving) // NS_PER_S  # it left at a moment that only it knows
    assert rig.publishing.health().publishing == 0
    epoch = rig.publishing.next_epoch(lease)
    assert epoch == 1
    until(lambda: rig.context.clock.now_ns() > left + NS_PER_S // 4, "the slot is vacant for a while")
    again = Lease(kind="publisher", slot=0, epoch=epoch, vacant_from_ns=left)
    missed = [rig.context.clock.now_ns() - left]
    rig.users[0] = gevent.spawn(rig.publishing.serve, again)
    until(lambda: rig.publishing.health().publishing, "the slot has a new holder")
    missed.append(rig.context.clock.now_ns() - left)
    books = rig.finish(between)
    assert {unpack_stream(s).epoch for s, _ in books.outcome} == {0, 1}
    least, most = (2000 * ns // NS_PER_S for ns in missed)
    assert 400 < least - 2 <= books.not_offered <= most + 2
    assert abs(books.sent + books.not_offered - rig.planned()) <= between
    assert not books.of("UNKNOWN")


def test_the_end_of_the_plan_stops_it_and_open_commands_are_unknown(redis) -> None:
    rig = Rig(make_profile(FAST, duration_s=60.0, outstanding=30), redis)
    rig.go()
    until(lambda: rig.publishing.health().sent > 200, "publishing goes on")
    os.kill(redis.process.pid, signal.SIGSTOP)
    until(lambda: rig.publishing.health().outstanding == 30, "commands without an answer pile up")
    rig.context.plan_over.set()
    assert rig.publishing.health().outstanding == 30
    rig.publishing.close()
    os.kill(redis.process.pid, signal.SIGCONT)
    books = rig.end()
    assert len(books.of("UNKNOWN")) == 30


def test_a_probe_is_heard_and_never_accounted(redis) -> None:
    with listener(redis) as heard:
        rig = Rig(make_profile(FAST), redis)
        assert rig.publishing.probe(1, 4711) == 1
        until(lambda: heard, "the probe is heard")
        books = rig.end()
    (who,) = [decoder("object", "tickstorm", ("data",))(b'{"data":' + heard[0] + b"}")]
    assert (who.run, who.seq, unpack_stream(who.stream).slot) == (probe_run(RUN), 4711, PROBE_SLOT)
    assert msgspec.json.decode(heard[0])["event_type"] == "ranking_change"
    assert books.sent == 0


def test_a_probe_without_redis_says_so(redis) -> None:
    rig = Rig(make_profile(FAST), redis)
    redis.stop()
    with pytest.raises(OSError, match=r"[Rr]efused|closed"):
        rig.publishing.probe(0, 1, timeout_s=0.5)
    rig.end()


def test_many_publishers_share_one_timer(redis, patient) -> None:
    rig = Rig(make_profile(Shape(kind="poisson", rate_per_s=5.0), count=150, duration_s=1.0, late_s=60.0), redis)
    rig.go()
    books = rig.finish()
    assert books.sent == rig.planned() == len(books.of("OK"))
    assert {user.value for user in rig.users} <= {0, 1}


class Behind:
    """A slot for which more is due than any turn sends."""

    done = False
    wake_ns: int | None = 0

    def pump(self, until_ns: int, budget: int) -> int:
        return budget

    def next_wake_ns(self, now_ns: int) -> int:
        return now_ns


@pytest.mark.parametrize("crowded", [True, False])
def test_a_burst_goes_before_consumers_but_not_for_ever(redis, monkeypatch, crowded) -> None:
    context, _, _ = make_context(make_profile(FAST), redis.address)
    made = Publishing(context, crowded=lambda: crowded)
    made._schedule(Behind(), 0)  # type: ignore[arg-type]
    made._turn_all()
    assert context.publish_first
    monkeypatch.setattr(publishing, "FIRST_NS", 0)
    made._tick()
    assert not context.publish_first
    monkeypatch.undo()
    made._turn_all()
    made.close()
    assert not context.publish_first


def test_while_publishers_go_first_what_consumers_got_waits_in_the_kernel() -> None:
    near, far = monkey.get_original("socket", "socketpair")()
    near.setblocking(False)
    got: list[bytes] = []
    receiver = SimpleNamespace(
        waits=True, accountant=SimpleNamespace(slice_end=0), clock_offset_ns=lambda: 0,
        received=lambda connection, chunk, now: got.append(chunk),
    )  # fmt: skip
    source = EpollSource(receiver, gaps=SimpleNamespace(draw=lambda: 1000), kernel_stamps=False)  # type: ignore[arg-type]
    account = SimpleNamespace(at=SimpleNamespace(next=None))
    source.add(SimpleNamespace(sock=near, recv=near.recv, account=account, read_bytes_per_s=None))  # type: ignore[arg-type]
    try:
        far.send(b"early")
        gevent.sleep(0.02)
        assert not got
        receiver.waits = False
        gevent.sleep(0.02)
        assert got == [b"early"]
    finally:
        source.close()
        near.close()
        far.close()


def test_the_user_class_leases_publishes_parks_and_gives_back(redis, patient) -> None:
    rig = Rig(make_profile(Shape(kind="constant", rate_per_s=100.0, at_most=20), count=2, duration_s=0.5), redis)
    rig.publishing.close()

    class Desk:
        def __init__(self) -> None:
            self.free, self.back = [0, 1], []

        def take(self, kind: str) -> Lease:
            if not self.free:
                raise NoSlot
            return Lease(kind=kind, slot=self.free.pop(0), epoch=0)

        def give_back(self, lease: Lease, next_epoch: int) -> None:
            self.back.append((lease.slot, next_epoch))

    context, records, _ = make_context(rig.profile, redis.address)
    context.slots = desk = Desk()
    context.publishing = Publishing(context)
    environment = Environment(user_classes=[EventPublisher])
    environment.tickstorm = type("RunContextProvider", (), {"context_of_run": lambda _self: context})()
    runner = environment.create_local_runner()
    runner.start(3, spawn_rate=100)
    until(lambda: context.publishing.health().connected == 2, "both slots are leased")
    context.t0.set(context.clock.now_ns())
    until(
        lambda: context.publishing.health().sent == 40 and not context.publishing.health().connected, "the plan is done"
    )
    assert context.publishing.health().publishing == 2
    assert desk.back == []
    context.publishing.merge_stats(environment)
    assert environment.stats.total.num_requests == 40
    context.plan_over.set()
    context.over.set()
    until(lambda: sorted(desk.back) == [(0, 1), (1, 1)], "the slots are given back")
    assert runner.user_count == 3
    context.publishing.flush(0, final=True)
    assert len(Books(records).of("OK")) == 40
    runner.quit()


@pytest.mark.parametrize("precise", [True, False])
def test_the_timer_fires_once_at_the_moment_that_was_armed_last(precise) -> None:
    fired = []
    timer = Timer(lambda: fired.append(time.monotonic_ns()), precise=precise)
    assert timer.precise == (precise and sys.platform == "linux")
    start = time.monotonic_ns()
    timer.arm(start + 10**12)
    timer.arm(start + 30 * 10**6)
    until(lambda: fired, "it fires")
    assert fired[0] >= start + 29 * 10**6
    timer.arm(start)
    until(lambda: len(fired) == 2, "a moment that has passed is now")
    timer.arm(time.monotonic_ns() + 5 * 10**6)
    timer.close()
    gevent.sleep(0.02)  # nothing may come: only time can show it
    assert len(fired) == 2


def test_a_replay_is_read_published_with_its_fields_and_refused_when_absent(redis, tmp_path) -> None:
    (tmp_path / "day.csv").write_text("time,symbol,pattern,confidence\n0,MSFT,Doji,0.5\n0.2,TSLA,Hammer,0.25\n")
    profile = make_profile(Shape(kind="replay", file="day.csv", speed=2.0), duration_s=0.4)
    with pytest.raises(BadInput, match=r"publishers\[0\].shape.file: day.csv: No such file"):
        Publishing(make_context(profile, redis.address)[0])
    replays = read_replays(Contract(profile), tmp_path)
    with listener(redis) as heard:
        rig = Rig(profile, redis, replays=replays)
        rig.go()
        until(lambda: len(heard) == 2, "both rows are heard")
        books = rig.end()
    assert len(books.of("OK")) == 2
    rows = [msgspec.json.decode(payload) for payload in heard]
    assert [(row["symbol"], row["pattern"], row["confidence"]) for row in rows] == [
        ("MSFT", "Doji", 0.5),
        ("TSLA", "Hammer", 0.25),
    ]
