"""What does a server learn that is not PostgreSQL, but asks for the password as one may?"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Callable, Iterator

import psycopg2
import pytest
from gevent.monkey import get_original

from loadtests.drive import postgres as drive
from loadtests.inject.errors import ControlError
from loadtests.inject.servers import Database
from loadtests.model.logins import LOGINS
from loadtests.stack.services import NotReady, _postgres
from proof.stack_state import postgres_at
from reference_target import schema
from reference_target.database import connect
from reference_target.settings import PostgresSettings

SECRET = "a-secret-of-nobody-else"
ROLE = "app_readonly"
CLEARTEXT, MD5 = struct.pack("!I", 3), struct.pack("!I", 5) + b"salt"
SSL_REQUEST = struct.pack("!I", 80877103)


class Fake:
    """Asks each client in one way, and notes what it answers."""

    def __init__(self, asks: bytes) -> None:
        self.heard = b""
        self._asks = asks
        # a thread of the system's, also where gevent has patched: libpq waits without letting others go on
        self._server = get_original("socket", "socket")()
        self._server.bind(("127.0.0.1", 0))
        self._server.listen()
        self.port = int(self._server.getsockname()[1])
        self.address = f"127.0.0.1:{self.port}"
        get_original("_thread", "start_new_thread")(self._serve, ())

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:  # the test is over
                return
            with client, contextlib.suppress(OSError):  # whom we do not please, he leaves
                client.settimeout(5)
                while SSL_REQUEST in client.recv(4096):
                    client.sendall(b"N")
                client.sendall(b"R" + struct.pack("!I", 4 + len(self._asks)) + self._asks)
                self.heard += client.recv(4096)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # a close alone does not wake who waits there
        self._server.close()


@pytest.fixture
def fake(request: pytest.FixtureRequest) -> Iterator[Fake]:
    made = Fake(getattr(request, "param", CLEARTEXT))
    yield made
    made.close()


def by_reader(fake: Fake) -> None:
    drive.connect(drive.DatabaseLogin(address=("127.0.0.1", fake.port), database="x", user=ROLE, timeout_s=5.0))


def by_injector(fake: Fake) -> None:
    Database(fake.address, database="x", user=ROLE).session()


def by_administrator(fake: Fake) -> None:
    Database(fake.address, database="x", user=ROLE).session(admin=True)


def by_proof(fake: Fake) -> None:
    postgres_at(fake.address)


def by_supervisor(fake: Fake) -> None:
    _postgres(fake.address, SECRET)


def by_gateway(fake: Fake) -> None:
    connect(PostgresSettings(host="127.0.0.1", port=fake.port, database="x", user=ROLE, password=SECRET), name="x")


def by_schema(fake: Fake) -> None:
    schema.apply(host="127.0.0.1", port=fake.port, user=ROLE, password=SECRET, database="x")


OURS = (by_reader, by_injector, by_proof, by_administrator)
OF_THE_STACK = (by_supervisor, by_gateway, by_schema)
REFUSED = (psycopg2.Error, drive.QueryError, ControlError, NotReady)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (LOGINS, "PGREQUIREAUTH", "PGSSLMODE", "PG_ADMIN_USER"):
        monkeypatch.delenv(name, raising=False)
    for name in ("TEST_DB_PASSWORD", "PG_ADMIN_PASSWORD", "PGPASSWORD"):
        monkeypatch.setenv(name, SECRET)


def of_a_stack(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOGINS, json.dumps({f"{role}@{fake.address}": [role, SECRET] for role in (ROLE, "postgres")}))


@pytest.mark.parametrize("who", [*OURS, *OF_THE_STACK])
@pytest.mark.parametrize("local", [True, False])
def test_no_server_is_told_a_password_in_clear(
    fake: Fake, who: Callable[[Fake], None], local: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if local:
        of_a_stack(fake, monkeypatch)
    with pytest.raises(REFUSED, match="cleartext"):
        who(fake)
    assert SECRET.encode() not in fake.heard


@pytest.mark.parametrize("fake", [MD5], indirect=True)
@pytest.mark.parametrize("who", [*OURS, *OF_THE_STACK])
def test_a_server_of_the_stack_has_to_know_the_password_too(
    fake: Fake, who: Callable[[Fake], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_a_stack(fake, monkeypatch)
    with pytest.raises(REFUSED, match="scram-sha-256"):
        who(fake)
    assert b"md5" not in fake.heard


@pytest.mark.parametrize("fake", [MD5], indirect=True)
@pytest.mark.parametrize("who", OURS)
def test_another_server_may_be_an_old_one_that_asks_for_md5(fake: Fake, who: Callable[[Fake], None]) -> None:
    with pytest.raises(REFUSED):
        who(fake)
    assert fake.heard.startswith(b"p")
    assert b"md5" in fake.heard


@pytest.mark.parametrize("who", OURS)
def test_a_password_goes_in_clear_where_the_user_says_so(
    fake: Fake, who: Callable[[Fake], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGREQUIREAUTH", "password")
    with pytest.raises(REFUSED):
        who(fake)
    assert SECRET.encode() in fake.heard
