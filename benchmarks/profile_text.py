"""What does the load of an experiment look like as a profile?  TOML text for `tickstorm run`.  Touches no file."""

from __future__ import annotations

import msgspec

LOAD_CHANNEL = "tickstock.events.patterns"
SIDE_CHANNEL = "bench.side"
"""The sender does not listen to it: what is published here reaches nobody."""
PUBLISHERS = 20
PAYLOAD_BYTES = 200


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Every consumer gets every message of the load; messages per second are those of all publishers together."""

    consumers: int
    rate_per_s: float
    to_per_s: float | None = None  # a ramp from rate_per_s
    transport: str = "websocket"
    streams: int = PUBLISHERS  # publishers x symbols
    publishers: int = PUBLISHERS
    warm_up_s: float = 1.2
    seconds: float = 4.0
    connect_s: float = 6.0  # also how fast Locust starts them
    batch_ms: float = 0.0  # the sender joins what came within it
    personal: bool = False  # it writes the recipient's number into each frame
    side: str = ""  # shape of one more publisher, to nobody
    side_publishers: int = 1
    side_outstanding: int = 1000
    cut_s: float = 0.0  # a fault: the clients' link is down for so long
    tls: bool = False
    compression: bool = False

    @property
    def sender_options(self) -> list[str]:
        """What the sender is told of it."""
        return ["--batch-ms", str(self.batch_ms), *(["--personal"] if self.personal else [])]

    @property
    def offered(self) -> float:
        """Deliveries per second."""
        return self.consumers * self.rate_per_s


def profile_text(load: Load, *, redis: str, gateway: str, toxiproxy: str = "", proxy: str = "") -> str:
    """The whole profile; addresses are host:port."""
    symbols = max(1, load.streams // load.publishers)
    if load.to_per_s is None:
        shape = f'{{ kind = "constant", rate_per_s = {load.rate_per_s / load.publishers} }}'
    else:
        low, high = load.rate_per_s / load.publishers, load.to_per_s / load.publishers
        shape = f'{{ kind = "ramp", from_per_s = {low}, to_per_s = {high} }}'
    return "\n".join(
        [
            'name = "bench"',
            'question = "What does this load cost the load generator?"',
            *_target(load, redis, gateway, toxiproxy, proxy),
            "[run]",
            f"duration_s = {load.seconds}",
            f"warm_up_s = {load.warm_up_s}",
            "drain_s = 1.0",
            "late_s = 1.0",
            "settle_ms = 100",
            f"connect_s = {load.connect_s}",
            "[guard]",
            "cpu_percent = 100.0",
            *_family("load", LOAD_CHANNEL, symbols),
            *(_family("side", SIDE_CHANNEL, 1) if load.side else ()),
            "[[publishers]]",
            'name = "feed"',
            f"count = {load.publishers}",
            'families = ["load"]',
            f"shape = {shape}",
            f"payload_bytes = {PAYLOAD_BYTES}",
            *_side(load),
            "[[consumers]]",
            'name = "clients"',
            f"count = {load.consumers}",
            f'transport = "{load.transport}"',
            'subscribe = { families = ["load"] }',
            *_fault(load),
            "[[thresholds]]",
            'measure = "lost_defect"',
            "at_most = 0",
            "",
        ]
    )


def _target(load: Load, redis: str, gateway: str, toxiproxy: str, proxy: str) -> list[str]:
    lines = ["[target]", 'kind = "external"', f'redis = "{redis}"', f'gateway = "{gateway}"']
    if load.tls:
        lines.append("tls = true")
    if load.compression:
        lines.append("compression = true")
    if toxiproxy:
        lines += [f'toxiproxy = "{toxiproxy}"', "[target.proxies]", f'client-gateway = "{proxy}"']
    return lines


def _family(name: str, channel: str, symbols: int) -> list[str]:
    return [
        "[[families]]",
        f'name = "{name}"',
        f'channel = "{channel}"',
        'event = "pattern_detected"',
        f"symbols = {symbols}",
        'keys = { pattern = ["Doji"] }',
    ]


def _side(load: Load) -> list[str]:
    if not load.side:
        return []
    return [
        "[[publishers]]",
        'name = "side"',
        f"count = {load.side_publishers}",
        'families = ["side"]',
        f"shape = {load.side}",
        f"outstanding = {load.side_outstanding}",
        f"payload_bytes = {PAYLOAD_BYTES}",
    ]


def _fault(load: Load) -> list[str]:
    if not load.cut_s:
        return []
    return [
        "[[faults]]",
        'name = "cut"',
        'kind = "down"',
        'link = "client-gateway"',
        "at_s = 5.0",
        f"for_s = {load.cut_s}",
        "recovery_limit_s = 10.0",
    ]
