"""What is written and started before a run's first user?  Header, effective values, sampler, injector.

Among the effective values is what the user told Locust that is not the profile's: a reader of the verdict must see that
the run is not the one that the profile plans, and which option asked for that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from loadtests.capture.clock import clock_identity
from loadtests.capture.sampler import Sampler, SamplerConfig
from loadtests.harness.fault_control import FaultControl
from loadtests.harness.files import journals
from loadtests.harness.process import machine, versions
from loadtests.harness.target import ResolvedTarget, ServiceWatch, upstream_kind
from loadtests.inject.startup_sweep import LEFT_ALONE, heal, users_of
from loadtests.model.errors import HarnessError
from loadtests.model.ids import SLICE_NS
from loadtests.model.injectwire import Begin
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.reading import Loaded
from loadtests.model.records import THE_STACK, Effective, FaultStep, Header, Record, ServiceEnded
from loadtests.model.registry import CONSUMER, USERS
from loadtests.model.runconfig import RunConfig

if TYPE_CHECKING:
    from loadtests.harness.run import ActiveRun


# -- what Locust was told beside the profile

BY_OPTION = "option"
CLASSES = "LOCUST_USER_CLASSES"
NAMES = {
    "num_users": "users",
    "run_time": "run_time",
    "user_classes": "user_classes",
    "config_users": "config_users",
    "tags": "tags",
    "exclude_tags": "exclude_tags",
    "stop_timeout": "stop_timeout",
}
"""Locust's options that change what is played, by their names in Locust's code."""


class Override(NamedTuple):
    """One effective value that is not the profile's."""

    key: str
    value: str  # JSON text
    source: str


def told_to_locust(options: Any = None, argv: list[str] | None = None) -> list[Override]:
    """What command line, variables and files say of `NAMES`, and what a form has changed since (`profile_options`).

    Locust has parsed them before: they are good.
    """
    from locust.argument_parser import get_parser

    parser = get_parser()
    given, _ = parser.parse_known_args(argv)
    sources: dict[str, str] = {}
    for where, settings in parser.get_source_to_settings_dict().items():
        kind, _, path = where.partition("|")
        for key, (action, _text) in settings.items():
            if action is not None and kind != "defaults":
                sources[action.dest] = f"environment {key}" if kind == "environment_variables" else f"file {path}"
    if given.user_classes == os.environ.get(CLASSES, "").split():
        sources["user_classes"] = f"environment {CLASSES}"
    found = []
    for dest, name in NAMES.items():
        value, source = getattr(given, dest), sources.get(dest, BY_OPTION)
        now = getattr(options, dest, value)
        if dest != "num_users" and now != value:  # of that we tell Locust ourselves
            value, source = now, "start form"
        if value:
            found.append(Override(f"locust.{name}", json.dumps(value), source))
    return found


def of_the_users(planned: Mapping[str, int], chosen: Collection[str], consumers: int | None) -> list[Override]:
    """Users that the profile plans and the run lacks: another number of consumers, classes that were not chosen."""
    found = []
    for kind in USERS.values():
        if planned[kind.name] and kind.user_class not in chosen:
            found.append(Override(kind.key, "0", BY_OPTION))
        elif kind is CONSUMER and consumers is not None:
            found.append(Override(kind.key, json.dumps(consumers), BY_OPTION))
    return found


def of_the_rate(users_per_s: float | None) -> list[Override]:
    """Users that start in a second, where it is not what the profile's connect_s asks for."""
    return [] if users_per_s is None else [Override("locust.spawn_rate", json.dumps(users_per_s), BY_OPTION)]


def effective(overrides: Collection[Override]) -> list[Effective]:
    """As a record, none where there is nothing to say."""
    if not overrides:
        return []
    key, value, source = (list(column) for column in zip(*overrides, strict=True))
    return [Effective(key=key, value=value, source=source, relaxed=[False] * len(key))]


# -- a run's begin


def opening_records(
    config: RunConfig,
    loaded: Loaded,
    target: ResolvedTarget,
    *,
    workers: int,
    distributed: bool,
    overrides: Collection[Override],
) -> list[Record]:
    """First records of the leading process's file: the header, and the values in force."""
    return [
        Header(
            run=config.run,
            process="main",
            role="master" if distributed else "standalone",
            profile_sha256=config.profile_sha256,
            origin_ns=config.origin_ns,
            origin_unix_ns=config.origin_unix_ns,
            boot_id=clock_identity(),
            slice_ns=SLICE_NS,
            versions=versions() | target.versions,
            started_at=config.started_at,
            workers=workers,
            machine=machine(),
            frames=0,
        ),
        loaded.effective,
        *effective(overrides),
    ]


def begin_sampling(
    config: RunConfig, profile: Profile, target: ResolvedTarget, emit: Callable[[Record], None]
) -> Sampler:
    """Start to read the target's processes and servers."""
    sampler = Sampler(
        SamplerConfig(
            origin_ns=config.origin_ns,
            every_s=profile.sampling.every_s,
            redis=target.redis_direct,
            postgres=target.postgres_direct,
            database=profile.target.database,
            user=profile.target.read_user,
            gateway_http=target.gateway_http,
            producer_http=target.producer_http,
        ),
        pids=target.pids,
        on_record=emit,
    )
    sampler.start()
    return sampler


def begin_service_watch(target: ResolvedTarget, run: ActiveRun) -> ServiceWatch:
    """Begin to look whether a process of the target ends by itself. Without its links a run cannot go on."""

    def on_end(end: ServiceEnded) -> None:
        run.emit(end)
        if end.service == "toxiproxy":
            run.intake.all_in_trouble(end.at_ns, f"{end.service} {end.what}")
            run.abandon(f"error: {end.service} {end.what} at {run.seconds(end.at_ns):.1f} s")

    def on_vanish(whole_ns: int, how: str) -> None:
        run.emit(ServiceEnded(service=THE_STACK, at_ns=run.clock.now_ns(), what=f"vanished: {how}"))
        run.intake.all_in_trouble(whole_ns, f"{THE_STACK} vanished: {how}")
        run.abandon(f"error: {THE_STACK} vanished: {how}")

    watch = ServiceWatch(target.ends, run.clock.now_ns, on_end, on_vanish)
    watch.start()
    return watch


def begin_faults(
    config: RunConfig, profile: Profile, target: ResolvedTarget, folder: Path, run: ActiveRun
) -> FaultControl:
    """Sweep what earlier runs left, whether or not this one plans a fault, and start the injector.

    Raises HarnessError where it does not get ready, or where another run's injector works at the same Toxiproxy.
    """
    earlier = [path for path in journals() if path.parent != folder]
    for sentence in heal(target.toxiproxy, earlier, Path(target.supervisor) if target.supervisor else None):
        alone = sentence.startswith(LEFT_ALONE)
        run.note(sentence if alone else f"left by an earlier run: {sentence}")
    if others := users_of(target.toxiproxy, earlier):
        raise HarnessError(
            f"run {others[0]} has an injector at Toxiproxy {target.toxiproxy}, and two at once would lift each other's "
            "faults: wait until it has ended"
        )
    begin = Begin(
        run=config.run,
        origin_ns=config.origin_ns,
        toxiproxy=target.toxiproxy,
        proxies=target.proxies,
        upstream_kind={link: upstream_kind(link) for link in target.proxies},
        journal=str(folder / "faults.journal"),
        supervisor=target.supervisor,
        redis=target.redis_direct,
        postgres=target.postgres_direct,
        database=profile.target.database,
        user=profile.target.read_user,
        tls_links=[link for link in target.proxies if profile.target.tls and upstream_kind(link) == "gateway"],
        tls_name=profile.target.tls_name or "",
        test_system=profile.target.test_system,
        gateway_http=target.gateway_http,
        toxiproxy_pid=profile.target.processes.get("toxiproxy", 0),
    )

    def on_fault(step: FaultStep) -> None:
        if step.step == "active":
            run.mark("fault", step.name)
        elif step.step == "lifted":
            run.mark("recovery", step.name)
            if run.fault_chain is not None:
                run.fault_chain.lifted(step.name, step.after_ns)

    control = FaultControl(
        begin,
        profile,
        log=folder / "injector.log",
        emit=run.emit,
        order=run.participants.order,
        on_fault=on_fault,
        consumers=config.consumers,
    )
    control.start()
    return control
