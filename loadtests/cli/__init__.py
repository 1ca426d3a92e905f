"""What can one ask of Tickstorm on the command line?  Composition root of the commands, which load what they need.

Exit status: 0 pass, 1 fail, 2 bad input, 3 unknown, 4 aborted, 130 where Ctrl-C came before any run began.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from enum import StrEnum
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Annotated, Any

import typer

from loadtests import extensions
from loadtests.harness.files import LAST, did_you_mean, run_folders, shipped_profiles
from loadtests.harness.process import outlive_the_console
from loadtests.model.errors import BadInput, HarnessError

NAME = "tickstorm"
COMPLETE = "_TICKSTORM_COMPLETE"
"""Variable by which a shell that was told `tickstorm completion` asks for words."""


class Shell(StrEnum):
    """Whose completion can be printed."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def _examples(*lines: str) -> str:
    """The end of a help: as they are, line by line."""
    return "\n".join(["\b", "Examples:", *(f"  {NAME} {line}" for line in lines)])


app = typer.Typer(
    name=NAME,
    help="Load and resilience testing for event pipelines: publishers, Redis, a backend, WebSocket clients.",
    epilog=_examples(
        "run first-run              a first run, with its own servers",
        "open                       its report in the browser",
        "list                       all runs with their verdicts",
        "doctor first-run           what would spoil a run here",
        "help environment           every variable that is read",
        "help stack up              the same as stack up --help",
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
stack_app = typer.Typer(
    help="The local stack: Redis, PostgreSQL, Toxiproxy, reference target.",
    short_help="Start, stop, see and heal the local stack.",
    epilog=_examples("stack up", "stack status", "stack down"),
    no_args_is_help=True,
)
app.add_typer(stack_app, name="stack")
history_app = typer.Typer(
    help="The store of a weekly job, and what a person decides.",
    short_help="Look at the weekly job's store, and decide.",
    epilog=_examples("history list", "history status --max-age 10d"),
    no_args_is_help=True,
)
app.add_typer(history_app, name="history")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("tickstorm"))
        raise typer.Exit


def _enable(names: list[str]) -> list[str]:
    """Load extensions, here and, by the environment, in every process of ours that follows."""
    if names:
        before = [name for name in os.environ.get(extensions.VARIABLE, "").split(",") if name.strip()]
        os.environ[extensions.VARIABLE] = ",".join(dict.fromkeys([*before, *names]))
        if wrong := extensions.enable(names):
            raise BadInput(wrong)
    return names


@app.callback()
def options(
    _extension: Annotated[
        list[str] | None,
        typer.Option(
            "--extension",
            metavar="NAME",
            callback=_enable,
            is_eager=True,
            help="Let an installed extension take part; may be repeated. Also: TICKSTORM_EXTENSIONS.",
        ),
    ] = None,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Options that stand before a command."""


Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a value of the profile; may be repeated."),
]


Html = Annotated[
    bool,
    typer.Option(
        "--html/--no-html", envvar="TICKSTORM_HTML", help="Write report.html, which takes two to three seconds."
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print verdict, reasons and paths as JSON on standard output, and nothing else there."),
]


def _profiles(incomplete: str) -> list[str]:
    """What a shell may complete a profile's name to; where it is none, the shell looks among the files."""
    return [name for name in shipped_profiles() if name.startswith(incomplete)]


def _runs(incomplete: str) -> list[str]:
    """What a shell may complete a run's name to."""
    names = [LAST, *(folder.name for folder in run_folders())]
    return [name for name in names if name.startswith(incomplete)]


RUN_HELP = f"A run: its name, the beginning of it, its folder, or `{LAST}`."


@app.command(
    short_help="Run a profile against its target and judge it.",
    epilog=_examples(
        "run first-run",
        "run first-run --set consumers.plain.count=300 --seed 7",
        "run my-profile.toml --workers 2 --no-html",
        "run first-run --web",
        "run first-run --json --quiet > verdict.json",
    ),
)
def run(
    profile: Annotated[
        str,
        typer.Argument(help="A shipped profile (see `tickstorm profiles`) or a file.", autocompletion=_profiles),
    ],
    sets: Sets = None,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Locust workers; 0 runs in one process.")] = 0,
    web: Annotated[bool, typer.Option("--web", help="Open Locust's web UI beside the run; Ctrl-C ends it.")] = False,
    web_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the web UI.")] = 8089,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed in place of the profile's.")] = None,
    html: Html = True,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the verdict and its reasons alone.")] = False,
) -> None:
    """Run a profile against its target and judge it.

    Uses the local stack that is up, else starts one and stops it at the end. Exit status: 0 pass, 1 fail, 2 bad
    input, 3 unknown, 4 aborted.
    """
    from loadtests.cli.run_command import run_profile

    port = web_port if web else None
    raise typer.Exit(
        run_profile(
            profile,
            sets or [],
            workers=workers,
            web_port=port,
            seed=seed,
            html=html,
            quiet=quiet,
            as_json=as_json,
        )
    )


@app.command("list", short_help="List the stored runs with their verdicts.", epilog=_examples("list", "list --json"))
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=0, metavar="N", help="So many; 0: all. Default 30 on a terminal, else all."),
    ] = None,
) -> None:
    """List the stored runs, newest first: verdict, name, when, how long, report, profile.

    Where the output is no terminal: one line each, with tabs between, and whole names and paths.
    """
    from loadtests.cli.runs_command import list_runs

    raise typer.Exit(list_runs(as_json=as_json, most=limit))


@app.command(
    "open",
    short_help="Show the report of a run in the browser.",
    epilog=_examples("open", "open 20260102-030405", "open reports/20260102-030405-first-run-1a2b/again"),
)
def open_(
    run: Annotated[str, typer.Argument(help=RUN_HELP, autocompletion=_runs)] = LAST,
) -> None:
    """Show the report of a run in the browser, and print its path; where there is no browser, only that."""
    from loadtests.cli.runs_command import open_report

    raise typer.Exit(open_report(run))


@app.command(
    short_help="Judge a stored run again.",
    epilog=_examples(
        "analyze last",
        "analyze 20260102-030405 --consumers clients.csv",
        "analyze last --set 'thresholds[0].at_most=5'",
    ),
)
def analyze(
    run: Annotated[str, typer.Argument(help=RUN_HELP, autocompletion=_runs)],
    sets: Sets = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; default the run's folder.")] = None,
    consumers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write each fault as each consumer felt it, as CSV.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Write the files, print nothing.")] = False,
    html: Html = True,
    as_json: Json = False,
) -> None:
    """Judge a stored run again: results.json, report.html and junit.xml from its history alone.

    With --set (other thresholds, other guards) the files go to the folder `again` inside it, unless --out names one.
    """
    from loadtests.cli.analyze_command import analyze_run

    raise typer.Exit(
        analyze_run(run, sets or [], out=out, quiet=quiet, html=html, consumers=consumers, as_json=as_json)
    )


@app.command(short_help="Say what would spoil a run here.", epilog=_examples("doctor", "doctor first-run"))
def doctor(
    profile: Annotated[
        str | None, typer.Argument(help="Check also what this profile needs.", autocompletion=_profiles)
    ] = None,
    sets: Sets = None,
) -> None:
    """Say what on this machine, or of the target, would spoil a run."""
    from loadtests.cli.surroundings_command import examine

    raise typer.Exit(examine(profile, sets or []))


@app.command(
    short_help="Prove that Tickstorm finds what is there.",
    epilog=_examples("prove", "prove --only account --keep", "prove --faults --only-kinds kill,lock", "prove --chaos"),
)
def prove(
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="SECTION", help="One section; may be repeated.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Ten million deliveries, every way to run, a day.")] = False,
    deliveries: Annotated[int, typer.Option(help="About so many deliveries in the section account.")] = 200_000,
    keep: Annotated[bool, typer.Option("--keep", help="Keep books, histories and logs, and say where.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Everything random comes from it.")] = 1,
    chaos: Annotated[
        bool, typer.Option("--chaos", help="Instead: kill Tickstorm's own processes and its servers in short runs.")
    ] = False,
    moments: Annotated[int, typer.Option(help="With --chaos: so many blows, the victims in turn.")] = 20,
    faults: Annotated[
        bool, typer.Option("--faults", help="Instead: play every kind of fault once, prove it and see it lifted.")
    ] = False,
    only_kinds: Annotated[
        str, typer.Option("--only-kinds", metavar="KIND,...", help="With --faults: these kinds alone.")
    ] = "",
    gate: Annotated[
        bool,
        typer.Option("--gate", help="Instead: plant thousands of histories and count how often the gate is wrong."),
    ] = False,
) -> None:
    """Plant lies in a gateway and compare what Tickstorm finds with what was planted.

    Brings a stack of its own. Exit status: 0 all equal, 1 anything differs, 2 bad usage, 3 could not be carried out.
    """
    command = _proof()
    if gate:
        from loadtests.measure.gate import look

        raise typer.Exit(command.prove_gate(look, seed=seed))
    if faults:
        kinds = [kind.strip() for kind in only_kinds.split(",") if kind.strip()]
        raise typer.Exit(command.prove_catalogue(kinds, keep=keep, seed=seed))
    if chaos:
        raise typer.Exit(command.prove_chaos(moments, keep=keep, seed=seed))

    raise typer.Exit(command.prove(only or [], full=full, deliveries=deliveries, keep=keep, seed=seed))


def _proof() -> Any:
    """What proves the tool is installed beside it, and shares no code with what it proves but the model."""
    found = list(entry_points(group="tickstorm.proof", name="command"))
    if not found:
        raise BadInput(["prove: the package `proof` is not installed; `make setup` installs it"])
    return found[0].load()


@app.command(short_help="List the shipped profiles.", epilog=_examples("profiles"))
def profiles() -> None:
    """List the shipped profiles and the question that each asks."""
    from loadtests.cli.runs_command import list_profiles

    list_profiles()


@app.command(
    short_help="Let the shell complete commands, profiles and runs.",
    epilog=_examples("completion bash >> ~/.bashrc", "completion zsh >> ~/.zshrc")
    + f"\n  {NAME} completion fish > ~/.config/fish/completions/{NAME}.fish",
)
def completion(shell: Annotated[Shell, typer.Argument(help="Whose.", show_choices=True)]) -> None:
    """Print what lets a shell complete commands, options, profiles and runs.

    For the present shell alone: `source <(tickstorm completion bash)`.
    """
    from typer._completion_shared import get_completion_script

    typer.echo(get_completion_script(prog_name=NAME, complete_var=COMPLETE, shell=shell))


@app.command("help", short_help="Help about a command, or the environment.", epilog=_examples("help environment"))
def help_(
    context: typer.Context,
    topic: Annotated[
        list[str] | None, typer.Argument(help="A command, or `environment`: every variable that is read.")
    ] = None,
) -> None:
    """Help about a command, or about the variables of the environment."""
    if topic in (["environment"], ["env"]):
        from loadtests.cli.surroundings_command import tell_variables

        tell_variables()
        return
    above = context.find_root()
    command: Any = above.command
    for word in topic or ():
        known = getattr(command, "commands", {})
        if word not in known:
            raise BadInput(f"help {word}: there is no such topic{did_you_mean(word, [*known, 'environment'])}")
        command = known[word]
        above = typer.Context(command, parent=above, info_name=word)
    typer.echo(command.get_help(above))


@app.command(
    short_help="Play profiles by stage or category, one after another.",
    epilog=_examples("suite --stage smoke", "suite --category error_recovery --list"),
)
def suite(
    stage: Annotated[
        list[str] | None,
        typer.Option("--stage", metavar="STAGE", help="smoke, integration, performance, resilience; may be repeated."),
    ] = None,
    category: Annotated[
        list[str] | None,
        typer.Option("--category", metavar="WORD", help="What the profiles are about; may be repeated."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every profile that stands in a stage.")] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first that does not pass.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Say what would be played, and play nothing.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show what each run says.")] = False,
    out: Annotated[Path | None, typer.Option(help="Where to write; default reports/suite-<id>.")] = None,
    summary: Annotated[
        Path | None,
        typer.Option(envvar="GITHUB_STEP_SUMMARY", metavar="FILE", help="Append a table in Markdown to a file."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print suite.json in place of words.")] = False,
    html: Html = True,
) -> None:
    """Play profiles by stage or category, one after another on one stack; a JUnit file and a page over all.

    A hang or an error of one does not stop the others. The exit status is that of the worst verdict.
    """
    from loadtests.cli.suite_command import play_suite

    raise typer.Exit(
        play_suite(
            stage or [],
            category or [],
            everything=everything,
            fail_fast=fail_fast,
            listed=listed,
            verbose=verbose,
            html=html,
            folder=out,
            summary=summary,
            as_json=as_json,
        )
    )


@app.command(
    short_help="Print the file of the weekly job.",
    epilog=_examples("ci github > .github/workflows/weekly.yml", "ci cron"),
)
def ci(
    kind: Annotated[str, typer.Argument(metavar="github|gitlab|cron|systemd", help="Where the job will run.")],
    profiles: Annotated[
        list[str] | None, typer.Argument(metavar="[PROFILE]...", help="What it compares; default the profile weekly.")
    ] = None,
) -> None:
    """Print the file of the weekly job, filled in: it calls Tickstorm directly and keeps the store."""
    from loadtests.cli.ci_command import print_job

    raise typer.Exit(print_job(kind, profiles or []))


Store = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|FILE.jsonl", help="Where the weeks are kept; default TICKSTORM_STORE, else .tickstorm/history."
    ),
]
JsonTo = Annotated[str, typer.Option("--json", metavar="FILE", help="Also write series.json there; - is the output.")]
Limit = Annotated[float, typer.Option(help="The regression that must be found, in percent.")]
Alpha = Annotated[float, typer.Option(help="Chance of a false FAIL of one measure.")]
Beta = Annotated[float, typer.Option(help="Chance of a PASS of one measure that is worse by --limit.")]
OutFolder = Annotated[Path | None, typer.Option(help="Folder of the files; default one in reports/.")]
OfProfile = Annotated[str, typer.Option(help="One profile; default all that the store holds.")]


@app.command(
    short_help="Run, keep, compare with the weeks before.",
    epilog=_examples("weekly --first", "weekly weekly --budget 45m", "weekly weekly --against first-run"),
)
def weekly(
    profiles: Annotated[list[str] | None, typer.Argument(help="Profiles to run; default `weekly`.")] = None,
    store: Store = None,
    first: Annotated[
        bool, typer.Option("--first", help="Allow an empty store: this week is the first, and nothing is compared.")
    ] = False,
    runs: Annotated[str, typer.Option(metavar="FIRST..MOST", help="Runs: at first, and at most.")] = "3..7",
    limit: Limit = 25.0,
    alpha: Alpha = 0.05,
    beta: Beta = 0.05,
    confirm: Annotated[
        bool, typer.Option("--confirm/--no-confirm", help="Repeat a FAIL on a fresh stack, three runs more.")
    ] = True,
    target_version: Annotated[str, typer.Option(help="What is tested, such as `git describe` of the target.")] = "",
    against: Annotated[
        str, typer.Option(metavar="PROFILE", help="Run this one too, in turn, and compare with it alone.")
    ] = "",
    budget: Annotated[str, typer.Option(metavar="TIME", help="Begin no run that would end later, such as 45m.")] = "",
    html: Html = True,
    out: OutFolder = None,
    as_json: JsonTo = "",
    summary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append a summary in Markdown. Also: $GITHUB_STEP_SUMMARY.")
    ] = None,
) -> None:
    """The weekly job: run, keep, compare with the weeks before, confirm, report.

    Exit status: 0 only where something was compared (or --first), 1 FAIL, 2 bad input, 3 UNKNOWN, 4 aborted.
    """
    from loadtests.cli.weekly_command import WeeklyOptions
    from loadtests.cli.weekly_command import weekly as play

    asked = WeeklyOptions(
        store=_store(store), may_be_first=first, runs=runs, limit=limit, alpha=alpha, beta=beta,
        confirm=confirm, target_version=target_version, against=against, budget=budget, html=html, out=out,
        json=as_json, summary=summary,
    )  # fmt: skip
    raise typer.Exit(play(profiles or ["weekly"], asked))


@app.command(
    short_help="Say what is wrong with a profile, all of it.",
    epilog=_examples("validate my.toml", "validate profiles/*.toml", "validate my.toml --set run.duration_s=5"),
)
def validate(
    profiles: Annotated[list[str], typer.Argument(metavar="PROFILE...", help="Names of profiles, or files.")],
    sets: Sets = None,
    seed: Annotated[int | None, typer.Option(help="Seed in place of the profile's.")] = None,
) -> None:
    """Say everything that is wrong with profiles; starts nothing. Exit status 2 where anything is."""
    from loadtests.cli.profile_command import validate as check

    raise typer.Exit(check(profiles, sets or [], seed))


@app.command(short_help="Print the JSON Schema of a profile.", epilog=_examples("schema > profile.schema.json"))
def schema() -> None:
    """Print the JSON Schema of a profile: editors that know TOML complete and check by it."""
    from loadtests.cli.profile_command import schema_text

    sys.stdout.write(schema_text())


@app.command(
    short_help="Find the highest load at which every limit holds.",
    epilog=_examples(
        "capacity capacity",
        "capacity my.toml --to 32 --plan 25000/s --budget 15m",
        "capacity --again <series> --set thresholds[0].at_most=50",
        'capacity --fit "1:9100,2:17400,4:31000,6:41000"',
    ),
)
def capacity(
    profile: Annotated[str, typer.Argument(help="Whose own load is factor 1; its limits bound the search.")] = "",
    axis: Annotated[str, typer.Option(help="What is raised: rate (messages per second) or clients.")] = "rate",
    start: Annotated[float | None, typer.Option("--from", help="First level, as a factor of the profile's.")] = None,
    to: Annotated[float | None, typer.Option("--to", help="Highest level.")] = None,
    tolerance: Annotated[float | None, typer.Option(help="Width of the last bracket, percent.")] = None,
    settle: Annotated[float | None, typer.Option(help="Seconds before a level is judged.")] = None,
    hold: Annotated[float | None, typer.Option(help="Seconds in which it is judged.")] = None,
    long: Annotated[float | None, typer.Option("--long", help="Seconds of the hold that confirms.")] = None,
    under: Annotated[str, typer.Option(metavar="FAULT", help="Each level carries this fault of the profile.")] = "",
    limits: Annotated[str, typer.Option(metavar="A,B", help="Measures whose thresholds bound it; default all.")] = "",
    plan: Annotated[str, typer.Option(metavar="RATE", help="Load that is planned for, such as 25000/s.")] = "",
    growth: Annotated[float | None, typer.Option(help="By how many percent a year the plan grows.")] = None,
    price: Annotated[str, typer.Option(metavar="PRICE", help="Of one gateway, such as 0.12/h.")] = "",
    budget: Annotated[str, typer.Option(metavar="TIME", help="Begin no level that would end later.")] = "15m",
    seed: Annotated[int | None, typer.Option(help="Seed in place of the profile's.")] = None,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Worker processes; 0 = one process.")] = 0,
    web: Annotated[bool, typer.Option("--web", help="Show it in Locust's web UI.")] = False,
    web_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the web UI.")] = 8089,
    sets: Sets = None,
    again: Annotated[str, typer.Option(metavar="SERIES", help="Judge a stored session anew, by --set; no load.")] = "",
    fit: Annotated[str, typer.Option(metavar="N:X,...", help="Fit the scaling law to points of your own.")] = "",
    html: Html = True,
    out: OutFolder = None,
    as_json: JsonTo = "",
) -> None:
    """Find the highest load at which every limit of the profile holds: double, halve, hold for long.

    Exit status: 0 found (and not below --plan), 1 surely below --plan, 2 bad input, 3 UNKNOWN, 4 aborted.
    """
    from loadtests.cli import capacity_command

    chosen = [name for name, value in (("PROFILE", profile), ("--again", again), ("--fit", fit)) if value]
    if len(chosen) != 1:
        raise BadInput(f"capacity: found {' and '.join(chosen) or 'nothing'}, allowed one of PROFILE, --again, --fit")
    if fit:
        raise typer.Exit(capacity_command.fitted(fit))
    asked = capacity_command.CapacityOptions(
        axis=axis, start=start, to=to, tolerance=tolerance, settle=settle, hold=hold, long=long, under=under,
        limits=limits, plan=plan, growth=growth, price=price, budget=budget, seed=seed, workers=workers,
        web_port=web_port if web else None, sets=sets or [], html=html, out=out, json=as_json,
    )  # fmt: skip
    raise typer.Exit(capacity_command.again(again, asked) if again else capacity_command.capacity(profile, asked))


@app.command(short_help="Compare stored runs with the weeks before.", epilog=_examples("gate last"))
def gate(
    names: Annotated[list[str], typer.Argument(metavar="SERIES|RUN...", help="A series of the store, or stored runs.")],
    store: Store = None,
    limit: Limit = 25.0,
    alpha: Alpha = 0.05,
    beta: Beta = 0.05,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the decision about a series in the store.")] = False,
    html: Html = True,
    out: Annotated[Path | None, typer.Option(help="Folder for its files; default none are written.")] = None,
    as_json: JsonTo = "",
) -> None:
    """Compare runs that exist with the weeks before them; no load. Exit status as that of `weekly`."""
    from loadtests.cli.history_command import gate as judge
    from loadtests.cli.weekly_command import WeeklyOptions

    files = _store(store)
    asked = WeeklyOptions(store=files, limit=limit, alpha=alpha, beta=beta).asked()
    raise typer.Exit(judge(names, files, asked, html=html, to=out, json_to=as_json, keep=keep))


@app.command(
    short_help="Lay two runs or series beside each other.",
    epilog=_examples("compare last 20261128-120000", "compare --interleave first-run burst"),
)
def compare(
    a: Annotated[str, typer.Argument(help="A run or a series; with --interleave a profile.")],
    b: Annotated[str, typer.Argument(help="What is compared with it.")],
    store: Store = None,
    interleave: Annotated[
        bool, typer.Option("--interleave", help="Play both profiles now, in turn, on one stack.")
    ] = False,
    pairs: Annotated[int, typer.Option(min=3, max=8, help="With --interleave: so many runs of each.")] = 3,
    html: Html = True,
    out: OutFolder = None,
    as_json: JsonTo = "",
) -> None:
    """Lay two runs or series beside each other: terminal, JSON, and one page with both timelines."""
    from loadtests.cli import weekly_command

    if interleave:
        raise typer.Exit(weekly_command.interleave(a, b, pairs, html=html, to=out, json_to=as_json))
    from loadtests.cli import capacity_command

    sessions = [capacity_command.found_in(name) for name in (a, b)]
    if sessions[0] is not None and sessions[1] is not None:
        raise typer.Exit(capacity_command.compared(sessions[0], sessions[1]))
    files = _store(store)
    raise typer.Exit(weekly_command.compare(a, b, files, html=html, to=out, json_to=as_json))


@history_app.command(
    "list", short_help="One line a week.", epilog=_examples("history list", "history list --profile weekly")
)
def history_list(store: Store = None, profile: OfProfile = "") -> None:
    """One line a week: verdict, series, runs, version, machine, figures."""
    from loadtests.cli import history_command

    raise typer.Exit(history_command.list_weeks(_store(store), profile))


@history_app.command("show", epilog=_examples("history show <series>"))
def history_show(
    series: Annotated[str, typer.Argument(help="A series of the store.")], store: Store = None, as_json: JsonTo = ""
) -> None:
    """One week, judged as it would be now."""
    from loadtests.cli import history_command

    raise typer.Exit(history_command.show_week(_store(store), series, as_json))


@history_app.command("status", epilog=_examples("history status --max-age 10d"))
def history_status(
    store: Store = None,
    max_age: Annotated[str, typer.Option(help="The newest week may be this old, such as 10d.")] = "10d",
    profile: OfProfile = "",
) -> None:
    """Say how old the newest week is. Exit status 3 where it is too old, or where there is none."""
    from loadtests.cli import history_command
    from loadtests.cli.weekly_command import seconds_of

    raise typer.Exit(history_command.status(_store(store), seconds_of(max_age, "--max-age"), profile))


Why = Annotated[str, typer.Option(help="For whoever reads the store later.")]


@history_app.command(
    "accept",
    short_help="A change was wanted: a new epoch begins.",
    epilog=_examples("history accept <series> --why 'a new codec'"),
)
def history_accept(series: str, why: Why, store: Store = None) -> None:
    """A change that came with this series was wanted: a new epoch begins with it."""
    from loadtests.cli import history_command

    raise typer.Exit(history_command.decide(_store(store), "accept", series, why))


@history_app.command("exclude", epilog=_examples("history exclude <series> --why 'the machine was moved'"))
def history_exclude(series: str, why: Why, store: Store = None) -> None:
    """Take a series out of all baselines."""
    from loadtests.cli import history_command

    raise typer.Exit(history_command.decide(_store(store), "exclude", series, why))


@history_app.command("anchor", epilog=_examples("history anchor <series>", "history anchor none"))
def history_anchor(
    series: Annotated[str, typer.Argument(help="A series, or `none`: the first weeks of the epoch again.")],
    why: Why = "",
    store: Store = None,
) -> None:
    """Choose the week from which slow creep is measured."""
    from loadtests.cli import history_command

    raise typer.Exit(history_command.decide(_store(store), "anchor", series, why))


@history_app.command("import", epilog=_examples("history import last"))
def history_import(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Stored runs of one profile.")],
    store: Store = None,
) -> None:
    """Keep rows of stored runs, as one series."""
    from loadtests.cli import history_command

    raise typer.Exit(history_command.import_runs(_store(store), runs))


@history_app.command("trim", epilog=_examples("history trim --keep-runs 4"))
def history_trim(
    store: Store = None,
    keep_runs: Annotated[int, typer.Option(min=0, help="Keep the histories of so many weeks.")] = 8,
    keep_fails: Annotated[str, typer.Option(help="all or none: weeks that failed keep theirs.")] = "all",
) -> None:
    """Delete the histories of old runs; rows, results and pages stay."""
    from loadtests.cli import history_command

    if keep_fails not in ("all", "none"):
        raise BadInput(f"--keep-fails: found {keep_fails!r}, allowed all or none")
    raise typer.Exit(history_command.trim(_store(store), keep_runs, keep_fails=keep_fails == "all"))


@history_app.command("check", epilog=_examples("history check"))
def history_check(store: Store = None) -> None:
    """Read everything and say what is torn or doubtful. Exit status 2 where anything is."""
    from loadtests.cli import history_command

    raise typer.Exit(history_command.check(_store(store)))


@history_app.command("push", epilog=_examples("history push"))
def history_push(
    place: Annotated[Path, typer.Argument(help="Checkout of the branch that keeps the store.")] = Path(".tickstorm"),
) -> None:
    """Commit the store and push it, over what others pushed meanwhile. Exit status 3 where that fails."""
    from loadtests.cli import history_command

    raise typer.Exit(history_command.push(place))


def _store(text: str | None) -> Any:
    from loadtests.capture.store import StoreFiles

    return StoreFiles.named(text)


@stack_app.command("up", epilog=_examples("stack up", "stack up --port redis=7000 --port gateway=7001"))
def stack_up(
    port: Annotated[
        list[str] | None, typer.Option("--port", metavar="NAME=NUMBER", help="Choose a port; may be repeated.")
    ] = None,
) -> None:
    """Start the local stack and leave it running."""
    from loadtests.cli.stack_command import up

    raise typer.Exit(up(port or []))


@stack_app.command("down", epilog=_examples("stack down"))
def stack_down(
    force: Annotated[bool, typer.Option("--force", help="Also while a run is using it.")] = False,
) -> None:
    """Stop the local stack."""
    from loadtests.cli.stack_command import down

    raise typer.Exit(down(force))


@stack_app.command("status", short_help="Say what is up, and where.", epilog=_examples("stack status --json"))
def stack_status(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Say what of the local stack is up, and where. Exit status 3 when it is not."""
    from loadtests.cli.stack_command import status

    raise typer.Exit(status(as_json))


@stack_app.command(
    "heal",
    short_help="Lift what a run left behind.",
    epilog=_examples("stack heal"),
)
def stack_heal(
    trust: Annotated[
        list[Path] | None,
        typer.Option("--trust", exists=True, dir_okay=False, help="A faults.journal that none of your own runs wrote."),
    ] = None,
) -> None:
    """Lift every fault that a run may have left behind."""
    from loadtests.cli.stack_command import heal

    raise typer.Exit(heal(trust or ()))


@stack_app.command(
    "passwords",
    short_help="Draw passwords for docker-compose.yml.",
    epilog=_examples("stack passwords --file .env"),
)
def stack_passwords(
    file: Annotated[Path, typer.Option("--file", help="Made anew; only its user can read it.")] = Path(".env"),
) -> None:
    """Draw passwords for docker-compose.yml, into the file that `docker compose` reads."""
    from loadtests.cli.stack_command import draw_passwords

    raise typer.Exit(draw_passwords(file))


def _complain(sentences: Sequence[str]) -> None:
    from loadtests.cli.console import err

    for sentence in sentences:
        err.print(sentence, markup=False)


def main() -> None:
    """Entry point: turns errors with a name into a sentence and an exit status; all others are ours, and no verdict."""
    outlive_the_console()
    if COMPLETE in os.environ:
        from typer._completion_classes import completion_init

        completion_init()  # Typer would do so only for options of its own, which also write into the shell's files
    try:
        app(prog_name=NAME)
    except BadInput as error:
        _complain(error.problems)
        sys.exit(2)
    except HarnessError as error:
        _complain(str(error).split("\n"))
        sys.exit(3)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        traceback.print_exc()
        raise SystemExit(3) from error  # Python's own status would be 1, which says that the target failed
