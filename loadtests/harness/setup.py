"""What is written and started before a run's first user?  Header, effective values, sampler, injector."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from loadtests.capture.clock import clock_identity
from loadtests.capture.sampler import Sampler, SamplerConfig
from loadtests.harness.fault_control import FaultControl
from loadtests.harness.files import journals
from loadtests.harness.locust_overrides import Override, effective
from loadtests.harness.process import machine, versions
from loadtests.harness.service_watch import ServiceWatch
from loadtests.harness.target import ResolvedTarget, upstream_kind
from loadtests.inject.startup_sweep import LEFT_ALONE, heal, users_of
from loadtests.model.errors import HarnessError
from loadtests.model.ids import SLICE_NS
from loadtests.model.injectwire import Begin
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.reading import Loaded
from loadtests.model.records import THE_STACK, FaultStep, Header, Record, ServiceEnded
from loadtests.model.runconfig import RunConfig

if TYPE_CHECKING:
    from loadtests.harness.run import ActiveRun


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
