"""How do TickStockApp's parts fit together?  `python -m reference_target.gateway`: Redis in, WebSocket clients out.

Composition root: builds subscriber, broadcaster, the two sides, database lanes and HTTP routes; SIGTERM ends them.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
import time
from collections.abc import Sequence
from typing import TextIO

import psycopg2
from aiohttp import web

from reference_target import __version__, queries
from reference_target.broadcaster import Broadcaster
from reference_target.database import DatabaseDownError, Lane
from reference_target.events import CHANNELS
from reference_target.gateway_http import GatewayHttp
from reference_target.loop import loop_factory
from reference_target.outlet import Limits
from reference_target.plain_side import PlainSide
from reference_target.settings import GatewaySettings, load
from reference_target.socketio_side import SocketSide
from reference_target.stats import Process
from reference_target.subscriber import Subscriber
from reference_target.switches import SwitchValues, parse_switches
from reference_target.tokens import Guard

log = logging.getLogger(__name__)
TICK_S = 1.0
HEALTH_TIMEOUT_S = 1.0
SYMBOLS_TIMEOUT_S = 5.0
STOP_S = 0.5


class Gateway:
    """All parts of one gateway process."""

    def __init__(self, settings: GatewaySettings, loop: asyncio.AbstractEventLoop) -> None:
        self.settings = settings
        self.process = Process()
        self.limits = Limits(messages=settings.queue_messages, size=settings.queue_bytes)
        self.broadcaster = Broadcaster(loop)
        self.subscriber = Subscriber(settings.redis, CHANNELS, self.broadcaster.accept, name="tickstock-app")
        self.guard = Guard(settings.token_secret, time.time)
        self.plain = PlainSide(self.broadcaster, self.limits, self.guard, heartbeat_s=settings.heartbeat_s)
        self.socket = SocketSide(self.broadcaster, self.limits, self.guard)
        self.health_lane = Lane(settings.postgres, name="gateway-health")
        self.query_lane = Lane(settings.postgres, name="gateway-query")
        self.postgres_ok = False
        self.symbols: dict[str, str] = {}

    def health(self) -> dict[str, object]:
        """What `/health` answers."""
        ready = self.subscriber.subscribed and self.postgres_ok
        return {
            "status": "ready" if ready else "degraded",
            "redis": "subscribed" if self.subscriber.subscribed else "connecting",
            "postgres": "ok" if self.postgres_ok else "down",
            "clients": len(self.plain.clients) + len(self.socket.clients),
            "subscribed": self.broadcaster.rooms.subscribed,
            "auth": "token" if self.guard.asks else "none",
            "version": __version__,
        }

    def stats(self) -> dict[str, object]:
        """What `/stats` answers. `deliveries` counts what was sent: without the dropped, with the duplicates."""
        cast, switches = self.broadcaster, self.broadcaster.switches
        return {
            "received": cast.received,
            "forwarded": cast.forwarded,
            "deliveries": cast.deliveries,
            "bad": dict(cast.bad),
            "clients": {"plain": len(self.plain.clients), "socketio": len(self.socket.clients)},
            "connects": {"plain": self.plain.connects, "socketio": self.socket.connects},
            "refused": dict(self.guard.refused),
            "subscribed": cast.rooms.subscribed,
            "rooms": len(cast.rooms),
            "symbols": len(self.symbols),
            "redis_reconnects": self.subscriber.reconnects,
            "redis_missed_periods": self.subscriber.missed_periods,
            "redis_missed_s": round(self.subscriber.missed_s, 3),
            "pg_reconnects": self.health_lane.reconnects + self.query_lane.reconnects,
            "slow_disconnected": self.limits.slow,
            "queue_max": self.limits.longest,
            **self.process.figures(),
            "dropped_by_switch": switches.dropped,
            "duplicated_by_switch": switches.duplicated,
            "reordered_by_switch": switches.reordered,
            "failed_by_switch": switches.failed,
            "leaked_by_switch_bytes": switches.leaked_bytes,
        }

    async def tick(self) -> None:
        """Once a second: ask PostgreSQL, tell clients the health."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            await self._ask_postgres()
            self.broadcaster.tell_health(self.health())
            due = max(due + TICK_S, loop.time())
            await asyncio.sleep(due - loop.time())

    async def _ask_postgres(self) -> None:
        try:
            await self.health_lane.run(queries.alive, timeout_s=HEALTH_TIMEOUT_S)
            if not self.symbols:
                self.symbols = await self.health_lane.run(queries.symbols, timeout_s=SYMBOLS_TIMEOUT_S)
        except DatabaseDownError as error:
            log.debug("PostgreSQL is down: %s", error)
            self.postgres_ok = False
        except psycopg2.Error as error:  # it answers, but the schema is not there yet
            log.debug("PostgreSQL refuses: %s", error)
            self.postgres_ok = False
        else:
            self.postgres_ok = True

    async def serve(self, ready: TextIO) -> None:
        """Run until SIGTERM or SIGINT, then end within 3 s."""
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        app = GatewayHttp(self).application()
        self.socket.attach(app)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_S, handle_signals=False)
        await runner.setup()
        site = web.TCPSite(runner, self.settings.host, self.settings.port, backlog=4096, reuse_address=True)
        await site.start()
        port = runner.addresses[0][1]
        tasks = [asyncio.create_task(self.subscriber.run()), asyncio.create_task(self.tick())]
        ready.write(f"gateway ready on {self.settings.host}:{port}\n")
        ready.flush()
        gc.collect()
        gc.freeze()  # what is loaded by now stays; full collections need not look at it again
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        await site.stop()
        for task in tasks:
            if task.done():
                task.result()  # a part that died is our defect: let it be seen
            task.cancel()
        await asyncio.gather(self.plain.close(), self.socket.close())
        await runner.cleanup()
        self.health_lane.close()
        self.query_lane.close()


def initial_switches(settings: GatewaySettings) -> SwitchValues:
    """The switches from the settings. Raises ValueError."""
    return parse_switches(settings.switches, SwitchValues()) if settings.switches.strip() else SwitchValues()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    settings = load(GatewaySettings, sys.argv[1:] if argv is None else argv, about=__doc__ or "")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        switches = initial_switches(settings)
    except ValueError as error:
        sys.stderr.write(f"GATEWAY_SWITCHES: {error}\n")
        return 2
    if switches != SwitchValues() and not settings.allow_switches:
        sys.stderr.write("GATEWAY_SWITCHES needs GATEWAY_ALLOW_SWITCHES=1\n")
        return 2

    async def run() -> None:
        gateway = Gateway(settings, asyncio.get_running_loop())
        gateway.broadcaster.switch(switches)
        await gateway.serve(sys.stdout)

    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(run())
    except OSError as error:
        sys.stderr.write(f"cannot listen on {settings.host}:{settings.port}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
