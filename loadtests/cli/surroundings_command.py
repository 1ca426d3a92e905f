"""What around Tickstorm decides about a run: the machine (`doctor`), the environment (`help environment`)?"""

from __future__ import annotations

from collections.abc import Sequence

from loadtests.cli.console import next_step, out

_STYLE = {"ok": "plain", "warn": "unknown", "bad": "fail"}

VARIABLES: dict[str, dict[str, str]] = {
    "Yours": {
        "TICKSTORM_REPORTS": "folder of the stored runs; default reports/ of the project",
        "TICKSTORM_STACK": "folder of the local stack; default .stack/ of the checkout that you are in",
        "TICKSTORM_SERVERS": "folder of the fetched servers; default .servers/ of the checkout",
        "TICKSTORM_PREFER_FETCHED": "1: servers on PATH are left alone, and fetched ones taken",
        "TICKSTORM_HTML": "0: no report.html, which saves two to three seconds of a run",
        "TICKSTORM_EXTENSIONS": "NAME,NAME: installed extensions that take part; also --extension",
        "TICKSTORM_STORE": "where the weekly job keeps its weeks; default .tickstorm/history",
        "GITHUB_STEP_SUMMARY": "file that a summary in Markdown is appended to; GitHub sets it",
        "TICKSTORM_SET_<PATH>": "replaces a value of the profile: TICKSTORM_SET_RUN__DURATION_S=30 is run.duration_s",
    },
    "Of a target that is not the local stack": {
        "TEST_REDIS_HOST": "and TEST_REDIS_PORT: the Redis to publish to",
        "TEST_REDIS_PORT": "default 6379",
        "TICKSTORM_REDIS_USER": "and TICKSTORM_REDIS_PASSWORD: its login",
        "TICKSTORM_REDIS_PASSWORD": "default none",
        "TEST_DB_HOST": "and TEST_DB_PORT: the PostgreSQL to read from",
        "TEST_DB_PORT": "default 5432",
        "TEST_DB_NAME": "its database",
        "TEST_DB_USER": "the role that may write",
        "TEST_DB_PASSWORD": "its password",
        "PG_ADMIN_USER": "and PG_ADMIN_PASSWORD: an administrator, for faults that need one",
        "PG_ADMIN_PASSWORD": "default none",
        "PGREQUIREAUTH": "how the server must ask for a password, as libpq has it",
        "TICKSTORM_TOKEN_SECRET": 'signs the tokens of consumers where target.auth is "token"',
    },
    "Of plain Locust (`locust -f locustfile.py`)": {
        "TICKSTORM_PROFILE": "as --run-profile",
        "TICKSTORM_SET": "as --run-set",
        "TICKSTORM_SEED": "as --run-seed",
        "TICKSTORM_WEB_PASSWORD": "password of the web UI, which then asks for a login",
        "TICKSTORM_WEB_HOSTS": "HOST,HOST: further names under which the web UI answers",
        "LOCUST_USER_CLASSES": "like all of Locust's own LOCUST_*; `tickstorm run` heeds none of them",
    },
    "Of the system": {
        "PATH": "where redis-server, postgres, toxiproxy-server and go are looked for",
        "PYTHONPATH": "handed on to our processes",
        "HOME": "where a folder of the user is meant",
        "XDG_STATE_HOME": "the key that vouches for journals of faults; default ~/.local/state",
        "BROWSER": "with DISPLAY and WAYLAND_DISPLAY: whether `tickstorm open` finds a browser",
        "DISPLAY": "see BROWSER",
        "WAYLAND_DISPLAY": "see BROWSER",
        "COLUMNS": "with LINES, TERM and NO_COLOR: how a terminal is written to",
        "LINES": "see COLUMNS",
        "TERM": "see COLUMNS",
        "NO_COLOR": "see COLUMNS",
    },
    "Set by Tickstorm for its own processes; leave them alone": {
        "TICKSTORM_RUN_ID": "id of the run that Locust is to begin",
        "TICKSTORM_STATUS_FD": "pipe to the command that shows the progress",
        "TICKSTORM_HOLD_FD": "the hold on the local stack",
        "TICKSTORM_LOGINS": "logins of the local stack",
        "TICKSTORM_PROVE_BURN": "of `tickstorm prove`: when the load generator is to be slowed",
        "_TICKSTORM_COMPLETE": "what the shell wants completed, after `tickstorm completion`",
        "TICKSTORM_CHAOS_MARK": "of `tickstorm prove --chaos`: marks the processes of a run",
    },
}
"""What is read of the environment, by whose it is."""


def examine(name: str | None, sets: Sequence[str]) -> int:
    """Print every finding; 2 where one is bad."""
    from loadtests.capture.preflight import doctor
    from loadtests.harness.profile_loading import load
    from loadtests.stack.folder import stack_folder
    from loadtests.stack.local import LocalStack

    profile = load(name, sets).profile if name is not None else None
    stack = LocalStack.attach(stack_folder())
    findings = doctor(profile, stack.status() if stack is not None else None)
    for finding in findings:
        remedy = f" {finding.remedy}" if finding.level != "ok" and finding.remedy else ""
        out.print(f"{finding.level:<6}{finding.text}{remedy}", style=_STYLE[finding.level], markup=False)
    bad, warned = (sum(f.level == level for f in findings) for level in ("bad", "warn"))
    if bad:
        out.print(f"A run would be refused: {bad} of {len(findings)} findings are bad.", style="fail")
        return 2
    if warned:
        out.print(f"A run can begin; {warned} of {len(findings)} findings may show in its numbers.")
    else:
        out.print("Nothing here would spoil a run.")
    next_step(f"tickstorm run {name or 'first-run'}", "runs and judges it")
    return 0


def tell_variables() -> None:
    """Print every variable of the environment that is read, and for what."""
    width = max(len(name) for group in VARIABLES.values() for name in group)
    for number, (title, group) in enumerate(VARIABLES.items()):
        if number:
            out.print("")
        out.print(title, style="title", markup=False)
        for name, what in group.items():
            out.print(f"  {name:<{width}}  {what}", markup=False)
