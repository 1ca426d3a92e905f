"""What does the harness do in the process that leads, standalone or master?  Prepares runs and ends them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from math import ceil, inf
from pathlib import Path
from typing import Any

import gevent
import msgspec
from gevent.event import Event
from locust.runners import STATE_SPAWNING, MasterRunner

from loadtests import extensions
from loadtests.capture.clock import ClockServer, clock_identity
from loadtests.drive.run_context import RunContext
from loadtests.harness import worker
from loadtests.harness.files import new_id, replace_file, reports_folder
from loadtests.harness.live import StatusLine
from loadtests.harness.participant import Participant
from loadtests.harness.process import VERSION, heed_a_closed_terminal, heed_ctrl_c, versions
from loadtests.harness.run import ActiveRun
from loadtests.harness.setup import (
    begin_faults,
    begin_sampling,
    begin_service_watch,
    of_the_rate,
    of_the_users,
    opening_records,
    told_to_locust,
)
from loadtests.harness.slots import BalancedDispatcher, LocalSlots
from loadtests.harness.stack_lock import StackHold
from loadtests.harness.target import ResolvedTarget, resolve
from loadtests.model.contract import Contract
from loadtests.model.errors import BadInput, HarnessError
from loadtests.model.live import Live
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.reading import Loaded, read_effective
from loadtests.model.registry import CONSUMER, USERS, wanted
from loadtests.model.runconfig import OPTION, RunConfig, encode_config
from loadtests.model.words import printable
from loadtests.stack.folder import stack_folder

log = logging.getLogger("tickstorm")
LOCAL = "worker-0"
"""Process name of the only participant of a standalone run."""
LEAST_SPAWN_RATE = 100.0
"""Users that Locust starts in a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The profile that the next run takes, and what an option or a form overrode: consumers, the ramp-up."""

    loaded: Loaded
    folder: Path  # of the profile's file
    name: str = ""  # by which a form chooses it
    consumers: int | None = None
    users_per_s: float | None = None  # None: the profile's connect_s decides

    def with_rate(self, users_per_s: float) -> Chosen:
        """The same, users starting at another rate. Raises BadInput where they would not be connected in time."""
        users, limit_s = sum(self.planned.values()), self.loaded.profile.run.connect_s
        if not users_per_s * limit_s >= users or users_per_s == inf:
            raise BadInput(
                f"ramp up: found {users_per_s:g} users/s, allowed from {ceil(users / limit_s * 10) / 10:g}: {users} "
                f"users must be connected within run.connect_s = {limit_s:g} s of the profile"
            )
        return replace(self, users_per_s=users_per_s)

    def with_users(self, users: int) -> Chosen:
        """The same with another number of users in all: consumers make the difference. Raises BadInput."""
        others = sum(self.planned.values()) - self.planned[CONSUMER.name]
        if users <= others:
            raise BadInput(f"users: found {users}, allowed from {others + 1}: {others} publish or read, others consume")
        return replace(self, consumers=users - others)

    def while_running(self, classes: Iterable[Any]) -> range:
        """With which numbers of users in all a run of these classes may go on."""
        begun = self.users_of(classes)
        others = begun - (self.planned[CONSUMER.name] if CONSUMER.user_class in {c.__name__ for c in classes} else 0)
        return range(others + 1, begun + 1)

    def may_go_on_with(self, users: int, classes: Iterable[Any]) -> None:
        """Raises BadInput where a run of these classes cannot have another number of users in all."""
        allowed = self.while_running(classes)
        if users not in allowed:
            others = allowed.start - 1
            raise BadInput(
                f"users: found {users}, allowed while this run goes on is {allowed.start} to {allowed.stop - 1}: "
                f"{others} publish or read and stay, consumers can be taken away and brought back; more of them need "
                "a new run"
            )

    def users_of(self, classes: Iterable[Any]) -> int:
        """Users in all; a locustfile may have classes of its user's own: the profile knows nothing of them."""
        return sum(self.planned_of(c, c.fixed_count) for c in classes)

    def planned_of(self, user_class: Any, otherwise: int) -> int:
        """Users of a class of Locust's; a class that is none of ours has as many as its file says."""
        return next((self.planned[k.name] for k in USERS.values() if k.user_class == user_class.__name__), otherwise)

    @property
    def planned(self) -> dict[str, int]:
        """Users of each kind."""
        found = wanted(self.loaded.profile)
        return found if self.consumers is None else found | {CONSUMER.name: self.consumers}

    def rate_of(self, users: int) -> float:
        """How many of them Locust starts in a second: all within a quarter of connect_s, the rest is for the target."""
        if self.users_per_s is not None:
            return self.users_per_s
        return max(LEAST_SPAWN_RATE, users * 4 / self.loaded.profile.run.connect_s)

    @property
    def target(self) -> str:
        """What Locust shows as host; the profile alone decides."""
        return self.loaded.profile.target.gateway or "the local stack"

    def users_here(self, options: Any) -> int:
        """Users that start in processes of this machine that begin with us; those of other workers are their own."""
        alone = not options.master or options.processes
        return sum(self.planned.values()) if alone else 0


def not_the_target(host: str, chosen: Chosen) -> str:
    """Why a host that Locust was told is refused."""
    return f'host: found "{host[:100]}", allowed is "{chosen.target}" or none: the profile names the target ([target])'


class Leader:
    """The leading process: one run at a time, a participant of its own where there are no workers."""

    def __init__(self, environment: Any, runner: Any, chosen: Chosen, run_id: str | None) -> None:
        self._environment, self._runner = environment, runner
        self.chosen = chosen
        self._run_id = run_id
        self.run: ActiveRun | None = None
        self._participant: Participant | None = None
        self._target: ResolvedTarget | None = None
        self._hold: StackHold | None = None
        self._classes = list(environment.user_classes)  # the classes that Locust was started with
        self._ready = Event()
        self.begun = Event()
        """Cleared by a start, set when Locust's own state says that a run is on."""
        self.begun.set()
        self.preparing = False
        """A run was started, and has no history yet."""
        self.failed = ""
        """Why the last start came to nothing."""
        self._status = StatusLine()
        self.distributed = isinstance(runner, MasterRunner)
        self._clock: ClockServer | None = None
        if self.distributed:
            bound = environment.parsed_options.master_bind_host
            self._clock = ClockServer("" if bound == "*" else bound)
            runner.register_message(worker.TAKE, worker.checked(self._take, worker.Take))
            runner.register_message(worker.GIVE, worker.checked(self._give, worker.Give))
            runner.register_message(worker.CHUNK, worker.checked(self._chunk, worker.Chunk))
            runner.register_message(worker.STATUS, worker.checked(self._heard, worker.StatusMessage))
        events = environment.events
        events.test_start.add_listener(lambda **_: self._begin())
        events.test_stopping.add_listener(lambda **_: self._ending("test_stopping"))
        events.quitting.add_listener(lambda **_: self._quitting())
        events.spawning_complete.add_listener(lambda user_count, **_: self._users(user_count))
        heed_ctrl_c()
        self._terminal_is_gone = heed_a_closed_terminal()
        self._main = gevent.getcurrent()  # in which Ctrl-C is raised; Locust heeds SIGTERM in a greenlet of its own

    # -- environment.tickstorm

    def context_of_run(self) -> RunContext | None:
        """What users of this process work with; None while no run is on here."""
        self._ready.wait()
        return self._participant.context if self._participant is not None and not self._participant.closed else None

    def live(self, since_s: float | None = None) -> Live:
        """For the page, which has the series up to `since_s`."""
        if self.preparing and (self.run is None or self.run.state == "done"):
            return Live(profile=self.chosen.loaded.profile.name, state="preparing")
        if self.run is None:
            return Live(profile=self.chosen.loaded.profile.name, problem=self.failed)
        return msgspec.structs.replace(self.run.live(since_s=since_s), problem=self.failed)

    @property
    def ending(self) -> bool:
        """The present run has ended its plan and waits for its verdict."""
        return self.run is not None and self.run.state in ("draining", "judging")

    def report(self, run: str) -> Path | None:
        """report.html of a run of this project, None where there is none."""
        path = reports_folder() / run / "report.html"
        inside = path.resolve().is_relative_to(reports_folder().resolve())
        return path if inside and path.is_file() else None

    def users(self, chosen: Chosen) -> int:
        """Users that a profile makes of the classes that Locust was started with."""
        return chosen.users_of(c for c in self._classes if chosen.planned_of(c, 1) > 0)

    def choose(self, chosen: Chosen) -> None:
        """The next run takes this profile; Locust learns how many users of each class that needs."""
        self.chosen = chosen
        for user_class in self._environment.available_user_classes.values():
            planned = chosen.planned_of(user_class, -1)
            if planned >= 0:
                user_class.fixed_count = planned
                user_class.weight = 1 if planned else 0
        self._environment.user_classes = [c for c in self._classes if chosen.planned_of(c, 1) > 0]
        apart = chosen.loaded.profile.run.spread == "apart"
        self._environment.dispatcher_class = partial(BalancedDispatcher, apart=apart)
        self._environment.host, self._environment.profile = chosen.target, chosen.loaded.profile.name  # to be shown
        options = self._environment.parsed_options
        options.num_users = self.users(chosen)
        options.spawn_rate = chosen.rate_of(options.num_users)

    # -- the start

    def _begin(self) -> None:
        self._ready.clear()
        # Locust sets it after this listener, which may start a stack meanwhile: a page that asks then would read that
        # nothing goes on, show its start form, and never ask again.
        self._runner.update_state(STATE_SPAWNING)
        self.failed, self.preparing = "", True
        self.begun.set()
        try:
            self._prepare()
        except gevent.GreenletExit:  # the stop button, before there was a run
            self._participant, self.failed = None, "stopped before it had begun"
            self._let_go()
            raise
        except (BadInput, HarnessError) as error:
            self._cannot_begin(str(error), 2 if isinstance(error, BadInput) else 3)
        except Exception as error:
            self._cannot_begin(f"{type(error).__name__}: {error}", 3)
            raise  # Locust logs where it came from, and goes on: a listener that raises stops nothing
        finally:
            self.preparing = False
            self._ready.set()

    def _cannot_begin(self, why: str, status: int) -> None:
        for line in why.split("\n"):
            log.error("%s", printable(line))
        self._participant = None
        self._environment.process_exit_code = status
        if self.run is not None and not self.run.done.is_set():  # there is a history already: it says why
            self.run.abandon(f"error: {why}")
            return
        self.failed = why
        self._status.failed(why, status)
        self._let_go()
        gevent.spawn(self._leave)

    def _prepare(self) -> None:
        loaded = self.chosen.loaded
        profile = loaded.profile
        self._environment.process_exit_code = 3
        started = datetime.now(UTC)
        run_id = self._run_id or new_id(profile.name, started)
        self._run_id = None
        folder = reports_folder() / run_id
        self._take_hold(profile, run_id)
        self._target = target = self._target_of(loaded)
        (folder / "history").mkdir(parents=True, exist_ok=True)
        replace_file(folder / "profile.toml", loaded.text.encode())
        planned = self.chosen.planned
        classes = {c.__name__ for c in self._environment.user_classes}
        config = RunConfig(
            run=run_id,
            profile_text=loaded.text,
            profile_sha256=loaded.sha256,
            tickstorm=VERSION,
            origin_ns=time.monotonic_ns(),
            origin_unix_ns=time.time_ns(),
            clock=clock_identity(),
            clock_port=self._clock.port if self._clock is not None else 0,
            started_at=started.isoformat(timespec="milliseconds"),
            redis=target.redis,
            gateway=target.gateway,
            postgres=target.postgres,
            gateway_http=target.gateway_http,
            users={name: planned[name] if kind.user_class in classes else 0 for name, kind in USERS.items()},
            extensions=extensions.enabled(),
            profile_folder=str(self.chosen.folder),
            stack=target.supervisor,
        )
        workers = self._runner.worker_count if self.distributed else 0
        run = ActiveRun(
            config,
            read_effective(loaded.text),
            folder=folder,
            participants=self,
            opening=opening_records(
                config,
                loaded,
                target,
                workers=workers,
                distributed=self.distributed,
                overrides=[
                    *of_the_users(planned, classes, self.chosen.consumers),
                    *told_to_locust(self._environment.parsed_options),
                    *of_the_rate(self.chosen.users_per_s),
                ],
            ),
            on_state=self._on_state,
        )
        self.run = run
        if self.chosen.consumers is not None:
            run.note(f"override: {config.consumers} consumers instead of {Contract(profile).consumer_count}")
        if profile.run.spread == "apart" and workers < 2:
            text = 'spread = "apart" needs two workers: publishers and consumers run together, in one process'
            self._status.say(text)
            run.note(text)
        run.closers.append(begin_sampling(config, profile, target, run.emit))
        run.closers.append(begin_service_watch(target, run))
        if target.toxiproxy:
            run.faults = begin_faults(config, profile, target, folder, run)
        vars(self._environment.parsed_options)[OPTION] = encode_config(config)
        if not self.distributed:
            self._participant = Participant(
                config,
                profile,
                process=LOCAL,
                role="standalone",
                environment=self._environment,
                slots=LocalSlots(run.book, LOCAL, run.clock.now_ns),
                out=lambda number, frame: run.intake.arrived(LOCAL, number, frame, None),
                tell=run.heard,
                versions=versions(),
            )
            self._participant.start()

    def _target_of(self, loaded: Loaded) -> ResolvedTarget:
        before = self._target
        target = resolve(loaded.profile, lambda text: self._status.say(text))
        if before is not None and before.stack is not None and target.stack is None:
            own = before.status.supervisor_pid if before.status is not None else -1
            if target.status is None or target.status.supervisor_pid == own:  # another supervisor's stack is not ours
                return replace(target, stack=before.stack, status=target.status or before.status)
        return target

    def _take_hold(self, profile: Profile, run: str) -> None:
        """Before anybody looks whether a stack is up. Raises BadInput where another run has it."""
        if profile.target.kind != "local":
            self._let_go()
        elif self._hold is None:
            self._hold = StackHold(stack_folder(), run)
        else:
            self._hold.name(run)

    def _let_go(self) -> None:
        """Another run may have the local stack, unless this process will stop it."""
        if self._hold is not None and (self._target is None or self._target.stack is None):
            self._hold.release()
            self._hold = None

    def _leave(self) -> None:
        if self._environment.parsed_options.headless:
            self._runner.quit()
        else:
            self._runner.stop()

    # -- participants

    def order(self, what: str, data: dict[str, Any]) -> None:
        """Tell every participant of the present run."""
        if not self.distributed:
            if self._participant is not None:
                self._participant.order(what, data)
        elif self.run is not None:
            self._runner.send_message(worker.ORDER, {"run": self.run.config.run, "what": what, "data": data})

    def alive(self) -> set[str]:
        """Participants whose process is there."""
        if not self.distributed:
            return {LOCAL} if self._participant is not None else set()
        clients = self._runner.clients
        here = clients.ready + clients.spawning + clients.running
        return {f"worker-{self._runner.get_worker_index(c.id)}" for c in here}

    # -- messages from workers: only enqueue

    def _process(self, node: str) -> str:
        return f"worker-{self._runner.get_worker_index(node)}"

    def _take(self, node: str, asked: worker.Take) -> None:
        found = self.run.book.take(asked.kind, self._process(node)) if self.run is not None else None
        self._runner.send_message(worker.SLOT, {"number": asked.number, "slot": found}, client_id=node)

    def _give(self, _node: str, given: worker.Give) -> None:
        if self.run is not None:
            book, now_ns = self.run.book, self.run.clock.now_ns()
            book.give_back(given.kind, given.slot, given.next_epoch, now_ns)

    def _chunk(self, node: str, chunk: worker.Chunk) -> None:
        run = self.run
        if run is None or chunk.run != run.config.run or run.state in ("judging", "done"):
            return
        waker = gevent.get_hub().loop.async_()
        answer = {"run": chunk.run, "number": chunk.number}
        failed: list[OSError] = []

        def acknowledge() -> None:
            waker.stop()
            waker.close()
            if not failed:
                gevent.spawn(self._runner.send_message, worker.ACK, answer, client_id=node)

        def written(error: OSError | None) -> None:
            if error is not None:
                failed.append(error)
            waker.send()

        waker.start(acknowledge)
        run.intake.arrived(chunk.process, chunk.number, chunk.frame, written)

    def _heard(self, _node: str, told: worker.StatusMessage) -> None:
        if self.run is not None and told.run == self.run.config.run:
            self.run.heard(told.status)

    # -- changes and the end

    def _users(self, count: int) -> None:
        if self.run is not None:
            counts = self._runner.target_user_classes_count or self._runner.user_classes_count
            self.run.users(dict(counts) or {"all": count})

    def _on_state(self, run: ActiveRun) -> None:
        self._status.state(run.live(with_series=False), run.folder)
        if run.state == "done" and run.ended is not None:
            self._let_go()
            self._environment.process_exit_code = run.ended.exit_status
            if run.ended.reason == "plan done" or run.ended.reason.startswith(("error", "guard")):
                gevent.spawn(self._leave)

    def _ending(self, where: str) -> None:
        run = self.run
        if run is None or run.done.is_set():
            return
        reason = self._reason(where)
        if self._must_not_wait():
            run.abandon(reason)
            return
        while not run.done.is_set():
            try:
                run.finish(reason)
            except KeyboardInterrupt:
                run.hurry.set()

    def _reason(self, where: str) -> str:
        options = self._environment.parsed_options
        if where == "quitting":
            if self._terminal_is_gone():
                return "the terminal was closed (SIGHUP)"
            return "Ctrl-C (SIGINT)" if gevent.getcurrent() is self._main else "SIGTERM"
        if self.distributed and self._runner.worker_count <= 0:
            return "error: the last worker is gone"
        if not options.headless and _function() != "_stop_runners":  # which ends a start form's run time
            return "stop button"
        return "run time" if options.run_time else "stopped"

    def _must_not_wait(self) -> bool:
        return _function() in ("client_listener", "heartbeat_worker")

    def _quitting(self) -> None:
        self._ending("quitting")
        self._status.close()
        if self._clock is not None:
            self._clock.close()
        if self._target is not None and self._target.stack is not None:
            self._target.stack.down()
            self._target = None
        self._let_go()


def _function() -> str:
    """What Locust began the present greenlet with."""
    return getattr(getattr(gevent.getcurrent(), "_run", None), "__name__", "")
