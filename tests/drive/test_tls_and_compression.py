"""Is what comes by TLS or compressed accounted as what comes plain, and is nobody believed without proof?

Servers of `websockets`, with certificates that openssl makes for the test.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from receiving import RUN, Process, accounts, of, profile, records
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame as TheirFrame
from websockets.frames import Opcode
from websockets.server import ServerProtocol

from loadtests.drive.consume import deflate
from loadtests.drive.consume.deflate import Inflater
from loadtests.drive.consume.frames import MAX_MESSAGE, Cutter, Frame
from loadtests.drive.consume.handshake import RefusedError
from loadtests.model.ids import pack_stream
from loadtests.model.records import Consumed, Strange, Subscription

pytestmark = pytest.mark.group("ATTACKS")

STREAMS = [pack_stream(0, 0, 0), pack_stream(1, 0, 0)]
BOTH = [{"name": "plain", "count": 2}, {"name": "sio", "count": 2, "transport": "socketio"}]
FAST = {"first_ms": 50.0, "max_ms": 100.0}
Run = Callable[..., tuple[list[Any], dict[str, Any], list[dict[str, Any]]]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    children: list[Process] = []

    def begin(target: dict[str, Any], *, refused: bool = False, groups: Any = None, **tell: Any) -> Any:
        common = {"run": RUN, "origin_ns": time.monotonic_ns()}
        plan = {"count": 120, "clients": 4, "streams": STREAMS, "deflate": False} | tell
        server = Process("library_server", common | plan)
        children.append(server)
        port = int(server.line().split()[1])
        external = {"kind": "external", "redis": "127.0.0.1:1", "gateway": f"127.0.0.1:{port}"}
        shape = profile(groups or BOTH, target=external | target)
        tool = Process("consume_tool", common | {"profile": shape, "port": port, "out": str(tmp_path / "r")})
        children.append(tool)
        if refused:
            tool.ask("epochs 1")
        else:
            tool.ask("connected 4")
            assert server.line() == "done"
            tool.ask(f"received {4 * len(STREAMS) * len([n for n in range(plan['count']) if not skipped(n, plan)])}")
        report = tool.finish()
        return records(tmp_path / "r"), report, server.finish()

    yield begin
    for child in children:
        child.stop()


def skipped(seq: int, plan: dict[str, Any]) -> bool:
    every = plan.get("skip_every", 0)
    return bool(every) and seq % every == every - 1


def sizes(found: list[Any]) -> dict[int, int]:
    """Bytes of messages per group."""
    total: dict[int, int] = {}
    for cell in of(Consumed, found):
        if cell.clock == "read":
            total[cell.group] = total.get(cell.group, 0) + cell.bytes
    return total


ACCOUNT = {
    (consumer, 0): {
        stream: (0, 118, 108, frozenset(range(9, 119, 10)), 0) for stream in STREAMS
    }
    for consumer in range(4)
}  # fmt: skip


@pytest.mark.parametrize(
    ("fragments", "options"),
    [(0, {}), (3, {"server_no_context_takeover": True}), (3, {"server_max_window_bits": 9})],
    ids=str,
)
def test_compressed_messages_have_the_account_of_plain_ones(run: Run, fragments: int, options: dict[str, Any]) -> None:
    plain, report, seen = run({}, skip_every=10, fragments=fragments)
    assert report["receive"] == "hub-epoll"
    assert {s["offered"] for s in seen} == {""}
    packed, report, seen = run({"compression": True}, skip_every=10, fragments=fragments, deflate=True, options=options)
    assert report["receive"] == "library"
    assert report["troubles"] == []
    assert [s["extensions"] for s in seen] == [["permessage-deflate"]] * 4
    assert all(f"run/{RUN} consumer/" in s["agent"] for s in seen)
    assert accounts(plain) == accounts(packed) == ACCOUNT
    assert sizes(packed).keys() == {0, 1}
    for group, size in sizes(plain).items():  # times of different length are in the messages
        assert abs(sizes(packed)[group] - size) < size * 0.05
    assert not of(Strange, plain) + of(Strange, packed)


def test_a_target_that_does_not_compress_is_refused(run: Run) -> None:
    found, _, seen = run({"compression": True}, refused=True)
    assert {s["offered"] for s in seen} == {"permessage-deflate; client_no_context_takeover; client_max_window_bits"}
    left = {s.detail for s in of(Subscription, found) if s.why == "connect failed"}
    assert left == {"the target does not agree to permessage-deflate, which target.compression asks for"}


# -- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two authorities, one of which signed a certificate for gateway.example, and one for 127.0.0.1."""
    assert shutil.which("openssl"), "openssl makes the certificates of this test"
    folder = tmp_path_factory.mktemp("authority")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    for name in ("ca", "stranger"):
        usage = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
        openssl("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}", *usage)
    for name, alternative in (("name", "DNS:gateway.example"), ("address", "IP:127.0.0.1")):
        openssl(
            *("req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", "/CN=x"),
            *("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", f"subjectAltName={alternative}"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
        )
    return folder


def certified(folder: Path, name: str) -> dict[str, str]:
    return {"certificate": str(folder / f"{name}.pem"), "key": str(folder / f"{name}.key")}


@pytest.mark.parametrize("compression", [False, True])
@pytest.mark.parametrize(("name", "tls_name"), [("address", None), ("name", "gateway.example")])
def test_tls_has_the_account_of_plain(
    run: Run, authority: Path, name: str, tls_name: str | None, compression: bool
) -> None:
    target: dict[str, Any] = {"tls": True, "ca_file": str(authority / "ca.pem"), "compression": compression}
    target |= {"tls_name": tls_name} if tls_name else {}
    found, report, seen = run(target, skip_every=10, deflate=True, **certified(authority, name))
    assert report["receive"] == ("library" if compression else "greenlet")
    assert report["troubles"] == []
    assert {s["tls"] for s in seen} <= {"TLSv1.2", "TLSv1.3"}
    assert [s["extensions"] for s in seen] == [["permessage-deflate"] if compression else []] * 4
    assert accounts(found) == ACCOUNT
    assert {s.why for s in of(Subscription, found) if s.step == "left"} == {"own"}


@pytest.mark.parametrize(
    ("name", "ca", "tls_name", "why"),
    [
        ("address", "stranger.pem", None, "certificate verify failed"),
        ("address", None, None, "certificate verify failed"),
        ("name", "ca.pem", None, "certificate is not valid for '127.0.0.1'"),
        ("address", "ca.pem", "gateway.example", "certificate is not valid for 'gateway.example'"),
        ("address", "missing.pem", None, "No such file"),
        ("address", "ca.key", None, "no certificate"),
    ],
)
def test_nobody_is_believed_without_proof(
    run: Run, authority: Path, name: str, ca: str | None, tls_name: str | None, why: str
) -> None:
    target: dict[str, Any] = {"tls": True}
    target |= {"ca_file": str(authority / ca)} if ca else {}
    target |= {"tls_name": tls_name} if tls_name else {}
    found, report, seen = run(target, refused=True, **certified(authority, name))
    assert seen == []
    assert report["troubles"] == []
    failed = [s for s in of(Subscription, found) if s.why == "connect failed"]
    assert {s.consumer for s in failed} == {0, 1, 2, 3}
    assert all(why.lower() in s.detail.lower() for s in failed), {s.detail for s in failed}


def test_a_target_that_speaks_no_tls_is_no_connection(run: Run, authority: Path) -> None:
    found, _, _ = run({"tls": True, "ca_file": str(authority / "ca.pem")}, refused=True)
    assert {s.why for s in of(Subscription, found) if s.step == "left"} == {"connect failed"}


# -- the inflater alone


class Stream:
    """A server of the library's that answers the handshake, and then what the test has it say."""

    def __init__(self, options: dict[str, Any] | None, behind: Callable[[ServerProtocol], None] | None = None) -> None:
        from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

        extensions = None if options is None else [ServerPerMessageDeflateFactory(**options)]
        self.server = ServerProtocol(extensions=extensions, max_size=None)
        self._behind = behind
        self._held = b""

    def sendall(self, data: bytes, /) -> None:
        self.server.receive_data(data)
        for request in self.server.events_received():
            self.server.send_response(self.server.accept(request))  # type: ignore[arg-type]
            if self._behind is not None:
                self._behind(self.server)
        self._held += b"".join(self.server.data_to_send())

    def recv(self, size: int, /) -> bytes:
        piece, self._held = self._held[:size], self._held[size:]
        return piece


def connected(options: dict[str, Any]) -> tuple[ServerProtocol, Inflater]:
    stream = Stream(options)
    inflater, behind = deflate.agree(stream, "127.0.0.1", 80, "/ws?x=1", "me")
    assert behind == b""
    return stream.server, inflater


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([{}, {"server_no_context_takeover": True}, {"server_max_window_bits": 9}]),
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from([1, 9]), st.text(max_size=30).map(str.encode)),
            st.tuples(st.just(2), st.sampled_from([b"x" * 126, b"abc" * 3000, b"y" * 70_000])),
        ),
        max_size=8,
    ),
    st.booleans(),
    st.data(),
)
def test_what_comes_out_is_what_was_said_however_it_was_cut(
    options: dict[str, Any], told: list[Frame], ends: bool, data: st.DataObject
) -> None:
    server, inflater = connected(options)
    expected: list[Frame] = []
    for opcode, payload in told:
        if opcode == 9:
            server.send_ping(payload)
        elif opcode == 2 and len(payload) > 200:
            server.send_binary(payload[:100], fin=False)
            server.send_ping(b"between")
            server.send_continuation(payload[100:], fin=True)
            expected.append((9, b"between"))
        elif opcode == 2:
            server.send_binary(payload)
        else:
            server.send_text(payload)
        expected.append((opcode, payload))
    if ends:
        server.send_close(1001, "bye")
        expected.append((8, b"\x03\xe9bye"))
    wire = b"".join(server.data_to_send())
    places = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    cutter, found = Cutter(), []
    for begin, end in zip([0, *places], [*places, len(wire)], strict=True):
        found += cutter.cut(inflater.inflate(wire[begin:end]))
    assert found == expected
    assert inflater.broken is None
    assert cutter.closed is ends


def test_messages_behind_the_answer_are_not_lost() -> None:
    stream = Stream({}, lambda server: server.send_text(b"first"))
    sock = Socket(stream)
    wrapped, behind = deflate.upgrade(sock, "127.0.0.1", 80, "/")
    assert Cutter().cut(behind) == [(1, b"first")]
    assert wrapped.recv(100) == b""


class Socket:
    """As much of gevent's socket as is handed on."""

    def __init__(self, stream: Stream) -> None:
        self.sendall, self.recv = stream.sendall, stream.recv
        self.settimeout = self.getsockname = self.close = lambda *_: None


def test_without_agreement_there_is_no_connection() -> None:
    with pytest.raises(RefusedError, match="does not agree"):
        deflate.agree(Stream(None), "127.0.0.1", 80, "/")


def bomb(size: int) -> bytes:
    """One text frame that inflates to so many bytes."""
    deflate = PerMessageDeflate(False, False, 15, 15)
    return TheirFrame(Opcode.TEXT, bytes(size)).serialize(mask=False, extensions=[deflate])


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (bomb(MAX_MESSAGE + 200), 1009),
        (bomb(100 * MAX_MESSAGE), 1009),
        (b"\xc1\x05\xff\xff\xff\xff\xff", 1002),  # no deflate
        (b"\xc9\x00", 1002),  # a compressed ping
        (b"\xe1\x00", 1002),  # another reserved bit
        (b"\x41\x01\x00\xc0\x01\x00", 1002),  # the bit on a continuation
        (b"\xc1\x85maskhello", 1002),
        (b"\x88\x02\x03\xec", 1002),  # a close code that nobody may send
        (b"\x88\x04\x03\xe8\xc3\x28", 1007),
        (b"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", 1009),
    ],
)
def test_a_breach_comes_behind_the_last_good_frame(wire: bytes, code: int) -> None:
    server, inflater = connected({})
    server.send_text(b"good")
    out = inflater.inflate(b"".join(server.data_to_send()) + wire)
    assert Cutter().cut(out) == [(1, b"good")]
    assert inflater.broken is not None
    assert inflater.broken.code == code
    assert inflater.inflate(b"more") == b""


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60), st.binary(max_size=60).map(lambda b: b"\xc1" + bytes((min(len(b), 125),)) + b)
        ),
        max_size=5,
    ),
    st.booleans(),
)
def test_garbage_is_a_breach_or_waits_and_never_an_error(pieces: list[bytes], real: bool) -> None:
    _, inflater = connected({})
    cutter = Cutter()
    for piece in pieces:
        deflated = zlib.compress(piece, wbits=-15)
        wire = b"\xc1" + bytes((len(deflated),)) + deflated if real and len(deflated) < 126 else piece
        for _, payload in cutter.cut(inflater.inflate(wire)):
            assert len(payload) <= MAX_MESSAGE
    assert json.dumps(str(inflater.broken))
