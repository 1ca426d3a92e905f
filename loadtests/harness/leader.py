"""What does the harness do in the process that leads, standalone or master?  Prepares runs and ends them."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gevent
from gevent.event import Event
from locust.runners import MasterRunner

from loadtests import extensions
from loadtests.capture.clock import ClockServer, clock_identity
from loadtests.drive.run_context import RunContext
from loadtests.harness import messages
from loadtests.harness.files import replace_file, reports_folder
from loadtests.harness.locust_overrides import of_the_crew, told_to_locust
from loadtests.harness.participant import Participant
from loadtests.harness.process import VERSION, heed_ctrl_c, versions
from loadtests.harness.run import ActiveRun
from loadtests.harness.setup import begin_faults, begin_sampling, begin_service_watch, opening_records
from loadtests.harness.slots import LocalSlots
from loadtests.harness.stack_lock import StackHold
from loadtests.harness.status import StatusLine
from loadtests.harness.target import ResolvedTarget, resolve
from loadtests.model.contract import Contract
from loadtests.model.errors import BadInput, HarnessError
from loadtests.model.live import Live
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.reading import Loaded, read_effective
from loadtests.model.runconfig import OPTION, RunConfig, encode_config
from loadtests.model.user_kinds import CONSUMER, USERS, wanted
from loadtests.model.words import printable
from loadtests.stack.folder import stack_folder

log = logging.getLogger("tickstorm")
LOCAL = "worker-0"
"""Process name of the only part of a standalone run."""
LEAST_SPAWN_RATE = 100.0
"""Users that Locust starts in a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The profile that the next run takes, and the number of consumers where somebody overrode it."""

    loaded: Loaded
    folder: Path  # of the profile's file
    consumers: int | None = None

    def with_users(self, users: int) -> Chosen:
        """The same with another number of users in all: consumers make the difference. Raises BadInput."""
        others = sum(self.planned.values()) - self.planned[CONSUMER.name]
        if users <= others:
            raise BadInput(f"users: found {users}, allowed from {others + 1}: {others} publish or read, others consume")
        return replace(self, consumers=users - others)

    def while_running(self, users: int, classes: Iterable[Any]) -> None:
        """Whether a run of these classes may go on with another number of users in all. Raises BadInput."""
        begun = self.users_of(classes)
        others = begun - (self.planned[CONSUMER.name] if CONSUMER.user_class in {c.__name__ for c in classes} else 0)
        if not others < users <= begun:
            raise BadInput(
                f"users: found {users}, allowed while this run goes on is {others + 1} to {begun}: {others} publish or "
                "read and stay, consumers can be taken away and brought back; more of them need a new run"
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

    def users_here(self, options: Any) -> int:
        """Users that start in processes of this machine that begin with us; those of other workers are their own."""
        alone = not options.master or options.processes
        return sum(self.planned.values()) if alone else 0


class Leader:
    """The leading process: one conductor at a time, a part of its own where there are no workers."""

    def __init__(self, environment: Any, runner: Any, chosen: Chosen, run_id: str | None) -> None:
        self._environment, self._runner = environment, runner
        self.chosen = chosen
        self._run_id = run_id
        self.conductor: ActiveRun | None = None
        self._part: Participant | None = None
        self._target: ResolvedTarget | None = None
        self._hold: StackHold | None = None
        self._classes = list(environment.user_classes)  # those that Locust was started with
        self._ready = Event()
        self._status = StatusLine()
        self.distributed = isinstance(runner, MasterRunner)
        self._clock: ClockServer | None = None
        if self.distributed:
            bound = environment.parsed_options.master_bind_host
            self._clock = ClockServer("" if bound == "*" else bound)
            runner.register_message(messages.TAKE, messages.checked(self._take, messages.Take))
            runner.register_message(messages.GIVE, messages.checked(self._give, messages.Give))
            runner.register_message(messages.CHUNK, messages.checked(self._chunk, messages.Chunk))
            runner.register_message(messages.STATUS, messages.checked(self._heard, messages.StatusMessage))
        events = environment.events
        events.test_start.add_listener(lambda **_: self._begin())
        events.test_stopping.add_listener(lambda **_: self._ending("test_stopping"))
        events.quitting.add_listener(lambda **_: self._quitting())
        events.spawning_complete.add_listener(lambda user_count, **_: self._users(user_count))
        heed_ctrl_c()

    # -- environment.tickstorm

    def context_of_run(self) -> RunContext | None:
        """What users of this process work with; None while no run is on here."""
        self._ready.wait()
        return self._part.context if self._part is not None and not self._part.closed else None

    def live(self, since_s: float | None = None) -> Live:
        """For the page, which has the series up to `since_s`."""
        if self.conductor is None:
            return Live(profile=self.chosen.loaded.profile.name)
        return self.conductor.live(since_s=since_s)

    @property
    def ending(self) -> bool:
        """The present run has ended its plan and waits for its verdict."""
        return self.conductor is not None and self.conductor.state in ("draining", "judging")

    def report(self, run: str) -> Path | None:
        """report.html of a run of this project, None where there is none."""
        path = reports_folder() / run / "report.html"
        inside = path.resolve().is_relative_to(reports_folder().resolve())
        return path if inside and path.is_file() else None

    def choose(self, chosen: Chosen) -> None:
        """The next run takes this profile; Locust learns how many users of each class that needs."""
        self.chosen = chosen
        for user_class in self._environment.available_user_classes.values():
            planned = chosen.planned_of(user_class, -1)
            if planned >= 0:
                user_class.fixed_count = planned
                user_class.weight = 1 if planned else 0
        self._environment.user_classes = [c for c in self._classes if chosen.planned_of(c, 1) > 0]
        target, run = chosen.loaded.profile.target, chosen.loaded.profile.run
        self._environment.host = target.gateway or "the local stack"  # shown in the UI; the profile alone decides
        options = self._environment.parsed_options
        options.num_users = chosen.users_of(self._environment.user_classes)
        # All must be subscribed within connect_s: a quarter of it to start them leaves the rest for the target.
        options.spawn_rate = max(LEAST_SPAWN_RATE, options.num_users * 4 / run.connect_s)

    # -- the start

    def _begin(self) -> None:
        self._ready.clear()
        try:
            self._prepare()
        except (BadInput, HarnessError) as error:
            self._cannot_begin(str(error), 2 if isinstance(error, BadInput) else 3)
        except Exception as error:
            self._cannot_begin(f"{type(error).__name__}: {error}", 3)
            raise  # Locust logs where it came from, and goes on: a listener that raises stops nothing
        finally:
            self._ready.set()

    def _cannot_begin(self, why: str, status: int) -> None:
        for line in why.split("\n"):
            log.error("%s", printable(line))
        self._part = None
        self._environment.process_exit_code = status
        if self.conductor is not None and not self.conductor.done.is_set():  # there is a history already: it says why
            self.conductor.abandon(f"error: {why}")
            return
        self._status.failed(why, status)
        self._let_go()
        gevent.spawn(self._leave)

    def _prepare(self) -> None:
        loaded = self.chosen.loaded
        profile = loaded.profile
        self._environment.process_exit_code = 3
        started = datetime.now(UTC)
        run = self._run_id or f"{started:%Y%m%d-%H%M%S}-{profile.name}-{secrets.token_hex(2)}"
        self._run_id = None
        folder = reports_folder() / run
        self._take_hold(profile, run)
        self._target = target = self._target_of(loaded)
        (folder / "history").mkdir(parents=True, exist_ok=True)
        replace_file(folder / "profile.toml", loaded.text.encode())
        planned = self.chosen.planned
        classes = {c.__name__ for c in self._environment.user_classes}
        config = RunConfig(
            run=run,
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
        conductor = ActiveRun(
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
                    *of_the_crew(planned, classes, self.chosen.consumers),
                    *told_to_locust(self._environment.parsed_options),
                ],
            ),
            on_state=self._on_state,
        )
        self.conductor = conductor
        if self.chosen.consumers is not None:
            conductor.note(f"override: {config.consumers} consumers instead of {Contract(profile).consumer_count}")
        conductor.closers.append(begin_sampling(config, profile, target, conductor.emit))
        conductor.closers.append(begin_service_watch(target, conductor))
        if target.toxiproxy:
            conductor.faults = begin_faults(config, profile, target, folder, conductor)
        vars(self._environment.parsed_options)[OPTION] = encode_config(config)
        if not self.distributed:
            self._part = Participant(
                config,
                profile,
                process=LOCAL,
                role="standalone",
                environment=self._environment,
                slots=LocalSlots(conductor.book, LOCAL, conductor.clock.now_ns),
                out=lambda number, frame: conductor.intake.arrived(LOCAL, number, frame, None),
                tell=conductor.heard,
                versions=versions(),
            )
            self._part.start()

    def _target_of(self, loaded: Loaded) -> ResolvedTarget:
        before = self._target
        target = resolve(loaded.profile, lambda text: self._status.say(text))
        if before is not None and before.stack is not None and target.stack is None:
            own = before.status.supervisor_pid if before.status is not None else -1
            if target.status is None or target.status.supervisor_pid == own:  # another one is somebody else's
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

    # -- the crew

    def order(self, what: str, data: dict[str, Any]) -> None:
        """Tell every part of the present run."""
        if not self.distributed:
            if self._part is not None:
                self._part.order(what, data)
        elif self.conductor is not None:
            self._runner.send_message(messages.ORDER, {"run": self.conductor.config.run, "what": what, "data": data})

    def alive(self) -> set[str]:
        """Parts whose process is there."""
        if not self.distributed:
            return {LOCAL} if self._part is not None else set()
        clients = self._runner.clients
        here = clients.ready + clients.spawning + clients.running
        return {f"worker-{self._runner.get_worker_index(c.id)}" for c in here}

    # -- messages from workers: only enqueue

    def _process(self, node: str) -> str:
        return f"worker-{self._runner.get_worker_index(node)}"

    def _take(self, node: str, asked: messages.Take) -> None:
        found = self.conductor.book.take(asked.kind, self._process(node)) if self.conductor is not None else None
        self._runner.send_message(messages.SLOT, {"number": asked.number, "slot": found}, client_id=node)

    def _give(self, _node: str, given: messages.Give) -> None:
        if self.conductor is not None:
            book, now_ns = self.conductor.book, self.conductor.clock.now_ns()
            book.give_back(given.kind, given.slot, given.next_epoch, now_ns)

    def _chunk(self, node: str, chunk: messages.Chunk) -> None:
        conductor = self.conductor
        if conductor is None or chunk.run != conductor.config.run or conductor.state in ("judging", "done"):
            return
        waker = gevent.get_hub().loop.async_()
        answer = {"run": chunk.run, "number": chunk.number}
        failed: list[OSError] = []

        def acknowledge() -> None:
            waker.stop()
            waker.close()
            if not failed:
                gevent.spawn(self._runner.send_message, messages.ACK, answer, client_id=node)

        def written(error: OSError | None) -> None:
            if error is not None:
                failed.append(error)
            waker.send()

        waker.start(acknowledge)
        conductor.intake.arrived(chunk.process, chunk.number, chunk.frame, written)

    def _heard(self, _node: str, told: messages.StatusMessage) -> None:
        if self.conductor is not None and told.run == self.conductor.config.run:
            self.conductor.heard(told.status)

    # -- changes and the end

    def _users(self, count: int) -> None:
        if self.conductor is not None:
            counts = self._runner.target_user_classes_count or self._runner.user_classes_count
            self.conductor.users(dict(counts) or {"all": count})

    def _on_state(self, conductor: ActiveRun) -> None:
        self._status.state(conductor)
        if conductor.state == "done" and conductor.ended is not None:
            self._let_go()
            self._environment.process_exit_code = conductor.ended.exit_status
            if conductor.ended.reason == "plan done" or conductor.ended.reason.startswith(("error", "guard")):
                gevent.spawn(self._leave)

    def _ending(self, where: str) -> None:
        conductor = self.conductor
        if conductor is None or conductor.done.is_set():
            return
        reason = self._reason(where)
        if self._must_not_wait():
            conductor.abandon(reason)
            return
        while not conductor.done.is_set():
            try:
                conductor.finish(reason)
            except KeyboardInterrupt:
                conductor.hurry.set()

    def _reason(self, where: str) -> str:
        options = self._environment.parsed_options
        if where == "quitting":
            return "signal"
        if self.distributed and self._runner.worker_count <= 0:
            return "error: the last worker is gone"
        if not options.headless:
            return "stop button"
        return "run time" if options.run_time else "stopped"

    def _must_not_wait(self) -> bool:
        function = getattr(gevent.getcurrent(), "_run", None)
        return getattr(function, "__name__", "") in ("client_listener", "heartbeat_worker")

    def _quitting(self) -> None:
        self._ending("quitting")
        self._status.close()
        if self._clock is not None:
            self._clock.close()
        if self._target is not None and self._target.stack is not None:
            self._target.stack.down()
            self._target = None
        self._let_go()
