"""How much more do peers spend on a message?  Each on the same frames at the same rate, one after the other."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from benchmarks.children import ChildError
from benchmarks.figures import ClientRun, Measured, number
from benchmarks.obtaining import ROOT, MissingError
from benchmarks.profile_text import Load
from benchmarks.session import PERSONAL_20, PLAIN_20, PLAIN_FEW, SOCKETIO_FEW, Session, costs, latency, median_cost

PLAIN_PEERS = {
    "peer-websocket-client": "websocket-client",
    "peer-websockets": "websockets",
    "peer-websockets-uvloop": "websockets + uvloop",
    "peer-picows": "picows + uvloop",
    "peer-node": "Node ws",
    "peer-k6": "k6",
}
SLOW_PEERS = ("peer-websocket-client",)
SOCKETIO_PEERS = {"peer-python-socketio": "python-socketio", "peer-locust-socketio": "Locust SocketIOUser"}


def plain_peer(key: str) -> Callable[[Session], dict[str, Measured]]:
    """1,000 x 20/s; 200 x 20/s for one that is too slow for that."""

    def measure(session: Session) -> dict[str, Measured]:
        if key in SLOW_PEERS:
            ours = median_cost(session.own(PLAIN_FEW))
            return {key: _peer(session, PLAIN_PEERS[key], PLAIN_FEW, ours, float("nan"))}
        own, floor = session.beside_floor(PLAIN_20)
        found = _peer(session, PLAIN_PEERS[key], PLAIN_20, median_cost(own), median_cost(floor))
        return {key: found}

    return measure


def personal_peer(session: Session) -> dict[str, Measured]:
    """1,000 x 20/s, each frame with its recipient's number."""
    own, floor = session.beside_floor(PERSONAL_20)
    return {
        "peer-picows-personal": _peer(session, "picows + uvloop", PERSONAL_20, median_cost(own), median_cost(floor))
    }


def socketio_peer(key: str) -> Callable[[Session], dict[str, Measured]]:
    """100 x 100/s."""

    def measure(session: Session) -> dict[str, Measured]:
        ours = median_cost(session.own(SOCKETIO_FEW))
        return {key: _peer(session, SOCKETIO_PEERS[key], SOCKETIO_FEW, ours, float("nan"))}

    return measure


def _peer(session: Session, name: str, load: Load, ours: float, floor: float) -> Measured:
    runs: list[ClientRun] = []
    try:
        for _ in range(session.bench.repeats):
            runs.append(session.bench.peer(name, load))
    except (MissingError, ChildError) as error:
        if not runs:
            return Measured(missing=str(error).replace(f"{ROOT}/", ""))
    peer = median_cost(runs)
    if load is PLAIN_20:
        session.bars[name] = peer
    rate, cpu = statistics.median(r.rate for r in runs), statistics.median(r.cpu_percent for r in runs)
    full = " (saturated)" if rate < 0.97 * load.offered else ""
    rss = runs[-1].rss_per_connection
    detail = (
        f"{' '.join(number(cost) for cost in costs(runs))} CPU-s per million; {number(rate)}/s at {cpu:.0f} % CPU"
        f"{full}; {latency(runs[-1])}{'' if rss is None else f'; {rss / 1000:.0f} KB per connection'}"
        f"; Tickstorm {number(ours)}"
    )
    facts = {"peer": peer, "ours": ours, "floor": floor, "most": peer / floor}
    return Measured(values=tuple(cost / ours for cost in costs(runs)), detail=detail, facts=facts)
