"""What can go wrong with the local stack?  Named errors; the type says whether the user or we must act."""

from __future__ import annotations

from loadtests.model.errors import BadInput, HarnessError


class StackError(HarnessError):
    """The local stack did not do what was asked; the message quotes what the server itself said."""


class OwnedByAnother(StackError):  # noqa: N818 - it names what was found
    """Another supervisor owns the folder."""


class PortInUse(BadInput):
    """A port that the user chose is taken by another process."""


class MissingServer(BadInput):
    """A server is neither installed nor can it be fetched here; the message says what to install."""


def from_wire(kind: str, message: str) -> Exception:
    """The error that a supervisor reported under the name of its class while it started."""
    kinds: tuple[type[StackError | BadInput], ...] = (PortInUse, MissingServer, BadInput, OwnedByAnother)
    return next((each for each in kinds if each.__name__ == kind), StackError)(message)
