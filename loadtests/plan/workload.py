"""What does each publisher slot write, and when?  Slot -> blocks of (due time, route), the same in every process.

The plan covers [0, warm-up + duration) from T0.  A block is a stretch of it that holds few messages, so that a
publisher who takes a slot over in mid-run begins at any moment without counting through the past.  `seq` is
no part of the plan: it counts what a stream has published, and a stream ends with its connection.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import Any

import numpy as np

from loadtests.model.contract import Contract
from loadtests.model.ids import NS_PER_S
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.workload import Publishers
from loadtests.plan.pacing import Constant, Levelled, Pacer, Stretches, pacer, peak_per_s, scaled
from loadtests.plan.replay import Replayed

_BLOCK_MESSAGES = 256
_BLOCK_MIN_NS = NS_PER_S // 1000
_BLOCK_MAX_NS = NS_PER_S
_REPLAY_BLOCK_NS = NS_PER_S // 100
_LEVELS_BLOCK_NS = NS_PER_S // 10  # whatever the rate: how high the levels will be, nobody knows yet


@dataclass(frozen=True)
class Block:
    """Messages due in one stretch, in order: due times in ns after T0, routes, and rows of a replay (else empty)."""

    due_ns: list[int]
    routes: list[int]
    rows: list[Mapping[str, object]]

    @cached_property
    def times(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """`due_ns` once more, for arithmetic on many at once."""
        return np.array(self.due_ns, dtype=np.int64)


class Rotation:
    """A seeded order of routes without storing it: index -> (a x index + b) mod n meets every route once in n."""

    def __init__(self, routes: Sequence[int], seed: str) -> None:
        self._routes, self._n = routes, len(routes)
        self._known = np.asarray(routes, dtype=np.int64)
        draw = random.Random(seed)
        self._b = draw.randrange(self._n)
        self._a = draw.randrange(self._n) or 1
        while gcd(self._a, self._n) != 1:
            self._a = self._a % self._n + 1

    def take(self, first: int, count: int) -> list[int]:
        """Routes of `count` indices from `first`."""
        n, a = self._n, self._a
        if n == 1:
            return [self._routes[0]] * count
        first %= n
        places = np.arange(first, first + count)
        found: list[int] = self._known[(places * a + self._b) % n].tolist()
        return found


class SlotPlan:
    """The plan of one publisher slot."""

    def __init__(
        self,
        *,
        slot: int,
        group: int,
        span_ns: int,
        block_ns: int,
        lanes: Sequence[tuple[Pacer, Rotation]],
        replay: tuple[Pacer, Sequence[tuple[int, Mapping[str, object]]]] | None = None,
    ) -> None:
        self.slot, self.group, self.span_ns, self.block_ns = slot, group, span_ns, block_ns
        self.blocks = -(-span_ns // block_ns)
        self._lanes, self._replay = lanes, replay

    def block(self, number: int) -> Block:
        """Messages due in [number x block, (number + 1) x block), cut off at the end of the plan."""
        start = number * self.block_ns
        end = min(self.span_ns, start + self.block_ns)
        if self._replay is not None:
            return self._with_replay(start, end)
        found = [self._lane(pacing, rotation, start, end) for pacing, rotation in self._lanes]
        filled = [lane for lane in found if lane[0]]
        if not filled:
            return Block([], [], [])
        if len(filled) == 1:
            return Block(*filled[0], [])
        pairs = sorted(pair for lane in filled for pair in zip(*lane, strict=True))
        return Block([due for due, _ in pairs], [route for _, route in pairs], [])

    def _lane(self, pacing: Pacer, rotation: Rotation, start: int, end: int) -> tuple[list[int], list[int]]:
        due = pacing.between(start, end)
        return due, rotation.take(pacing.near(start), len(due)) if due else []

    def _with_replay(self, start: int, end: int) -> Block:
        assert self._replay is not None
        pacing, rows = self._replay
        first = pacing.before(start)
        entries = [(due, number, *rows[first + number]) for number, due in enumerate(pacing.between(start, end))]
        nothing: Mapping[str, object] = {}
        for canary, rotation in self._lanes:
            due, routes = self._lane(canary, rotation, start, end)
            entries += [(at, -1, route, nothing) for at, route in zip(due, routes, strict=True)]
        entries.sort(key=lambda entry: entry[:2])
        return Block([e[0] for e in entries], [e[2] for e in entries], [e[3] for e in entries])

    def next_block(self, number: int) -> int | None:
        """The first block from `number` on that holds a message; None: the plan has no more."""
        start = number * self.block_ns
        pacers = [pacing for pacing, _ in self._lanes] + ([self._replay[0]] if self._replay else [])
        later = [due for pacing in pacers if (due := pacing.next_ns(start)) is not None and due < self.span_ns]
        return min(later) // self.block_ns if later else None

    def count(self, start_ns: int, end_ns: int) -> int:
        """How many messages are due in [start, end)."""
        pacers = [pacing for pacing, _ in self._lanes] + ([self._replay[0]] if self._replay else [])
        end_ns = min(end_ns, self.span_ns)
        return sum(pacing.count(start_ns, end_ns) for pacing in pacers) if end_ns > start_ns else 0

    def planned(self, start_ns: int, end_ns: int) -> list[int]:
        """Due times in [start, end): to count what was not offered."""
        found: list[int] = []
        for number in range(max(0, start_ns) // self.block_ns, min(self.blocks, -(-end_ns // self.block_ns))):
            found += [due for due in self.block(number).due_ns if start_ns <= due < end_ns]
        return found


class Workload:
    """Every slot's plan. `replays` holds the parsed file of each publisher group (by name) that replays one."""

    def __init__(
        self, profile: Profile, contract: Contract, replays: Mapping[str, Sequence[Replayed]] | None = None
    ) -> None:
        self._profile, self._contract, self._replays = profile, contract, replays or {}
        self.span_ns = round((profile.run.warm_up_s + profile.run.duration_s) * NS_PER_S)
        self._routes: dict[int, tuple[int, ...]] = {}
        self._canaries = _canaries(profile)
        self.stretches = Stretches() if profile.by_levels else None

    def publisher(self, slot: int) -> SlotPlan:
        """The plan of a slot.  Raises IndexError beyond the plan, KeyError for a replay that was not handed over."""
        profile = self._profile
        group, spec = self._contract.publisher_group(slot)
        seed = f"{profile.seed}:publisher:{slot}"
        if group not in self._routes:
            self._routes[group] = self._contract.publisher_routes(slot)
        routes = self._routes[group]
        replay = None
        times: tuple[int, ...] = ()
        if spec.shape.file is not None:
            first = sum(p.count for p in profile.publishers[:group])
            mine = self._replays[spec.name][slot - first :: spec.count]
            times = tuple(event.due_ns for event in mine)
            replay = _routed(mine, Rotation(routes, f"{seed}:routes"))

        def paced(factor: float, name: str) -> Pacer:
            return pacer(
                spec.shape if factor == 1 else scaled(spec.shape, factor),
                seed=f"{seed}:{name}" if name else seed,
                warm_up_s=profile.run.warm_up_s,
                duration_s=profile.run.duration_s,
                replayed_ns=times,
            )

        pacing = paced(1, "") if self.stretches is None else Levelled(self.stretches, paced)
        canaries = [
            (Constant(profile.sampling.canary_per_s, phase_of(f"{seed}:canary:{family}")), self._canary(seed, family))
            for family in self._canaries.get(slot, ())
        ]
        rate = peak_per_s(spec.shape) + profile.sampling.canary_per_s * len(canaries)
        block = _REPLAY_BLOCK_NS if replay else round(_BLOCK_MESSAGES / max(rate, 1e-9) * NS_PER_S)
        block = block if self.stretches is None else _LEVELS_BLOCK_NS
        return SlotPlan(
            slot=slot,
            group=group,
            span_ns=self.span_ns,
            block_ns=min(_BLOCK_MAX_NS, max(_BLOCK_MIN_NS, block)),
            lanes=canaries if replay else [(pacing, Rotation(routes, f"{seed}:routes")), *canaries],
            replay=(pacing, replay) if replay else None,
        )

    def _canary(self, seed: str, family: int) -> Rotation:
        return Rotation(self._contract.routes_of_family[family], f"{seed}:canary:{family}")


def _routed(events: Sequence[Replayed], rotation: Rotation) -> list[tuple[int, Mapping[str, object]]]:
    """Each row's route, or the next in turn where the row leaves it open."""
    turns = rotation.take(0, len(events))
    return [
        (turn if event.route is None else event.route, event.fields) for event, turn in zip(events, turns, strict=True)
    ]


def replay_words(events: Sequence[Replayed], group: Publishers, span_ns: int) -> str:
    """How much of a file a run takes, and how its length stands against the run's."""
    most = group.shape.at_most
    shares = (events[number :: group.count] for number in range(group.count))
    counts = [bisect_left(share, span_ns, key=lambda event: event.due_ns) for share in shares]
    taken = sum(counts if most is None else (min(most, count) for count in counts))
    length_s, run_s = events[-1].due_ns / NS_PER_S, span_ns / NS_PER_S
    left = f", {len(events) - taken:,} are left over" if taken < len(events) else ""
    over = f"; nothing more is due for the last {run_s - length_s:.1f} s" if length_s < run_s - 1 else ""
    return (
        f"{group.shape.file}: {len(events):,} rows over {length_s:,.1f} s at speed {group.shape.speed:g}, "
        f"{taken:,} of them due in the {run_s:,.1f} s of the run{left}{over}"
    )


def _canaries(profile: Profile) -> Mapping[int, list[int]]:
    """Publisher slot -> families whose canary it keeps flowing; the families of a group are dealt to its slots."""
    found: defaultdict[int, list[int]] = defaultdict(list)
    if profile.sampling.canary_per_s > 0:
        for family, spec in enumerate(profile.families):
            first = 0
            for group in profile.publishers:
                if spec.name in group.families:
                    found[first + family % group.count].append(family)
                    break
                first += group.count
    return found


def phase_of(seed: str) -> float:
    """A seeded share of one gap, so that equal senders do not send together."""
    return random.Random(seed).random()
