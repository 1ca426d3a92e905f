"""Does every kind of leftover go red, and nothing else?  Two looks, one with something planted; and real processes."""

from __future__ import annotations

import http.server
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from loadtests.model.stackwire import Service, Status
from proof.bench import wait_for
from proof.stack_state import World, look, processes, standing, toxiproxy

CALM = World(
    areas={
        "stack": {},
        "toxiproxy": {"state": "ready", "proxy tickstorm.gateway-redis": "open to 127.0.0.1:6379"},
        "redis": {"state": "ready", "setting maxmemory": "0", "setting client-output-buffer-limit": "pubsub 1 2 3"},
        "postgres": {"state": "ready", "setting max_connections": "60", "max address space": "unlimited/unlimited"},
        "gateway": {"state": "ready", "switch drop_every": "0", "max address space": "unlimited/unlimited"},
        "producer": {"state": "ready"},
    }
)
PLANTED = [
    ("stack", "spare redis", "127.0.0.1:7000"),
    ("toxiproxy", "proxy tickstorm.gateway-redis", "disabled to 127.0.0.1:6379"),
    ("toxiproxy", "proxy tickstorm.gateway-redis", "open to 127.0.0.1:7000"),
    ("toxiproxy", "toxic t on tickstorm.gateway-redis", "latency upstream latency 80"),
    ("redis", "setting maxmemory", "1000000"),
    ("redis", "setting client-output-buffer-limit", "pubsub 262144 0 0"),
    ("redis", "key tickstorm:probe:1", "there"),
    ("postgres", "lock on events", "held"),
    ("postgres", "session tickstorm-fault-1-2", "1 there"),
    ("postgres", "max address space", "419430400/unlimited"),
    ("gateway", "switch drop_every", "3"),
    ("gateway", "stands still", "4711"),
    ("producer", "state", "paused"),
]


def planted(area: str, what: str, value: str) -> World:
    return World(areas={**CALM.areas, area: {**CALM.areas[area], what: value}})


def test_two_looks_that_are_the_same_tell_nothing() -> None:
    assert CALM.left(CALM) == []


@pytest.mark.parametrize(("area", "what", "value"), PLANTED)
def test_a_planted_leftover_is_told(area: str, what: str, value: str) -> None:
    now = planted(area, what, value)
    (text,) = CALM.left(now)
    assert what in text
    assert value in text
    assert CALM.left(now, dead={area}) == []
    assert CALM.left(now, dead=set(CALM.areas) - {area}) == [text]


def test_what_is_gone_is_told() -> None:
    assert CALM.left(World(areas={**CALM.areas, "redis": {"state": "ready"}}))
    assert CALM.left(World(areas={}))


def test_what_could_not_be_looked_at_is_not_clean() -> None:
    blind = World(areas=CALM.areas, unread={"redis": "it does not answer"})
    assert CALM.left(blind) == ["redis could not be looked at now: it does not answer"]
    assert blind.left(CALM)
    assert CALM.left(blind, dead={"redis"}) == []


# -- the looks themselves


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a child of its own."""
    text = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE) as first:
        try:
            wait_for(psutil.Process(first.pid).children, 10, "it has forked")
            yield first
        finally:
            for process in (psutil.Process(first.pid), *psutil.Process(first.pid).children()):
                process.kill()


def service(pid: int | None) -> Service:
    return Service(address="127.0.0.1:1", pid=pid, version="1", state="ready", origin="ours")


def test_a_stopped_child_of_a_service_is_seen() -> None:
    with sleeper() as first:
        assert standing(first.pid) == []
        (child,) = psutil.Process(first.pid).children()
        child.send_signal(signal.SIGSTOP)
        assert wait_for(lambda: standing(first.pid), 5, "it stands still") == [child.pid]
        assert processes(service(first.pid))["stands still"] == str(child.pid)


@pytest.mark.skipif(not hasattr(psutil, "RLIMIT_AS"), reason="this system cannot limit a process that runs")
def test_a_limit_of_a_child_is_seen() -> None:
    with sleeper() as first:
        before = processes(service(first.pid))
        (child,) = psutil.Process(first.pid).children()
        child.rlimit(psutil.RLIMIT_AS, (1 << 32, child.rlimit(psutil.RLIMIT_AS)[1]))
        now = processes(service(first.pid))
        (text,) = World(areas={"gateway": before}).left(World(areas={"gateway": now}))
        assert str(1 << 32) in text


def test_a_proxy_and_a_toxic_are_seen() -> None:
    proxies = {
        "tickstorm.x": {
            "enabled": False,
            "upstream": "127.0.0.1:2",
            "toxics": [{"name": "t", "type": "latency", "stream": "upstream", "attributes": {"latency": 80}}],
        }
    }

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(proxies).encode())

        def log_message(self, *_: object) -> None:
            return

    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = toxiproxy(f"127.0.0.1:{server.server_address[1]}")
        server.shutdown()
    assert found == {
        "proxy tickstorm.x": "disabled to 127.0.0.1:2",
        "toxic t on tickstorm.x": "latency upstream latency 80",
    }


def test_a_spare_is_seen_and_a_server_that_is_gone_is_named() -> None:
    status = Status(
        services={"redis": service(None)}, links={}, folder="f", supervisor_pid=1, spares={"redis": service(None)}
    )
    found = look(status)
    assert found.areas["stack"] == {"spare redis": "127.0.0.1:1"}
    assert "Redis does not answer" in found.unread["redis"]
