"""Whatever somebody does to a profile: is it taken whole or refused with words, and never answered by a traceback?"""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from loadtests.model.errors import BadInput
from loadtests.model.profile.profile import Profile
from loadtests.model.profile.reading import read_effective, read_profile

SHIPPED = sorted((Path(__file__).parents[2] / "profiles").glob("*.toml"))
EVERYTHING = """
name = "all"
question = "Is every table of the models here?"
seed = 3
[target]
kind = "external"
redis = "r:1"
gateway = "g:2"
gateway_http = "g:3"
postgres = "p:4"
toxiproxy = "t:5"
proxies = { own-link = "proxy" }
processes = { app = 77 }
[run]
duration_s = 300
[identity]
path = "a.b"
[[families]]
name = "patterns"
channel = "tickstock.events.patterns"
event = "pattern_detected"
keys = { pattern = ["Doji"], symbol = ["AAPL"] }
path = ["own-link", "client-gateway"]
mode = "latest"
latest_within_s = 2
offline = "replayed"
replay_messages = 5
replay_age_s = 6
[[publishers]]
name = "ramp"
families = ["patterns"]
payload_bytes = 10
shape = { kind = "ramp", from_per_s = 1, to_per_s = 9, at_most = 50 }
[[publishers]]
name = "burst"
families = ["patterns"]
shape = { kind = "burst", base_per_s = 1, peak_per_s = 9, length_s = 0.5, period_s = 5 }
[[publishers]]
name = "again"
families = ["patterns"]
shape = { kind = "replay", file = "ticks.csv", speed = 2 }
[[consumers]]
name = "plain"
count = 5
read_bytes_per_s = 1000
subscribe = { families = ["patterns"], patterns = ["Doji"], symbols = ["AAPL"], symbol_share = 0.5 }
reconnect = { first_ms = 10, factor = 2, max_ms = 100, jitter = 0.1 }
[[readers]]
name = "readers"
count = 2
rate_per_s = 3
queries = ["symbols_count"]
timeout_s = 4
[[faults]]
name = "slow"
kind = "latency"
link = "own-link"
latency_ms = 20
jitter_ms = 5
at_s = 5
for_s = 2
recovery_limit_s = 10
repeat = { times = 3, every_s = 20 }
[[faults]]
name = "thin"
kind = "bandwidth"
link = "client-gateway"
rate_kb_per_s = 20
at_s = 80
for_s = 2
[steady]
hold_s = 2
[recovery]
limit_s = 9
[sampling]
every_s = 1
[guard]
memory_mb = 100
[[thresholds]]
measure = "recovery_s"
at_most = 5
fault = "slow"
[[thresholds]]
measure = "growth_mb"
at_most = 5
process = "app"
[[thresholds]]
measure = "query_max_ms"
at_most = 5
query = "symbols_count"
[[thresholds]]
measure = "deliveries"
at_least = 5
group = "plain"
family = "patterns"
"""
TEXTS = [path.read_text(encoding="utf-8") for path in SHIPPED] + [EVERYTHING]
RAWS = [tomllib.loads(text) for text in TEXTS]

FREE = {"name", "question"}
"""Text of the user's own, where every word is as good as another."""


def places(value: Any, loc: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from places(below, (*loc, key))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield from places(below, (*loc, index))
    if loc:
        yield loc, value


def replaced(raw: dict[str, Any], loc: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """A copy with another value at a place; what lies beside the way there is shared."""
    changed = copy.copy(raw)
    node: Any = changed
    for step in loc[:-1]:
        node[step] = copy.copy(node[step])
        node = node[step]
    node[loc[-1]] = value
    return changed


def is_free(raw: dict[str, Any], loc: tuple[str | int, ...], value: str) -> bool:
    """Nothing else in the profile, and no rule of ours, can know what the text should be."""
    if len(loc) == 1 or (loc[0] == "target" and loc[-1] in ("database", "read_user", "write_user")):
        return loc[-1] in FREE or loc[0] == "target"
    if "proxies" in loc or loc[-1] == "file" or loc == ("identity", "path"):
        return True
    if "keys" in loc:  # a pattern or symbol, unless a subscription asks for it
        asked = [group.get("subscribe", {}) for group in raw["consumers"]]
        return not any(value in (*ask.get("patterns", ()), *ask.get("symbols", ())) for ask in asked)
    if loc[-1] == "name":  # of a group that no threshold names
        old = raw[loc[0]][loc[1]]["name"]
        named = {limit.get(key) for limit in raw["thresholds"] for key in ("group", "fault")}
        return loc[0] != "families" and old not in named
    return False


NUMBERS = [(i, loc) for i, raw in enumerate(RAWS) for loc, v in places(raw) if type(v) in (int, float)]
WORDS = [
    (i, loc) for i, raw in enumerate(RAWS) for loc, v in places(raw) if isinstance(v, str) and not is_free(raw, loc, v)
]


@pytest.mark.parametrize("number", [-1, -0.5])
def test_a_negative_number_is_refused_everywhere(number: float) -> None:
    taken = []
    for index, loc in NUMBERS:
        try:
            Profile.model_validate(replaced(RAWS[index], loc, number))
            taken.append(loc)
        except ValidationError:
            continue
    assert len(NUMBERS) > 100
    assert taken == []


ODD = {"inf": float("inf"), "-inf": float("-inf"), "nan": float("nan"), "huge": 10**400, "true": True}


@pytest.mark.parametrize("number", ODD.values(), ids=list(ODD))
def test_what_is_no_finite_number_is_refused_everywhere(number: float) -> None:
    for index, loc in NUMBERS:
        with pytest.raises(ValidationError):
            Profile.model_validate(replaced(RAWS[index], loc, number))


def test_an_unknown_word_is_refused_everywhere() -> None:
    taken = []
    for index, loc in WORDS:
        try:
            Profile.model_validate(replaced(RAWS[index], loc, "no-such-thing"))
            taken.append(loc)
        except ValidationError:
            continue
    assert len(WORDS) > 100
    assert taken == []


def test_an_unknown_key_is_refused_in_every_table() -> None:
    for raw in RAWS:
        tables = [
            loc for loc, value in places(raw) if isinstance(value, dict) and loc[-1] not in ("proxies", "processes")
        ]
        for loc in tables:
            with pytest.raises(ValidationError):
                Profile.model_validate(replaced(raw, (*loc, "no_such_key"), 1))


def taken_or_refused(text: str | bytes, **given: Any) -> bool:
    """Reads; refused with words, or taken and then the frozen text reads back the same."""
    try:
        loaded = read_profile(text, file="f.toml", **given)
    except BadInput as refusal:
        problems = refusal.problems
    else:
        assert read_effective(loaded.text) == loaded.profile
        return True
    assert problems
    assert all(problem.strip() and "\n" not in problem for problem in problems)
    return False


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.just([]),
    st.just({}),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.sampled_from(["name", "kind", "x"]), st.integers(), max_size=2),
)


def to_toml(value: Any) -> str:
    """Only what the corruption needs: inline everything."""
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return "{" + ", ".join(f"{quoted(key)} = {to_toml(below)}" for key, below in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(to_toml, value)) + "]"
        case str():
            return quoted(value)
        case None:
            return '"none"'
    return repr(value)


def quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(letter):08x}" for letter in text if not 0xD800 <= ord(letter) < 0xE000) + '"'


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_value_anywhere_is_taken_or_refused(data: st.DataObject) -> None:
    raw = RAWS[data.draw(st.integers(0, len(RAWS) - 1))]
    for _ in range(data.draw(st.integers(1, 3))):
        found = [loc for loc, _ in places(raw)]
        raw = replaced(raw, data.draw(st.sampled_from(found)), data.draw(JUNK))
        if not any(True for _ in places(raw)):
            break
    taken_or_refused("\n".join(f"{quoted(key)} = {to_toml(value)}" for key, value in raw.items()))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_damage_to_the_bytes_is_taken_or_refused(data: st.DataObject) -> None:
    text = bytearray(data.draw(st.sampled_from(TEXTS)).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=8))
    taken_or_refused(bytes(text))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.text(max_size=40), max_size=3), st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=2)
)
def test_any_setting_is_taken_or_refused(sets: list[str], environment: dict[str, str]) -> None:
    taken_or_refused(EVERYTHING, sets=sets, environment={f"TICKSTORM_SET_{k}": v for k, v in environment.items()})


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_value_by_a_setting_is_taken_or_refused(data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(RAWS) - 1))
    loc = data.draw(st.sampled_from([loc for loc, _ in places(RAWS[index])]))
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc).lstrip(".")
    value = data.draw(st.one_of(st.text(max_size=12), JUNK.map(to_toml)))
    taken_or_refused(TEXTS[index], sets=[f"{path}={value}"])
