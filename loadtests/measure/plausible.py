"""Can a record of a history be true at all?  Numbers that no run can have are damage: whoever wrote them forged them.

A history may come from somebody else. Its times span the arrays of the judge, so that one time a month away costs
gigabytes, and one a thousand years away more memory than there is.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import msgspec

from loadtests.model.ids import NS_PER_S, SLICE_NS
from loadtests.model.profile.profile import Profile
from loadtests.model.records import Record
from loadtests.tally.client_latency import COARSE
from loadtests.tally.histogram import BUCKETS

MARGIN_S = 3600.0
"""A run that overran its plan by more has had no machine to run on."""
MOST = 1 << 53
"""Messages, bytes, and whatever else is counted: what a float can count exactly."""
MOST_OF_A_CROWD = 10_000_000
"""Consumers, users, processes, frames, epochs."""

_ABSOLUTE = frozenset({"origin_ns", "origin_unix_ns", "clock_offset_ns", "stream"})
"""Any number of 63 bits: times of the machine's own clocks, and between those of two; a stream is three in one."""
_CROWD = frozenset({"consumer", "consumers", "epoch", "group", "publishers", "workers", "frames", "wanted", "index",
                    "routes", "route_set", "buckets"})  # fmt: skip
_MEASURED = frozenset({"asked", "effective"})
"""Whatever a kind of fault measures: nothing is counted by it."""
_BUCKETED = frozenset({"own_lag", "blocked", "latency", "service", "read_delay", "sampled_read"})


def longest_ns(profile: Profile) -> int:
    """No time of a run of this profile lies further from its origin."""
    run = profile.run
    return round((run.connect_s + run.warm_up_s + run.duration_s + run.drain_s + MARGIN_S) * NS_PER_S)


def implausible(record: Record, longest: int) -> str:
    """The field that cannot be true, with what it holds; empty where all can. `longest`: no time is further away."""
    for name, value in zip(_fields(type(record)), msgspec.structs.astuple(record), strict=True):
        if name in _MEASURED:
            continue
        if name in _BUCKETED and (wrong := _of_many(value[0], 0, BUCKETS - 1)) is not None:
            return f"{type(record).__name__}.{name} of {wrong}"
        low, high = _bounds(name, longest)
        if (wrong := _beyond(value, low, high)) is not None:
            return f"{type(record).__name__}.{name} of {wrong}"
    return ""


@cache
def _fields(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in msgspec.structs.fields(kind))


@cache
def _bounds(name: str, longest: int) -> tuple[int, int]:
    if name in _ABSOLUTE:
        return -(1 << 63), (1 << 63) - 1
    if name == "bucket":
        return 0, COARSE - 1
    if name in _CROWD:
        return -1, MOST_OF_A_CROWD
    if name in _BUCKETED:
        return 0, MOST
    if name.endswith("_ns"):
        return -longest, longest
    if name.endswith("_slice"):
        return -longest // SLICE_NS, longest // SLICE_NS
    return -1, MOST


def _beyond(value: Any, low: int, high: int) -> int | None:
    """The first number out of bounds in a value of whatever shape; texts and fractions have no bounds."""
    if type(value) is int:
        return None if low <= value <= high else value
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return None
    return _of_many(value, low, high)


def _of_many(values: Iterable[Any], low: int, high: int) -> int | None:
    many = list(values)
    if not many:
        return None
    if type(many[0]) is not int:
        return next((wrong for part in many if (wrong := _beyond(part, low, high)) is not None), None)
    least, most = min(many), max(many)
    return least if least < low else most if most > high else None
