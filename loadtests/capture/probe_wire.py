"""What do the sampler's two processes say to each other?  JSON lines: settings and pids in, readings out.

The child ends when its stdin closes.  Touches no pipe itself.
"""

from __future__ import annotations

import msgspec


class SamplerConfig(msgspec.Struct, frozen=True, kw_only=True, tag="begin"):
    """What is read, how often, and how its times become run-clock times. An empty address: not read."""

    origin_ns: int  # CLOCK_MONOTONIC at run-clock 0
    every_s: float = 1.0
    redis: str = ""  # host:port of the server itself, past its links
    postgres: str = ""
    database: str = ""
    user: str = ""  # its password, if any, comes from the environment: TEST_DB_PASSWORD or PGPASSWORD
    gateway_http: str = ""
    producer_http: str = ""
    timeout_s: float = 2.0  # a reading that takes longer is missing


class Pids(msgspec.Struct, frozen=True, kw_only=True, tag="pids"):
    """Process ids of the target's services now; a restarted service has another."""

    pids: dict[str, int]


ToProbes = SamplerConfig | Pids
