"""How is the whole catalogue of faults proved from the command line?  A stack of its own, one line for each kind.

Exit status: 0 every kind was proved and lifted, 1 one was not, 2 bad usage, 3 it could not be carried out.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from loadtests.cli.console import err, out
from loadtests.model.errors import BadInput
from loadtests.stack.local import LocalStack
from proof.faults import CatalogueRow, Shared, carry_out
from proof.faults_left import World
from proof.faults_plan import PLAYS, groups
from proof.faults_world import look
from proof.running import Bench

TOKEN_SECRET = "TICKSTORM_TOKEN_SECRET"
"""A gateway that is started with it asks its consumers for tokens; children inherit it, it is written nowhere."""


def prove_faults(only: Sequence[str], *, seed: int, folder: Path) -> int:
    """Play the kinds and show what came of each; the exit status. Raises BadInput before anything was started."""
    unknown = [kind for kind in only if kind not in PLAYS]
    if unknown:
        raise BadInput(
            [f"--only-kinds {kind}: there is no such kind; known are {', '.join(PLAYS)}" for kind in unknown]
        )
    runs = groups(only or list(PLAYS))
    began_s = time.monotonic()
    os.environ[TOKEN_SECRET] = secrets.token_urlsafe(32)
    told: list[Shared | str] = []
    with LocalStack.up(folder / "stack", progress=_say) as stack:
        services = stack.status().services

        def looked() -> World:
            return look(stack.status())

        with Bench(folder=folder, redis=services["redis"].address, toxiproxy=services["toxiproxy"].address) as bench:
            for name, plays in runs.items():
                _say(f"run {name}: {', '.join(play.kind for play in plays)}")
                told += carry_out(
                    {name: plays}, bench, seed=seed, look=looked, environment={"TICKSTORM_STACK": str(stack.folder)}
                )
                _show(told[-1])
    return _verdict(told, sum(map(len, runs.values())), time.monotonic() - began_s)


def _say(text: str) -> None:
    err.print(text, markup=False)


def _show(told: Shared | str) -> None:
    if isinstance(told, str):
        _line(told)
        return
    for row in told.rows:
        _line(f"{row.kind:21} on {row.where}: {_words(row)}")
    _line(f"  run {told.name}: {told.loss}; {told.seconds:.0f} s")
    for text in told.left:
        _line(f"  WRONG still in force after run {told.name}: {text}")


def _words(row: CatalogueRow) -> str:
    if row.refused:
        return f"refused here: {row.refused}"
    parts = [
        f"asked {row.asked or 'nothing more'}",
        f"effective {row.effective or '-'}",
        "proved" if row.proved else f"NOT PROVED ({row.detail or 'no reason'})",
        f"lifted by {row.lifted_by}" if row.lifted_by else "NOT LIFTED",
        f"lost {row.loss}",
        f"recovery {row.recovery}",
        *([f"ABSURD: {row.absurd}"] if row.absurd else []),
    ]
    return "; ".join(parts)


def _verdict(told: Sequence[Shared | str], kinds: int, seconds: float) -> int:
    rows = [row for shared in told if isinstance(shared, Shared) for row in shared.rows]
    left = [text for shared in told if isinstance(shared, Shared) for text in shared.left]
    refused = [row for row in rows if row.refused]
    wrong = [row.kind for row in rows if not row.fine]
    good = len(rows) - len(refused) - len(wrong)
    text = f"{good} of {kinds} kinds proved and lifted"
    if refused:
        text += f", {len(refused)} refused here: " + "; ".join(f"{row.kind}: {row.refused}" for row in refused)
    if wrong:
        text += f"; not so: {', '.join(wrong)}"
    if len(rows) < kinds:
        text += f"; {kinds - len(rows)} not carried out"
    if left:
        text += f"; {len(left)} still in force"
    _line(f"{text}; {seconds:.0f} s")
    if wrong or left:
        return 1
    return 3 if len(rows) < kinds or not good else 0


def _line(text: str) -> None:
    out.print(text, markup=False, soft_wrap=True)
