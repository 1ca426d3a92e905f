"""Where is the target of this run?  The local stack that is up, one started for the run, or external addresses."""

from __future__ import annotations

import http.client
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.capture.bounded_clients import get_json
from loadtests.harness.files import journals
from loadtests.harness.service_watch import Ends, ends_of_processes, ends_of_stack
from loadtests.inject.startup_sweep import heal
from loadtests.model.errors import BadInput, HarnessError
from loadtests.model.logins import TOKEN_SECRET
from loadtests.model.profile.profile import Profile
from loadtests.model.stackwire import Status
from loadtests.stack.folder import stack_folder
from loadtests.stack.local import LocalStack

_HEALTH_S = 5.0


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
