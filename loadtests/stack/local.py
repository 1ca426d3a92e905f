"""How does a program start, find and end a local stack?  Talks to its supervisor over a plain Unix socket.

Works from threads, from other processes and under gevent's patching: each request is a connection of its own.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import msgspec

from loadtests.model.errors import BadInput
from loadtests.model.stackwire import Answer, Ask, Status
from loadtests.stack.child import tail
from loadtests.stack.errors import OwnedByAnother, StackError, from_wire
from loadtests.stack.folder import StackFolder
from loadtests.stack.install import ensure, silent
from loadtests.stack.orphans import myself
from loadtests.stack.passwords import adopt
from loadtests.stack.postgresql import python_environment

START_S = 90.0
CONNECT_S = 5.0
SLACK_S = 10.0  # beyond what a request allows the supervisor to take
END_S = 20.0


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    """What a supervisor says while it starts."""

    progress: str = ""
    ready: bool = False
    error: str = ""
    kind: str = ""


class LocalStack:
    """A running local stack. As a context manager it brings down what it started itself.

    Its passwords are in this process's environment from now on, and in that of the children that it starts.
    """

    def __init__(self, folder: StackFolder, keeper: subprocess.Popen[bytes] | None = None) -> None:
        self._folder = folder
        self._keeper = keeper
        adopt(folder.root)

    @classmethod
    def up(
        cls,
        folder: Path,
        *,
        ports: Mapping[str, int] | None = None,
        gateway_env: Mapping[str, str] | None = None,
        progress: Callable[[str], None] | None = None,
        mine: bool = False,
    ) -> LocalStack:
        """A stack in `folder` with every service ready: a new one, or the one that runs there already.

        `ports` maps services and links to ports that they must have; all others get a free one. `mine`: a new one ends
        soon after this process did, however that ended, unless a run is using it. Raises PortInUse,
        MissingServer or BadInput (the user's to mend) and StackError (with the last words of the server that failed,
        or where the running stack is another one than asked for).
        """
        tell = progress or silent
        home = StackFolder(root=Path(folder).absolute())
        try:
            return cls._join(home, ports, gateway_env, tell) or cls._begin(home, ports, gateway_env, tell, mine=mine)
        except OwnedByAnother:  # another process began one in the same instant
            joined = cls._join(home, ports, gateway_env, tell)
            if joined is None:
                raise
            return joined

    @classmethod
    def _join(
        cls,
        home: StackFolder,
        ports: Mapping[str, int] | None,
        gateway_env: Mapping[str, str] | None,
        tell: Callable[[str], None],
    ) -> LocalStack | None:
        """The stack that runs there, once it is ready, if it is the one that is asked for."""
        running = cls.attach(home.root)
        if running is None:
            return None
        running._must_fit(ports, gateway_env)
        tell(f"stack: already running in {home.root}")
        running._await_ready()
        return running

    @classmethod
    def _begin(
        cls,
        home: StackFolder,
        ports: Mapping[str, int] | None,
        gateway_env: Mapping[str, str] | None,
        tell: Callable[[str], None],
        *,
        mine: bool,
    ) -> LocalStack:
        ensure(os.environ, tell)
        try:
            home.make()
            home.logs.mkdir(exist_ok=True)
        except OSError as error:
            raise BadInput(f"The stack cannot live in {home.root}: {error.strerror or error}.") from None
        argv = [sys.executable, "-P", "-m", "loadtests.stack", "--folder", str(home.root)]
        argv += ["--ports", msgspec.json.encode(dict(ports or {})).decode()]
        argv += ["--gateway-env", msgspec.json.encode(dict(gateway_env or {})).decode()]
        argv += ["--owner", myself()] if mine else []
        with home.log("supervisor").open("ab") as log:
            keeper = subprocess.Popen(
                argv, env=python_environment(os.environ), cwd=home.root, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            _follow_start(keeper, home, tell)
        except BaseException:  # Ctrl-C too must not leave half a stack
            _end(keeper)
            raise
        finally:
            assert keeper.stdout is not None
            keeper.stdout.close()
        return cls(home, keeper)

    @classmethod
    def attach(cls, folder: Path) -> LocalStack | None:
        """The stack that runs in `folder`, or None. Raises StackError where one lives that does not answer."""
        home = StackFolder(root=Path(folder).absolute())
        deadline = time.monotonic() + CONNECT_S
        while home.held():
            stack = cls(home)
            try:
                stack.status()
            except StackError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)  # it may be about to listen, or about to end
            else:
                return stack
        return None

    @property
    def folder(self) -> Path:
        """Where the stack keeps its things."""
        return self._folder.root

    @property
    def started(self) -> bool:
        """Whether it was started here, and so is ours to stop; not one that was up, or that another process began."""
        return self._keeper is not None

    def is_there(self) -> bool:
        """Whether its supervisor, or anything that it started, lives. Raises BadInput where we may not know."""
        return self._folder.held()

    def log(self, service: str) -> Path:
        """The log of one service."""
        return self._folder.log(service)

    def status(self) -> Status:
        """What runs, and where. Raises StackError."""
        answer = self.ask(Ask(do="status"))
        if answer.status is None:
            raise StackError(answer.error or "The local stack did not tell its state.")
        return answer.status

    def ask(self, ask: Ask) -> Answer:
        """The supervisor's answer, also where it says no. Raises StackError where there is none."""
        line = b""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
                link.settimeout(CONNECT_S)
                link.connect(str(self._folder.socket()))
                link.settimeout(max(ask.wait_s, 0.0) + SLACK_S)
                link.sendall(msgspec.json.encode(ask) + b"\n")
                while not line.endswith(b"\n"):
                    part = link.recv(65_536)
                    if not part:
                        raise StackError(f"The local stack in {self.folder} ended before it answered.")
                    line += part
            return msgspec.json.decode(line, type=Answer)
        except (OSError, msgspec.DecodeError) as error:
            raise StackError(f"The local stack in {self.folder} does not answer: {error}") from None

    def down(self) -> None:
        """End every service and the supervisor. Safe to repeat. Raises StackError where something is left."""
        try:
            answer = self.ask(Ask(do="down"))
        except StackError:
            if self._folder.held():
                raise
        else:
            if not answer.ok:
                raise StackError(answer.error)
        deadline = time.monotonic() + END_S
        while self._folder.held():
            if time.monotonic() > deadline:
                raise StackError(f"The supervisor of {self.folder} did not end within {END_S:g} s.")
            time.sleep(0.005)
        if self._keeper is not None:
            self._keeper.wait(END_S)
            self._keeper = None

    def __enter__(self) -> LocalStack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.started:
            self.down()

    def _must_fit(self, ports: Mapping[str, int] | None, gateway_env: Mapping[str, str] | None) -> None:
        state = self._folder.read_state()
        other = {name: port for name, port in (ports or {}).items() if state.ports.get(name) != port}
        if other or (gateway_env is not None and dict(gateway_env) != state.gateway_env):
            what = (
                ", ".join(f"{name} on port {state.ports.get(name)}" for name in sorted(other)) or "another gateway_env"
            )
            raise StackError(f"A stack already runs in {self.folder}, with {what}. Bring it down first.")

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_S
        while any(service.state == "starting" for service in self.status().services.values()):
            if time.monotonic() > deadline:
                raise StackError(f"The stack in {self.folder} has been starting for over {START_S:g} s.")
            time.sleep(0.02)


def _follow_start(keeper: subprocess.Popen[bytes], home: StackFolder, tell: Callable[[str], None]) -> None:
    """Hand on progress until the supervisor says that all is ready. Raises what it reports."""
    assert keeper.stdout is not None
    deadline = time.monotonic() + START_S
    rest = b""
    pipe = keeper.stdout.fileno()
    while True:
        readable, _, _ = select.select([pipe], [], [], max(deadline - time.monotonic(), 0.0))
        if not readable:
            raise StackError(f"The stack was not ready within {START_S:g} s. See {home.logs}.")
        part = os.read(pipe, 65_536)
        if not part:
            said = tail(home.log("supervisor"))
            raise StackError(f"The supervisor ended before the stack was ready. It said:\n{said}")
        *lines, rest = (rest + part).split(b"\n")
        for text in lines:
            line = msgspec.json.decode(text, type=_Line)
            if line.error:
                raise from_wire(line.kind, line.error)
            if line.ready:
                return
            tell(line.progress)


def _end(keeper: subprocess.Popen[bytes]) -> None:
    """Let a supervisor that is not wanted any more end in order, else at once."""
    with contextlib.suppress(ProcessLookupError):
        keeper.send_signal(signal.SIGTERM)
    try:
        keeper.wait(END_S)
    except subprocess.TimeoutExpired:
        keeper.kill()
        keeper.wait()
