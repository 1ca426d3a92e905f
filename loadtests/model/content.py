"""Which part of a payload must arrive as it was sent?  The fields that are ours, and a short check value over them.

Fields that the target added and the order of keys make no difference, numbers compare as binary64 (a target that parses
JSON and writes it again turns 97.30 into 97.3 and 1e3 into 1000), texts by code points.  Everything else does.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b

import msgspec

Shape = dict[str, "Shape"]
"""The names that are ours, each with the names below it; those of a list's items are joined."""

TIMESTAMP = "timestamp"
"""New in every message, and many a target stamps what it passes on: no content."""

_encode = msgspec.json.Encoder(order="deterministic").encode


def shape_of(value: object) -> Shape:
    """The names in a value, at any depth."""
    if isinstance(value, dict):
        return {name: shape_of(below) if type(below) in (dict, list) else {} for name, below in value.items()}
    return joined(shape_of(item) for item in value) if isinstance(value, list) else {}


def joined(shapes: Iterable[Shape]) -> Shape:
    """All names of several shapes."""
    found: Shape = {}
    for shape in shapes:
        for name, below in shape.items():
            found[name] = joined((found[name], below)) if name in found else below
    return found


def checked(shape: Shape, identity_path: str, content: str | Collection[str]) -> Shape:
    """The part of an event's shape that a family's `content` has checked: never the timestamp, nor the identity."""
    if content == "unchecked":
        return {}
    only = shape if content == "checked" else content
    return {name: below for name, below in _without(shape, identity_path).items() if name in only and name != TIMESTAMP}


def _without(shape: Shape, path: str) -> Shape:
    name, _, below = path.partition(".")
    if name not in shape:
        return shape
    if not below:
        return {other: inner for other, inner in shape.items() if other != name}
    return shape | {name: _without(shape[name], below)}


def check_value(event: Mapping[str, object], shape: Shape) -> int:
    """32 bits over what a shape names of an event; what the event lacks is not in them, so that its absence shows.

    Raises RecursionError for lists that are nested too deep.
    """
    return int.from_bytes(blake2b(_encode(canonical(event, shape)), digest_size=4).digest())


def canonical(value: object, shape: Shape) -> object:
    """A value with the shape's names only, every number as binary64."""
    kind = type(value)
    if kind is float or kind is int:
        try:
            return float(value) + 0.0  # type: ignore[arg-type]  # no -0.0, which writers of JSON turn into 0
        except OverflowError:
            return math.inf  # written as null, and so is NaN
    if kind is dict:
        return {name: canonical(value[name], below) for name, below in shape.items() if name in value}  # type: ignore[index, operator]
    if kind is list:
        return [canonical(item, shape) for item in value]  # type: ignore[attr-defined]
    return value
