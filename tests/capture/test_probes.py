"""Does the sampler read real servers, survive their absence and its own death, and end when it must?"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from target_servers import Gateway, Postgres, Redis, free_port, until

from loadtests.capture.probes import Probes
from loadtests.capture.readings import PostgresReader, ProcessReader, RedisReader, StatsReader, time_health
from loadtests.capture.sampler import Sampler, SamplerConfig
from loadtests.model.records import NO_ANSWER, Note, PathProbe, Record, Samples

ROOT = Path(__file__).parents[2]


def address(port: int) -> str:
    return f"127.0.0.1:{port}"


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that accepts and never answers, as a paused process does."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(16)
        yield address(listening.getsockname()[1])


@contextmanager
def sampling(config: SamplerConfig, pids: Callable[[], dict[str, int]]) -> Iterator[tuple[Sampler, list[Record]]]:
    records: list[Record] = []
    sampler = Sampler(config, pids=pids, on_record=records.append)
    sampler.start()
    try:
        yield sampler, records
    finally:
        sampler.close()


def samples(records: list[Record], source: str, metric: str) -> list[float]:
    return [
        value
        for record in records
        if isinstance(record, Samples) and record.source == source
        for name, value in zip(record.metric, record.value, strict=True)
        if name == metric
    ]


def test_every_source_of_a_running_target_is_read(redis_server: Redis, postgres: Postgres, gateway: Gateway) -> None:
    assert redis_server.process is not None
    assert postgres.process is not None
    pids = {"redis": redis_server.process.pid, "postgres": postgres.process.pid}
    before = time.monotonic_ns()
    config = SamplerConfig(
        origin_ns=before,
        every_s=0.1,
        redis=address(redis_server.port),
        postgres=address(postgres.port),
        database="tickstock_test",
        user="app_readonly",
        gateway_http=address(gateway.port),
    )
    with sampling(config, lambda: pids) as (_, records):
        for source, metric in (
            ("redis", "rss_bytes"),
            ("redis", "uss_bytes"),
            ("redis", "cpu_percent"),
            ("redis", "used_memory"),
            ("redis", "connected_clients"),
            ("redis", "subscriber_buffers_bytes"),
            ("redis", "total_net_output_bytes"),
            ("postgres", "rss_bytes"),
            ("postgres", "connections"),
            ("postgres", "dead_rows"),
            ("gateway", "stats.received"),
            ("gateway", "stats.clients.plain"),
        ):
            until(lambda s=source, m=metric: samples(records, s, m), f"{source} {metric}", 20)
        until(lambda: [r for r in records if isinstance(r, PathProbe) and r.ok], "health", 20)
    after = time.monotonic_ns() - before
    assert all(0 <= r.at_ns <= after for r in records if isinstance(r, Samples | PathProbe))
    assert min(samples(records, "redis", "used_memory")) > 100_000
    assert max(samples(records, "postgres", "processes")) > 1  # its children are part of it
    health = [r for r in records if isinstance(r, PathProbe)]
    assert all(probe.what == "health" and probe.took_ns > 0 for probe in health if probe.ok)


def test_a_restarted_service_is_followed_by_its_new_pid() -> None:
    sleeper = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with (
        subprocess.Popen(sleeper, stdin=subprocess.PIPE) as first,
        subprocess.Popen(sleeper, stdin=subprocess.PIPE) as second,
    ):
        pids = {"app": first.pid}
        with sampling(SamplerConfig(origin_ns=0, every_s=0.05), lambda: pids) as (_, records):
            until(lambda: samples(records, "app", "rss_bytes"), "the first")
            first.kill()
            first.wait()
            count = len(samples(records, "app", "rss_bytes"))
            pids["app"] = second.pid
            until(lambda: len(samples(records, "app", "rss_bytes")) > count + 3, "the second")
        assert min(samples(records, "app", "cpu_percent"), default=0) >= 0
        second.kill()


def test_what_does_not_answer_is_a_missing_sample_and_a_failed_probe() -> None:
    nowhere = address(free_port())
    config = SamplerConfig(
        origin_ns=0,
        every_s=0.05,
        redis=nowhere,
        postgres=nowhere,
        database="x",
        user="y",
        gateway_http=nowhere,
    )
    with sampling(config, lambda: {"gone": 2**22 - 1}) as (_, records):
        until(lambda: {"redis", "postgres"} <= {r.source for r in records if isinstance(r, Samples)}, "both were asked")
        until(lambda: [r for r in records if isinstance(r, PathProbe)], "a failed health probe")
    assert all(record.metric == [NO_ANSWER] for record in records if isinstance(record, Samples))
    assert {record.source for record in records if isinstance(record, Samples)} == {"redis", "postgres", "gateway"}
    assert all(
        not probe.ok and probe.took_ns == -1 and probe.detail for probe in records if isinstance(probe, PathProbe)
    )


def test_a_server_that_hangs_delays_no_other(silent: str, redis_server: Redis) -> None:
    config = SamplerConfig(
        origin_ns=0, every_s=0.05, redis=address(redis_server.port), gateway_http=silent, timeout_s=30
    )
    with sampling(config, dict) as (_, records):
        until(lambda: len(samples(records, "redis", "used_memory")) >= 5, "redis goes on")
        assert not [r for r in records if isinstance(r, PathProbe)]


def test_a_killed_sampler_is_started_again_and_says_so() -> None:
    with sampling(SamplerConfig(origin_ns=0, every_s=0.05), lambda: {"me": os.getpid()}) as (sampler, records):
        until(lambda: samples(records, "me", "rss_bytes"), "a reading")
        assert sampler.pid is not None
        old = sampler.pid
        psutil.Process(old).kill()
        until(lambda: [r for r in records if isinstance(r, Note)], "a note")
        count = len(records)
        until(lambda: len(records) > count + 2, "readings go on")
        assert sampler.pid != old
    assert "started again" in next(r.text for r in records if isinstance(r, Note))


def test_close_ends_the_process_and_may_be_repeated() -> None:
    with sampling(SamplerConfig(origin_ns=0, every_s=0.05), lambda: {"me": os.getpid()}) as (sampler, records):
        until(lambda: records, "a reading")
        assert sampler.pid is not None
        child = psutil.Process(sampler.pid)
        sampler.close()
        assert not child.is_running()
        count = len(records)
        sampler.close()
        assert len(records) == count
        assert not [r for r in records if isinstance(r, Note)]


def test_it_ends_with_its_parent_even_if_somebody_else_holds_its_pipe() -> None:
    reader, writer = os.pipe()  # we keep the writing end open, as a forked worker would
    code = (
        "import os, subprocess, sys\n"
        f"p = subprocess.Popen([sys.executable, '-m', 'loadtests.capture.probes'], stdin={reader},"
        " stdout=subprocess.DEVNULL)\n"
        "print(p.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    try:
        with subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[reader]
        ) as parent:
            assert parent.stdout is not None
            child = psutil.Process(int(parent.stdout.readline()))
            os.write(writer, b'{"type":"begin","origin_ns":0,"every_s":0.05}\n{"type":"pids","pids":{}}\n')
            until(lambda: child.num_threads() > 2, "it watches its parent")
            parent.kill()
        until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "it has ended")
    finally:
        os.close(reader)
        os.close(writer)


def test_it_works_under_gevents_patching(redis_server: Redis) -> None:
    code = (
        "from gevent import monkey; monkey.patch_all()\n"
        "import gevent, time\n"
        "from loadtests.capture.sampler import Sampler, SamplerConfig\n"
        "got = []\n"
        f"config = SamplerConfig(origin_ns=0, every_s=0.05, redis='{address(redis_server.port)}')\n"
        "sampler = Sampler(config, pids=dict, on_record=got.append)\n"
        "sampler.start()\n"
        "turns = 0\n"
        "deadline = time.monotonic() + 20\n"
        "while len(got) < 5 and time.monotonic() < deadline:\n"
        "    gevent.sleep(0.005); turns += 1\n"
        "sampler.close()\n"
        "print(len(got) >= 5, turns > 5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_cpu_is_the_share_that_was_used_since_the_last_reading() -> None:
    reader = ProcessReader()
    first = reader.read(os.getpid())
    assert first is not None
    assert "cpu_percent" not in first  # one reading has no interval
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    second = reader.read(os.getpid())
    assert second is not None
    assert second["cpu_percent"] > 5
    assert second["uss_bytes"] <= second["rss_bytes"]


def test_a_process_that_is_gone_has_no_reading() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
        assert ProcessReader().read(child.pid) is None


def test_subscribers_buffers_come_from_the_server_itself(redis_server: Redis) -> None:
    reader = RedisReader(address(redis_server.port), 2)
    subscriber = redis_server.client().pubsub()
    subscriber.subscribe("a.channel")
    try:
        reading = reader.read()
        assert reading is not None
        assert reading["subscribers"] >= 1
        assert reading["subscriber_buffers_bytes"] >= 0
    finally:
        subscriber.close()
        reader.close()


def test_postgres_does_not_count_its_own_probe_and_comes_back(postgres: Postgres) -> None:
    reader = PostgresReader(address(postgres.port), database="tickstock_test", user="app_readonly", timeout_s=2)
    first = reader.read()
    assert first is not None
    with postgres.connect() as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'tickstorm-probe'"
        )
    assert reader.read() is None
    assert until(reader.read, "a new connection")["connections"] >= 0
    reader.close()


def test_a_hanging_health_endpoint_takes_no_longer_than_its_timeout(silent: str) -> None:
    took_ns, ok, detail = time_health(silent, 0.2)
    assert (took_ns, ok) == (-1, False)
    assert detail
    assert StatsReader(silent, timeout_s=0.2).read() is None


def test_the_period_does_not_drift() -> None:
    got: list[Record] = []
    probes = Probes(SamplerConfig(origin_ns=time.monotonic_ns(), every_s=0.05), got.append)
    probes.watch({"me": os.getpid()})
    probes.start()
    done = threading.Event()
    until(lambda: len(got) >= 6 or done.is_set(), "six readings")
    probes.stop()
    at = [r.at_ns for r in got if isinstance(r, Samples)]
    assert at == sorted(at)
    # each begins after a whole multiple of the period since the first, never before it
    assert all((ns - at[0]) // 10**6 >= index * 50 - 25 for index, ns in enumerate(at))
