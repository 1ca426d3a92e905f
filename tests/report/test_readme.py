"""Is every key of `results.json` described where its readers look?"""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import sample

from loadtests.model import capacity, results

README = Path(__file__).parents[2] / "reports" / "README.md"


def documented() -> dict[str, list[str]]:
    """Section -> keys of its table."""
    found: dict[str, list[str]] = {}
    for section in README.read_text("utf-8").split("\n## ")[1:]:
        title = section.split("\n", 1)[0].split(" ")[0]
        found[title] = re.findall(r"^\| `([a-z0-9_]+)` \|", section, flags=re.M)
    return found


def structs() -> dict[str, list[str]]:
    """Struct of the contract -> keys as they stand in the file, in order."""
    named = {**vars(results), **vars(capacity)}
    kinds = [v for v in named.values() if isinstance(v, type) and issubclass(v, msgspec.Struct)]
    return {k.__name__: list(k.__struct_encode_fields__) for k in kinds if k.__struct_encode_fields__}


def test_every_key_is_documented_in_the_order_of_the_file_and_nothing_else() -> None:
    assert documented() == structs()


def test_the_samples_survive_the_round_trip() -> None:
    for made in (sample.sample(), sample.nothing_known()):
        data = results.to_json(made)
        assert results.from_json(data) == made
        assert list(json.loads(data)) == structs()["Results"]
