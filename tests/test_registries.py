"""Does every table that names kinds name those that there are, and does every path in the documents exist?"""

from __future__ import annotations

import re
from pathlib import Path

from loadtests.drive.user_faults import READING
from loadtests.inject.kinds import KINDS as ACTS
from loadtests.inject.kinds.on_users import KINDS as USERS_KINDS
from loadtests.inject.kinds.service_stops import KINDS as STOPPING_KINDS
from loadtests.model.fault_kinds import KINDS, named
from tests.golden.recording import NEED_A_SERVER, acting

ROOT = Path(__file__).resolve().parents[1]
WITHOUT_KIND = {"__init__", "kind", "on_link", "on_postgres", "on_redis", "on_service"}
"""Files of `inject/kinds` that only help the others."""
PATH = re.compile(r"`((?:loadtests|tests|benchmarks|docs|profiles|reference_target|lying_gateway)/[\w./-]+)`")


def test_every_kind_has_a_row_and_a_part_and_every_file_of_kinds_is_some_row_s_part() -> None:
    assert {name: kind.name for name, kind in ACTS.items() if name != "raw-toxic"} == {name: name for name in KINDS}
    files = {path.stem for path in (ROOT / "loadtests/inject/kinds").glob("*.py")}
    assert files - WITHOUT_KIND == {row.module.rpartition(".")[2] for row in KINDS.values()}
    assert USERS_KINDS.keys() == named(lambda kind: kind.module.endswith("on_users"))
    assert STOPPING_KINDS.keys() == named(lambda kind: kind.module.endswith("service_stops"))


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
