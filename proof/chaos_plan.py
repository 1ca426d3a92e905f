"""When does chaos strike, and which victim?  Seeded and pure: victims in turn, at least half of them in a fault."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from proof.faults import BULK
from proof.sections import BUSY_GUARD

Victim = Literal[
    "gateway",
    "master",
    "redis",
    "injector",
    "worker",
    "toxiproxy",
    "injector and master",
    "postgres",
    "disk full",
    "disk read-only",
]
VICTIMS: tuple[Victim, ...] = (
    "gateway",
    "master",
    "redis",
    "injector",
    "worker",
    "toxiproxy",
    "injector and master",
    "postgres",
    "disk full",
    "disk read-only",
)
"""In the order in which they are struck: the eight that are processes first."""
SERVICES: frozenset[str] = frozenset({"gateway", "redis", "toxiproxy", "postgres"})
DISKS: frozenset[str] = frozenset({"disk full", "disk read-only"})
INSIDE_SHARE = 0.6
WORKERS = 2

WARM_UP_S, DURATION_S, DRAIN_S = 0.5, 12.5, 1.0
SLOW, CUT, SMALL, LOCKED, STILL = "slow", "cut", "small", "locked", "still"
FAULTS: tuple[str, ...] = (SMALL, SLOW, LOCKED, CUT, STILL)
"""In the order in which the blows fall into them. Only a journal undoes the settings, the lock and the pause."""
SLOW_AT_S, SLOW_FOR_S = 1.3, 1.4  # from the end of the warm-up
SMALL_AT_S, SMALL_FOR_S = 3.3, 1.2
LOCKED_AT_S, LOCKED_FOR_S = 5.1, 1.2
STILL_AT_S, STILL_FOR_S = 6.9, 1.2
CUT_AT_S, CUT_FOR_S = 8.8, 1.0  # the last: recovery from it takes its time
BEFORE_S, AFTER_S = (0.7, 1.3), (10.9, 12.3)  # from T0: before the first fault, and after the last one
INTO_S = {SLOW: (0.0, 0.8), CUT: (0.0, 0.5), SMALL: (0.0, 0.6), LOCKED: (0.0, 0.6), STILL: (0.0, 0.6)}
"""How long after a fault was seen in force, so that it is in force still."""

PROFILE = f"""
name = "chaos"
question = "Is everything healed, kept and told, whoever dies?"
seed = 7

[target]
test_system = true

[run]
warm_up_s = {WARM_UP_S}
duration_s = {DURATION_S}
drain_s = {DRAIN_S}
late_s = 1
connect_s = 30

{BUSY_GUARD}
[steady]
hold_s = 0.5
latency_add_ms = 2000

[recovery]
limit_s = 2

[[families]]
name = "patterns"
channel = "tickstock.events.patterns"
event = "pattern_detected"
symbols = 4
keys = {{ pattern = ["Doji", "Hammer"] }}

[[publishers]]
name = "detector"
count = 2
families = ["patterns"]
shape = {{ kind = "constant", rate_per_s = 20 }}

[[consumers]]
name = "plain"
count = 4

[[consumers]]
name = "browsers"
count = 4
transport = "socketio"

[[readers]]
name = "dashboard"
count = 1

[[faults]]
name = "{SLOW}"
kind = "latency"
link = "client-gateway"
latency_ms = 80
at_s = {SLOW_AT_S}
for_s = {SLOW_FOR_S}

[[faults]]
name = "{CUT}"
kind = "down"
link = "gateway-redis"
at_s = {CUT_AT_S}
for_s = {CUT_FOR_S}

[[faults]]
name = "{SMALL}"
kind = "output-buffer"
service = "redis"
limit_kb = 8
at_s = {SMALL_AT_S}
for_s = {SMALL_FOR_S}

[[faults]]
name = "{LOCKED}"
kind = "lock"
service = "postgres"
at_s = {LOCKED_AT_S}
for_s = {LOCKED_FOR_S}

[[faults]]
name = "{STILL}"
kind = "pause"
service = "producer"
at_s = {STILL_AT_S}
for_s = {STILL_FOR_S}

[[thresholds]]
measure = "lost_defect"
at_most = 0

[[thresholds]]
measure = "repeated"
at_most = 0
{BULK}"""
"""What each moment runs. Undisturbed it must PASS, or that a disturbed run does not would say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosMoment:
    """One victim at one instant of one run."""

    number: int  # from 1
    victim: Victim
    fault: str  # the fault in force; "" outside of any
    at_s: float  # after the fault was seen in force; outside of any: after T0
    workers: int
    everything: bool  # with the injector and the master: also the command and the workers, all at once
    seed: int


def schedule(count: int, seed: int) -> list[ChaosMoment]:
    """The moments in order; the same for the same seed."""
    draw = random.Random(seed)
    inside = [index < math.ceil(count * INSIDE_SHARE) for index in range(count)]
    draw.shuffle(inside)
    found: list[ChaosMoment] = []
    struck, next_fault = 0, draw.randrange(len(FAULTS))
    for index in range(count):
        victim = VICTIMS[index % len(VICTIMS)]
        fault = FAULTS[next_fault % len(FAULTS)] if inside[index] else ""
        next_fault += inside[index]
        span = INTO_S[fault] if fault else draw.choice((BEFORE_S, AFTER_S))
        together = victim == "injector and master"
        struck += together
        found.append(
            ChaosMoment(
                number=index + 1,
                victim=victim,
                fault=fault,
                at_s=round(draw.uniform(*span), 3),
                workers=WORKERS if victim == "worker" or (victim not in DISKS and draw.random() < 0.25) else 0,
                everything=together and struck % 2 == 0,
                seed=draw.randrange(1 << 30),
            )
        )
    return found


def inside_share(moments: Sequence[ChaosMoment]) -> float:
    """Share of the moments that are planned inside a fault."""
    return sum(1 for moment in moments if moment.fault) / len(moments)
