"""Which second servers does the stack have, for a link that is led away from the first one?  Starts and ends them.

A spare is a server of its own, with data of its own: nobody copies to it what the first one holds.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from loadtests.model.stackwire import SPARES, Service
from loadtests.stack.errors import StackError
from loadtests.stack.service import ServiceProcess
from loadtests.stack.services import Plan


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
        """Whose spare runs, and where."""
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
