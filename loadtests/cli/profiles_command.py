"""Which profiles are shipped?  The command `profiles` lists them."""

from __future__ import annotations

from rich.table import Table

from loadtests.cli.console import out
from loadtests.harness.files import shipped_profiles
from loadtests.harness.profile_loading import load


def list_profiles() -> None:
    """Name, length, faults and question of each."""
    if not out.is_terminal:
        for name in shipped_profiles():
            out.print(f"{name}\t{load(name).profile.question}", markup=False)
        return
    table = Table("profile", "seconds", "consumers", "faults", "question", box=None, pad_edge=False)
    for name in shipped_profiles():
        profile = load(name).profile
        seconds = profile.run.warm_up_s + profile.run.duration_s + profile.run.drain_s
        consumers = sum(c.count for c in profile.consumers)
        table.add_row(name, f"{seconds:.0f}", str(consumers), str(len(profile.faults)), profile.question)
    out.print(table)
