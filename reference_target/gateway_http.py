"""What does the gateway answer over HTTP?  Health, statistics, switches, and what PostgreSQL knows."""

from __future__ import annotations

import hmac
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import psycopg2
from aiohttp import web

from reference_target import queries
from reference_target.database import DatabaseDownError
from reference_target.switches import parse_switches

if TYPE_CHECKING:
    from reference_target.gateway import Gateway

T = TypeVar("T")
QUERY_TIMEOUT_S = 5.0


def json_response(body: object, status: int = 200) -> web.Response:
    """A JSON answer; times become ISO 8601."""
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")


class GatewayHttp:
    """The routes of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def application(self) -> web.Application:
        """An application with all routes but those of Socket.IO."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/ws", self._gateway.plain.handle),
                web.get("/health", self.health),
                web.get("/stats", self.stats),
                web.post("/switch", self.switch),
                web.get("/switch", self.switches),
                web.get("/api/symbols", self.symbols),
                web.get("/api/patterns", self.patterns),
                web.get("/api/events/recent", self.recent),
            ]
        )
        return app

    async def health(self, request: web.Request) -> web.Response:
        """200, or with `?strict=1` 503 while degraded. `pid` tells one gateway from another behind the same address."""
        health = {**self._gateway.health(), "pid": os.getpid()}
        strict = request.query.get("strict", "0") not in ("", "0")
        return json_response(health, 503 if strict and health["status"] != "ready" else 200)

    async def stats(self, request: web.Request) -> web.Response:
        """All counters."""
        return json_response(self._gateway.stats())

    async def switches(self, request: web.Request) -> web.Response:
        """The values in force."""
        return json_response(self._gateway.broadcaster.switches.now)

    async def switch(self, request: web.Request) -> web.Response:
        """Set the named switches, leave the others; answers the values in force."""
        if not self._gateway.settings.allow_switches:
            return json_response({"reason": "GATEWAY_ALLOW_SWITCHES is not 1"}, 403)
        token = self._gateway.settings.switch_token.encode()
        if not hmac.compare_digest(request.headers.get("X-Switch-Token", "").encode("utf-8", "replace"), token):
            return json_response({"reason": "X-Switch-Token is not GATEWAY_SWITCH_TOKEN"}, 403)
        try:
            values = parse_switches(await request.read(), self._gateway.broadcaster.switches.now)
        except ValueError as error:
            return json_response({"reason": str(error)}, 400)
        self._gateway.broadcaster.switch(values)
        return json_response(values)

    async def symbols(self, request: web.Request) -> web.Response:
        """The symbols that were loaded."""
        return json_response(self._gateway.symbols)

    async def patterns(self, request: web.Request) -> web.Response:
        """The patterns that were ever detected."""
        return await self._query(queries.patterns)

    async def recent(self, request: web.Request) -> web.Response:
        """The newest events."""
        try:
            limit = int(request.query.get("limit", "5"))
        except ValueError:
            limit = 0
        if not 1 <= limit <= queries.MOST_EVENTS:
            return json_response({"reason": f"limit is a number from 1 to {queries.MOST_EVENTS}"}, 400)
        return await self._query(lambda connection: queries.recent(connection, limit))

    async def _query(self, work: Callable[[Any], T]) -> web.Response:
        try:
            return json_response(await self._gateway.query_lane.run(work, timeout_s=QUERY_TIMEOUT_S))
        except (DatabaseDownError, psycopg2.Error) as error:
            return json_response({"reason": str(error).strip()}, 503)
