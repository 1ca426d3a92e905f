"""How is lifted what runs left behind?  The command `stack heal`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from loadtests.cli.console import out
from loadtests.harness.files import journals
from loadtests.inject.journal import Journal
from loadtests.inject.startup_sweep import LEFT_ALONE
from loadtests.inject.startup_sweep import heal as heal_by_journal
from loadtests.stack.folder import stack_folder
from loadtests.stack.local import LocalStack
from loadtests.stack.orphans import end_left_in


def heal(trust: Sequence[Path] = ()) -> int:
    """Lift what runs left, by journal and, where the local stack is up, by name; 3 while anything stays open.

    `trust`: journals for which the user vouches, of any author.
    """
    trusted = {path.absolute() for path in trust}
    stack = LocalStack.attach(stack_folder())
    sentences = end_left_in(stack_folder()) if stack is None else []
    found = [*(path for path in journals() if path.absolute() not in trusted), *sorted(trusted)]
    gone = _gone(found, trusted)
    for folder in gone:
        sentences += end_left_in(Path(folder))
    toxiproxy = "" if stack is None else stack.status().services["toxiproxy"].address
    sentences += heal_by_journal(toxiproxy, found, None if stack is None else stack.folder, gone=gone, trusted=trusted)
    for sentence in sentences:
        out.print(sentence, markup=False)
    if stack is None:
        out.print("the local stack is not up: only what the journals of stored runs name could be looked for")
    if not sentences:
        out.print("nothing to heal")
    return 3 if any("not lifted" in s or "Still there" in s or s.startswith(LEFT_ALONE) for s in sentences) else 0


def _gone(found: Sequence[Path], trusted: Collection[Path]) -> set[str]:
    """Folders of local stacks that journals name and that are down."""
    known = [Journal(path, vouched=path in trusted) for path in found]
    named = {entry.supervisor for journal in known for entry in journal.pending() if entry.supervisor}
    return {folder for folder in named if LocalStack.attach(Path(folder)) is None}
