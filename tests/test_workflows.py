"""Do the workflows of this repository play what they should, and keep what they found?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from loadtests.cli.ci_command import job

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps(made: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {name: of["steps"] for name, of in made["jobs"].items()}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_is_bounded_pinned_and_always_keeps_its_artefacts(path: Path) -> None:
    made = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert made["permissions"].keys() <= {"contents"}
    for name, of in made["jobs"].items():
        assert of["timeout-minutes"] <= 350, name
        used = [step["uses"] for step in of["steps"] if "uses" in step]
        assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used), used
        kept = [step for step in of["steps"] if step.get("uses", "").startswith("actions/upload-artifact@")]
        assert (path.stem, name) == ("weekly", "status") or [step["if"] for step in kept] == ["always()"], name


def test_the_four_triggers_are_there() -> None:
    made = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FILES}
    when = {name: of[True] for name, of in made.items()}  # YAML 1.1 reads "on" as true
    assert {"push", "pull_request"} <= when["ci"].keys()
    assert when["nightly"]["schedule"][0]["cron"].endswith("* * *")
    assert when["weekly"]["schedule"][0]["cron"].endswith("* * 1")
    played = {name: str(steps(of)) for name, of in made.items()}
    assert ".ci/run" in played["ci"]
    assert "suite --stage smoke" in played["ci"]
    assert "make prove-all" in played["nightly"]
    assert "suite --stage performance" in played["nightly"]


def test_the_weekly_one_is_what_the_command_prints() -> None:
    said = job("github", ["weekly"], root=ROOT, programs=ROOT)
    assert (ROOT / ".github" / "workflows" / "weekly.yml").read_text(encoding="utf-8") == said
