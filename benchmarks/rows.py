"""Which figures are asked for, and what explains a miss?  Data only.

`reason` has places for the facts that the row's experiment found, `{value}` and `{limit}`; it must say what holds the
figure where it is, and be true whatever the numbers are.
"""

from __future__ import annotations

from benchmarks.figures import Row

RECEIVING, PEERS, PUBLISHING = "Receiving", "Beside peers", "Publishing"
MEMORY, HISTORY, PATHS = "Memory", "History and judging", "Other paths"

_KERNEL = (
    "{ours} CPU-s per million against the floor's {floor}. {kernel} % of ours is the kernel's (epoll, recv, and the "
    "acknowledgements that they cause), which the floor pays as well; the rest is accounting in Python."
)
_DIFFERENT = (
    "{ours} CPU-s per million against the floor's {floor}. Each frame is decoded, its numbers are checked and it is "
    "accounted by itself, in Python; {kernel} % of ours is the kernel's."
)
_AGAINST_PEER = (
    "The peer spends {peer} CPU-s per million, we {ours}. The C floor itself spends {floor} on this load, so that "
    "nothing that reads each connection by a system call of its own can be more than {most} × cheaper than this peer."
)


def _peer(key: str, name: str, limit: float | None, reason: str = _AGAINST_PEER, *, optional: bool = False) -> Row:
    return Row(
        key=key, section=PEERS, name=f"{name}: its CPU per message ÷ ours", unit="×", limit=limit, better="more",
        reason=reason, optional=optional,
    )  # fmt: skip


ROWS: tuple[Row, ...] = (
    Row(
        key="delivery-100", section=RECEIVING,
        name="CPU per delivery ÷ floor, 1,000 × 100/s, equal frames, inside Locust", unit="×", limit=None, reason="",
    ),
    Row(
        key="delivery-20", section=RECEIVING,
        name="CPU per delivery ÷ floor, 1,000 × 20/s, equal frames, inside Locust", unit="×", limit=None, reason="",
    ),
    Row(
        key="slope", section=RECEIVING, name="what a further delivery costs ÷ floor, equal frames", unit="×",
        limit=1.4, reason="{ours} CPU-s per million between 20,000/s and 100,000/s against the floor's {floor}.",
    ),
    Row(
        key="fixed", section=RECEIVING, name="fixed cost of 1,000 consumers: CPU without any delivery, extrapolated",
        unit="% of a core", limit=2,
        reason="The line through {few} % at 20,000/s and {many} % at 100,000/s; the floor's ends at {floor} %. A run "
        "without messages still samples, flushes and tells its figures.",
    ),
    Row(
        key="personal-20", section=RECEIVING, name="CPU per delivery ÷ floor, 1,000 × 20/s, frames that differ",
        unit="×", limit=1.8, reason=_DIFFERENT,
    ),
    Row(
        key="personal-100", section=RECEIVING, name="CPU per delivery ÷ floor, 1,000 × 100/s, frames that differ",
        unit="×", limit=1.8, optional=True, reason=_DIFFERENT,
    ),
    Row(
        key="personal-socketio", section=RECEIVING,
        name="CPU per delivery ÷ floor, 1,000 × 20/s, frames that differ, Socket.IO", unit="×", limit=1.8,
        optional=True, reason=_DIFFERENT,
    ),
    Row(
        key="flat", section=RECEIVING, name="CPU per delivery ÷ floor, flat out, equal frames, many a read", unit="×",
        limit=2.3, reason=_KERNEL,
    ),
    Row(
        key="flat-rate", section=RECEIVING, name="deliveries flat out, equal frames, one worker", unit="/s",
        limit=1_200_000, better="more",
        reason="At {percent} % CPU, {ours} CPU-s per million; {kernel} % of that is the kernel's. The floor took "
        "{floor_rate}/s of the same load at {floor_percent} %.",
    ),
    Row(
        key="ceiling", section=RECEIVING,
        name="highest rate with nothing lost at ≤ 95 % CPU of one worker, equal frames", unit="/s", limit=None,
        better="more", reason="",
    ),
    Row(
        key="ceiling-floor", section=RECEIVING, name="that rate ÷ what 95 % of a core would carry for the floor",
        unit="×", limit=0.7, better="more",
        reason="{ours} CPU-s per million at this rate. The C floor itself spends {floor} at 100,000/s on this machine: "
        "95 % of a core would carry it to {floor_most}/s. Beside us the sender used {sender} % of its core.",
    ),
    _peer("peer-websocket-client", "websocket-client under gevent, 200 × 20/s", 6),
    _peer("peer-websockets", "`websockets` on asyncio", 6, optional=True),
    _peer("peer-websockets-uvloop", "`websockets` on uvloop", 6),
    _peer("peer-picows", "picows on uvloop", 1.5),
    _peer("peer-picows-personal", "picows on uvloop, frames that differ", 1.0),
    _peer("peer-node", "Node `ws`", 1.5),
    _peer("peer-k6", "k6", None, optional=True),
    _peer(
        "peer-python-socketio", "python-socketio, 100 × 100/s", 6,
        "The peer spends {peer} CPU-s per million, we {ours} on the same 100 connections.",
    ),
    _peer(
        "peer-locust-socketio", "Locust's SocketIOUser, 100 × 100/s", 6,
        "The peer spends {peer} CPU-s per million, we {ours} on the same 100 connections.",
    ),
    Row(
        key="socketio", section=RECEIVING, name="Socket.IO ÷ plain WebSocket, CPU per delivery, equal frames",
        unit="×", limit=1.15,
        reason="{ours} CPU-s per million against {plain}: the same path with another prefix before the payload; runs "
        "of equal load differ by {noise} % here.",
    ),
    Row(
        key="publish", section=PUBLISHING, name="planned, stamped and settled publishes ÷ redis-benchmark -c32 -P16",
        unit="×", limit=0.8, better="more",
        reason="{ours}/s at {percent} % CPU against {other}/s. redis-benchmark sends the same prepared bytes again and "
        "again; each of ours is planned, numbered, stamped, packed and accounted, {cost} CPU-s per million in Python.",
    ),
    Row(
        key="publish-redis-py", section=PUBLISHING, name="redis-py, one by one: its CPU per publish ÷ ours", unit="×",
        limit=6, better="more", reason="The peer spends {peer} CPU-s per million, we {ours}.",
    ),
    Row(
        key="publish-pipeline", section=PUBLISHING, name="redis-py, pipelines of 100: its CPU per publish ÷ ours",
        unit="×", limit=6, better="more",
        reason="The peer spends {peer} CPU-s per million, we {ours}. A pipeline joins what may leave together; it "
        "knows no due times, and its messages are neither planned nor accounted.",
    ),
    *(
        row
        for rate, most in ((5_000, 20), (20_000, None))
        for row in (
            Row(
                key=f"paced-{rate}", section=PUBLISHING, name=f"CPU for {rate:,} publishes/s, evenly paced",
                unit="% of a core", limit=most,
                reason="{cost} CPU-s per million: every `run.nap_us` (500) a wake, a send and an answer.",
            ),
            Row(
                key=f"paced-{rate}-lag", section=PUBLISHING, name=f"own lag p99 at {rate:,} publishes/s", unit="ms",
                limit=1, reason="At {percent} % of a core; a message waits for up to `run.nap_us` = 500.",
            ),
        )
    ),
    Row(
        key="own-lag", section=PUBLISHING,
        name="own lag p99 at 20,000/s with 10 × bursts, beside 100,000 deliveries/s", unit="ms", limit=2,
        reason="One core does both: the worker ran at {percent} % CPU, and the deliveries alone take {alone} %. A "
        "message that falls due waits until the hub comes to it.",
    ),
    Row(
        key="own-lag-alone", section=PUBLISHING, name="own lag p99, the same bursts beside 20 deliveries/s", unit="ms",
        limit=None, reason="",
    ),
    Row(
        key="memory-consumer", section=MEMORY, name="memory per idle consumer at 5,000", unit="KB", limit=14.5,
        reason="{value} KB of resident memory for a Locust user, its greenlet, socket and account.",
    ),
    Row(
        key="memory-stream", section=MEMORY, name="memory per further stream that a consumer follows", unit="B",
        limit=64, reason="Measured over {streams} streams of each of 5,000 consumers.",
    ),
    Row(
        key="connections", section=MEMORY, name="connections in one worker, all served", unit="", limit=15_000,
        better="more", reason="Of {asked} asked for; {lost} deliveries were lost.",
    ),
    Row(
        key="history-calm", section=HISTORY, name="history per second, calm, 5,000 consumers, 200 streams",
        unit="KB/s", limit=50, reason="At {rate} deliveries/s; columns of streams × slices make most of it.",
    ),
    Row(
        key="history-cut", section=HISTORY, name="history of a run with a 10 s cut of 5,000 consumers", unit="MB",
        limit=30, reason="The whole run of {seconds} s; every consumer is followed slice by slice until it is back.",
    ),
    Row(
        key="judging", section=HISTORY, name="10 M deliveries judged", unit="s", limit=10,
        reason="{deliveries} deliveries took {took} s, Python's start-up and the report included.",
    ),
    Row(
        key="toxiproxy", section=PATHS, name="through Toxiproxy ÷ direct, our CPU per delivery, 1,000 × 20/s", unit="×",
        limit=None, reason="",
    ),
    Row(
        key="tls", section=PATHS, name="TLS ÷ plain, our CPU per delivery, 200 × 20/s", unit="×", limit=None, reason="",
    ),
    Row(
        key="deflate", section=PATHS, name="permessage-deflate ÷ plain, our CPU per delivery, 200 × 20/s", unit="×",
        limit=None, reason="",
    ),
    Row(
        key="long", section=MEMORY, name="own memory over 30 min at 50,000/s: upper bound of the slope", unit="MB/h",
        limit=20, optional=True,
        reason="The slope is {slope} MB/h, its 95 % interval {low} to {high}.",
    ),
)  # fmt: skip
BY_KEY = {row.key: row for row in ROWS}
