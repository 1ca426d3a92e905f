"""What can go wrong between the injector and what it controls?  Named errors; the type says who may act on them."""

from __future__ import annotations

from loadtests.model.errors import HarnessError
from loadtests.model.fault_kinds import NOT_ALLOWED_HERE


class ControlError(HarnessError):
    """A control call did not do what was asked."""


class NoAnswer(ControlError):  # noqa: N818 - it names what was seen
    """Nobody answered in time, or nobody was there: what was asked may or may not have happened."""


class NotThere(NoAnswer):
    """Nobody listens at the address: surely nothing was done."""


class Refused(ControlError):  # noqa: N818 - it names what was seen
    """The other side answered that it did not do it."""


class NotAllowedHere(Refused):
    """The system refused for want of rights, or cannot do it at all: nothing that a mistake of ours brings about."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{NOT_ALLOWED_HERE}{text}")


class InjectorGone(HarnessError):  # noqa: N818 - it names what was seen
    """The injector process could not begin, or ended and could not be brought back."""
