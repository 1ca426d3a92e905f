"""May Locust's web UI open as it was asked for, and may its start form start a run?

`guard_web_ui` runs before Locust listens. The start form's profile is checked before Locust takes the form's numbers:
Locust would put every field into its options, and into attributes of the user classes; only fields that its own page
sends reach it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlencode

from flask import g, jsonify, request
from flask_login.utils import current_user
from locust.argument_parser import ui_extra_args_dict
from werkzeug.datastructures import ImmutableMultiDict

from loadtests.capture.preflight import refuse_few_descriptors
from loadtests.harness.files import profile_path, shipped_profiles
from loadtests.harness.leader import Chosen, Leader
from loadtests.harness.live import StatusLine
from loadtests.harness.profile_loading import DEFAULT_PROFILE, LOOPBACK, PASSWORD, load, sets_of
from loadtests.model.errors import BadInput
from loadtests.webui.access_guard import PARAMETER, AccessGuard, refused
from loadtests.webui.login import PATH, attach_login

LEAST = 8
"""Characters of a password."""
RUNNING = ("spawning", "running", "cleanup", "stopping")
OURS = ("run_profile", "run_set", "run_seed")
FIELDS = frozenset({"user_count", "spawn_rate", "host", "run_time", "user_classes", "shape_class", "profile"})
"""What Locust's own page sends to start or edit a run, besides the options that the locustfile adds to it."""
OF_A_CLASS = frozenset({"user_class_name", "host", "weight", "fixed_count", "tasks"})
"""What it sends to edit a class of users."""


def guard_web_ui(web_ui: Any, environment: Mapping[str, str]) -> AccessGuard:
    """Attach login and access guard, and print the address with the token. Raises BadInput for a user's mistake."""
    password = environment.get(PASSWORD, "")
    if password and len(password) < LEAST:
        raise BadInput(f"{PASSWORD}: found {len(password)} characters, allowed {LEAST} or more")
    if web_ui.web_login:
        if password:
            attach_login(web_ui, password)
        elif web_ui.login_manager._user_callback is None:
            raise BadInput(f"--web-login: nobody could log in; set the password in {PASSWORD}")
    elif not is_loopback(web_ui.host):
        raise BadInput(
            f"--web-host {web_ui.host or '*'}: other machines would reach the load generator; set a password in "
            f"{PASSWORD}, or leave the option out to listen on {LOOPBACK}"
        )
    base = web_ui.app.blueprints["locust"].url_prefix or ""
    guard = AccessGuard(bound=web_ui.host, port=web_ui.port, login=f"{base}{PATH}")
    guard.attach(web_ui.app)
    StatusLine().secret(f"Tickstorm: open {address(web_ui, base)}/?{urlencode({PARAMETER: guard.token})}")
    return guard


def address(web_ui: Any, base: str) -> str:
    """Where a browser of this machine finds it."""
    scheme = "https" if web_ui.tls_cert and web_ui.tls_key else "http"
    host = web_ui.host or LOOPBACK
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{web_ui.port}{base}"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it; an empty one means all interfaces."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def watch_start_form(environment: Any, leader: Leader) -> None:
    """Validate what the form names; answer with the problems as the form's error text."""
    started_with = environment.parsed_options.run_profile
    started_sets = sets_of(environment.parsed_options.run_set)
    offered = {environment.parsed_options.num_users}  # an open page goes on sending the number it was made with

    web_ui = environment.web_ui
    fields = FIELDS | set(ui_extra_args_dict())

    @web_ui.app.before_request  # type: ignore[untyped-decorator]
    def check_form() -> Any:
        if request.method != "POST" or request.endpoint not in ("locust.swarm", "locust.update_user"):
            return None
        user: Any = current_user
        if web_ui.web_login and not user.is_authenticated:
            return None  # Locust redirects to the login
        if request.endpoint == "locust.update_user":
            return _stray(request.get_json(force=True, silent=True), OF_A_CLASS)
        if (refusal := _stray(request.form, fields)) is not None:
            return refusal
        form = request.form.to_dict(flat=False)
        kept = vars(environment.parsed_options)  # what a form does not ask for stays as it was
        asked = {key: str(kept.get(key) or "") for key in OURS}
        first = asked | {key: values[0] for key, values in form.items() if values}
        if environment.runner.state in RUNNING:
            if leader.ending or any(first[key] != asked[key] for key in OURS):
                return _refusal("a run is going on: stop it, or wait for its verdict, before another one starts")
            classes = environment.user_classes
            if set(form.get("user_classes", ())) - {""} not in (set(), {c.__name__ for c in classes}):
                return _refusal("a run is going on with other classes: stop it before others take part")
            try:
                if "user_count" in form:
                    leader.chosen.while_running(int(first["user_count"]), classes)
            except BadInput as error:
                return _refusal(str(error))
            except ValueError:
                return _refusal(f'users: found "{first["user_count"]}", allowed is a whole number')
            g.planned_users = environment.parsed_options.num_users
            return None
        try:
            seed = _seed(first["run_seed"])
            name = first["run_profile"] or DEFAULT_PROFILE
            loaded = load(_of_the_form(name, started_with), sets_of(first["run_set"]), seed, trusted=started_sets)
            chosen = Chosen(loaded=loaded, folder=profile_path(name).parent)
            explicit = first.get("user_count", "")
            if explicit.isdigit() and int(explicit) not in offered | {sum(chosen.planned.values())}:
                chosen = chosen.with_users(int(explicit))
            refuse_few_descriptors(
                loaded.profile, chosen.users_here(environment.parsed_options), processes=kept["processes"] or 1
            )
        except BadInput as error:
            return _refusal(str(error))
        leader.choose(chosen)
        users = sum(chosen.planned.values())
        offered.add(users)
        form["user_count"], form["spawn_rate"] = [str(users)], [str(kept["spawn_rate"])]
        request.form = ImmutableMultiDict(form)  # Locust reads the form after us
        return None

    @environment.web_ui.app.after_request  # type: ignore[untyped-decorator]
    def keep_plan(response: Any) -> Any:
        """An edit is of the run that goes on: the next start is offered the number that its profile plans."""
        if (planned := g.pop("planned_users", None)) is not None:
            environment.parsed_options.num_users = planned
        return response


def _of_the_form(name: str, started_with: str) -> str:
    """A profile by its name alone: one of the profiles folder, or the one that the command line named."""
    if name == started_with or name in shipped_profiles():
        return name
    raise BadInput(f"{name[:100]}: there is no such profile in a form; it knows {', '.join(shipped_profiles())}")


def _stray(sent: Any, known: Collection[str]) -> Any:
    """Refuse what no page of ours sends."""
    if not isinstance(sent, Mapping):
        return refused(400, "found no JSON object")
    if stray := sorted(set(sent) - set(known)):
        return refused(403, f"{stray[0][:100]}: not known here, known are {', '.join(sorted(known))}")
    return None


def _refusal(message: str) -> Any:
    return jsonify({"success": False, "message": message, "host": ""})


def _seed(text: str) -> int | None:
    if not text.strip():
        return None
    if not text.strip().isdigit():
        raise BadInput(f'seed: found "{text}", allowed is a whole number from 0')
    return int(text)
