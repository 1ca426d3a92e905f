"""In which state is one service, and how does it get into another?  Acts on one process and asks it for readiness.

A spare is a second server of a service, for a link that is led away from the first one. It has data of its own: nothing
copies to it what the first one holds.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from loadtests.model.stackwire import SPARES, Action, Service, ServiceState
from loadtests.stack.child import Child, exit_text
from loadtests.stack.errors import StackError
from loadtests.stack.links import Ports
from loadtests.stack.services import NotReady, Plan

FIRST_PAUSE_S = 0.005
LAST_PAUSE_S = 0.05
HOLD_S = 0.001
STOP_S = 5.0  # after which a server that was asked to end is ended


class ServiceProcess:
    """One service of the stack. `changed` is called after every start and end of its process.

    `ports` holds its ports while it does not run; a spare has none.
    """

    def __init__(self, plan: Plan, changed: Callable[[], None], ports: Ports | None = None) -> None:
        self.plan = plan
        self._ports = ports
        self.child: Child | None = None
        self.state: ServiceState = "stopped"
        self._changed = changed
        self._version = ""
        self._error = ""
        self._ends, self._last_end = 0, ""
        self._missing = ""
        self._ready_ns: int | None = None
        self._down_ns: int | None = None
        self._started_ns: int | None = None
        self._watch: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._closed = False

    @property
    def service(self) -> Service:
        """What a caller gets to see."""
        return Service(
            address=self.plan.address,
            pid=self.child.pid if self.child is not None and self.child.ended() is None else None,
            version=self._version,
            state=self.state,
            origin=self.plan.origin,
            ready_ns=self._ready_ns,
            down_ns=self._down_ns,
            started_ns=self._started_ns,
            error=self._error,
            ends=self._ends,
            last_end=self._last_end,
        )

    @property
    def frozen(self) -> list[int]:
        """All processes that stand still because it was paused."""
        return [] if self.child is None else self.child.frozen

    async def act(self, do: Action, wait_s: float) -> tuple[int, int]:
        """Do it; monotonic ns before it and when it had taken effect. One at a time. Raises StackError."""
        actions = {
            "start": self.start,
            "stop": self.stop,
            "kill": self.kill,
            "pause": self.pause,
            "resume": self.resume,
            "restart": self.restart,
        }
        async with self._turn:
            before_ns = time.monotonic_ns()
            await actions[do](time.monotonic() + wait_s)
            return before_ns, time.monotonic_ns()

    def launch(self) -> None:
        """Start the process and begin to ask whether it is ready. Raises StackError."""
        if self._closed:
            raise StackError("The local stack is ending.")
        self._error, self._missing, self._ready_ns = "", "", None
        self._started_ns = time.monotonic_ns()
        if self._ports is not None:
            self._ports.let_go(*self.plan.ports)
        try:
            self.child = Child.start(self.plan.command)
        except StackError as error:
            self.state, self._error = "dead", str(error)
            self._hold()
            raise
        self.state = "starting"
        self._changed()
        self._ask_again()

    async def start(self, deadline: float) -> None:
        """Start it unless it runs, and wait until it is ready."""
        self.notice()
        if self.state == "paused":
            raise StackError(f"{self.plan.name} is paused: resume it.")
        if self.state in ("stopped", "dead"):
            self.launch()
        await self.ready(deadline)

    async def ready(self, deadline: float) -> None:
        """Return when it is ready. Raises StackError with its last words when it ends, or is not in time."""
        if self._watch is not None:
            await asyncio.wait([self._watch], timeout=max(deadline - time.monotonic(), 0.0))
        self.notice()
        if self.state == "dead":
            raise StackError(self._error)
        if self.state != "ready":
            raise StackError(f"{self.plan.name} was not ready in time: {self._missing or 'no answer'}.{self._said()}")

    async def stop(self, deadline: float) -> None:
        """Ask it to end, and end it where it does not."""
        await self._forget()
        if self.state != "stopped":
            self._down_ns = time.monotonic_ns()
        if self.child is not None:
            self._hold_soon(0.0)
            await self.child.stop(min(deadline, time.monotonic() + STOP_S))
        self._gone()

    async def kill(self, deadline: float) -> None:
        """SIGKILL, with all that it forked."""
        self.notice()
        if self.child is None or self.child.ended() is not None:
            raise StackError(f"{self.plan.name} does not run, so it was not killed.")
        await self._forget()
        self._down_ns = time.monotonic_ns()
        self._hold_soon(0.0)
        async with asyncio.timeout_at(_loop_time(deadline)):
            await self.child.kill()
        self._gone()

    async def close(self) -> None:
        """Stop it for good; a caller that waits for its readiness learns so at once."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        await self.act("stop", STOP_S)

    async def restart(self, deadline: float) -> None:
        """Stop it if it runs, start it, wait until it is ready."""
        await self.stop(deadline)
        await self.start(deadline)

    async def pause(self, deadline: float) -> None:
        """SIGSTOP, with all that it forked; return when all of them stand still."""
        self.notice()
        if self.state == "paused":
            return
        if self.child is None or self.child.ended() is not None:
            raise StackError(f"{self.plan.name} does not run, so it was not paused.")
        await self._forget()
        self._down_ns = time.monotonic_ns()
        if not await self.child.pause(deadline):
            self.notice()
            if self.child.ended() is None:
                self.child.resume()
                self._ask_again()
            raise StackError(f"{self.plan.name} did not stand still in time.")
        self.state = "paused"
        self._changed()  # the keeper, which cleans up after us, must know all that stands still

    async def resume(self, deadline: float) -> None:
        """SIGCONT, then wait until it is ready. Safe to repeat."""
        self.notice()
        if self.child is None or self.child.ended() is not None:
            raise StackError(f"{self.plan.name} does not run, so it cannot be resumed.")
        if self.state == "paused":
            self._started_ns = time.monotonic_ns()
            self.child.resume()
            self._changed()
            self.state, self._ready_ns = "starting", None
            self._ask_again()
        await self.ready(deadline)

    def notice(self) -> None:
        """Where the process has ended by itself, say so."""
        child = self.child
        if child is None or child.asked_to_end or self.state in ("dead", "stopped"):
            return
        status = child.ended()
        if status is not None:
            self.state = "dead"
            self._down_ns = time.monotonic_ns()
            self._error = self._last_end = f"{self.plan.name} {exit_text(status)}.{self._said()}"
            self._ends += 1
            self._hold()
            self._changed()

    def _said(self) -> str:
        said = self.child.log_tail() if self.child is not None else ""
        return f" Its last words:\n{said}" if said else " It said nothing."

    def _hold_soon(self, after_s: float = HOLD_S) -> None:
        """Again and again from when it is asked to end: a server may let a port go long before it has ended."""
        asyncio.get_running_loop().call_later(after_s, self._hold)

    def _hold(self) -> None:
        """No other process may listen where it is missed, and be told what was meant for it."""
        child = self.child
        if self._ports is None or child is None or not (child.asked_to_end or child.ended() is not None):
            return
        if not self._ports.hold(*self.plan.ports) and child.ended() is None:
            self._hold_soon()

    def _gone(self) -> None:
        self._hold()
        self.state, self._ready_ns, self._error = "stopped", None, ""
        self._changed()

    def _ask_again(self) -> None:
        self._watch = asyncio.create_task(self._until_ready(), name=f"ready {self.plan.name}")

    async def _forget(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
            self._watch = None

    async def _until_ready(self) -> None:
        pause_s = FIRST_PAUSE_S
        while self.child is not None and self.child.ended() is None:
            try:
                self._version = await self.plan.probe()
                ready_ns = time.monotonic_ns()
                if not self.child.listens(self.plan.address):
                    raise NotReady(f"another process listens on {self.plan.address}")
            except NotReady as missing:
                self._missing = str(missing)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 1.3, LAST_PAUSE_S)
            else:
                self._ready_ns = ready_ns
                self.state = "ready"
                return


def _loop_time(monotonic: float) -> float:
    return asyncio.get_running_loop().time() + monotonic - time.monotonic()


class Spares:
    """At most one spare of each service that may have one.

    `plan_for` says with which command a second server starts and where its own data lies (None: it has none); it raises
    StackError where the data cannot be laid. `changed` is called after every start and end of a process.
    """

    def __init__(self, plan_for: Callable[[str], tuple[Plan, Path | None]], changed: Callable[[], None]) -> None:
        self._plan_for, self._changed = plan_for, changed
        self._members: dict[str, ServiceProcess] = {}
        self._data: dict[str, Path] = {}
        self._turn = asyncio.Lock()
        self._closed = False

    @property
    def members(self) -> dict[str, ServiceProcess]:
        """Those that were started and not ended, by the name that their state is noted under."""
        return {f"{name}-spare": member for name, member in self._members.items()}

    def services(self) -> Iterator[tuple[str, Service]]:
        """The services whose spares run, and where."""
        for name, member in self._members.items():
            yield name, member.service

    async def start(self, service: str, wait_s: float) -> tuple[int, int]:
        """Starts the spare of a service unless it runs, and waits until it is ready. Raises StackError."""
        if service not in SPARES:
            raise StackError(f"spare needs one of {', '.join(SPARES)}.")
        async with self._turn:
            if self._closed:
                raise StackError("The local stack is ending.")
            before_ns = time.monotonic_ns()
            member = self._members.get(service)
            if member is None or member.service.pid is None:
                await self._end(service)
                plan, data = self._plan_for(service)
                if data is not None:
                    self._data[service] = data
                member = self._members[service] = ServiceProcess(replace(plan, name=f"{service}-spare"), self._changed)
            try:
                await member.start(time.monotonic() + wait_s)
            except StackError:
                await self._end(service)
                raise
            return before_ns, time.monotonic_ns()

    async def end(self, service: str) -> tuple[int, int]:
        """Ends the spare of a service and removes its data. Safe to repeat. Raises StackError."""
        async with self._turn:
            before_ns = time.monotonic_ns()
            await self._end(service)
            return before_ns, time.monotonic_ns()

    async def close(self) -> None:
        """Ends them all, for good."""
        async with self._turn:
            self._closed = True
            for service in list(self._members):
                await self._end(service)

    async def _end(self, service: str) -> None:
        member = self._members.get(service)
        if member is not None:
            await member.close()
            del self._members[service]
            self._changed()
        if (data := self._data.pop(service, None)) is not None:
            shutil.rmtree(data, ignore_errors=True)
