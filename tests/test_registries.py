"""Does every table that names kinds name those that there are, and does every path in the documents exist?"""

from __future__ import annotations

import re
from pathlib import Path

from loadtests.drive.user_faults import READING
from loadtests.model.fault_kinds import KINDS, named
from tests.golden.recording import NEED_A_SERVER, acting

ROOT = Path(__file__).resolve().parents[1]
PATH = re.compile(r"`((?:loadtests|tests|benchmarks|docs|profiles|reference_target|lying_gateway)/[\w./-]+)`")


def test_kinds_that_add_a_toxic_are_those_that_wedge_toxiproxy_beside_readers_who_stand_still() -> None:
    """Recorded is what a kind asks of Toxiproxy: a toxic is posted, or the proxy is changed."""
    posts = {name for name, kind in acting().items() if any(act.startswith("POST ") for act in kind["acts"])}
    assert posts == named(lambda kind: kind.toxic)
    assert not posts & set(NEED_A_SERVER)


def test_kinds_in_which_bytes_wait_unread_are_those_that_change_how_users_read() -> None:
    assert {KINDS[name].place for name in READING} == {"consumers"}


def test_kinds_that_act_on_processes_are_kinds_of_services() -> None:
    assert {KINDS[name].place for name in named(lambda kind: kind.on_process)} == {"service"}
    assert named(lambda kind: kind.stops) <= named(lambda kind: kind.on_process)


def test_every_path_in_the_documents_exists() -> None:
    texts = [*ROOT.glob("*.md"), *ROOT.glob("*/*.md")]
    named = {(text.name, path) for text in texts for path in PATH.findall(text.read_text(encoding="utf-8"))}
    assert len(named) > 50
    assert [pair for pair in sorted(named) if not list(ROOT.glob(pair[1])) and "<" not in pair[1]] == []
