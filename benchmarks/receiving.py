"""What does a delivery cost, and how many can one worker take?  Tickstorm beside the C floor."""

from __future__ import annotations

import statistics

from benchmarks.figures import ClientRun, Measured, number, ratios
from benchmarks.ours import OwnRun, run_ours
from benchmarks.profile_text import Load
from benchmarks.session import PLAIN_20, PLAIN_100, SOCKETIO_100, Session, costs, latency, lost, median_cost

FLAT = Load(consumers=1000, rate_per_s=1400, batch_ms=40, seconds=4.0)
"""Fifty and more messages a read; 1,400/s of each of 1,000 connections is beyond what one worker takes."""
RAMP = Load(consumers=1000, rate_per_s=50, to_per_s=250, seconds=20.0)
CPU_LIMIT = 95.0
STEP = 5_000
_TRIES = 3


def delivery_100(session: Session) -> dict[str, Measured]:
    """1,000 x 100/s."""
    return {"delivery-100": _beside(session, PLAIN_100)}


def delivery_20(session: Session) -> dict[str, Measured]:
    """1,000 x 20/s."""
    found = _beside(session, PLAIN_20)
    own, floor = session.beside_floor(PLAIN_20)
    session.bars |= {"C floor": median_cost(floor), "Tickstorm": median_cost(own)}
    return {"delivery-20": found}


def _beside(session: Session, load: Load) -> Measured:
    own, floor = session.beside_floor(load)
    ours, theirs = costs(own), costs(floor)
    detail = (
        f"Tickstorm {_list(ours)} CPU-s per million, {latency(own[-1].run)}, {lost(own)}; "
        f"floor {_list(theirs)}, {latency(floor[-1])}"
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
    """More than one worker takes, many messages per read."""
    own, floor = session.beside_floor(FLAT)
    facts = _facts(own, floor)
    detail = (
        f"1,000 × {FLAT.rate_per_s:,.0f}/s joined to a send every {FLAT.batch_ms:g} ms; Tickstorm {_list(costs(own))} "
        f"CPU-s per million at {facts['percent']:.0f} % CPU, floor {_list(costs(floor))} at "
        f"{facts['floor_percent']:.0f} %"
    )
    rates = tuple(run.run.rate for run in own)
    return {
        "flat": Measured(values=ratios(costs(own), costs(floor)), detail=detail, facts=facts),
        "flat-rate": Measured(values=rates, detail=f"{detail}; {lost(own)} of what was sent", facts=facts),
    }


def ceiling(session: Session) -> dict[str, Measured]:
    """A ramp finds where the CPU reaches the limit; steady runs confirm a rate at or below it."""
    ramp = run_ours(session.bench, RAMP)
    session.curve = [(rate, cpu) for rate, cpu, _ in ramp.points]
    guess = RAMP.offered
    for rate, cpu, lost_so_far in ramp.points:
        if cpu > CPU_LIMIT or lost_so_far:
            break
        guess = max(guess, rate)
    tried: list[str] = []
    held: OwnRun | None = None
    rate = guess // STEP * STEP
    for _ in range(_TRIES):
        run = run_ours(session.bench, Load(consumers=1000, rate_per_s=rate / 1000))
        tried.append(f"{number(run.run.rate)}/s at {run.run.cpu_percent:.0f} %, {lost([run])}")
        if run.run.cpu_percent <= CPU_LIMIT and run.run.lost == 0:
            held = run
            break
        rate = rate * 0.93 // STEP * STEP
    detail = f"ramp to {number(guess)}/s within the limit; held: {'; '.join(tried)}"
    if held is None:
        return {"ceiling": Measured(detail=detail, missing=f"no steady run held what the ramp promised: {detail}")}
    facts = {"ours": held.run.cpu_s_per_million, "sender": held.sender_percent}
    return {"ceiling": Measured(values=(held.run.rate,), detail=f"{detail}, {latency(held.run)}", facts=facts)}


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
