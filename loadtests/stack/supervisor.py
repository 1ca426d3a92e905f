"""Who owns the servers of the local stack, and does what callers ask?  One process, one thread, one folder.

Servers are forked from the main thread alone: the kernel ends a server when the thread that forked it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from loadtests.model.stackwire import SERVICES, Answer, Ask, Status
from loadtests.stack.errors import StackError
from loadtests.stack.folder import StackFolder, State
from loadtests.stack.install import ensure
from loadtests.stack.links import Ports, links, write_config
from loadtests.stack.orphans import end_left, owned_by
from loadtests.stack.passwords import Passwords
from loadtests.stack.postgresql import template_path
from loadtests.stack.servers import Servers
from loadtests.stack.service import ServiceProcess, Spares
from loadtests.stack.services import (
    NotReady,
    Place,
    Plan,
    ask_http,
    lay_postgres,
    lay_redis,
    place_postgres,
    plans,
)

START_S = 30.0
LONGEST_WAIT_S = 600.0
LINE_BYTES = 1_000_000
TARGET = ("gateway", "producer")
SERVERS = ("redis", "toxiproxy", "postgres")
# The target takes longest to load, and waits for the servers by itself; postgres needs a copy of its data first.
START_ORDER = ("redis", "toxiproxy", *TARGET, "postgres")


class Supervisor:
    """The stack in one folder, whose lock the caller holds."""

    def __init__(
        self,
        folder: StackFolder,
        *,
        wanted_ports: Mapping[str, int],
        gateway_env: Mapping[str, str],
        tell: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._wanted = wanted_ports
        self._gateway_env = dict(gateway_env)
        self._passwords = Passwords()
        self._tell = tell
        self._began = time.monotonic()
        self._ports: Ports | None = None
        self._members: dict[str, ServiceProcess] = {}
        self._spares = Spares(self._plan_for_spare, self._note)
        self._servers: Servers | None = None
        self._place: Place | None = None
        self._private: list[Path] = []
        self._ending = asyncio.Event()
        self._closing = False
        self._server: asyncio.Server | None = None

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Start everything, call `on_ready`, serve until told to end. Raises StackError or BadInput at start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        try:
            starting = asyncio.create_task(self._start())
            ending = asyncio.create_task(self._ending.wait())
            await asyncio.wait([starting, ending], return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                await asyncio.wait([starting])
                raise StackError("The stack was told to end before it was ready.")
            starting.result()
            on_ready()
            await ending
        finally:
            await self._end_all()
            if self._server is not None:
                self._server.close()
            if self._ports is not None:
                self._ports.close()
            self._folder.clear()

    async def _start(self) -> None:
        self._clean_up_after_the_dead()
        servers = ensure(os.environ, self._tell)
        self._ports = Ports(self._wanted)
        folder = self._folder
        folder.data.mkdir(parents=True)
        folder.logs.mkdir(exist_ok=True)
        self._passwords.keep(folder.root, self._ports.numbers)
        lay_redis(folder, self._ports["redis"], self._passwords)
        for service in SERVICES:
            with contextlib.suppress(FileNotFoundError):
                folder.log(service).replace(folder.log(f"{service}.before"))
        write_config(folder.links_config, links(self._ports.numbers))
        place = place_postgres(folder, servers.postgres)
        self._servers, self._place = servers, place
        self._private += filter(None, [place.private])
        self._note()
        table = plans(
            folder=folder, servers=servers, ports=self._ports.numbers, place=place, gateway_env=self._gateway_env,
            passwords=self._passwords,
        )  # fmt: skip
        self._members = {name: ServiceProcess(plan, self._note, self._ports) for name, plan in table.items()}
        await self._listen()
        for name in START_ORDER:
            if name == "postgres":
                lay_postgres(place, template_path(servers.postgres), self._passwords)
            self._members[name].launch()
        await self._all_ready()

    async def _all_ready(self) -> None:
        """Wait for them together; the first that fails is the error."""
        deadline = time.monotonic() + START_S
        waiting = [asyncio.create_task(self._one_ready(name, deadline)) for name in SERVICES]
        try:
            for done in asyncio.as_completed(waiting):
                await done
        finally:
            for task in waiting:
                task.cancel()

    async def _one_ready(self, name: str, deadline: float) -> None:
        member = self._members[name]
        await member.ready(deadline)
        service = member.service
        after_ms = round((time.monotonic() - self._began) * 1000)
        self._tell(f"{name}: ready on {service.address} after {after_ms} ms ({service.version}, {service.origin})")

    def _clean_up_after_the_dead(self) -> None:
        for text in end_left(self._folder):
            self._tell(f"stack: {text}")

    def _note(self) -> None:
        owned = {
            name: who
            for name, member in (self._members | self._spares.members).items()
            if member.child is not None and member.child.ended() is None and (who := member.child.owned()) is not None
        }
        self._folder.write_state(
            State(
                ports=self._ports.numbers if self._ports is not None else {},
                gateway_env=self._gateway_env,
                owned=owned,
                frozen=owned_by([pid for member in self._members.values() for pid in member.frozen]),
                private=[str(path) for path in self._private],
            )
        )

    def _reap(self) -> None:
        for member in (self._members | self._spares.members).values():
            was = member.state
            member.notice()
            if member.state != was:
                sys.stderr.write(f"{member.service.error}\n")
                sys.stderr.flush()

    async def _end_all(self) -> None:
        self._closing = True
        await self._spares.close()
        for names in (TARGET, SERVERS):
            members = [self._members[name] for name in names if name in self._members]
            await asyncio.gather(*(member.close() for member in members))

    async def _listen(self) -> None:
        path, private = self._folder.choose_socket()
        if private is not None:
            self._private.append(private)
            self._note()
        path.unlink(missing_ok=True)
        old = os.umask(0o177)  # the socket is for us alone
        try:
            self._server = await asyncio.start_unix_server(self._converse, path, limit=LINE_BYTES)
        finally:
            os.umask(old)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                answer = await self._answer(line)
                writer.write(msgspec.json.encode(answer) + b"\n")
                await writer.drain()
                if answer.ok and answer.status is None:  # only `down` answers so
                    self._ending.set()
                    break
        except (ConnectionError, ValueError) as error:  # the caller left, or its line is too long
            sys.stderr.write(f"a caller was let go: {error}\n")
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> Answer:
        try:
            ask = msgspec.json.decode(line, type=Ask)
        except msgspec.DecodeError as error:
            return Answer(ok=False, error=f"This is no request to the local stack: {error}")
        now = time.monotonic_ns()
        if ask.do == "status":
            self._reap()
            return Answer(ok=True, status=self.status(), before_ns=now, after_ns=time.monotonic_ns())
        if self._closing:
            return Answer(ok=False, error="The local stack is ending.")
        if ask.do == "down":
            await self._end_all()
            return Answer(ok=True, before_ns=now, after_ns=time.monotonic_ns())
        try:
            if ask.do == "switch":
                before, after = await self._switch(ask)
            elif ask.do == "spare":
                before, after = await self._spares.start(ask.service or "", min(max(ask.wait_s, 0.0), LONGEST_WAIT_S))
            elif ask.do == "end-spare":
                before, after = await self._spares.end(ask.service or "")
            else:
                before, after = await self._act(ask)
        except (StackError, NotReady) as error:
            return Answer(ok=False, error=str(error), status=self.status(), before_ns=now, after_ns=time.monotonic_ns())
        except TimeoutError:
            text = f"{ask.service}: {ask.do} took longer than {ask.wait_s:g} s."
            return Answer(ok=False, error=text, status=self.status(), before_ns=now, after_ns=time.monotonic_ns())
        return Answer(ok=True, status=self.status(), before_ns=before, after_ns=after)

    async def _act(self, ask: Ask) -> tuple[int, int]:
        member = self._members.get(ask.service or "")
        if member is None:
            raise StackError(f"{ask.do} needs a service: one of {', '.join(SERVICES)}.")
        return await member.act(ask.do, min(max(ask.wait_s, 0.0), LONGEST_WAIT_S))

    def _plan_for_spare(self, service: str) -> tuple[Plan, Path | None]:
        """The command of a second server, on a port of its own; PostgreSQL with a fresh copy of the template."""
        if self._ports is None or self._servers is None or self._place is None:
            raise StackError("The local stack is not there yet.")
        place = replace(self._place, data=self._place.data.with_name("postgres-spare"), private=None)
        ports = self._ports.numbers | {service: self._ports.one_more()}
        table = plans(
            folder=self._folder, servers=self._servers, ports=ports, place=place, gateway_env=self._gateway_env,
            passwords=self._passwords,
        )  # fmt: skip
        plan = table[service]
        if service == "redis":
            lay_redis(self._folder, ports["redis"], self._passwords)
        if service == "postgres":
            shutil.rmtree(place.data, ignore_errors=True)
            lay_postgres(place, template_path(self._servers.postgres), self._passwords)
        plan = replace(plan, command=replace(plan.command, log=self._folder.log(f"{service}-spare")))
        return plan, place.data if service == "postgres" else None

    async def _switch(self, ask: Ask) -> tuple[int, int]:
        try:
            values = {name: int(text) for name, text in ask.settings.items()}
        except ValueError as error:
            raise StackError(f"Switches are whole numbers: {error}.") from None
        before_ns = time.monotonic_ns()
        gateway = self._members["gateway"]
        if gateway.child is None or not gateway.child.listens(
            gateway.plan.address
        ):  # a stranger may, and gets no token
            raise StackError("The gateway does not listen, so it was not told its switches.")
        status, answer = await ask_http(gateway.plan.address, "/switch", values, token=self._passwords.switches)
        if status != 200:
            raise StackError(f"The gateway refused with {status}: {answer.decode('utf-8', 'replace').strip()}")
        return before_ns, time.monotonic_ns()

    def status(self) -> Status:
        """What runs, and where."""
        assert self._ports is not None
        return Status(
            services={name: self._members[name].service for name in SERVICES},
            links=links(self._ports.numbers),
            folder=str(self._folder.root),
            supervisor_pid=os.getpid(),
            spares=dict(self._spares.services()),
            ending=self._closing,
        )
