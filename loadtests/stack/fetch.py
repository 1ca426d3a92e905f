"""Are the servers here?  `python -m loadtests.stack.fetch` fetches what is missing, before anybody waits for it."""

from __future__ import annotations

import os
import sys

from loadtests.model.errors import BadInput, TickstormError
from loadtests.stack.install import ensure


def tell(line: str) -> None:
    """One line of progress."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Entry point; returns the exit status."""
    try:
        servers = ensure(os.environ, tell)
    except TickstormError as error:
        sys.stderr.write(f"{error}\n")
        return 2 if isinstance(error, BadInput) else 3
    for name, program in servers.by_name.items():
        tell(f"{name}: {program.path} ({program.origin})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
