"""Does every table that names kinds name those that there are, and does every path in the documents exist?"""

from __future__ import annotations

import re
from pathlib import Path

from loadtests.drive.crew import READING
from loadtests.model.fault_kinds import KINDS
from loadtests.model.fault_pairs import TOXICS, UNREAD
from loadtests.model.proof_rules import LEAST_OF_KIND_S, PROCESS_KINDS
from tests.golden.recording import NEED_A_SERVER, acting

ROOT = Path(__file__).resolve().parents[1]
PATH = re.compile(r"`((?:loadtests|tests|benchmarks|docs|profiles|reference_target|lying_gateway)/[\w./-]+)`")


def test_kinds_that_add_a_toxic_are_those_that_wedge_toxiproxy_beside_readers_who_stand_still() -> None:
    """Recorded is what a kind asks of Toxiproxy: a toxic is posted, or the proxy is changed."""
    posts = {name for name, kind in acting().items() if any(act.startswith("POST ") for act in kind["acts"])}
    assert posts == TOXICS
    assert not TOXICS & set(NEED_A_SERVER)


def test_kinds_in_which_bytes_wait_unread_are_those_that_change_how_users_read() -> None:
    assert UNREAD == READING
    assert {KINDS[name].place for name in UNREAD} == {"consumers"}


def test_least_lengths_and_kinds_of_processes_name_kinds() -> None:
    assert LEAST_OF_KIND_S.keys() <= KINDS.keys()
    assert {KINDS[name].place for name in PROCESS_KINDS} == {"service"}
    assert {name for name, kind in KINDS.items() if kind.stops} <= PROCESS_KINDS


def test_every_path_in_the_documents_exists() -> None:
    texts = [*ROOT.glob("*.md"), *ROOT.glob("*/*.md")]
    named = {(text.name, path) for text in texts for path in PATH.findall(text.read_text(encoding="utf-8"))}
    assert len(named) > 50
    assert [pair for pair in sorted(named) if not list(ROOT.glob(pair[1])) and "<" not in pair[1]] == []
