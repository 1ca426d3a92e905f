"""What may be asked of the Redis and PostgreSQL servers themselves, past every proxy?  With timeouts, never retried.

Every session of ours names itself `tickstorm-...`, so that any process finds and ends what another one left. Passwords
come from the environment alone: PG_ADMIN_PASSWORD for the administrator, TEST_DB_PASSWORD for the probe, else libpq's.

Who owns the servers of a local stack is asked by `SupervisorClient`: one JSON line over its Unix socket, one back.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psycopg2

from loadtests.inject.errors import ControlError, NoAnswer, NotThere, Refused
from loadtests.inject.probe_connection import OwnPorts
from loadtests.model.address import host_port
from loadtests.model.logins import DB_ADMIN_PASSWORD, DB_PASSWORD, client_options, database_options
from loadtests.model.stackwire import Answer, Ask, Service, Status
from loadtests.model.words import plain

ADMIN = "postgres"
"""The administrator where PG_ADMIN_USER names none; the local stack's superuser."""

OWN = "tickstorm-"
"""Connections of our own name themselves so, and are spared where others are killed."""
NAME = "tickstorm-inject"
_TIMEOUT_S = 3.0  # of Redis
_CONNECT_S = 3
_STATEMENT_MS = 5_000

FULL = "53300"
"""Too many connections."""
LOCKED = "55P03"
"""A lock was not free in time."""
OUT_OF_MEMORY = "53200"
_MARGIN_S = 5.0  # of a call to the stack: beyond what the supervisor itself may take


class Database:
    """One database of one server. Opens a session for every call, so that a restart of the server is no trouble."""

    def __init__(self, address: str, *, database: str, user: str, own: OwnPorts | None = None) -> None:
        """`own` is told of every session's connection."""
        self.address, self.database, self.user = address, database, user
        self.own = own or OwnPorts()
        self.opened = 0  # sessions, so far

    def session(self, name: str = NAME, *, admin: bool = False, settings: Mapping[str, int] | None = None) -> Session:
        """A session that the caller closes. `settings` are those of PostgreSQL, in its own units. Raises ControlError.

        A server that has no connection left is Refused with `full`.
        """
        host, port = host_port(self.address)
        user = os.environ.get("PG_ADMIN_USER", ADMIN) if admin else self.user
        variable = DB_ADMIN_PASSWORD if admin else DB_PASSWORD
        options = {"statement_timeout": _STATEMENT_MS} | dict(settings or {})
        try:
            connection = psycopg2.connect(
                host=host,
                port=port,
                dbname=self.database,
                user=user,
                connect_timeout=_CONNECT_S,
                application_name=name,
                options=" ".join(f"-c {key}={value}" for key, value in options.items()),
                **database_options(self.address, user, os.environ, variable),
            )
        except psycopg2.Error as error:
            raise _named(error) from error
        connection.autocommit = True
        self.opened += 1
        return Session(connection, self.own)

    def ask(self, text: str, values: Sequence[object] = (), *, admin: bool = True) -> list[tuple[Any, ...]]:
        """Rows of one statement in a session of its own. Raises ControlError."""
        session = self.session(admin=admin)
        try:
            return session.ask(text, values)
        finally:
            session.close()

    def backends(self, name: str) -> list[int]:
        """Process ids of the sessions that have this name. Raises ControlError."""
        rows = self.ask("SELECT pid FROM pg_stat_activity WHERE application_name = %s", (name,))
        return [int(pid) for (pid,) in rows]

    def end_backends(self, name: str) -> None:
        """Ends every session that has this name; they may take a moment to go. Raises ControlError."""
        self.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", (name,))


class Session:
    """One connection."""

    def __init__(self, connection: Any, own: OwnPorts) -> None:
        self._connection, self._own = connection, own
        with socket.socket(fileno=os.dup(connection.fileno())) as known:
            name = known.getsockname()
        self._port = int(name[1]) if isinstance(name, tuple) else 0  # a Unix socket has none
        own.opened(self._port)

    @property
    def pid(self) -> int:
        """Its backend's process id."""
        return int(self._connection.get_backend_pid())

    def ask(self, statement: Any, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Rows of one statement, or none where it answers with none. Raises ControlError."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement, tuple(values) or None)
                return list(cursor.fetchall()) if cursor.description else []
        except psycopg2.Error as error:
            raise _named(error) from error

    def cancel(self) -> None:
        """Ends the statement that another thread waits for."""
        try:
            self._connection.cancel()
        except psycopg2.Error:  # it is closed, or the server is gone: either way nothing runs
            return

    def close(self) -> None:
        """Closes it; safe to repeat."""
        try:
            self._connection.close()
        except psycopg2.Error:  # the server was faster
            pass
        self._own.closed(self._port)


class SqlRefused(Refused):
    """PostgreSQL answered with an error."""

    def __init__(self, text: str, code: str) -> None:
        super().__init__(text)
        self.code = code  # SQLSTATE


def database_at(address: str, *, database: str, user: str) -> Database | None:
    """The database, or None where a part of its address is not known."""
    return Database(address, database=database, user=user) if address and database and user else None


def _named(error: psycopg2.Error) -> ControlError:
    text = f"PostgreSQL: {str(error).strip() or type(error).__name__}".replace("\n", "; ")
    code = error.pgcode
    if code is None:  # while connecting, the driver hands on no code
        if "too many c" in text or "remaining connection slots" in text:
            code = FULL
        elif "onnection refused" in text:
            return NotThere(text)
        elif not text.lower().count("fatal:"):
            return NoAnswer(text)
    return SqlRefused(text, code or "")


class Full(Refused):
    """Redis answered OOM: it has no memory left for this command."""


def _words(error: Exception) -> str:
    return f"Redis: {plain(str(error))}"


class RedisServer:
    """One server. Every method raises NotThere, NoAnswer, or Refused where the server answered with an error."""

    def __init__(self, address: str) -> None:
        import redis  # only where Redis itself is asked: it would slow every start of an injector
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self.address = address
        self.place = host_port(address)  # where a socket of one's own connects
        self._client = redis.Redis(
            host=self.place[0],
            port=self.place[1],
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            client_name=NAME,
            **client_options(address, os.environ),
        )

    def ask(self, *words: str | bytes | int) -> Any:
        """One command's answer."""
        return self.ask_all([words])[0]

    def ask_all(self, commands: Sequence[Sequence[str | bytes | int]]) -> list[Any]:
        """The answers of several commands, sent at once; a command of two words is given as one."""
        import redis

        pipeline = self._client.pipeline(transaction=False)
        for words in commands:
            pipeline.execute_command(*words)  # type: ignore[no-untyped-call]
        try:
            answers = list(pipeline.execute(raise_on_error=False))
        except redis.ConnectionError as error:
            if isinstance(error.__cause__, ConnectionRefusedError) or "refused" in str(error):
                raise NotThere(_words(error)) from error
            raise NoAnswer(_words(error)) from error
        except redis.TimeoutError as error:
            raise NoAnswer(_words(error)) from error
        except redis.RedisError as error:
            raise Refused(_words(error)) from error
        for answer in answers:
            if isinstance(answer, redis.OutOfMemoryError):
                raise Full(_words(answer))
            if isinstance(answer, redis.RedisError):
                raise Refused(_words(answer))
        return answers

    def info(self, section: str, name: str) -> int:
        """A number of INFO."""
        value = self.ask("INFO", section).get(name)
        if not isinstance(value, int):
            raise Refused(f"Redis: INFO {section} does not tell {name}")
        return value

    def setting(self, name: str) -> str:
        """The value of a setting in force."""
        found = self.ask("CONFIG GET", name)
        if name not in found:
            raise Refused(f"Redis: there is no setting {name}")
        return str(found[name])

    def set(self, **values: str) -> None:
        """Sets settings; `_` in a name stands for `-`."""
        for name, value in values.items():
            self.ask("CONFIG SET", name.replace("_", "-"), value)

    def clients(self) -> dict[int, dict[str, str]]:
        """Who is connected, by id, without connections of our own."""
        found = self.ask("CLIENT LIST")
        return {int(who["id"]): who for who in found if not who.get("name", "").startswith(OWN)}

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()


class SupervisorClient:
    """The supervisor of one local stack, found through its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ask(self, ask: Ask) -> Answer:
        """Its answer. Raises NotThere, NoAnswer, or Refused where it says that it did not do it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(ask.wait_s + _MARGIN_S)
            try:
                sock.connect(self._address())
                sock.sendall(msgspec.json.encode(ask) + b"\n")
                line = _line(sock)
            except (FileNotFoundError, ConnectionRefusedError) as error:
                raise NotThere("the stack's supervisor is not there") from error
            except OSError as error:  # also the timeout
                raise NoAnswer(f"the stack's supervisor did not answer: {error}") from error
        try:
            answer = msgspec.json.decode(line, type=Answer)
        except msgspec.MsgspecError as error:
            raise Refused(f"the stack's supervisor answered what cannot be read: {error}") from error
        if not answer.ok:
            raise Refused(f"the stack's supervisor answered: {answer.error}")
        return answer

    def status(self) -> Status:
        """What runs, and where. Raises as `ask`."""
        status = self.ask(Ask(do="status", wait_s=2.0)).status
        if status is None:
            raise Refused("the stack's supervisor did not tell its status")
        return status

    def service(self, name: str) -> Service:
        """One service. Raises as `ask`, and Refused for one that there is not."""
        services = self.status().services
        if name not in services:
            raise Refused(f'the stack has no service "{name}"; there are {", ".join(services)}')
        return services[name]

    def _address(self) -> str:
        note = self._folder / "socket.path"  # a folder's path may be too long for a socket's
        return note.read_text().strip() if note.exists() else os.fspath(self._folder / "socket")


def _line(sock: socket.socket) -> bytes:
    got = bytearray()
    while b"\n" not in got:
        piece = sock.recv(65536)
        if not piece:
            raise NoAnswer("the stack's supervisor closed the connection without an answer")
        got += piece
    return bytes(got)
