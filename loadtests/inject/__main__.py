"""What does `python -m loadtests.inject` do?  Without arguments: the injector process of one run, on stdin and stdout.

`heal --toxiproxy HOST:PORT --journal PATH...` lifts what earlier runs left.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from loadtests.inject.errors import ControlError
from loadtests.inject.process import serve
from loadtests.inject.startup_sweep import heal


def main() -> int:
    """Exit status: 0 all is lifted, 1 something is not, 2 bad arguments, 3 Toxiproxy or a journal cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.inject", description=__doc__)
    commands = parser.add_subparsers(dest="command")
    healing = commands.add_parser("heal", help="lift what earlier runs left")
    healing.add_argument("--toxiproxy", required=True, metavar="HOST:PORT")
    healing.add_argument("--journal", nargs="*", action="extend", type=Path, default=[], metavar="PATH")
    healing.add_argument("--stack", type=Path, metavar="FOLDER", help="local stack that may restart Toxiproxy")
    arguments = parser.parse_args()
    if arguments.command is None:
        return _serve()
    try:
        done = heal(arguments.toxiproxy, arguments.journal, arguments.stack)
    except (ControlError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 3
    sys.stdout.write("".join(f"{text}\n" for text in done or ["Nothing was left to lift."]))
    return 1 if any("not lifted" in text or "Still there" in text for text in done) else 0


def _serve() -> int:
    lines = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not stand among the messages
    return serve(0, lines)


if __name__ == "__main__":
    sys.exit(main())
