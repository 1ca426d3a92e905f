"""Runs the gateway as `python -m lying_gateway` does, forked by a nursery: its plan is the command line."""

from __future__ import annotations

import sys
from typing import Any

from lying_gateway import __main__


def main(plan: dict[str, Any]) -> None:
    sys.argv = ["lying_gateway", *plan["arguments"]]
    if status := __main__.main():
        raise SystemExit(status)
