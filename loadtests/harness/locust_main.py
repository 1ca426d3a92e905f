"""What does Locust listen to below `tickstorm run`?  To its options alone: `python -m loadtests.harness.locust_main`.

Locust also listens to variables (LOCUST_RUN_TIME and its like) and to three files (~/.locust.conf, locust.conf and
pyproject.toml of the folder): they belong to other set-ups of the user, and would change what the profile asks for.
Plain Locust obeys them; there the history names them (`setup`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

PREFIX = "LOCUST_"


def ruled(environment: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """An environment without Locust's variables, and the names of those that it had."""
    kept = {name: text for name, text in environment.items() if not name.startswith(PREFIX)}
    return kept, sorted(environment.keys() - kept.keys())


def main() -> None:
    """Run Locust, which reads no file that it was not told to read."""
    import locust.main  # before anything else of ours: it patches the standard library
    from locust import argument_parser

    class CommandLine(argument_parser.LocustArgumentParser):
        """Reads no file that it was not told to read."""

        def __init__(self, *names: Any, **settings: Any) -> None:
            super().__init__(*names, **settings | {"default_config_files": ()})

    vars(argument_parser)["LocustArgumentParser"] = CommandLine
    begin: Callable[[], None] = locust.main.main
    begin()


if __name__ == "__main__":
    main()
