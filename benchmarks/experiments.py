"""Which experiment measures which rows, in what order, and about how long does it take?"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from benchmarks import beside, holding, paths, publishing, receiving
from benchmarks.figures import Measured
from benchmarks.session import Session


class Experiment(msgspec.Struct, frozen=True, kw_only=True):
    """Measures rows together."""

    name: str
    rows: tuple[str, ...]
    measure: Callable[[Session], dict[str, Measured]]
    about_s: int


EXPERIMENTS: tuple[Experiment, ...] = (
    Experiment(name="1,000 × 100/s", rows=("delivery-100",), measure=receiving.delivery_100, about_s=46),
    Experiment(name="1,000 × 20/s", rows=("delivery-20",), measure=receiving.delivery_20, about_s=40),
    Experiment(name="the line through both", rows=("slope", "fixed"), measure=receiving.slope, about_s=1),
    Experiment(
        name="1,000 × 20/s, frames that differ", rows=("personal-20",), measure=receiving.personal_20, about_s=40
    ),
    Experiment(
        name="Socket.IO, frames that differ", rows=("personal-socketio",), measure=receiving.personal_socketio,
        about_s=55,
    ),
    Experiment(
        name="1,000 × 100/s, frames that differ", rows=("personal-100",), measure=receiving.personal_100, about_s=30
    ),
    Experiment(
        name="picows, frames that differ", rows=("peer-picows-personal",), measure=beside.personal_peer, about_s=12
    ),
    Experiment(name="flat out", rows=("flat", "flat-rate"), measure=receiving.flat_out, about_s=78),
    Experiment(name="the highest rate", rows=("ceiling", "ceiling-floor"), measure=receiving.ceiling, about_s=45),
    *(
        Experiment(name=name, rows=(key,), measure=beside.plain_peer(key), about_s=12)
        for key, name in beside.PLAIN_PEERS.items()
    ),
    *(
        Experiment(name=name, rows=(key,), measure=beside.socketio_peer(key), about_s=14)
        for key, name in beside.SOCKETIO_PEERS.items()
    ),
    Experiment(name="Socket.IO", rows=("socketio",), measure=receiving.socketio, about_s=16),
    Experiment(
        name="publishing", rows=("publish", "publish-redis-py", "publish-pipeline"), measure=publishing.publish,
        about_s=50,
    ),
    *(
        Experiment(
            name=f"{rate:,} publishes/s", rows=(f"paced-{rate}", f"paced-{rate}-lag"), measure=publishing.paced(rate),
            about_s=11,
        )
        for rate in publishing.PACED
    ),
    Experiment(name="own lag", rows=("own-lag", "own-lag-alone"), measure=publishing.own_lag, about_s=50),
    Experiment(
        name="memory", rows=("memory-consumer", "memory-stream", "history-calm"), measure=holding.memory, about_s=65
    ),
    Experiment(name="15,000 connections", rows=("connections",), measure=holding.connections, about_s=30),
    Experiment(name="a cut of 5,000 consumers", rows=("history-cut",), measure=holding.cut, about_s=65),
    Experiment(name="judging", rows=("judging",), measure=holding.judging, about_s=8),
    Experiment(name="Toxiproxy", rows=("toxiproxy",), measure=paths.through_toxiproxy, about_s=25),
    Experiment(name="TLS", rows=("tls",), measure=paths.tls, about_s=28),
    Experiment(name="permessage-deflate", rows=("deflate",), measure=paths.deflate, about_s=15),
    Experiment(name="30 minutes", rows=("long",), measure=holding.long, about_s=1830),
)  # fmt: skip


def needed(keys: Iterable[str]) -> list[Experiment]:
    """Those that measure any of these rows, in order."""
    wanted = set(keys)
    return [experiment for experiment in EXPERIMENTS if wanted & set(experiment.rows)]
