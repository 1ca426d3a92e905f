"""How does Tickstorm live inside Locust?  The composition root: attaches the rims to Locust's events.

`attach()` only registers listeners: `--processes` forks after the locustfile was imported, so files, sockets, epoll and
threads open from Locust's `init` on.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from loadtests.harness.process import end_forks_with_us, outlive_the_console

log = logging.getLogger("tickstorm")


def attach() -> None:
    """Register Tickstorm with Locust; called by the locustfile."""
    import locust

    outlive_the_console()
    end_forks_with_us()
    events: Any = locust.events
    events.init_command_line_parser.add_listener(_add_options)
    events.init.add_listener(_init)


def user_classes() -> dict[str, Any]:
    """The Locust user classes of all kinds, by name."""
    from loadtests.model.kinds import part
    from loadtests.model.registry import USERS

    return {kind.user_class: part(kind.by) for kind in USERS.values()}


def _add_options(parser: Any, **_: Any) -> None:
    from loadtests.harness.profile_loading import add_options

    add_options(parser)


def _init(environment: Any, runner: Any, web_ui: Any, **_: Any) -> None:
    from locust.runners import WorkerRunner

    from loadtests.capture.machine import descriptors
    from loadtests.drive.postgres import make_cooperative
    from loadtests.harness.worker import Worker

    make_cooperative()
    if isinstance(runner, WorkerRunner):
        descriptors(None)  # as many as it may: its share of the users is not known before they come
        environment.tickstorm = Worker(environment, runner)
        return
    _lead(environment, runner, web_ui)


def _lead(environment: Any, runner: Any, web_ui: Any) -> None:
    import os

    from loadtests.capture.preflight import refuse_few_descriptors
    from loadtests.harness.files import profile_path
    from loadtests.harness.leader import Chosen, Leader, not_the_target
    from loadtests.harness.profile_loading import DEFAULT_PROFILE, load, one_profile, sets_of
    from loadtests.model.errors import BadInput

    options = environment.parsed_options
    try:
        seed = int(options.run_seed) if str(options.run_seed).strip() else None
        ours = "" if options.run_profile == DEFAULT_PROFILE else options.run_profile
        name = options.run_profile = one_profile(ours, options.profile or "", options.run_profile)
        loaded = load(name, sets_of(options.run_set), seed)
        chosen = Chosen(loaded=loaded, folder=profile_path(name).parent, name=name)
        if options.num_users is not None:
            chosen = chosen.with_users(options.num_users)
        if options.spawn_rate is not None:
            chosen = chosen.with_rate(options.spawn_rate)
        if options.host not in (None, "", chosen.target):
            raise BadInput(not_the_target(options.host, chosen))
        refuse_few_descriptors(loaded.profile, chosen.users_here(options), processes=options.processes or 1)
        if web_ui is not None:
            from loadtests.harness.web_ui import guard_web_ui

            guard_web_ui(web_ui, os.environ)
    except (BadInput, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    leader = environment.tickstorm = Leader(environment, runner, chosen, os.environ.get("TICKSTORM_RUN_ID") or None)
    leader.choose(chosen)
    if web_ui is not None:
        from loadtests.harness.manual_faults import ManualFaults, past_runs
        from loadtests.harness.web_ui import watch_start_form
        from loadtests.model.live import Between
        from loadtests.webui.live_page import attach_page

        form = watch_start_form(environment, leader)
        manual = ManualFaults(lambda: leader.run)
        attach_page(
            environment,
            lambda since_s: manual.live(leader.live(since_s)),
            leader.report,
            manual,
            lambda: Between(profiles=form.offers(), chosen=leader.chosen.name, runs=past_runs()),
        )
