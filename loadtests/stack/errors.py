"""What can go wrong with the local stack?  Named errors; the type says whether the user or we must act."""

from __future__ import annotations

from loadtests.model.errors import BadInput, HarnessError


class StackError(HarnessError):
    """The local stack did not do what was asked; the message quotes what the server itself said."""


class PortInUse(BadInput):
    """A port that the user chose is taken by somebody else."""


class MissingServer(BadInput):
    """A server is neither installed nor can it be fetched here; the message says what to install."""


def from_wire(kind: str, message: str) -> Exception:
    """The error that a supervisor reported under the name of its class while it started."""
    return {"PortInUse": PortInUse, "MissingServer": MissingServer}.get(kind, StackError)(message)
