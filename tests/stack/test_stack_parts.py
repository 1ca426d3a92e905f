"""Do the parts of the stack decide rightly where no server is needed to see it: ports, links, folders, servers?"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from stack_peers import listening

from loadtests.model.errors import BadInput, HarnessError
from loadtests.model.stackwire import LINKS, SERVICES
from loadtests.stack.child import Child, Command, alive, exit_text, stopped, tail
from loadtests.stack.errors import MissingServer, PortInUse, StackError
from loadtests.stack.folder import StackFolder, State, open_to_all, project_root, servers_folder, stack_folder
from loadtests.stack.install import _go_on_path, _locked
from loadtests.stack.links import FREE_FROM, FREE_TO, PREFERRED, Ports, links, write_config
from loadtests.stack.servers import find_postgres, find_redis, find_toxiproxy
from loadtests.stack.service import ServiceProcess
from loadtests.stack.services import NotReady, Plan, probe_postgres, probe_redis, probe_target


def program(folder: Path, name: str, body: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable}\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


# -- errors


def test_the_type_says_whose_fault_it_is() -> None:
    assert issubclass(StackError, HarnessError)
    assert issubclass(PortInUse, BadInput)
    assert issubclass(MissingServer, BadInput)


# -- ports and links


def test_every_service_and_link_has_a_port_of_its_own() -> None:
    assert set(PREFERRED) == {*SERVICES, *LINKS}
    assert len(set(PREFERRED.values())) == len(PREFERRED)
    ports = Ports()
    assert len(set(ports.numbers.values())) == len(PREFERRED)
    ports.close()


def test_two_stacks_that_begin_at_once_get_different_ports() -> None:
    first, second = Ports(), Ports()
    assert not set(first.numbers.values()) & set(second.numbers.values())
    other = [port for name, port in second.numbers.items() if port != PREFERRED[name]]
    assert other
    assert all(FREE_FROM <= port < FREE_TO for port in other)
    first.close()
    second.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="claims need Linux's abstract addresses")
def test_what_a_server_has_not_taken_yet_or_left_is_no_other_stacks() -> None:
    first = Ports()
    numbers = first.numbers
    first.let_go()
    second = Ports()
    assert not set(numbers.values()) & set(second.numbers.values())
    with pytest.raises(PortInUse, match=f"Port {numbers['redis']} for redis is already in use"):
        Ports({"redis": numbers["redis"]})
    second.close()
    first.close()
    third = Ports({"redis": numbers["redis"]})
    assert third["redis"] == numbers["redis"]
    third.close()


def test_a_port_that_was_let_go_can_be_taken_at_once() -> None:
    ports = Ports()
    number = ports["redis"]
    ports.let_go("redis")
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", number))
        server.listen()
    ports.close()


def test_a_taken_port_is_the_users_to_mend() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1]
        with pytest.raises(PortInUse, match=f"Port {number} for redis is already in use") as caught:
            Ports({"redis": number})
    assert "choose another port" in str(caught.value)


def test_all_problems_of_the_wanted_ports_are_told_at_once() -> None:
    with pytest.raises(BadInput) as caught:
        Ports({"kafka": 9092, "redis": 70_000, "gateway": 5, "producer": 5})
    assert len(caught.value.problems) == 3


def test_a_link_leads_where_its_name_says() -> None:
    table = links(PREFERRED)
    assert table["gateway-postgres"].upstream == f"127.0.0.1:{PREFERRED['postgres']}"
    assert table["client-gateway"].upstream == f"127.0.0.1:{PREFERRED['gateway']}"
    assert all(link.listen == f"127.0.0.1:{PREFERRED[name]}" for name, link in table.items())
    assert all(link.proxy == f"tickstorm.{name}" for name, link in table.items())


def test_the_config_is_what_toxiproxy_reads(tmp_path: Path) -> None:
    write_config(tmp_path / "links.json", links(PREFERRED))
    written = json.loads((tmp_path / "links.json").read_text(encoding="utf-8"))
    assert {each["name"] for each in written} == {f"tickstorm.{name}" for name in LINKS}
    assert all(set(each) == {"name", "listen", "upstream", "enabled"} for each in written)


def test_nobody_listens_where_a_server_is_missed_and_who_connects_is_refused() -> None:
    ports = Ports()
    number = ports["redis"]
    ports.let_go("redis")
    server = listening(number)
    assert not ports.hold("redis"), "it listens still"
    client = socket.create_connection(("127.0.0.1", number), 5)
    peer, _ = server.accept()
    for one in (server, peer, client):  # the server closes first, so its end of the connection is remembered
        one.close()
    assert ports.hold("redis")
    assert ports.hold("redis"), "safe to repeat"
    with pytest.raises(OSError, match="in use"):
        listening(number)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", number), 5)
    ports.let_go("redis")
    listening(number).close()
    ports.close()


# -- folders


def test_the_stack_lives_where_the_user_says_else_in_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stack_folder({"TICKSTORM_STACK": str(tmp_path / "x")}) == tmp_path / "x"
    inside = tmp_path / "checkout" / "a" / "b"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert stack_folder({}) == inside / ".stack"
    (tmp_path / "checkout" / "pyproject.toml").write_text('[project]\nname = "tickstorm"\n', encoding="utf-8")
    (inside / "pyproject.toml").write_text('[project]\nname = "somebody-else"\n', encoding="utf-8")
    assert project_root() == tmp_path / "checkout"
    assert stack_folder({}) == tmp_path / "checkout" / ".stack"
    assert servers_folder({}) == tmp_path / "checkout" / ".servers"
    assert servers_folder({"TICKSTORM_SERVERS": "/somewhere"}) == Path("/somewhere")


def test_one_folder_has_one_owner(tmp_path: Path) -> None:
    folder = StackFolder(root=tmp_path / "stack")
    assert not folder.held()
    lock = folder.take()
    assert lock is not None
    assert folder.held()
    assert folder.take(wait_s=0.05) is None
    lock.close()
    assert not folder.held()


def test_no_other_user_keeps_a_stack_from_its_folder_by_locking_a_file(tmp_path: Path) -> None:
    folder = StackFolder(root=tmp_path / "stack")
    for _ in ("made", "made by an earlier version"):
        lock = folder.take()
        assert lock is not None
        lock.close()
        assert folder.lock.stat().st_mode & 0o777 == 0o600
        folder.lock.chmod(0o644)
    assert folder.root.stat().st_mode & 0o777 == 0o700
    (tmp_path / "lock").touch(0o644)
    with _locked(tmp_path, print):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_a_socket_whose_path_is_too_long_moves_and_is_found_again(tmp_path: Path) -> None:
    short = StackFolder(root=tmp_path)
    path, private = short.choose_socket()
    if private is None:
        assert path == tmp_path / "socket" == short.socket()
    deep = StackFolder(root=tmp_path / ("deep" * 30))
    deep.root.mkdir()
    path, private = deep.choose_socket()
    assert private is not None
    assert path.parent == private
    assert private.stat().st_mode & 0o077 == 0
    assert deep.socket() == path
    deep.write_state(State(private=[str(private)]))
    deep.clear()
    assert not private.exists()
    assert deep.socket() == deep.root / "socket"


def test_only_folders_that_we_made_are_removed(tmp_path: Path) -> None:
    folder = StackFolder(root=tmp_path)
    precious = tmp_path / "precious"
    precious.mkdir()
    folder.write_state(State(private=[str(precious)]))
    folder.clear()
    assert precious.is_dir()


def test_unreadable_state_counts_as_none(tmp_path: Path) -> None:
    folder = StackFolder(root=tmp_path)
    assert folder.read_state() == State()
    folder.state.write_text("{torn", encoding="utf-8")
    assert folder.read_state() == State()


def test_open_to_all_looks_at_every_parent(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (tmp_path / "a").chmod(0o700)
    assert not open_to_all(inner)
    assert open_to_all(Path("/usr/bin"))


# -- servers


def test_what_is_on_path_comes_first_unless_fetched_ones_are_preferred(tmp_path: Path) -> None:
    here = program(tmp_path, "valkey-server")
    environ = {"PATH": str(tmp_path), "TICKSTORM_SERVERS": str(tmp_path / "servers")}
    found = find_redis(environ)
    assert found is not None
    assert (found.path, found.origin) == (here, "PATH")
    fetched = find_redis(environ | {"TICKSTORM_PREFER_FETCHED": "1"})
    assert fetched is not None
    assert fetched.origin == "wheel"
    assert fetched.path.name == "valkey-server"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands PostgreSQL to another user")
def test_root_leaves_out_a_postgres_that_nobody_else_can_reach(tmp_path: Path) -> None:
    folder = tmp_path / "pg"
    program(folder, "postgres")
    program(folder, "initdb")
    folder.chmod(0o700)
    found = find_postgres({"PATH": str(folder), "TICKSTORM_SERVERS": str(tmp_path)})
    assert found is None or found.path != folder


def test_a_built_toxiproxy_counts_only_with_the_version_that_is_pinned(tmp_path: Path) -> None:
    environ = {"PATH": "", "TICKSTORM_SERVERS": str(tmp_path), "TICKSTORM_PREFER_FETCHED": "1"}
    assert find_toxiproxy(environ) is None
    program(tmp_path, "toxiproxy-server")
    assert find_toxiproxy(environ) is None
    (tmp_path / "toxiproxy-server.version").write_text("2.9.0\n", encoding="utf-8")
    assert find_toxiproxy(environ) is None
    (tmp_path / "toxiproxy-server.version").write_text("2.12.0\n", encoding="utf-8")
    found = find_toxiproxy(environ)
    assert found is not None
    assert found.origin == "built"


@pytest.mark.parametrize(
    ("version", "toolchain"), [("go1.26.8", "local"), ("go1.23.0", "local"), ("go1.21.4", "auto"), ("go1.19", None)]
)
def test_a_go_that_is_too_old_is_helped_or_left_alone(tmp_path: Path, version: str, toolchain: str | None) -> None:
    program(tmp_path, "go", f"print('go version {version} linux/amd64')")
    found = _go_on_path({"PATH": str(tmp_path)})
    assert (found[1] if found else None) == toolchain


# -- one child


def test_a_program_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    command = Command(argv=[str(tmp_path / "absent")], env={}, cwd=tmp_path, log=tmp_path / "log")
    with pytest.raises(StackError, match="cannot be started"):
        Child.start(command)


def test_one_that_does_not_end_when_asked_is_ended_at_the_deadline(tmp_path: Path) -> None:
    deaf = program(
        tmp_path,
        "deaf",
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\n"
        "time.sleep(60)",
    )

    async def scenario() -> int | None:
        child = Child.start(Command(argv=[str(deaf)], env={}, cwd=tmp_path, log=tmp_path / "log"))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 10
        while "deaf" not in child.log_tail() and loop.time() < deadline:
            await asyncio.sleep(0.01)
        await child.stop(loop.time() + 0.2)
        assert not alive(child.pid)
        return child.ended()

    assert asyncio.run(scenario()) == -9


def test_one_whose_child_has_ended_and_was_not_reaped_stands_still_too(tmp_path: Path) -> None:
    body = "import os, time\nif os.fork() == 0:\n    os._exit(0)\nprint('forked', flush=True)\ntime.sleep(60)"
    parent = program(tmp_path, "parent", body)

    async def scenario() -> bool:
        child = Child.start(Command(argv=[str(parent)], env={}, cwd=tmp_path, log=tmp_path / "log"))
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 20
        while "forked" not in child.log_tail() and loop.time() < deadline:
            await asyncio.sleep(0.03)
        pids = child.tree()
        stands = len(pids) == 2 and await child.pause(time.monotonic() + 5) and stopped(pids[0])
        child.resume()
        await child.stop(loop.time())
        return stands

    assert asyncio.run(scenario())


def test_who_listens_is_told_from_who_only_answers_in_its_place(tmp_path: Path) -> None:
    body = (
        "import socket, time\nown = socket.create_server(('127.0.0.1', 0))\nprint(own.getsockname()[1], flush=True)\n"
    )
    server = program(tmp_path, "server", f"{body}time.sleep(60)")

    async def scenario() -> None:
        child = Child.start(Command(argv=[str(server)], env={}, cwd=tmp_path, log=tmp_path / "log"))
        deadline = time.monotonic() + 20
        while not child.log_tail() and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        with socket.create_server(("127.0.0.1", 0)) as other:
            assert not child.listens(f"127.0.0.1:{other.getsockname()[1]}")
        assert child.listens(f"127.0.0.1:{child.log_tail()}")
        await child.kill()
        assert not child.listens(f"127.0.0.1:{child.log_tail()}")

    asyncio.run(scenario())


def test_a_service_in_whose_place_another_process_answers_is_not_ready(tmp_path: Path) -> None:
    sleeper = program(tmp_path, "sleeper", "import time\ntime.sleep(60)")

    async def answers() -> str:
        return "9.9"

    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            member = ServiceProcess(
                Plan(
                    name="redis", address=f"127.0.0.1:{other.getsockname()[1]}", origin="PATH", probe=answers, ports=(),
                    command=Command(argv=[str(sleeper)], env={}, cwd=tmp_path, log=tmp_path / "log"),
                ),
                lambda: None,
            )  # fmt: skip
            try:
                with pytest.raises(StackError, match="another process listens"):
                    await member.start(time.monotonic() + 1)
            finally:
                await member.close()

    asyncio.run(scenario())


def test_the_tail_of_a_log_is_what_the_last_start_wrote(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail(log) == ""
    log.write_text("old\n" + "\n".join(f"line {n}" for n in range(40)), encoding="utf-8")
    assert tail(log, 4).splitlines()[-1] == "line 39"
    assert "old" not in tail(log, 4)
    assert len(tail(log).splitlines()) == 15


def test_exit_statuses_read_as_words() -> None:
    assert exit_text(-9) == "ended by SIGKILL"
    assert exit_text(3) == "ended with exit status 3"


# -- readiness


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        (b'{"redis":"subscribed","postgres":"ok","version":"1"}', None),
        (b'{"redis":"connecting","postgres":"ok"}', "not subscribed"),
        (b'{"redis":"subscribed","postgres":"down"}', "PostgreSQL is down"),
        (b"[]", "no JSON object"),
    ],
)
def test_the_target_is_ready_only_when_it_says_so_of_both_its_servers(answer: bytes, missing: str | None) -> None:
    assert _probe(b"HTTP/1.0 200 OK\r\nX: y\r\n\r\n" + answer, missing, probe_target) == (
        "1" if missing is None else ""
    )


@pytest.mark.parametrize(
    ("answer", "missing"),
    [
        (b"+PONG\r\n$22\r\nredis_version:7.4.1\r\n\r\n\r\n", None),
        (b"-LOADING Redis is loading\r\n", "LOADING"),
        (b"", "0 bytes read"),
        (b"$nonsense\r\n", "nonsense"),
    ],
)
def test_redis_is_ready_only_when_it_answers_ping(answer: bytes, missing: str | None) -> None:
    assert _probe(answer, missing, probe_redis) == ("redis 7.4.1" if missing is None else "")


def test_a_port_where_nobody_listens_is_not_ready() -> None:
    async def scenario() -> None:
        for probe in (probe_redis, partial(probe_postgres, password="x"), probe_target):
            with pytest.raises(NotReady):
                await probe("127.0.0.1:1")

    asyncio.run(scenario())


def _probe(answer: bytes, missing: str | None, probe: object) -> str:
    """What the probe says of a peer that answers so: the version, or nothing where `missing` was missing."""

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(answer)
        await writer.drain()
        writer.close()

    async def scenario() -> str:
        server = await asyncio.start_server(peer, "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()[:2]
            if missing is None:
                return str(await probe(f"{host}:{port}"))  # type: ignore[operator]
            with pytest.raises(NotReady, match=missing):
                await probe(f"{host}:{port}")  # type: ignore[operator]
            return ""

    return asyncio.run(scenario())
