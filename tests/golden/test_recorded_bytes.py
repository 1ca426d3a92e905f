"""Do fixed plans come to the bytes and records that were recorded?  Byte for byte; `keeping.py` writes them anew."""

from __future__ import annotations

import pytest

from tests.golden.keeping import RECORDED_IN
from tests.golden.recording import RECORDED, as_json


@pytest.mark.parametrize("name", RECORDED)
def test_what_was_recorded_comes_again(name: str) -> None:
    assert as_json(name) == (RECORDED_IN / f"{name}.json").read_text(encoding="utf-8")


def test_each_recording_has_its_maker() -> None:
    assert {path.stem for path in RECORDED_IN.glob("*.json")} == set(RECORDED)
