"""What are the names of things inside a run?  Slots, streams packed into one integer, slices of the run clock.

All times are integer nanoseconds of the run clock: CLOCK_MONOTONIC minus the run's origin, which the header states.
"""

from __future__ import annotations

from typing import NamedTuple

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
SLICE_NS = 100 * NS_PER_MS
"""Length of a slice: the finest time grain of every aggregate in the history."""

_EPOCH_BITS = 12
_ROUTE_BITS = 20
MAX_SLOTS = 1 << 16
MAX_EPOCHS = 1 << _EPOCH_BITS
MAX_ROUTES = 1 << _ROUTE_BITS


class Stream(NamedTuple):
    """Publisher slot x epoch x route; its `seq` is gapless from 0."""

    slot: int
    epoch: int
    route: int


def pack_stream(slot: int, epoch: int, route: int) -> int:
    """One integer below 2**48, so that it survives JSON readers with double precision.

    Raises ValueError where a part does not fit.
    """
    if not (0 <= slot < MAX_SLOTS and 0 <= epoch < MAX_EPOCHS and 0 <= route < MAX_ROUTES):
        raise ValueError(f"stream parts out of range: slot {slot}, epoch {epoch}, route {route}")
    return ((slot << _EPOCH_BITS) | epoch) << _ROUTE_BITS | route


def unpack_stream(stream: int) -> Stream:
    """The parts of a packed stream."""
    return Stream(
        stream >> (_EPOCH_BITS + _ROUTE_BITS), (stream >> _ROUTE_BITS) & (MAX_EPOCHS - 1), stream & (MAX_ROUTES - 1)
    )


def slice_of(time_ns: int) -> int:
    """Index of the slice that holds a time; times before 0 have negative slices."""
    return time_ns // SLICE_NS
