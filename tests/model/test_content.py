"""Does the check value of a content bear what JSON libraries do to it, and show whatever else is done?"""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from loadtests.model.content import canonical, check_value, checked, joined, shape_of

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
leaves = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts
)
values = st.recursive(leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3), max_leaves=8)
events = st.dictionaries(texts, values, min_size=1, max_size=5)


def as_node_does(value: Any) -> Any:
    """JSON.parse and JSON.stringify: every number a binary64, whole ones without a point."""
    if isinstance(value, dict):
        return {key: as_node_does(below) for key, below in value.items()}
    if isinstance(value, list):
        return [as_node_does(item) for item in value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    number = float(value)
    return int(number) if number.is_integer() and abs(number) < 1e21 else number


def with_more(value: Any, draw: random.Random) -> Any:
    """Fields added at every depth, and the keys in another order."""
    if isinstance(value, list):
        return [with_more(item, draw) for item in value]
    if not isinstance(value, dict):
        return value
    items = [(key, with_more(below, draw)) for key, below in value.items()]
    items.append((f"added by somebody {draw.random()}", [{"x": 1}]))
    draw.shuffle(items)
    return dict(items)


@settings(max_examples=150, deadline=None)
@given(events, st.randoms(use_true_random=False))
def test_what_json_libraries_and_gateways_may_do_makes_no_difference(event: Any, draw: random.Random) -> None:
    shape = shape_of(event)
    sent = check_value(event, shape)
    forwarded = json.loads(json.dumps(with_more(as_node_does(event), draw), ensure_ascii=draw.random() < 0.5))
    assert check_value(forwarded, shape) == sent
    assert check_value(msgspec.json.decode(msgspec.json.encode(event)), shape) == sent


@settings(max_examples=150, deadline=None)
@given(events, leaves | values, st.data())
def test_a_change_of_any_field_at_any_depth_shows(event: Any, other: Any, data: st.DataObject) -> None:
    shape = shape_of(event)
    changed = json.loads(json.dumps(event))
    place: Any = changed
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        below = place[key]
        if not (isinstance(below, dict | list) and below) or data.draw(st.booleans()):
            break
        place = below
    removed = data.draw(st.booleans())
    if removed:
        del place[key]
    else:
        place[key] = other
    alike = msgspec.json.encode(canonical(changed, shape)) == msgspec.json.encode(canonical(event, shape))
    assume(not alike or removed)
    assert check_value(changed, shape) != check_value(event, shape)


@pytest.mark.parametrize(
    ("sent", "came"),
    [
        (1, True), (0, False), (0, None), (1, "1"), ("", None), ([], {}), ([], None), ({}, None), ("\u00e9", "e\u0301"),
        ("a", "A"),
        (1, 1 + 2**-52), (0.1, 0.1 + 2**-56), ([1, 2], [2, 1]), ([1], [1, 1]), ({"a": 1}, {}), ({"a": None}, {}),
    ],
)  # fmt: skip
def test_what_is_near_and_yet_another_value_shows(sent: Any, came: Any) -> None:
    shape = shape_of({"f": sent})
    assert check_value({"f": sent}, shape) != check_value({"f": came}, shape)


@pytest.mark.parametrize(
    ("sent", "came"),
    [("97.30", "97.3"), ("1e3", "1000"), ("1.0", "1"), ("-0.0", "0"), ("9007199254740993", "9007199254740992"),
     ("1E-7", "0.0000001"), ('"\\u00e9"', '"é"'), ('"\\/"', '"/"'), ("1" + "0" * 400, "1" + "0" * 400)],
)  # fmt: skip
def test_two_ways_to_write_one_value_are_one(sent: str, came: str) -> None:
    one, other = ({"f": msgspec.json.decode(text)} for text in (sent, came))
    assert check_value(one, {"f": {}}) == check_value(other, {"f": {}})


def test_the_fields_that_are_checked() -> None:
    shape = shape_of({"timestamp": "now", "symbol": "A", "meta": {"who": 1, "more": 2}, "list": [{"a": 1}, {"b": [2]}]})
    whole = {"symbol": {}, "meta": {"who": {}, "more": {}}, "list": {"a": {}, "b": {}}}
    assert checked(shape, "tickstorm", "checked") == whole
    assert checked(shape, "meta.who", "checked") == whole | {"meta": {"more": {}}}
    assert checked(shape, "symbol", "checked") == {name: whole[name] for name in ("meta", "list")}
    assert checked(shape, "tickstorm", ["symbol", "absent"]) == {"symbol": {}}
    assert checked(shape, "tickstorm", "unchecked") == {}
    assert joined([{"a": {"b": {}}}, {"a": {"c": {}}, "d": {}}]) == {"a": {"b": {}, "c": {}}, "d": {}}
