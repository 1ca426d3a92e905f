"""How is a fault lifted so that it stays lifted?  Undo and read back; if that fails, ever harder ways, each told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from loadtests.inject.errors import ControlError, NotThere
from loadtests.inject.kinds.kind import Kind, Site, Undo

COMMAND = "tickstorm stack heal"
"""What a user runs when a fault could not be lifted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """How the lifting of one fault ended."""

    clean: bool  # read back
    escalation: str = ""  # the harder way that did it; empty where undoing it did
    left: str = ""  # what is still there, as a sentence with the command that lifts it


def lift(
    kind: Kind,
    site: Site,
    undo: Undo,
    *,
    fault: str,
    tell: Callable[[str], None],
    keep: Callable[[str], bool] = lambda _: False,
) -> Lifted:
    """Undoes a fault. Never raises ControlError: what could not be done is in the answer, and every step is told.

    `keep`: whether a service must not be restarted, because another fault holds it down.
    """
    try:
        kind.undo(site, undo)
        left = kind.remaining(site, undo)
        gone = False
    except ControlError as error:
        left, gone = [str(error)], isinstance(error, NotThere)
    if not left:
        return Lifted(clean=True)
    for resort in kind.resorts(site, undo):
        if (gone and resort.needs_answer) or (resort.restarts and keep(resort.restarts)):
            continue
        tell(f'Fault "{fault}" is not lifted yet ({"; ".join(left)}). Next step: {resort.name}; also ends: '
             f"{resort.also_ends}.")  # fmt: skip
        try:
            resort.act()
            left = kind.remaining(site, undo)
        except ControlError as error:
            left, gone = [str(error)], isinstance(error, NotThere)
        if not left:
            return Lifted(clean=True, escalation=resort.name)
    return Lifted(clean=False, left=f'Fault "{fault}" is not lifted: {"; ".join(left)}. Run: {COMMAND}')
