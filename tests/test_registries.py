"""Does every row of a table of kinds have its part, does the part keep to its port, and do all tables name the same?"""

from __future__ import annotations

import subprocess
import sys
from inspect import isfunction, signature
from pathlib import Path
from typing import Any, Generic, Protocol

import pytest

from loadtests.drive.consume.consumer_faults import ConsumerFault
from loadtests.drive.consume.transport import Transport
from loadtests.drive.publish.sink import Sink
from loadtests.drive.user_faults import READING, UserFault
from loadtests.inject.kinds import KINDS as ACTS
from loadtests.inject.kinds.on_users import KINDS as USERS_KINDS
from loadtests.inject.kinds.service_stops import KINDS as STOPPING_KINDS
from loadtests.measure.checks import MEASURES as BOUND
from loadtests.model.fault_kinds import KINDS, named
from loadtests.model.kinds import SinkKind, TransportKind, part
from loadtests.model.measures import ABORTS, MEASURES
from loadtests.model.profile.workload import SHAPE_KEYS, SHAPES
from loadtests.model.registry import SINKS, TRANSPORTS, USERS
from tests.golden.recording import NEED_A_SERVER, acting
from tests.measure.test_checks import ELSEWHERE, RED

ROOT = Path(__file__).resolve().parents[1]
WITHOUT_KIND = {"__init__", "kind", "on_link", "on_postgres", "on_redis", "on_service"}
"""Files of `inject/kinds` that only help the others."""


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


def port_of(protocol: type) -> dict[str, Any]:
    """What a protocol and those that it extends demand: methods, and attributes (None)."""
    found: dict[str, Any] = {}
    for base in reversed(protocol.__mro__):
        if base not in (object, Protocol, Generic) and getattr(base, "_is_protocol", False):
            found |= dict.fromkeys(vars(base).get("__annotations__", ()))
            found |= {name: value for name, value in vars(base).items() if isfunction(value) and name[0] != "_"}
    return found


@pytest.mark.parametrize("row", [*TRANSPORTS.values(), *SINKS.values()], ids=lambda row: row.name)
def test_transports_and_sinks_implement_every_method_of_their_port(row: TransportKind | SinkKind) -> None:
    port, acts = port_of(Transport if isinstance(row, TransportKind) else Sink), part(row.by)
    assert len(port) >= 2
    for name, asked in port.items():
        given = getattr(acts, name, None)
        assert given is not None, f"{row.by} lacks {name}"
        if asked is not None:
            assert callable(given), name
            assert list(signature(given).parameters) == list(signature(asked).parameters), f"{row.by}.{name}"


def test_the_class_of_every_kind_of_user_is_a_subclass_of_slot_user_of_that_kind() -> None:
    """In a process of its own: Locust patches the standard library of the one that imports it."""
    code = (
        "from loadtests.drive.slot_user import SlotUser\n"
        "from loadtests.model.kinds import part\n"
        "from loadtests.model.registry import USERS\n"
        "for name, row in USERS.items():\n"
        "    acts = part(row.by)\n"
        "    assert issubclass(acts, SlotUser) and acts.kind == name and acts.__name__ == row.user_class, name\n"
        "    assert acts.serve is not SlotUser.serve, name\n"
        "    assert row.lacking, name\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_measure_has_a_row_a_function_a_red_test_and_no_measure_lacks_its_row() -> None:
    assert set(BOUND) == set(MEASURES) == RED.keys() | ELSEWHERE.keys()
    for name, row in MEASURES.items():
        assert list(signature(BOUND[name]).parameters) == ["analysis", "t"], row.by


def test_what_users_do_in_a_fault_is_a_class_of_its_own_for_every_kind_that_they_play() -> None:
    played = named(lambda kind: kind.place in ("consumers", "publishers"))
    assert played == named(lambda kind: bool(kind.plays))
    classes = {name: part(KINDS[name].plays) for name in played}
    assert len(set(classes.values())) == len(played)
    for name, acts in classes.items():
        base = ConsumerFault if KINDS[name].place == "consumers" else UserFault
        assert issubclass(acts, base), name
        assert acts.in_force is not UserFault.in_force, name
        assert (acts.reading is not UserFault.reading) is KINDS[name].unread, name


def test_every_shape_and_every_figure_of_a_guard_has_its_function() -> None:
    for row in SHAPES.values():
        assert list(signature(part(row.by)).parameters) == ["shape", "run"], row.by
        assert set(row.needs) <= set(SHAPE_KEYS), row.by
    for row in ABORTS.values():
        assert len(signature(part(row.by)).parameters) == 3, row.by


def test_every_part_is_named_by_its_row_alone() -> None:
    """One part, one row: two rows with the same part would be one kind under two names."""
    for rows in (MEASURES, USERS, SINKS, TRANSPORTS, SHAPES, ABORTS):
        assert len({row.by for row in rows.values()}) == len(rows)
