"""Does whatever a target answers become a sample, in time, and does the thread that asked live on?"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping

import msgspec
import pytest
from hostile import Answer, drips, floods, http, nested, says, serving, waits
from target_servers import until

from loadtests.capture.probes import Probes
from loadtests.capture.readings import MOST_NUMBERS, PostgresReader, RedisReader, StatsReader, time_health
from loadtests.capture.sampler import SamplerConfig
from loadtests.model.records import NO_ANSWER, PathProbe, Record, Samples

TIMEOUT_S = 0.4
LATE_S = 10.0
"""A busy machine may be so late; what drips or waits goes on for ever."""
OK = b'{"status": "ready", "received": 7}'
HOSTILE: Mapping[str, Answer] = {
    "never answers": waits,
    "drips its head": drips(b"HTTP/1.1 200 OK\r\nX-A: "),
    "drips headers without end": drips(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 50),
    "drips a body": drips(b"HTTP/1.1 200 OK\r\n\r\n{"),
    "drips a body of a length": drips(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{"),
    "drips chunks": drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n"),
    "a body without end": floods(b"HTTP/1.1 200 OK\r\n\r\n"),
    "a head without end": floods(b"HTTP/1.1 200 OK\r\nX-A: "),
    "continues without end": floods(b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000),
    "a length beyond memory": says(http(OK, length=10**17)),
    "cut short": says(http(OK, length=len(OK) + 50)),
    "nested": says(http(nested(100_000))),
    "nested lists": says(http(b"[" * 100_000 + b"]" * 100_000)),
    "nested within what can be read": says(http(nested(500))),
    "nested beside others": says(http(b'{"status":' + nested(900) + b"}")),
    "no status": says(b"HTTP/1.1 many OK\r\n\r\n"),
    "no HTTP": says(b"\x00\xff" * 1000),
    "nothing": says(b""),
    "bad chunks": says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + OK),
}
"""Answers of which nothing is believed."""
ODD: Mapping[str, Answer] = {
    "a length beyond numbers": says(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n" + OK),
    "a number of 400 digits": says(http(b'{"status": "ready", "n": 1' + b"0" * 400 + b"}")),
    "a negative one": says(http(b'{"status": "ready", "n": -1' + b"0" * 400 + b"}")),
    "a number of 5000 digits": says(http(b'{"n": 1' + b"0" * 5000 + b"}")),
    "beyond floats": says(http(b'{"status": "ready", "n": 1e999, "m": NaN, "k": -Infinity}')),
    "half a character": says(http(b'{"status": "\\ud800", "\\udfff": 1}')),
    "bad UTF-8": says(http(b'{"status": "\xff\xfe"}')),
    "a long status": says(http(b'{"status": "' + b"x" * 500_000 + b'"}')),
    "a long name": says(http(b'{"' + b"x" * 500_000 + b'": 1}')),
    "many numbers": says(http(b"{" + b",".join(b'"a%d": 1' % n for n in range(50_000)) + b"}")),
    "a list": says(http(b"[1, 2]")),
    "no JSON": says(http(b"<html>")),
    "control characters": says(http(b'{"status": "\\u001b[31m\\u0000", "\\u0007": 1}')),
}
"""Answers in time, of which not everything is believed."""
GOOD = says(http(OK))


@pytest.mark.parametrize("how", sorted(HOSTILE))
def test_a_hostile_answer_is_a_bad_sample_within_the_deadline(how: str) -> None:
    with serving(last=HOSTILE[how]) as address:
        began = time.monotonic()
        took_ns, ok, detail = time_health(address, TIMEOUT_S)
        stats = StatsReader(address, timeout_s=TIMEOUT_S).read()
        assert time.monotonic() - began < 2 * TIMEOUT_S + LATE_S
    assert (took_ns, ok) == (-1, False)
    assert detail
    assert stats is None


@pytest.mark.parametrize("how", sorted(ODD))
def test_what_is_odd_in_an_answer_is_left_out(how: str) -> None:
    with serving(last=ODD[how]) as address:
        took_ns, ok, detail = time_health(address, 2.0)
        stats = StatsReader(address, timeout_s=2.0).read()
    assert took_ns > 0
    assert ok
    assert 0 < len(detail) <= 120
    msgspec.json.encode(detail)
    for name, value in (stats or {}).items():
        msgspec.json.encode(name)
        assert abs(value) < float("inf")
        assert len(name) < 200
    assert len(stats or {}) <= MOST_NUMBERS


def test_ever_new_names_are_no_statistics() -> None:
    pages = [says(http(json.dumps({f"key {n}.{i}": i for i in range(200)}).encode())) for n in range(5)]
    with serving(*pages, last=GOOD) as address:
        reader = StatsReader(address, timeout_s=2.0)
        found = [reader.read() for _ in range(6)]
    assert [reading is not None for reading in found] == [True, True, False, False, False, True]
    assert sum(map(len, filter(None, found))) <= 2 * MOST_NUMBERS


def test_names_do_not_grow_with_their_depth() -> None:
    page = json.dumps({"a" * 60: {"b" * 60: {str(i): i for i in range(400)}}, "c": 1}).encode()
    with serving(last=says(http(page))) as address:
        assert StatsReader(address, timeout_s=2.0).read() == {"stats.c": 1.0}


@pytest.mark.parametrize("how", sorted(HOSTILE.keys() | ODD.keys()))
def test_the_threads_live_on_and_read_the_next_good_answer(how: str) -> None:
    answer = {**HOSTILE, **ODD}[how]
    got: list[Record] = []
    decoder = msgspec.json.Decoder(Record)
    dead: list[str] = []
    hook, threading.excepthook = threading.excepthook, lambda args: dead.append(str(args.exc_value))
    try:
        with serving(*[answer] * 4, last=GOOD) as address:
            config = SamplerConfig(
                origin_ns=time.monotonic_ns(), every_s=0.05, gateway_http=address, timeout_s=TIMEOUT_S
            )
            probes = Probes(config, lambda record: got.append(decoder.decode(msgspec.json.encode(record))))
            probes.start()
            until(lambda: [x for x in got if isinstance(x, PathProbe) and x.ok and x.detail == "ready"], "good health")
            until(
                lambda: [x for x in got if isinstance(x, Samples) and "stats.received" in x.metric], "good statistics"
            )
            probes.stop()
    finally:
        threading.excepthook = hook
    assert not dead
    if how in HOSTILE:
        assert [x for x in got if isinstance(x, PathProbe) and not x.ok]
        assert [x for x in got if isinstance(x, Samples) and x.metric == [NO_ANSWER]]


def test_a_thread_that_dies_is_told_as_our_trouble() -> None:
    """In the sampler's own process, where nobody else would see it."""
    code = (
        "import loadtests.capture.probes as p\n"
        "def broken(*_): raise KeyError('nobody foresaw this')\n"
        "p.time_health = broken\n"
        "p.main()\n"
    )
    config = msgspec.json.encode(SamplerConfig(origin_ns=0, every_s=0.05, gateway_http="127.0.0.1:1"))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(config.decode() + '\n{"type":"pids","pids":{}}\n')
        child.stdin.flush()
        line = next(line for line in child.stdout if "trouble" in line)
        child.stdin.close()
    assert '"sampler"' in line
    assert "the sampler reads no more of health: KeyError" in line


REDIS: Mapping[str, Answer] = {
    "never answers": waits,
    "drips": drips(b"$1000000\r\n"),
    "a length beyond memory": says(b"$99999999999999\r\n"),
    "a negative length": says(b"$-5\r\n"),
    "a line without end": floods(b"$"),
    "a string without end": floods(b"$16000000\r\n"),
    "nested arrays": says(b"*1\r\n" * 100_000),
    "an error": says(b"-NOAUTH Authentication required.\r\n"),
    "nothing": says(b""),
}


@pytest.mark.parametrize("how", sorted(REDIS))
def test_a_hostile_redis_is_a_missing_reading_within_the_deadline(how: str) -> None:
    with serving(last=REDIS[how]) as address:
        reader = RedisReader(address, TIMEOUT_S)
        began = time.monotonic()
        assert reader.read() is None
        assert time.monotonic() - began < TIMEOUT_S + LATE_S


@pytest.mark.parametrize("how", ["never answers", "drips", "nothing", "no PostgreSQL"])
def test_a_hostile_database_is_a_missing_reading_within_the_deadline(how: str) -> None:
    ready = b"R\0\0\0\x08\0\0\0\0" + b"Z\0\0\0\x05I"  # logged in, and ready; what comes then never ends
    answers: Mapping[str, Answer] = {
        "never answers": waits,
        "drips": drips(ready + b"D\0\x0f\xff\xff"),
        "nothing": says(b""),
        "no PostgreSQL": says(b"\xff" * 1000),
    }
    with serving(last=answers[how]) as address:
        reader = PostgresReader(address, database="x", user="y", timeout_s=TIMEOUT_S)
        began = time.monotonic()
        assert reader.read() is None
        assert time.monotonic() - began < TIMEOUT_S + LATE_S


def test_what_is_no_number_in_redis_answers_is_left_out() -> None:
    def reply(text: bytes) -> bytes:
        return b"$%d\r\n%s\r\n" % (len(text), text)

    info = b"# Memory\r\nused_memory:1" + b"0" * 400 + b"\r\nmaxmemory:many\r\nconnected_clients:3\r\n"

    def answer(sock: socket.socket) -> None:
        sock.sendall(b"+OK\r\n")
        sock.recv(1000)
        sock.sendall(reply(info))
        sock.recv(1000)
        sock.sendall(reply(b"id=1 omem=7 x=1\nid=2 omem=nan\nid=3\n"))

    with serving(last=answer) as address:
        assert RedisReader(address, 2.0).read() == {
            "connected_clients": 3.0,
            "subscribers": 3,
            "subscriber_buffers_bytes": 7.0,
            "subscriber_buffer_max_bytes": 7.0,
        }
