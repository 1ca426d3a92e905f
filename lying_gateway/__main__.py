"""How is the gateway started?  By `python -m lying_gateway`; README.md has its options."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from lying_gateway.gateway import Gateway
from lying_gateway.plan import PlanError, read_plan


def main() -> int:
    """Serve until SIGTERM or SIGINT; the status of the process."""
    parser = argparse.ArgumentParser(prog="lying_gateway", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--redis", required=True, metavar="HOST:PORT")
    parser.add_argument("--plan", required=True, type=Path, help="which lies to tell (README.md)")
    parser.add_argument("--book", required=True, type=Path, help="where to write what was done")
    given = parser.parse_args()
    redis_host, _, redis_port = given.redis.rpartition(":")
    if not redis_host or not redis_port.isdigit():
        parser.error("--redis: HOST:PORT is wanted")
    try:
        plan = read_plan(given.plan.read_text(encoding="utf-8"))
        gateway = Gateway(
            host=given.host, port=given.port, redis=(redis_host, int(redis_port)), plan=plan, book=given.book
        )
    except (PlanError, OSError, UnicodeDecodeError) as error:
        sys.stderr.write(f"lying gateway: {error}\n")
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: gateway.stop())
    host, port = gateway.address

    def ready() -> None:
        sys.stdout.write(f"lying gateway ready on {host}:{port}\n")
        sys.stdout.flush()

    gateway.run(ready)
    return 0


if __name__ == "__main__":
    sys.exit(main())
