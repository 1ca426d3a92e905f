"""Does every answer of Toxiproxy that is not a success raise, within its time, and is nothing sent that hurts it?"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest
from hostile import Answer, drips, floods, http, nested, says, serving
from hypothesis import given
from hypothesis import strategies as st

from loadtests.inject import probe_connection
from loadtests.inject.errors import NoAnswer, NotThere, Refused
from loadtests.inject.toxics import Missing, Toxic, ToxiproxyServer, differences, problems, toxic_name

from .conftest import free_port
from .fakes import FakeToxiproxy


@pytest.fixture
def fake() -> Iterator[FakeToxiproxy]:
    server = FakeToxiproxy()
    yield server
    server.close()


LATENCY = Toxic(name="tickstorm-f-downstream", type="latency", stream="downstream", attributes={"latency": 5})


@pytest.mark.parametrize("status", [301, 400, 403, 409, 500, 503])
def test_no_status_but_a_success_passes(fake: FakeToxiproxy, status: int) -> None:
    server = ToxiproxyServer(fake.address)
    for method, path, call in (
        ("POST", "/proxies/tickstorm.x/toxics", lambda: server.add("tickstorm.x", LATENCY)),
        ("PATCH", "/proxies/tickstorm.x", lambda: server.set_enabled("tickstorm.x", True)),
        ("PATCH", f"/proxies/tickstorm.x/toxics/{LATENCY.name}", lambda: server.update("tickstorm.x", LATENCY)),
        ("DELETE", "/proxies/tickstorm.x", lambda: server.delete("tickstorm.x")),
        ("GET", "/proxies", server.proxies),
    ):
        fake.trouble[method, path] = status
        with pytest.raises(Refused):
            call()


def test_what_is_not_there_is_removed_already(fake: FakeToxiproxy) -> None:
    server = ToxiproxyServer(fake.address)
    server.delete("none")
    server.remove("none", "none")
    with pytest.raises(Missing):
        server.proxy("none")


def test_a_call_that_hangs_ends_in_time(fake: FakeToxiproxy) -> None:
    fake.trouble["GET", "/proxies"] = "hang"
    began = time.monotonic()
    with pytest.raises(NoAnswer, match="did not answer GET /proxies within"):
        ToxiproxyServer(fake.address, timeout_s=0.2).proxies()
    assert time.monotonic() - began < 10


def test_an_answer_that_is_no_toxiproxy_raises(fake: FakeToxiproxy) -> None:
    fake.proxies["tickstorm.x"]["enabled"] = "perhaps"
    with pytest.raises(Refused, match="cannot be read"):
        ToxiproxyServer(fake.address).proxies()


def test_something_that_speaks_no_http_raises() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = ToxiproxyServer(f"127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.2)
        with pytest.raises(NoAnswer):
            server.version()


HOSTILE: dict[str, tuple[Answer, type[Exception]]] = {
    "drips its head": (drips(b"HTTP/1.1 200 OK\r\nX-A: "), NoAnswer),
    "drips headers": (drips(b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 50), NoAnswer),
    "drips a body": (drips(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{"), NoAnswer),
    "drips chunks": (drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n"), NoAnswer),
    "a body without end": (floods(b"HTTP/1.1 200 OK\r\n\r\n"), Refused),
    "a length beyond memory": (floods(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 10**11), Refused),
    "a refusal without end": (floods(b"HTTP/1.1 404 Not Found\r\n\r\n"), Refused),
    "cut short": (says(http(b"{}", length=50)), NoAnswer),
    "nested": (says(http(nested(100_000))), Refused),
    "no status": (says(b"HTTP/1.1 \x1b[31m" + b"x" * 9_000 + b"\r\n\r\n"), Refused),
    "an error that a terminal would obey": (says(http(b"\x1b[31m\n" * 9_000).replace(b"200", b"500", 1)), Refused),
    "no HTTP": (says(b"\x00\xff" * 1000), Refused),
    "nothing": (says(b""), NoAnswer),
}


@pytest.mark.parametrize("how", sorted(HOSTILE))
def test_a_hostile_answer_raises_within_the_deadline_and_a_few_bytes(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_connection, "MOST_BYTES", 1 << 16)  # a busy machine takes its time for more
    answer, error = HOSTILE[how]
    with serving(last=answer) as address:
        began = time.monotonic()
        with pytest.raises(error) as raised:
            ToxiproxyServer(address, timeout_s=0.5).proxies()
        assert time.monotonic() - began < 10
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 400


def test_many_proxies_in_chunks_are_read(fake: FakeToxiproxy) -> None:
    """Go sends long answers so."""
    body = json.dumps({f"p{n}": fake.proxies["tickstorm.x"] | {"name": f"p{n}"} for n in range(1_000)}).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:9_000], body[9_000:])) + b"0\r\n\r\n"
    with serving(last=says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)) as address:
        assert len(ToxiproxyServer(address).proxies()) == 1_000


def test_nobody_there_is_told_from_no_answer() -> None:
    with pytest.raises(NotThere):
        ToxiproxyServer(f"127.0.0.1:{free_port()}").version()


def test_two_servers_do_not_share_an_address(fake: FakeToxiproxy) -> None:
    other = FakeToxiproxy()
    first, second = ToxiproxyServer(fake.address), ToxiproxyServer(other.address)
    other.proxies.clear()
    assert first.proxies().keys() == {"tickstorm.x"}
    assert second.proxies() == {}
    other.close()


def test_an_http_proxy_of_the_environment_is_not_asked(fake: FakeToxiproxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert ToxiproxyServer(fake.address).version() == "fake"


def toxic(type_: str, **attributes: int) -> Toxic:
    return Toxic(name="tickstorm-x-upstream", type=type_, stream="upstream", attributes=attributes)


@pytest.mark.parametrize(
    "bad",
    [
        toxic("bandwidth", rate=-1),
        toxic("slicer"),
        toxic("slicer", average_size=0),
        toxic("slicer", average_size=5, size_variation=6),
        toxic("latency", latency=-1),
        toxic("latency", latency=2**40),
        toxic("no-such-type"),
        Toxic(name="tickstorm-x", type="latency", stream="upstream", attributes={}, toxicity=7),
        Toxic(name="a/b", type="latency", stream="upstream", attributes={}),
        Toxic(name="x", type="latency", stream="sideways", attributes={}),  # type: ignore[arg-type]
    ],
)
def test_what_would_crash_the_server_is_refused_before_it_is_sent(fake: FakeToxiproxy, bad: Toxic) -> None:
    assert problems(bad)
    with pytest.raises(Refused, match="not sent"):
        ToxiproxyServer(fake.address).add("tickstorm.x", bad)
    with pytest.raises(Refused, match="not sent"):
        ToxiproxyServer(fake.address).update("tickstorm.x", bad)
    assert fake.calls == []


def test_a_timeout_toxic_is_never_made_partial(fake: FakeToxiproxy) -> None:
    partial = Toxic(name="x", type="timeout", stream="upstream", attributes={"timeout": 0}, toxicity=0.0)
    with pytest.raises(Refused, match="hole"):
        ToxiproxyServer(fake.address).update("tickstorm.x", partial)


def test_a_misspelt_attribute_is_a_difference() -> None:
    asked = toxic("latency", latancy=5)
    held = toxic("latency", latency=0, jitter=0)
    assert differences(asked, held)
    assert differences(asked, None)
    assert differences(toxic("latency", latency=5), held)
    assert not differences(toxic("latency", latency=0), held)


@given(st.text(min_size=1, max_size=48), st.sampled_from(["upstream", "downstream"]))
def test_any_faults_name_makes_a_toxics_name(fault: str, stream: str) -> None:
    name = toxic_name(fault, stream)
    assert not problems(Toxic(name=name, type="latency", stream="upstream", attributes={}))
