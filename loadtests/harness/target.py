"""Where is the target of this run, and which of its services ended by themselves?

It is the local stack that is up, one started for the run, or external addresses. `ServiceWatch` watches its services
through a run, and tells each end once; an end that a fault asked for is not told: the stack's supervisor knows which
services it ended itself.
"""

from __future__ import annotations

import http.client
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import gevent
import psutil

from loadtests.capture.bounded_clients import get_json
from loadtests.harness.files import journals
from loadtests.inject.startup_sweep import heal
from loadtests.model.errors import BadInput, HarnessError, TickstormError
from loadtests.model.logins import TOKEN_SECRET
from loadtests.model.profile.profile import Profile
from loadtests.model.records import ServiceEnded
from loadtests.model.stackwire import Status
from loadtests.stack.folder import stack_folder
from loadtests.stack.local import LocalStack

_HEALTH_S = 5.0
LOOK_S = 0.2

Ends = Callable[[], Mapping[str, str]]
"""Service -> how it ended, of services that do not run now and were not told to end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedTarget:
    """Every address that a run needs; `""` where there is none."""

    redis: str  # as publishers reach it
    gateway: str  # as consumers reach it
    postgres: str  # as readers reach it
    redis_direct: str
    postgres_direct: str
    gateway_http: str
    producer_http: str
    toxiproxy: str
    proxies: dict[str, str]  # link -> proxy name
    versions: dict[str, str]  # service -> version and origin
    supervisor: str = ""  # folder of the local stack
    pids: Callable[[], dict[str, int]] = field(default=dict)
    ends: Ends = dict  # service -> how it ended by itself
    status: Status | None = None  # of the local stack
    stack: LocalStack | None = None  # only where this run started it and must stop it


def upstream_kind(link: str) -> str:
    """What stands at the far end of a standard link: redis, postgres or gateway."""
    return link.rpartition("-")[2]


def resolve(profile: Profile, progress: Callable[[str], None]) -> ResolvedTarget:
    """Find or start the target. Raises BadInput or HarnessError with sentences for the user."""
    if profile.target.kind == "external":
        return _external(profile)
    folder = stack_folder()
    stack = LocalStack.attach(folder)
    started = None
    if stack is None:
        progress("no local stack is up: starting one for this run")
        if profile.target.auth == "token":  # children inherit it; it is written nowhere
            os.environ.setdefault(TOKEN_SECRET, secrets.token_urlsafe(32))
        else:
            os.environ.pop(TOKEN_SECRET, None)
        stack = LocalStack.up(folder, progress=progress, mine=True)
        started = stack if stack.started else None  # another process may have brought it up meanwhile
    if started is None:
        _ask_alike(profile, stack.status())
    return _local(stack, started, progress)


def _ask_alike(profile: Profile, status: Status) -> None:
    """Refuse a profile whose consumers show tokens to a gateway that asks for none, or none to one that does."""
    gateway = status.services["gateway"]
    if gateway.state != "ready":
        return
    try:
        code, health = get_json(gateway.address, "/health", _HEALTH_S)
    except (OSError, http.client.HTTPException) as error:
        raise HarnessError(f"the gateway of the local stack does not tell its health: {error}") from None
    if code != 200 or not isinstance(health, dict):
        raise HarnessError(f"the gateway of the local stack does not tell its health: status {code}")
    asks = health.get("auth", "none")
    if asks != profile.target.auth:
        raise BadInput(
            f'target.auth: found "{profile.target.auth}", but the local stack that is up was started for "{asks}"; '
            f"bring it down, or start it with {TOKEN_SECRET} set where tokens are wanted"
        )


def _broken(status: Status) -> list[str]:
    return [name for name, service in status.services.items() if service.state != "ready"]


def _local(stack: LocalStack, started: LocalStack | None, progress: Callable[[str], None]) -> ResolvedTarget:
    status = stack.status()
    broken = _broken(status)
    if broken:  # perhaps by a fault of a run that was killed before it could lift it
        for sentence in heal(status.services["toxiproxy"].address, journals(), stack.folder):
            progress(f"left by an earlier run: {sentence}")
        status = stack.status()
        broken = _broken(status)
    if broken:
        raise BadInput(f"the local stack is not ready: {', '.join(broken)}; `tickstorm stack status` says more")

    def pids() -> dict[str, int]:
        return {name: s.pid for name, s in stack.status().services.items() if s.pid is not None}

    return ResolvedTarget(
        redis=status.links["publisher-redis"].listen,
        gateway=status.links["client-gateway"].listen,
        postgres=status.services["postgres"].address,
        redis_direct=status.services["redis"].address,
        postgres_direct=status.services["postgres"].address,
        gateway_http=status.services["gateway"].address,
        producer_http=status.services["producer"].address,
        toxiproxy=status.services["toxiproxy"].address,
        proxies={link: a.proxy for link, a in status.links.items()},
        versions=_versions(status),
        supervisor=status.folder,
        pids=pids,
        ends=ends_of_stack(stack.status, stack.is_there),
        status=status,
        stack=started,
    )


def _versions(status: Status) -> dict[str, str]:
    return {name: f"{s.version} ({s.origin})" for name, s in status.services.items()}


def _external(profile: Profile) -> ResolvedTarget:
    t = profile.target
    if profile.faults and t.toxiproxy is None:
        raise BadInput('target.toxiproxy: missing, but the profile plans faults; name its API as "host:port"')
    missing = sorted({f.link for f in profile.faults if f.link is not None} - t.proxies.keys())
    if missing:
        raise BadInput(f"target.proxies: no proxy is named for the links {', '.join(missing)}")
    if t.ca_file is not None and not Path(t.ca_file).is_file():
        raise BadInput(f'target.ca_file: found "{t.ca_file}", which is no file on this machine')
    return ResolvedTarget(
        redis=t.redis or "",
        gateway=t.gateway or "",
        postgres=t.postgres or "",
        redis_direct=t.redis or "",
        postgres_direct=t.postgres or "",
        gateway_http=t.gateway_http or "",
        producer_http="",
        toxiproxy=t.toxiproxy or "",
        proxies=dict(t.proxies),
        versions={},
        pids=lambda: dict(t.processes),
        ends=ends_of_processes(t.processes),
    )


class StackEnds:
    """The services of a local stack, as its supervisor sees them, and whether there still is a stack.

    A call raises TickstormError where the supervisor does not answer.
    """

    def __init__(self, status: Callable[[], Status], is_there: Callable[[], bool]) -> None:
        self._status, self._is_there = status, is_there
        self.whole = False  # at the last call every service was ready
        self.vanished = ""  # how the whole stack went, all at once
        self._seen: dict[str, int] | None = None  # service -> how often it had ended by itself

    def __call__(self) -> dict[str, str]:
        """Service -> how it ended."""
        self.whole = False
        try:
            found = self._status()
        except TickstormError:
            if not self._is_there():
                self.vanished = "its supervisor is gone"
            raise
        states = {service.state for service in found.services.values()}
        self.whole = states == {"ready"} and not found.ending
        if found.ending:
            self.vanished = "somebody brought it down"
        elif states <= {"dead", "stopped"}:
            self.vanished = "all its services ended at once"
        if self.vanished:
            return {}
        before, self._seen = self._seen, {name: service.ends for name, service in found.services.items()}
        return {
            name: _first_words(name, service.last_end or service.error)
            for name, service in found.services.items()
            # A service that was started again before this look had ended all the same.
            if service.state == "dead" or (before is not None and service.ends > before.get(name, 0))
        }


def ends_of_stack(status: Callable[[], Status], is_there: Callable[[], bool] = lambda: True) -> StackEnds:
    """Those of a local stack."""
    return StackEnds(status, is_there)


def ends_of_processes(pids: Mapping[str, int]) -> Ends:
    """Processes of this machine that a profile names: those that run now and are not there any more later."""
    watched: dict[str, psutil.Process] = {}
    for name, pid in pids.items():
        try:
            watched[name] = psutil.Process(pid)
        except psutil.NoSuchProcess:
            continue  # the sampler says that it has no readings of it

    def ends() -> dict[str, str]:
        return {name: f"ended (process {p.pid})" for name, p in watched.items() if not _runs(p)}

    return ends


class ServiceWatch:
    """The looks of one run. `on_end` gets every end once, and again if the service was started in between.

    `on_vanish` gets once how the whole stack went, and when it was last seen whole: what is lost from then on is not
    the target's doing.
    """

    def __init__(
        self,
        ends: Ends,
        now_ns: Callable[[], int],
        on_end: Callable[[ServiceEnded], None],
        on_vanish: Callable[[int, str], None] | None = None,
    ) -> None:
        self._ends, self._now_ns, self._on_end, self._on_vanish = ends, now_ns, on_end, on_vanish
        self._told: set[str] = set()
        self._whole_ns = 0
        self._life: gevent.Greenlet[..., object] | None = None

    def start(self) -> None:
        """Look from now on."""
        self._life = gevent.spawn(self._look_forever)

    def look(self) -> None:
        """Tell the services that ended since the last look."""
        stack = self._ends if isinstance(self._ends, StackEnds) else None
        began_ns = 0 if stack is None else self._now_ns()
        try:
            ends = self._ends()
        except TickstormError:
            ends = None  # the supervisor does not answer now
        if stack is not None and stack.whole:
            self._whole_ns = began_ns
        if stack is not None and stack.vanished and self._on_vanish is not None:
            self._on_vanish(self._whole_ns, stack.vanished)
            self._on_vanish = None
        if ends is None:
            return
        for name, how in ends.items():
            if name not in self._told:
                self._on_end(ServiceEnded(service=name, at_ns=self._now_ns(), what=how))
        self._told = set(ends)

    def close(self) -> None:
        """Look once more, and then no more."""
        if self._life is not None:
            self._life.kill()
            self._life = None
            self.look()

    def _look_forever(self) -> None:
        while True:
            self.look()
            gevent.sleep(LOOK_S)


def _first_words(name: str, error: str) -> str:
    """`ended by SIGKILL` of `gateway ended by SIGKILL. Its last words: ...`."""
    sentence = error.partition("\n")[0].partition(". ")[0].rstrip(".")
    return sentence.removeprefix(f"{name} ") or "ended"


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
