"""May Locust's web UI open as it was asked for, may its start form start a run, and what do its pages say of ours?

`guard_web_ui` runs before Locust listens. The start form's profile is checked before Locust takes the form's numbers:
Locust would put every field into its options, and into attributes of the user classes; only fields that its own page
sends reach it.

Locust's page is a program of its own (React) that owns all inside its root element. `decorate` puts a strip above it,
with the run's state and verdict, and a script (webui/locust_page.js) that sets the choice of profile into its form.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Mapping
from importlib import resources
from typing import Any
from urllib.parse import urlencode

import msgspec
from flask import Response, g, jsonify, make_response, redirect, request
from flask_login.utils import current_user
from locust.argument_parser import ui_extra_args_dict
from locust.runners import STATE_CLEANUP, STATE_RUNNING, STATE_SPAWNING, STATE_STOPPING, MasterRunner
from markupsafe import Markup
from werkzeug.datastructures import ImmutableMultiDict

from loadtests.capture.preflight import refuse_few_descriptors
from loadtests.harness.files import profile_path, shipped_profiles
from loadtests.harness.leader import Chosen, Leader, not_the_target
from loadtests.harness.live import StatusLine
from loadtests.harness.profile_loading import LOOPBACK, PASSWORD, load, one_profile, sets_of
from loadtests.model.errors import BadInput
from loadtests.model.live import OfferedProfile
from loadtests.model.registry import CONSUMER
from loadtests.webui.access_guard import EXTENSION, LOGIN_PATH, PARAMETER, AccessGuard, attach_login, refused

LEAST = 8
"""Characters of a password."""
ENDING = (STATE_CLEANUP, STATE_STOPPING)
RUNNING = (STATE_SPAWNING, STATE_RUNNING, *ENDING)
OURS = ("run_profile", "run_set", "run_seed")
PLANNED = ("planned_users", "planned_rate")
"""What our script filled into the form: a number that nobody has changed since is no wish, the profile decides."""
FIELDS = frozenset({"user_count", "spawn_rate", "host", "run_time", "user_classes", "shape_class", "profile"})
"""What Locust's own page sends to start or edit a run, besides the options that the locustfile adds to it."""
BEGIN_S = 10.0
"""How long the answer to a start may wait until Locust's own state says that it spawns."""
ROOT = '<div id="root"></div>'
"""Of Locust's pages; React owns everything inside it."""
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
    guard = AccessGuard(bound=web_ui.host, port=web_ui.port, login=f"{base}{LOGIN_PATH}")
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


class StartForm:
    """Locust's start form and its Edit dialog: what a profile offers them, and whether what they ask for is done."""

    def __init__(self, environment: Any, leader: Leader) -> None:
        self._environment, self._leader = environment, leader
        self._named, self._sets = leader.chosen.name, sets_of(environment.parsed_options.run_set)
        self._at_first = leader.chosen  # with the numbers of the command line
        self._fields = FIELDS | {*OURS, *PLANNED} | set(ui_extra_args_dict())

    def offers(self) -> list[OfferedProfile]:
        """Every profile that the form may name, with its question and what it plans; reads their files."""
        sets = sets_of(self._environment.parsed_options.run_set)
        return [self._offer(name, sets) for name in dict.fromkeys([*shipped_profiles(), self._named])]

    def _offer(self, name: str, sets: list[str]) -> OfferedProfile:
        try:
            chosen = Chosen(loaded=load(name, sets, trusted=self._sets), folder=profile_path(name).parent, name=name)
        except BadInput as error:
            return OfferedProfile(name=name, label=name, problem=str(error))
        wished = self._at_first if name == self._named else chosen
        profile, users = chosen.loaded.profile, self._leader.users(chosen)
        return OfferedProfile(
            name=name,
            label=profile.name,
            question=profile.question,
            plan_s=profile.run.warm_up_s + profile.run.duration_s,
            planned_users=users,
            planned_rate=chosen.rate_of(users),
            users=self._leader.users(wished),
            rate=wished.rate_of(self._leader.users(wished)),
            consumers=chosen.planned[CONSUMER.name],
            host=chosen.target,
        )

    def state(self) -> dict[str, Any]:
        """The run so far, for the strip above Locust's page, and the users that the Edit dialog may ask for."""
        leader, runner = self._leader, self._environment.runner
        run, chosen = leader.run, leader.chosen
        told = {"chosen": chosen.name, "profile": chosen.loaded.profile.name, "problem": leader.failed}
        if leader.preparing or not leader.begun.is_set():
            return told | {"state": "preparing"}
        if leader.failed or run is None:
            return told | {"state": "failed" if leader.failed else "idle"}
        live, classes = run.live(with_series=False), self._environment.user_classes
        allowed = chosen.while_running(classes)
        return told | {
            "state": live.state,
            "run": live.run,
            "profile": live.profile,
            "question": run.profile.question,
            "now_s": live.now_s,
            "plan_s": live.plan_s,
            "connected": live.connected,
            "planned": live.planned,
            "verdict": live.verdict,
            "reasons": live.reasons[:5],
            "report": live.report,
            "users": runner.target_user_count,
            "rate": self._environment.parsed_options.spawn_rate,
            "least": allowed.start,
            "most": allowed.stop - 1,
        }

    # -- what Flask calls

    def check(self) -> Any:
        """Answer with the problems as the form's error text; None lets Locust go on."""
        if request.method != "POST" or request.endpoint not in ("locust.swarm", "locust.update_user"):
            return None
        user: Any = current_user
        if self._environment.web_ui.web_login and not user.is_authenticated:
            return None  # Locust redirects to the login
        if request.endpoint == "locust.update_user":
            return _stray(request.get_json(force=True, silent=True), OF_A_CLASS)
        if (refusal := _stray(request.form, self._fields)) is not None:
            return refusal
        form = request.form.to_dict(flat=False)
        sent = {key: values[0].strip() for key, values in form.items() if values}
        try:
            if self._environment.runner.state in RUNNING or not self._leader.begun.is_set():
                self._edit(sent, set(form.get("user_classes", ())) - {""})
            else:
                self._start(form, sent)
        except BadInput as error:
            return jsonify({"success": False, "message": str(error), "host": ""})
        return None

    def _edit(self, sent: Mapping[str, str], classes: set[str]) -> None:
        """Another number of users for the run that is on. Raises BadInput."""
        options = self._environment.parsed_options
        asked = {key: str(getattr(options, key) or "") for key in OURS}
        pending = self._leader.ending or not self._leader.begun.is_set()
        if pending or any(sent.get(key, asked[key]) != asked[key] for key in OURS):
            raise BadInput("a run is going on: stop it, or wait for its verdict, before another one starts")
        if classes not in (set(), {c.__name__ for c in self._environment.user_classes}):
            raise BadInput("a run is going on with other classes: stop it before others take part")
        self._has_our_host(sent, self._leader.chosen)
        if "user_count" in sent:
            self._leader.chosen.may_go_on_with(_whole(sent["user_count"], "users"), self._environment.user_classes)
        g.planned = options.num_users, options.spawn_rate

    def _start(self, form: dict[str, list[str]], sent: Mapping[str, str]) -> None:
        """Choose what the form asks for, and let Locust read of it what we made of it. Raises BadInput."""
        runner, options = self._environment.runner, self._environment.parsed_options
        if isinstance(runner, MasterRunner) and not runner.worker_count:
            raise BadInput("no worker is connected: start one before a run")
        chosen = self._asked_for(sent)
        refuse_few_descriptors(
            chosen.loaded.profile, chosen.users_here(options), processes=getattr(options, "processes", None) or 1
        )
        self._leader.choose(chosen)
        form.pop("profile", None)  # Locust's label for a report: `choose` has set it
        form["run_profile"], form["host"] = [chosen.name], [chosen.target]
        form["user_count"], form["spawn_rate"] = [str(options.num_users)], [str(options.spawn_rate)]
        if not sent.get("run_time"):
            options.run_time = None  # Locust would keep that of the run before, and not heed it
        request.form = ImmutableMultiDict(form)  # Locust reads the form after us
        self._leader.begun.clear()
        g.started = True

    def _asked_for(self, sent: Mapping[str, str]) -> Chosen:
        options = self._environment.parsed_options
        first = {key: str(getattr(options, key) or "") for key in OURS} | dict(sent)
        label = sent.get("profile", "")  # a page of Locust's without our script sends its own field alone
        name = one_profile(
            sent.get("run_profile", ""), "" if label == self._environment.profile else label, options.run_profile
        )
        if name != self._named and name not in shipped_profiles():
            known = ", ".join(shipped_profiles())
            raise BadInput(f"{name[:100]}: there is no such profile in a form; it knows {known}")
        seed = _whole(first["run_seed"], "seed") if first["run_seed"] else None
        loaded = load(name, sets_of(first["run_set"]), seed, trusted=self._sets)
        chosen = Chosen(loaded=loaded, folder=profile_path(name).parent, name=name)
        self._has_our_host(sent, chosen)
        users = sent.get("user_count", "")
        if users not in ("", sent.get("planned_users")) and _whole(users, "users") != self._leader.users(chosen):
            chosen = chosen.with_users(int(users))
        rate = sent.get("spawn_rate", "")
        if rate not in ("", sent.get("planned_rate")):
            per_s = _number(rate, "ramp up")
            if per_s != chosen.rate_of(self._leader.users(chosen)):
                chosen = chosen.with_rate(per_s)
        return chosen

    def _has_our_host(self, sent: Mapping[str, str], chosen: Chosen) -> None:
        shown = self._environment.host  # an open page goes on sending the one that it was made with
        if (host := sent.get("host", "")) not in ("", chosen.target, shown):
            raise BadInput(not_the_target(host, chosen))

    def settle(self, response: Response) -> Response:
        """After Locust's own answer."""
        if (planned := g.pop("planned", None)) is not None:
            # An edit is of the run that goes on: the next start is offered the numbers that its profile plans.
            self._environment.parsed_options.num_users, self._environment.parsed_options.spawn_rate = planned
        if g.pop("started", False):
            # Who is told that a run has started asks next how it goes: by then Locust must know that one is on.
            if (response.get_json(silent=True) or {}).get("success"):
                self._leader.begun.wait(BEGIN_S)
                self._environment.web_ui.app.view_functions["locust.request_stats"].clear_cache()
            self._leader.begun.set()
        return response


def watch_start_form(environment: Any, leader: Leader) -> StartForm:
    """Validate what the form names, and show on Locust's pages what it offers and what became of a run."""
    form, app = StartForm(environment, leader), environment.web_ui.app
    app.before_request(form.check)
    app.after_request(form.settle)
    decorate(environment, form.offers, form.state)
    return form


def decorate(environment: Any, offers: Callable[[], list[OfferedProfile]], state: Callable[[], dict[str, Any]]) -> None:
    """The strip above Locust's page, the choice in its form, the verdict in its report. Call it before it listens."""
    web_ui = environment.web_ui
    app, guarded = web_ui.app, web_ui.auth_required_if_enabled
    base = app.blueprints["locust"].url_prefix or ""
    script = Markup(resources.files("loadtests.webui").joinpath("locust_page.js").read_text("utf-8"))
    style = Markup(resources.files("loadtests.webui").joinpath("locust_page.css").read_text("utf-8"))

    def start_json() -> Any:
        return _fresh(jsonify({"profiles": msgspec.to_builtins(offers()), **state()}))

    def state_json() -> Any:
        return _fresh(jsonify(state()))

    def last_report() -> Any:
        if where := state().get("report"):
            return _fresh(redirect(f"..{where}", 303))
        return _fresh(make_response("There is no report yet: it is written when a run has its verdict.", 404))

    for name, view in (("start.json", start_json), ("state.json", state_json), ("report", last_report)):
        app.add_url_rule(f"{base}/tickstorm/{name}", f"tickstorm-{name.partition('.')[0]}", guarded(view))

    made = web_ui.update_template_args

    def update_template_args() -> None:
        made()
        args = web_ui.template_args
        args["state"] = shown_state(args["state"])
        args["all_profiles"] = shipped_profiles()
        args["extended_csv_files"] = [{"href": "./tickstorm/report", "title": "Open Tickstorm's report"}]

    web_ui.update_template_args = update_template_args

    @app.after_request  # type: ignore[untyped-decorator]
    def beside_locusts_own(response: Response) -> Response:
        if response.status_code != 200:
            return response
        if request.endpoint == "locust.request_stats" and response.is_json:
            said = response.get_json()
            if said["state"] in ENDING:
                response.set_data(jsonify(said | {"state": shown_state(said["state"])}).get_data())
        elif response.mimetype == "text/html":
            if request.endpoint == "locust.index":
                guard = app.extensions.get(EXTENSION)
                reads = guard is not None and not guard.lets_change()
                strip = STRIP.format(notice=READ_ONLY if reads else "")
                _beside_root(response, Markup("<style>{}</style>{}<script>{}</script>").format(style, strip, script))
            elif request.endpoint == "locust.stats_report":
                _beside_root(response, Markup("<style>{}</style>{}").format(style, _banner(state())))
        return response


def shown_state(state: str) -> str:
    """Locust's page asks on only while users start or run: told of one that ends, it would stay there for ever."""
    return STATE_RUNNING if state in ENDING else state


STRIP = Markup(
    '<header class="tickstorm" id="tickstorm"><a class="live" href="./tickstorm">Tickstorm live page</a>'
    '<a id="tickstorm-verdict" hidden></a><span id="tickstorm-now" role="status"></span>{notice}'
    '<p id="tickstorm-refusal" role="alert" hidden></p></header>'
)
"""It stands in the page's flow, above Locust's own: it covers nothing of it. Its links are relative, as Locust's are: a
proxy may put a path before ours."""
READ_ONLY = Markup(
    '<p role="status" class="notice">Read only: to start, stop or change a run, open the address that the terminal '
    "printed.</p>"
)


def _fresh(response: Any) -> Any:
    response.headers["Cache-Control"] = "no-store"
    return response


def _beside_root(response: Response, html: Markup) -> None:
    response.direct_passthrough = False
    before, root, after = response.get_data(as_text=True).rpartition(ROOT)
    response.set_data(f"{before}{html}{root}{after}")


def _banner(state: Mapping[str, Any]) -> Markup:
    """The verdict, for Locust's own report: shown by this server, or downloaded to be read without it."""
    if "run" not in state:
        return Markup("")
    word = state["verdict"] or "none yet"  # while it goes on
    reasons = Markup("").join(Markup("<li>{}</li>").format(reason) for reason in state["reasons"])
    where = Markup("The account is in reports/{}/report.html.").format(state["run"])
    if state["report"] and not request.args.get("download"):
        where = Markup('<a href="{}">{}: open the report</a>').format(f"..{state['report']}", word)
    return Markup(
        '<section class="tickstorm-banner {}"><h2>Tickstorm\'s verdict of this run: <b>{}</b></h2>'
        "<p>{}: {}</p><ul>{}</ul><p>The figures below are Locust's display, no evidence. {}</p>"
        "</section>"
    ).format(word.split()[0].lower(), word, state["profile"], state["question"], reasons, where)


def _stray(sent: Any, known: Collection[str]) -> Any:
    """Refuse what no page of ours sends."""
    if not isinstance(sent, Mapping):
        return refused(400, "found no JSON object")
    if stray := sorted(set(sent) - set(known)):
        return refused(403, f"{stray[0][:100]}: not known here, known are {', '.join(sorted(known))}")
    return None


def _whole(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadInput(f'{what}: found "{text[:100]}", allowed is a whole number from 0')
    return int(text)


def _number(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise BadInput(f'{what}: found "{text[:100]}", allowed is a number above 0')
    return number
