"""What does TickStockPL leave behind?  `python -m reference_target.producer`: patterns from Redis into PostgreSQL.

It publishes nothing on the channels of the load, only its own health.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import redis.asyncio as redis
from aiohttp import web
from redis.exceptions import RedisError

from reference_target import __version__
from reference_target.events import PATTERNS, PRODUCER_HEALTH, BadEventError, PatternDetected, decode
from reference_target.gateway_http import json_response
from reference_target.loop import loop_factory
from reference_target.resp import Message
from reference_target.settings import ProducerSettings, load
from reference_target.stats import Process
from reference_target.subscriber import Subscriber
from reference_target.writer import Writer, row_of

log = logging.getLogger(__name__)
TICK_S = 1.0
REDIS_TIMEOUT_S = 1.0
STOP_S = 1.5
PG_SILENCE_S = 7.0  # longer than a statement may take


class Producer:
    """All parts of one producer process."""

    def __init__(self, settings: ProducerSettings) -> None:
        self.settings = settings
        self.process = Process()
        self.received = 0
        self.bad: Counter[str] = Counter()
        self.writer = Writer(
            settings.postgres,
            flush_s=settings.flush_ms / 1000,
            batch_rows=settings.batch_rows,
            queue_rows=settings.queue_rows,
        )
        self.subscriber = Subscriber(settings.redis, (PATTERNS,), self.accept, name="tickstock-pl")

    def accept(self, messages: Sequence[Message]) -> None:
        """One read's messages from Redis."""
        self.received += len(messages)
        now = datetime.now(UTC)
        for channel, payload in messages:
            try:
                event = decode(channel.decode(errors="replace"), payload)
            except BadEventError as bad:
                self.bad[bad.kind] += 1
                continue
            if isinstance(event, PatternDetected):
                self.writer.offer(row_of(event, payload, identity_key=self.settings.identity_key, now=now))

    def health(self) -> dict[str, object]:
        """What `/health` answers and what is published."""
        ready = self.subscriber.subscribed and self.writer.connected
        return {
            "status": "ready" if ready else "degraded",
            "redis": "subscribed" if self.subscriber.subscribed else "connecting",
            "postgres": "ok" if self.writer.connected else "down",
            "version": __version__,
        }

    def stats(self) -> dict[str, object]:
        """What `/stats` answers."""
        return {
            "received": self.received,
            "bad": dict(self.bad),
            "written": self.writer.written,
            "failed": self.writer.failed,
            "overflowed": self.writer.overflowed,
            "waiting": self.writer.waiting,
            "redis_reconnects": self.subscriber.reconnects,
            "redis_missed_periods": self.subscriber.missed_periods,
            "redis_missed_s": round(self.subscriber.missed_s, 3),
            "pg_reconnects": self.writer.reconnects,
            **self.process.figures(),
        }

    async def tick(self) -> None:
        """Once a second: publish the health where Redis is there to take it, and free a writer that hangs."""
        client = redis.Redis(
            host=self.settings.redis_host,
            port=self.settings.redis_port,
            username=self.settings.redis_user if self.settings.redis_password else None,
            password=self.settings.redis_password or None,
            socket_timeout=REDIS_TIMEOUT_S,
            socket_connect_timeout=REDIS_TIMEOUT_S,
            client_name="tickstock-pl-health",
        )
        async with client:
            while True:
                self.writer.unstick(PG_SILENCE_S)
                event = {"event_type": "health", "source": "tickstock_pl", "timestamp": datetime.now(UTC)}
                try:
                    await client.publish(PRODUCER_HEALTH, msgspec.json.encode(event | self.health()))
                except (RedisError, OSError) as error:
                    log.debug("health was not published: %s", error)
                await asyncio.sleep(TICK_S)

    async def _health(self, request: web.Request) -> web.Response:
        health = self.health()
        strict = request.query.get("strict", "0") not in ("", "0")
        return json_response(health, 503 if strict and health["status"] != "ready" else 200)

    async def _stats(self, request: web.Request) -> web.Response:
        return json_response(self.stats())

    async def serve(self) -> None:
        """Run until SIGTERM or SIGINT, then write what waits and end within 3 s."""
        loop = asyncio.get_running_loop()
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        app = web.Application()
        app.add_routes([web.get("/health", self._health), web.get("/stats", self._stats)])
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5, handle_signals=False)
        await runner.setup()
        await web.TCPSite(runner, self.settings.host, self.settings.port, reuse_address=True).start()
        self.writer.start()
        tasks = [asyncio.create_task(self.subscriber.run()), asyncio.create_task(self.tick())]
        sys.stdout.write(f"producer ready on {self.settings.host}:{runner.addresses[0][1]}\n")
        sys.stdout.flush()
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()  # a part that died is our defect: let it be seen
            task.cancel()
        await asyncio.to_thread(self.writer.stop, STOP_S)
        await runner.cleanup()


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    settings = load(ProducerSettings, sys.argv[1:] if argv is None else argv, about=__doc__ or "")
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    async def run() -> None:
        await Producer(settings).serve()

    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(run())
    except OSError as error:
        sys.stderr.write(f"cannot listen on {settings.host}:{settings.port}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
