"""Does the command find every lie that it plants?  200,000 deliveries, alone on the machine."""

from __future__ import annotations

import re

import pytest
from launching import Bench

from loadtests.stack.local import LocalStack

pytestmark = [pytest.mark.e2e, pytest.mark.prove_all, pytest.mark.group("PROVEN")]


def test_the_command_plants_200_000_deliveries_and_finds_them_all(bench: Bench, own: LocalStack) -> None:
    child = bench.start("prove", "--only", "account", TICKSTORM_STACK=str(own.folder))
    assert child.wait(100) == 0, child.said
    assert child.said.splitlines()[-1].startswith("everything that was planted was found, and nothing else")
    (count,) = re.findall(r"([\d,]+) deliveries to", child.said)
    assert int(count.replace(",", "")) >= 190_000
    assert "WRONG" not in child.said
    assert child.nothing_left()
