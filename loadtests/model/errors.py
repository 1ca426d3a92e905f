"""Whose fault is it, when something of ours raises?  Named errors; a failure of the target is a record, never one."""

from __future__ import annotations

from collections.abc import Sequence


class TickstormError(Exception):
    """Everything that Tickstorm raises on purpose."""


class BadInput(TickstormError):  # noqa: N818 - it names what came in
    """The user's input is refused: every problem is a sentence, all at once. Exit status 2."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class HarnessError(TickstormError):
    """Tickstorm itself is broken or in trouble; what it measured meanwhile is UNKNOWN. Exit status 3."""
