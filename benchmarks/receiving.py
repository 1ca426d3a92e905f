"""What does a delivery cost, and how many can one worker take?  Tickstorm beside the C floor."""

from __future__ import annotations

import math
import statistics

from benchmarks.figures import ClientRun, Measured, number, ratios
from benchmarks.ours import OwnRun
from benchmarks.profile_text import Load
from benchmarks.session import (
    PERSONAL_20,
    PERSONAL_100,
    PERSONAL_SOCKETIO,
    PLAIN_20,
    PLAIN_100,
    SOCKETIO_100,
    Session,
    costs,
    latency,
    lost,
    median_cost,
)

CPU_LIMIT = 95.0
ALMOST = 94.0
FULL = 98.0
NEAR = 0.97
_TRIES = 3
CEILING_MOST = 250_000
FLAT_FIRST, FLAT_MOST = 600_000, 1_500_000
PER_READ = 50
"""Messages that the sender joins where many are to come with one read: 13 KB."""


def delivery_100(session: Session) -> dict[str, Measured]:
    """1,000 x 100/s."""
    return {"delivery-100": _beside(session, PLAIN_100)}


def delivery_20(session: Session) -> dict[str, Measured]:
    """1,000 x 20/s."""
    return {"delivery-20": _beside(session, PLAIN_20)}


def slope(session: Session) -> dict[str, Measured]:
    """The line through both: what a further delivery costs, and what it costs without any."""
    own_few, floor_few = session.beside_floor(PLAIN_20)
    own_many, floor_many = session.beside_floor(PLAIN_100)
    ours = [_line(few.run, many.run) for few, many in zip(own_few, own_many, strict=False)]
    theirs = [_line(few, many) for few, many in zip(floor_few, floor_many, strict=False)]
    slopes, floors = [each[0] for each in ours], [each[0] for each in theirs]
    detail = f"Tickstorm {_list(slopes)} CPU-s per million, floor {_list(floors)}"
    facts = {"ours": statistics.median(slopes), "floor": statistics.median(floors)}
    ends = {
        "few": statistics.median(run.run.cpu_percent for run in own_few),
        "many": statistics.median(run.run.cpu_percent for run in own_many),
        "floor": statistics.median(each[1] for each in theirs),
    }
    return {
        "slope": Measured(values=ratios(slopes, floors), detail=detail, facts=facts),
        "fixed": Measured(
            values=tuple(each[1] for each in ours), facts=ends,
            detail=f"{_list([each[1] for each in ours])} % of a core, floor {_list([each[1] for each in theirs])} %",
        ),
    }  # fmt: skip


def _line(few: ClientRun, many: ClientRun) -> tuple[float, float]:
    """CPU-s per million further deliveries, and the percent of a core at no delivery."""
    percent = (many.cpu_percent - few.cpu_percent) / (many.rate - few.rate)
    return percent * 1e4, few.cpu_percent - percent * few.rate


def personal_20(session: Session) -> dict[str, Measured]:
    """1,000 x 20/s, each frame with its recipient's number."""
    return {"personal-20": _beside(session, PERSONAL_20)}


def personal_socketio(session: Session) -> dict[str, Measured]:
    """The same over Socket.IO, beside the floor over plain WebSocket."""
    _, floor = session.beside_floor(PERSONAL_20)
    other = session.own(PERSONAL_SOCKETIO)
    found = Measured(
        values=tuple(cost / median_cost(floor) for cost in costs(other)),
        detail=f"{_list(costs(other))} CPU-s per million, {latency(other[-1].run)}, {lost(other)}; "
        f"floor, over plain WebSocket, {_list(costs(floor))}",
        facts=_facts(other, floor),
    )
    return {"personal-socketio": found}


def personal_100(session: Session) -> dict[str, Measured]:
    """1,000 x 100/s."""
    return {"personal-100": _beside(session, PERSONAL_100)}


def _beside(session: Session, load: Load) -> Measured:
    own, floor = session.beside_floor(load)
    ours, theirs = costs(own), costs(floor)
    detail = (
        f"Tickstorm {_list(ours)} CPU-s per million, {latency(own[-1].run)}, {lost(own)}; "
        f"floor {_list(theirs)}, {latency(floor[-1])}, {number(floor[-1].per_read)} messages per read; "
        f"the sender used {own[-1].sender_percent:.0f} % of its core"
    )
    return Measured(values=ratios(ours, theirs), detail=detail, facts=_facts(own, floor))


def _facts(own: list[OwnRun], floor: list[ClientRun]) -> dict[str, float]:
    shares = [run.run.kernel_share for run in own if run.run.kernel_share is not None]
    return {
        "ours": median_cost(own),
        "floor": median_cost(floor),
        "kernel": 100 * statistics.median(shares) if shares else float("nan"),
        "percent": statistics.median(run.run.cpu_percent for run in own),
        "floor_rate": statistics.median(run.rate for run in floor),
        "floor_percent": statistics.median(run.cpu_percent for run in floor),
    }


def flat_out(session: Session) -> dict[str, Measured]:
    """Many messages per read: between what was held and what was not, then beside the floor at what was held."""
    rate, tried = float(FLAT_FIRST), list[str]()
    held, carried, most = 0.0, 0.0, math.inf
    for _ in range(_TRIES):
        run = session.run(_joined(rate))
        cpu = run.run.cpu_percent
        tried.append(f"{number(run.run.rate)}/s of {number(rate)}/s at {cpu:.0f} %, {lost([run])}")
        if run.run.lost == 0 and run.run.rate >= NEAR * rate:
            held, carried = rate, run.run.rate
            wanted = min(FLAT_MOST, rate * FULL / cpu, math.sqrt(held * most))
        else:
            most = rate
            wanted = math.sqrt(held * most) if held else run.run.rate * NEAR
        if held and wanted < held / NEAR:
            break
        rate = wanted
    load = _joined(held or rate)
    own, floor = session.beside_floor(load)
    facts = _facts(own, floor)
    detail = (
        f"{PER_READ} messages joined to a send; tried: {'; '.join(tried)}; beside the floor at "
        f"{number(load.offered)}/s: Tickstorm {_list(costs(own))} CPU-s per million, {lost(own)}, "
        f"floor {_list(costs(floor))}, {number(floor[-1].per_read)} messages per read"
    )
    if (held or rate) >= NEAR * FLAT_MOST:
        detail += f"; ended by this benchmark's own cap of {number(FLAT_MOST)}/s"
    whole = all(run.run.lost == 0 for run in own)
    rates = tuple(run.run.rate for run in own) if whole else (carried,) * bool(carried)
    if not whole:
        detail += "; messages were lost beside the floor, so that the rate is that of the try"
    missing = f"at {number(load.offered)}/s messages were lost or not all of them were read: {detail}"
    return {
        "flat": Measured(values=ratios(costs(own), costs(floor)), detail=detail, facts=facts),
        "flat-rate": Measured(values=rates, detail=detail, facts=facts, missing=missing),
    }


def _joined(rate: float) -> Load:
    each = round(rate / 1000)
    return Load(consumers=1000, rate_per_s=each, batch_ms=round(PER_READ * 1000 / each, 1))


def ceiling(session: Session) -> dict[str, Measured]:
    """Steady runs, each at the rate that the one before it lets expect at the limit."""
    own, floor = session.beside_floor(PLAIN_100)
    known = own[-1].run
    rate = known.rate * min(ALMOST / known.cpu_percent, CEILING_MOST / known.rate)
    tried: list[str] = []
    held: OwnRun | None = None
    for _ in range(_TRIES):
        run = session.run(Load(consumers=1000, rate_per_s=round(rate / 1000)))
        cpu = run.run.cpu_percent
        tried.append(f"{number(run.run.rate)}/s at {cpu:.0f} %, {lost([run])}")
        if cpu <= CPU_LIMIT and run.run.lost == 0 and run.run.rate >= NEAR * rate:
            if held is None or run.run.rate > held.run.rate:
                held = run
            if cpu >= ALMOST - 4 or rate >= CEILING_MOST:
                break
            rate = min(CEILING_MOST, rate * ALMOST / cpu)
        else:
            rate *= min(NEAR - 0.02, ALMOST / cpu)
    detail = f"tried: {'; '.join(tried)}"
    if held is None:
        missing = Measured(detail=detail, missing="no rate that was tried was held")
        return {"ceiling": missing, "ceiling-floor": missing}
    if held.run.rate >= NEAR * CEILING_MOST:
        detail += f"; ended by this benchmark's own cap of {number(CEILING_MOST)}/s"
    theirs = median_cost(floor)
    facts = {
        "ours": held.run.cpu_s_per_million,
        "sender": held.sender_percent,
        "floor": theirs,
        "floor_most": CPU_LIMIT / 100 / theirs * 1e6,
    }
    rate = held.run.rate
    return {
        "ceiling": Measured(values=(rate,), detail=f"{detail}; {latency(held.run)}", facts=facts),
        "ceiling-floor": Measured(values=(rate / facts["floor_most"],), facts=facts),
    }


def socketio(session: Session) -> dict[str, Measured]:
    """The same load over both transports."""
    plain, other = session.own(PLAIN_100), session.own(SOCKETIO_100)
    a, b = costs(plain), costs(other)
    count = min(len(a), len(b))
    noise = 100 * (max(a) / min(a) - 1)
    detail = f"Socket.IO {_list(b)} CPU-s per million, plain {_list(a)}; {lost(other)}"
    facts = {"ours": statistics.median(b), "plain": statistics.median(a), "noise": noise}
    return {"socketio": Measured(values=ratios(b[:count], a[:count]), detail=detail, facts=facts)}


def _list(values: list[float]) -> str:
    return " ".join(number(value) for value in values)
