"""Is an external target that cannot be used refused before anything starts?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadtests.harness.target import resolve
from loadtests.model.errors import BadInput
from loadtests.model.profile.profile import Profile


def external(**target: Any) -> Profile:
    return Profile.model_validate(
        {
            "name": "test",
            "question": "Is the authority's file there?",
            "run": {"duration_s": 10.0},
            "target": {"kind": "external", "redis": "r:1", "gateway": "g:2"} | target,
            "families": [{"name": "all", "channel": "tickstock.events.patterns", "event": "pattern_detected"}],
            "publishers": [{"name": "p", "families": ["all"], "shape": {"kind": "constant", "rate_per_s": 1.0}}],
            "consumers": [{"name": "c", "count": 1}],
            "thresholds": [{"measure": "lost_defect", "at_most": 0.0}],
        }
    )


def test_an_authority_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    profile = external(tls=True, ca_file=str(path))
    with pytest.raises(BadInput, match=r"target\.ca_file: found .*, which is no file"):
        resolve(profile, print)
    path.write_text("anything")
    assert resolve(profile, print).gateway == "g:2"
