"""What may a profile say, and does a file say it?  The JSON Schema for editors, and every problem of a file at once.

The schema is made of the tables that also refuse a profile (`model/profile/`), so an editor and a run agree on each
key. What must hold between tables no schema can say: `validate` asks all of it, and reads the files that a profile
names, but starts nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from loadtests.cli.console import err, out
from loadtests.harness.profile_loading import load
from loadtests.model.errors import BadInput
from loadtests.model.profile.profile import Profile

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_text() -> str:
    """The schema as it lies in docs/profile.schema.json: the same tables give the same text."""
    found: dict[str, Any] = {"$schema": DIALECT, **Profile.model_json_schema()}
    found["title"], found["description"] = "Tickstorm profile", "A question to a target: docs/profile.md"
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def validate(names: Sequence[str], sets: Sequence[str], seed: int | None) -> int:
    """Say of each profile whether it can be played; 2 where one cannot."""
    wrong = 0
    for name in names:
        try:
            load(name, sets, seed)
        except BadInput as error:
            wrong += 1
            for problem in error.problems:
                err.print(problem, markup=False)
            continue
        out.print(f"{name}: in order", markup=False)
    return 2 if wrong else 0
