"""Do an editor's schema and a run's rules agree, and is everything that is wrong with a profile said at once?"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from loadtests.cli.profile_command import schema_text, validate

ROOT = Path(__file__).resolve().parents[2]
PROFILES = sorted((ROOT / "profiles").glob("*.toml"))
SCHEMA = ROOT / "docs" / "profile.schema.json"


def checker() -> Any:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


def test_the_schema_that_lies_there_is_that_of_the_tables() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), "tickstorm schema > docs/profile.schema.json"


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_each_shipped_profile_names_the_schema_and_keeps_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("#:schema ../docs/profile.schema.json\n")
    assert [error.message for error in checker().iter_errors(tomllib.loads(text))] == []


@pytest.mark.parametrize(
    ("key", "value"), [("nme", "x"), ("run", {"duration_s": -1}), ("publishers", []), ("seed", "one")]
)
def test_what_the_tables_refuse_the_schema_refuses(key: str, value: Any) -> None:
    raw = tomllib.loads((ROOT / "profiles" / "locust-quick.toml").read_text(encoding="utf-8"))
    assert list(checker().iter_errors(raw | {key: value}))


def test_all_problems_of_all_files_are_said_and_the_good_ones_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.toml").write_text('name = "x"\n')
    assert validate([str(tmp_path / "bad.toml"), "locust-quick", str(tmp_path / "none.toml")], [], None) == 2
    said = capsys.readouterr()
    assert "locust-quick: in order" in said.out
    assert "question" in said.err
    assert "families" in said.err
    assert "none.toml: there is no such profile" in said.err
    assert validate(["locust-quick"], ["run.duration_s=24"], None) == 0
    assert validate(["locust-quick"], ["run.duration_s=-4"], None) == 2
