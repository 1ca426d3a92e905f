"""Does the supervisor do to a running service what it is asked, and tell the truth about it?"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
import psutil
import psycopg2
import pytest
from stack_peers import family, get, listening, redis_says, runs, until

from loadtests.model.stackwire import LINKS, SERVICES, Answer, Ask
from loadtests.stack.errors import StackError
from loadtests.stack.folder import PASSWORDS
from loadtests.stack.local import LocalStack
from loadtests.stack.passwords import kept

pytestmark = pytest.mark.e2e


def did(stack: LocalStack, ask: Ask) -> Answer:
    answer = stack.ask(ask)
    assert answer.ok, answer.error
    assert 0 < answer.before_ns <= answer.after_ns <= time.monotonic_ns()
    return answer


WHO = ("publisher", "gateway", "producer")
STRANGER = "nobody"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_of_the_machine_gains_nothing(stack: LocalStack) -> None:
    def as_stranger(script: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["bash", "-c", script], user=STRANGER, group="nogroup", extra_groups=[], cwd="/", timeout=10,
            stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip

    assert as_stranger("id -un").stdout.strip() == STRANGER.encode()
    assert as_stranger(f"cat '{stack.folder / PASSWORDS}'").returncode != 0
    status = stack.status()
    for pid in filter(None, (status.services[name].pid for name in ("gateway", "producer", "redis"))):
        assert as_stranger(f"cat /proc/{pid}/environ").stdout == b""
    host, port = status.services["redis"].address.rsplit(":", 1)
    heard = 'read -r -t 5 answer <&3; echo "$answer"'
    ask = f"exec 3<>/dev/tcp/{host}/{port}; printf 'CONFIG GET maxmemory\\r\\n' >&3; {heard}"
    assert as_stranger(ask).stdout.startswith(b"-NOPERM")
    host, port = status.services["gateway"].address.rsplit(":", 1)
    said = 'POST /switch HTTP/1.0\\r\\nContent-Length: 17\\r\\n\\r\\n{"drop_every": 1}\\n'
    ask = f"exec 3<>/dev/tcp/{host}/{port}; printf '{said}' >&3; {heard}"
    assert b" 403 " in as_stranger(ask).stdout


def password_of(stack: LocalStack, role: str) -> str:
    found = kept(stack.folder)
    assert found is not None
    return str(getattr(found.passwords, role))


@pytest.mark.parametrize("role", ["postgres", "app_readonly", "app_readwrite"])
@pytest.mark.parametrize("password", [None, "", "postgres", "another role's"])
def test_postgres_lets_nobody_in_without_the_roles_own_password(
    stack: LocalStack, role: str, password: str | None
) -> None:
    if password == "another role's":
        password = password_of(stack, "app_readonly" if role != "app_readonly" else "app_readwrite")
    for place in ("services", "links"):
        status = stack.status()
        where = status.services["postgres"].address if place == "services" else status.links["gateway-postgres"].listen
        host, port = where.rsplit(":", 1)
        with pytest.raises(psycopg2.OperationalError, match="password"):
            psycopg2.connect(host=host, port=port, user=role, password=password, dbname="tickstock_test")


@pytest.mark.parametrize(
    "command",
    [
        *("CONFIG GET maxmemory", "REPLICAOF 127.0.0.1 1", "PUBLISH a b", "KEYS *", "CLIENT LIST"),
        *("AUTH wrong", "AUTH admin wrong", "EVAL return 0", "SHUTDOWN"),
    ],
)
def test_redis_answers_strangers_nothing_but_a_ping(stack: LocalStack, command: str) -> None:
    status = stack.status()
    for where in (status.services["redis"].address, *(status.links[f"{who}-redis"].listen for who in WHO)):
        assert redis_says(where, f"{command}\r\n".encode()).startswith(b"-"), where
        assert redis_says(where) == b"+PONG\r\n"


@pytest.mark.parametrize("user", ["publisher", "gateway", "producer"])
def test_whoever_reads_a_password_on_a_link_can_do_what_that_link_does_and_no_more(
    stack: LocalStack, user: str
) -> None:
    address = stack.status().services["redis"].address
    login = f"AUTH {user} {password_of(stack, user)}\r\n".encode()
    for command in (
        b"CONFIG GET maxmemory",
        b"CLIENT LIST",
        b"CLIENT KILL TYPE pubsub",
        b"EVAL 'return 0' 0",
        b"KEYS *",
    ):
        assert redis_says(address, login) == b"+OK\r\n"
        assert redis_says(address, login + command + b"\r\n", answers=2).splitlines()[1].startswith(b"-"), command


def test_the_passwords_are_all_different_and_for_their_user_alone(stack: LocalStack) -> None:
    found = kept(stack.folder)
    assert found is not None
    words = [str(word) for word in msgspec.structs.astuple(found.passwords)]
    assert len(set(words)) == len(words)
    assert all(len(word) >= 32 for word in words)
    assert (stack.folder / PASSWORDS).stat().st_mode & 0o777 == 0o600
    files = [path for path in stack.folder.rglob("*") if path.is_file() and path.name != PASSWORDS]
    assert len(files) > 5
    assert not [path for path in files if any(word.encode() in path.read_bytes() for word in words)]
    said = [" ".join(process.cmdline()) for process in psutil.Process(stack.status().supervisor_pid).children(True)]
    assert len(said) >= 5
    assert not [line for line in said if any(word in line for word in words)]


def test_every_service_is_ready_and_every_link_leads_to_its_upstream(stack: LocalStack) -> None:
    status = stack.status()
    assert list(status.services) == list(SERVICES)
    assert {name: each.state for name, each in status.services.items()} == dict.fromkeys(SERVICES, "ready")
    assert all(each.pid and runs(each.pid) and each.version and each.ready_ns for each in status.services.values())
    assert tuple(status.links) == LINKS
    proxies = get(status.services["toxiproxy"].address, "/proxies")
    for name, link in status.links.items():
        assert proxies[link.proxy]["listen"] == link.listen
        assert proxies[link.proxy]["upstream"] == link.upstream == status.services[name.rsplit("-", 1)[1]].address
    assert redis_says(status.links["publisher-redis"].listen) == b"+PONG\r\n"
    assert get(status.links["client-gateway"].listen, "/health")["status"] == "ready"


@pytest.mark.parametrize(
    ("link", "user"), [("gateway-postgres", "app_readonly"), ("producer-postgres", "app_readwrite")]
)
def test_the_schema_is_there_behind_the_links(stack: LocalStack, link: str, user: str) -> None:
    host, port = stack.status().links[link].listen.rsplit(":", 1)
    connection = psycopg2.connect(
        host=host, port=port, user=user, password=password_of(stack, user), dbname="tickstock_test", connect_timeout=5
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM symbols")
            assert cursor.fetchone()[0] > 50
            cursor.execute("SHOW synchronous_commit")
            assert cursor.fetchone() == ("on",)  # an answered commit survives SIGKILL
    finally:
        connection.close()


def test_gateway_and_producer_use_their_own_links(stack: LocalStack) -> None:
    status = stack.status()
    for who in ("gateway", "producer"):
        pids = family(status.services[who].pid or 0)
        peers = {f"{c.raddr.ip}:{c.raddr.port}" for p in pids for c in psutil.Process(p).net_connections() if c.raddr}
        assert {status.links[f"{who}-redis"].listen, status.links[f"{who}-postgres"].listen} <= peers
        assert not peers & {status.services["redis"].address, status.services["postgres"].address}


@pytest.mark.parametrize("service", ["redis", "postgres"])
def test_kill_ends_it_at_once_and_start_makes_it_ready_again(stack: LocalStack, service: str) -> None:
    pids = family(stack.status().services[service].pid or 0)
    killed = did(stack, Ask(do="kill", service=service))
    assert not any(runs(pid) for pid in pids)
    assert killed.status is not None
    assert killed.status.services[service].state == "stopped"
    assert killed.status.services[service].pid is None
    assert "does not run" in stack.ask(Ask(do="kill", service=service)).error
    started = did(stack, Ask(do="start", service=service))
    assert started.status is not None
    again = started.status.services[service]
    assert again.state == "ready"
    assert again.pid not in pids
    assert again.ready_ns is not None
    assert started.before_ns < again.ready_ns <= started.after_ns
    gateway = stack.status().services["gateway"].address
    until("the gateway has recovered", lambda: get(gateway, "/health")["status"] == "ready")


@pytest.mark.parametrize("service", ["redis", "postgres", "gateway", "toxiproxy"])
def test_nobody_else_can_listen_where_a_killed_server_is_missed(stack: LocalStack, service: str) -> None:
    """He would be told passwords that hold again when the server is back."""
    status = stack.status()
    places = [status.services[service].address]
    places += [link.listen for link in status.links.values()] if service == "toxiproxy" else []
    did(stack, Ask(do="kill", service=service))
    for where in places:
        host, port = where.rsplit(":", 1)
        with pytest.raises(OSError, match="in use"):
            listening(int(port))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), 5)
    if service == "gateway":
        assert "does not listen" in stack.ask(Ask(do="switch", settings={"drop_every": "0"})).error
    did(stack, Ask(do="start", service=service))
    gateway = status.services["gateway"].address
    until("the gateway has recovered", lambda: get(gateway, "/health")["status"] == "ready")


def test_rows_that_were_committed_survive_a_kill_of_postgres(stack: LocalStack) -> None:
    where = stack.status().services["postgres"].address.rsplit(":", 1)

    def connect() -> psycopg2.extensions.connection:
        return psycopg2.connect(
            host=where[0],
            port=where[1],
            user="app_readwrite",
            dbname="tickstock_test",
            password=password_of(stack, "app_readwrite"),
        )

    connection = connect()
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO events (symbol, pattern, timestamp, run) VALUES ('AAPL', 'Doji', now(), 'kept')")
    did(stack, Ask(do="kill", service="postgres"))
    connection.close()
    did(stack, Ask(do="start", service="postgres"))
    connection = connect()
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("DELETE FROM events WHERE run = 'kept' RETURNING symbol")
            assert cursor.fetchall() == [("AAPL",)]
    finally:
        connection.close()
    gateway = stack.status().services["gateway"].address
    until("the gateway has recovered", lambda: get(gateway, "/health")["status"] == "ready")


def test_pause_freezes_all_of_postgres_and_resume_thaws_it(stack: LocalStack) -> None:
    host, port = stack.status().services["postgres"].address.rsplit(":", 1)
    connection = psycopg2.connect(
        host=host, port=port, user="app_readonly", dbname="tickstock_test", password=password_of(stack, "app_readonly")
    )
    answered = threading.Event()

    def query() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        answered.set()

    paused = did(stack, Ask(do="pause", service="postgres"))
    try:
        assert paused.status is not None
        service = paused.status.services["postgres"]
        assert service.state == "paused"
        assert psutil.Process(service.pid or 0).status() == psutil.STATUS_STOPPED
        still = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)  # who was just ending is reaped when it goes on
        assert all(psutil.Process(pid).status() in still for pid in family(service.pid or 0))
        did(stack, Ask(do="pause", service="postgres"))  # safe to repeat
        asker = threading.Thread(target=query)
        asker.start()
        assert not answered.wait(0.3), "a backend of a paused postgres answered"
    finally:
        resumed = did(stack, Ask(do="resume", service="postgres"))
    assert answered.wait(5.0)
    asker.join()
    connection.close()
    assert resumed.status is not None
    assert resumed.status.services["postgres"].state == "ready"
    did(stack, Ask(do="resume", service="postgres"))  # safe to repeat


def test_a_restarted_toxiproxy_has_its_proxies_again_without_toxics(stack: LocalStack) -> None:
    status = stack.status()
    api = status.services["toxiproxy"].address
    link = status.links["publisher-redis"]
    body = msgspec.json.encode({"name": "slow", "type": "latency", "attributes": {"latency": 1}})
    host, port = api.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 5) as http:
        head = f"POST /proxies/{link.proxy}/toxics HTTP/1.0\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        http.sendall(head.encode() + body)
        assert b" 200 " in http.recv(4096)
    assert get(api, f"/proxies/{link.proxy}")["toxics"]
    did(stack, Ask(do="restart", service="toxiproxy"))
    proxies = get(api, "/proxies")
    assert set(proxies) == {each.proxy for each in status.links.values()}
    assert not any(each["toxics"] for each in proxies.values())
    assert redis_says(link.listen) == b"+PONG\r\n"
    gateway = status.services["gateway"].address
    until("the gateway has recovered", lambda: get(gateway, "/health")["status"] == "ready")


def test_stop_and_start_of_the_gateway(stack: LocalStack) -> None:
    address = stack.status().services["gateway"].address
    did(stack, Ask(do="stop", service="gateway"))
    with pytest.raises(urllib.error.URLError):
        get(address, "/health")
    did(stack, Ask(do="start", service="gateway"))
    assert get(address, "/health")["status"] == "ready"


@pytest.mark.parametrize("token", [None, "", "guess"])
def test_nobody_else_sets_the_gateways_switches(stack: LocalStack, token: str | None) -> None:
    address = stack.status().services["gateway"].address
    headers = {"Content-Type": "application/json"} | ({} if token is None else {"X-Switch-Token": token})
    request = urllib.request.Request(f"http://{address}/switch", data=b'{"drop_every": 1}', headers=headers)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request, timeout=5)
    with urllib.request.urlopen(f"http://{address}/switch", timeout=5) as answer:
        assert json.load(answer)["drop_every"] == 0


def test_switches_reach_the_gateway_and_bad_ones_are_refused(stack: LocalStack) -> None:
    did(stack, Ask(do="switch", settings={"drop_every": "500"}))
    did(stack, Ask(do="switch", settings={"drop_every": "0"}))
    assert "whole number" in stack.ask(Ask(do="switch", settings={"drop_every": "often"})).error
    refused = stack.ask(Ask(do="switch", settings={"explode": "1"}))
    assert not refused.ok
    assert "explode" in refused.error


def test_a_child_that_dies_by_itself_is_noticed_with_its_exit_status(stack: LocalStack) -> None:
    pid = stack.status().services["producer"].pid
    assert pid is not None
    psutil.Process(pid).kill()
    until("the supervisor knows", lambda: stack.status().services["producer"].state == "dead")
    dead = stack.status().services["producer"]
    assert dead.pid is None
    assert "SIGKILL" in dead.error
    assert "producer ready on" in dead.error, "its last words are quoted"
    did(stack, Ask(do="start", service="producer"))
    assert stack.status().services["producer"].error == ""


def test_a_start_that_cannot_succeed_says_what_is_missing(stack: LocalStack) -> None:
    did(stack, Ask(do="stop", service="redis"))
    try:
        answer = stack.ask(Ask(do="restart", service="gateway", wait_s=3.0))
        if "Connect call failed" in answer.error:  # on a busy machine it does not even listen yet
            answer = stack.ask(Ask(do="restart", service="gateway", wait_s=20.0))
        assert not answer.ok
        assert "not subscribed to Redis" in answer.error
        assert answer.status is not None
        assert answer.status.services["gateway"].state == "starting"
    finally:
        did(stack, Ask(do="start", service="redis"))
    until("it recovers by itself", lambda: stack.status().services["gateway"].state == "ready")


def test_requests_that_make_no_sense_are_answered_with_a_sentence(stack: LocalStack) -> None:
    assert "needs a service" in stack.ask(Ask(do="kill")).error
    assert "needs a service" in stack.ask(Ask(do="start", service="oracle")).error
    path = stack._folder.socket()
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(5)
        link.connect(str(path))
        link.sendall(b'{"do":"dance"}\nnonsense\n{"do":"status"}\n')
        lines = link.makefile("rb")
        answers = [msgspec.json.decode(next(lines), type=Answer) for _ in range(3)]
        lines.close()
    assert [answer.ok for answer in answers] == [False, False, True]
    assert "no request" in answers[0].error


def test_many_threads_may_ask_at_once(stack: LocalStack) -> None:
    seen: list[int] = []
    askers = [threading.Thread(target=lambda: seen.append(stack.status().supervisor_pid)) for _ in range(20)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert seen == [stack.status().supervisor_pid] * 20


def test_attach_finds_it_and_finds_nothing_elsewhere(stack: LocalStack, tmp_path: Path) -> None:
    attached = LocalStack.attach(stack.folder)
    assert attached is not None
    assert attached.status().supervisor_pid == stack.status().supervisor_pid
    assert LocalStack.attach(tmp_path) is None


def test_a_second_up_attaches_or_refuses_clearly(stack: LocalStack) -> None:
    with LocalStack.up(stack.folder) as second:
        assert second.status().supervisor_pid == stack.status().supervisor_pid
    assert stack.status().services["redis"].state == "ready", "leaving an attached one ends nothing"
    with pytest.raises(StackError, match=r"already runs .* redis on port"):
        LocalStack.up(stack.folder, ports={"redis": 1})
    with pytest.raises(StackError, match=r"already runs .* gateway_env"):
        LocalStack.up(stack.folder, gateway_env={"GATEWAY_QUEUE": "7"})
