"""What can one ask of Tickstorm on the command line?  Composition root of the commands; each has a module of its own.

Exit status: 0 pass, 1 fail, 2 bad input, 3 unknown, 4 aborted, 130 where Ctrl-C came before any run began.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import Annotated, Any

import typer

from loadtests import extensions
from loadtests.harness.process import outlive_the_console
from loadtests.model.errors import BadInput, HarnessError
from loadtests.model.words import printable

app = typer.Typer(
    name="tickstorm",
    help="Load and resilience testing for event pipelines: publishers, Redis, a backend, WebSocket clients.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
stack_app = typer.Typer(help="The local stack: Redis, PostgreSQL, Toxiproxy, reference target.", no_args_is_help=True)
app.add_typer(stack_app, name="stack")


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


@app.command()
def run(
    profile: Annotated[str, typer.Argument(help="A shipped profile (see `tickstorm profiles`) or a file.")],
    sets: Sets = None,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Locust workers; 0 runs in one process.")] = 0,
    web: Annotated[bool, typer.Option("--web", help="Open Locust's web UI beside the run; Ctrl-C ends it.")] = False,
    web_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the web UI.")] = 8089,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed in place of the profile's.")] = None,
    html: Html = True,
) -> None:
    """Run a profile against its target and judge it.

    Uses the local stack that is up, else starts one and stops it at the end.
    """
    from loadtests.cli.run_command import run_profile

    port = web_port if web else None
    raise typer.Exit(run_profile(profile, sets or [], workers=workers, web_port=port, seed=seed, html=html))


@app.command()
def analyze(
    run: Annotated[str, typer.Argument(help="A run's id, or its folder.")],
    sets: Sets = None,
    out: Annotated[Path | None, typer.Option(help="Where to write; default the run's folder.")] = None,
    consumers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write each fault as each consumer felt it, as CSV.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Write the files, print nothing.")] = False,
    html: Html = True,
) -> None:
    """Judge a stored run again: results.json, report.html and junit.xml from its history alone.

    With --set (other thresholds, other guards) the files go to the folder `again` inside it, unless --out names one.
    """
    from loadtests.cli.analyze_command import analyze_run

    raise typer.Exit(analyze_run(run, sets or [], out=out, quiet=quiet, html=html, consumers=consumers))


@app.command()
def doctor(
    profile: Annotated[str | None, typer.Argument(help="Check also what this profile needs.")] = None,
    sets: Sets = None,
) -> None:
    """Say what on this machine, or of the target, would spoil a run."""
    from loadtests.cli.doctor_command import examine

    raise typer.Exit(examine(profile, sets or []))


@app.command()
def prove(
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="SECTION", help="One section; may be repeated.")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Ten million deliveries, and every way to run.")] = False,
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


@app.command()
def profiles() -> None:
    """List the shipped profiles and the question that each asks."""
    from loadtests.cli.profiles_command import list_profiles

    list_profiles()


@stack_app.command("up")
def stack_up(
    port: Annotated[
        list[str] | None, typer.Option("--port", metavar="NAME=NUMBER", help="Choose a port; may be repeated.")
    ] = None,
) -> None:
    """Start the local stack and leave it running."""
    from loadtests.cli.stack_command import up

    raise typer.Exit(up(port or []))


@stack_app.command("down")
def stack_down(
    force: Annotated[bool, typer.Option("--force", help="Also while a run is using it.")] = False,
) -> None:
    """Stop the local stack."""
    from loadtests.cli.stack_command import down

    raise typer.Exit(down(force))


@stack_app.command("status")
def stack_status(as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False) -> None:
    """Say what of the local stack is up, and where. Exit status 3 when it is not."""
    from loadtests.cli.stack_command import status

    raise typer.Exit(status(as_json))


@stack_app.command("heal")
def stack_heal(
    trust: Annotated[
        list[Path] | None,
        typer.Option("--trust", exists=True, dir_okay=False, help="A faults.journal that none of your own runs wrote."),
    ] = None,
) -> None:
    """Lift every fault that a run may have left behind."""
    from loadtests.cli.stack_command import heal

    raise typer.Exit(heal(trust or ()))


@stack_app.command("passwords")
def stack_passwords(
    file: Annotated[Path, typer.Option("--file", help="Made anew; only its user can read it.")] = Path(".env"),
) -> None:
    """Draw passwords for docker-compose.yml, into the file that `docker compose` reads."""
    from loadtests.cli.stack_command import draw_passwords

    raise typer.Exit(draw_passwords(file))


def _complain(sentences: Sequence[str]) -> None:
    for sentence in sentences:
        sys.stderr.write(f"{printable(sentence)}\n")


def main() -> None:
    """Entry point: turns errors with a name into a sentence and an exit status; all others are ours, and no verdict."""
    outlive_the_console()
    try:
        app()
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
