"""Does a fault prove that it met somebody?  By the kernel's table of the proxy's port, on a real Toxiproxy."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Set
from contextlib import ExitStack
from typing import Any

import pytest

from loadtests.inject import socket_table
from loadtests.inject.kinds import KINDS
from loadtests.inject.passage import Meets, Passage
from loadtests.inject.socket_table import Look, Peer
from loadtests.inject.toxics import ToxiproxyServer
from loadtests.model.fault_kinds import KINDS as NAMED
from loadtests.model.injectwire import Schedule
from loadtests.model.records import ACTED, NOT_OBSERVABLE, NOTHING, TOUCHED, TOUCHED_WHY, FaultStep

from .conftest import Place, TestLink, planned

pytestmark = pytest.mark.group("LIFE")

A, B, OURS = ("10.0.0.1", 4001), ("10.0.0.2", 4002), ("127.0.0.1", 9)


def at(
    held: dict[Peer, tuple[int, int] | None] | None = None,
    ended: Set[Peer] = frozenset(),
    left: Set[Peer] = frozenset(),
) -> Look:
    return Look(held=held or {}, ended=frozenset(ended), left=frozenset(left), listeners=frozenset({1}))


def met(meets: Meets, *looks: Look | None, ways: tuple[str, ...] = ("upstream", "downstream")) -> Any:
    """Calm, calm, just before the act, just after it, at its end."""
    seen = iter(looks)
    passage = Passage(lambda: next(seen), lambda: frozenset({OURS[1]}), "a link")
    passage.glance()
    passage.glance()
    passage.about_to_act()
    passage.has_acted()
    return passage.touch(meets, ways)


QUIET, THERE = at(), at({A: (10, 10)})
MORE, UP_ONLY = at({A: (10, 900)}), at({A: (20, 10)})


@pytest.mark.parametrize(
    ("meets", "looks", "touched"),
    [
        ("cuts", (THERE, THERE, THERE, QUIET, QUIET), ACTED),
        ("cuts", (QUIET, QUIET, QUIET, QUIET, QUIET), NOTHING),
        ("cuts", (THERE, THERE, THERE, THERE, QUIET), NOTHING),  # it left later, by itself
        ("cuts", (THERE, QUIET, QUIET, QUIET, QUIET), NOTHING),  # used only before
        ("cuts", (QUIET, QUIET, QUIET, THERE, MORE), NOTHING),  # used only after
        ("cuts", (at({OURS: (5, 5)}),) * 3 + (QUIET,) * 2, NOTHING),  # a probe of our own
        ("cuts", (QUIET, at(ended={A}), at(ended={A}), at(ended={A}), at(ended={A})), ACTED),  # one for each request
        ("cuts", (at(ended={A}),) * 5, NOTHING),  # what is left of one long ago
        ("cuts", (QUIET, at(ended={OURS}), at(ended={OURS}), QUIET, QUIET), NOTHING),
        ("resets", (THERE, THERE, THERE, THERE, QUIET), ACTED),
        ("resets", (THERE,) * 5, NOTHING),
        ("cuts later", (THERE, THERE, THERE, THERE, QUIET), ACTED),
        ("cuts later", (THERE, THERE, THERE, THERE, at(ended={A})), ACTED),
        ("cuts later", (THERE, THERE, THERE, THERE, at(ended={A}, left={A})), NOTHING),  # it left by itself
        ("cuts later", (QUIET, at(ended={A}), at(ended={A}), at(ended={A}), at(ended={A})), NOTHING),
        ("delays", (THERE, THERE, THERE, THERE, MORE), ACTED),
        ("delays", (THERE, MORE, MORE, MORE, MORE), NOTHING),  # idle while it was in force
        ("delays", (QUIET, QUIET, QUIET, THERE, MORE), NOTHING),
        ("delays", (THERE, THERE, THERE, THERE, at({A: (10, 10), B: (1, 1)})), ACTED),
        ("delays", (at({A: None}),) * 5, NOT_OBSERVABLE),
        ("delays", (at({OURS: (5, 5)}),) * 4 + (at({OURS: (9, 9)}),), NOTHING),
        ("silences", (THERE, MORE, MORE, MORE, MORE), ACTED),  # bytes came, and are held since
        ("silences", (THERE,) * 5, NOTHING),
        ("closes late", (THERE, THERE, THERE, THERE, at(ended={A})), ACTED),
        ("closes late", (THERE, THERE, THERE, THERE, MORE), NOTHING),
        ("cuts", (THERE, None, None, None, None), NOT_OBSERVABLE),
    ],
)
def test_three_answers(meets: Meets, looks: tuple[Look | None, ...], touched: str) -> None:
    touch = met(meets, *looks)
    assert touch.touched == touched
    assert touched == ACTED or touch.why


def test_a_delay_of_one_way_needs_bytes_of_that_way() -> None:
    assert met("delays", THERE, THERE, THERE, THERE, UP_ONLY, ways=("downstream",)).touched == NOTHING
    assert met("delays", THERE, THERE, THERE, THERE, UP_ONLY, ways=("upstream",)).touched == ACTED


def test_every_kind_on_a_link_says_whom_it_met() -> None:
    assert not [
        name for name, kind in KINDS.items() if NAMED.get(name, NAMED["down"]).place == "link" and not kind.meets
    ]


def test_the_kernel_tells_who_is_connected_and_who_was() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        peer, (far, _) = client.getsockname(), server.accept()
        client.sendall(b"x" * 100)
        far.recv(1000)
        there = socket_table.look(port)
        assert there is not None
        assert there.held == {peer: (100, 0)}
        client.close()
        far.close()
        gone = socket_table.look(port)
    assert gone is not None
    assert not gone.held
    assert gone.ended == gone.left == {peer}


def test_a_port_that_somebody_else_holds_for_a_container_cannot_be_observed(place: Place) -> None:
    server = ToxiproxyServer(place.toxiproxy)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert "another process than Toxiproxy" in socket_table.why_unseen(port, server.port, None)
    assert "nobody on this machine" in socket_table.why_unseen(port, server.port, None)
    assert socket_table.why_unseen(place.link.port, server.port, None) == ""


class Talk:
    """Somebody who uses a link, until it ends: asks again and again, on one connection or on one for each request."""

    def __init__(self, link: TestLink, *, each: bool = False, ask: bool = True) -> None:
        self._link, self._each, self._ask = link, each, ask
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Talk:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        held: socket.socket | None = None
        while not self._over.wait(0.05):
            try:
                held = held or self._link.connect()
                held.settimeout(0.3)
                if self._ask:
                    held.sendall(b"PING\r\n")
                    held.recv(64)
                if self._each:
                    held.close()
                    held = None
            except OSError:
                if held is not None:
                    held.close()
                held = None
        if held is not None:
            held.close()


KEYS: dict[str, dict[str, int | float]] = {
    "down": {},
    "latency": {"latency_ms": 40},
    "bandwidth": {"rate_kb_per_s": 20},
    "slicer": {"average_size_bytes": 64, "delay_us": 500},
    "black-hole": {},
    "reset": {},
    "flap": {"period_s": 0.6},
    "slow-close": {"close_delay_ms": 60},
    "limit-data": {"limit_bytes": 100},
}


AFTER_NS, LASTS_S = 3_000_000_000, 1.6
USES: dict[str, dict[str, Any]] = {
    "nobody": {},
    "one connection": {"each": False},
    "one for each request": {"each": True},
    "an idle one": {"ask": False},
    "before": {"each": False},
    "after": {"each": False},
}
PLAYED = [(kind, use) for kind in KEYS for use in ("nobody", "one connection", "one for each request")] + [
    (kind, use) for kind in ("latency", "down") for use in ("an idle one", "before", "after")
]
NOT_MET = {
    *(played for played in PLAYED if played[1] in ("nobody", "before", "after")),
    ("latency", "an idle one"),  # no byte was held
    ("slow-close", "one connection"),  # nobody closes
    ("limit-data", "one for each request"),  # each is far below the limit
}


AT_ONCE = 10


def played(place: Place, which: list[tuple[str, str]]) -> dict[tuple[str, str], FaultStep]:
    """What the proof of each of these faults says, played at once, each on a link of its own."""
    with ExitStack() as in_use:
        links = {one: place.make_link() for one in which}
        run = place.start(*links.values())
        talks = {one: Talk(link, **USES[one[1]]) for one, link in links.items() if one[1] != "nobody"}
        for (_, use), talk in talks.items():
            if use == "before":
                with talk:
                    pass
            elif use != "after":
                in_use.enter_context(talk)
        at_ns = run.now_ns() + AFTER_NS
        names = {one: " on ".join(one) for one in which}
        faults = [
            planned(link, one[0], at_ns=at_ns, for_s=LASTS_S, name=names[one], **KEYS[one[0]])
            for one, link in links.items()
        ]
        run.handle.send(Schedule(faults=faults))
        for one, talk in talks.items():
            if one[1] == "after":
                run.await_step(names[one], "active")
                in_use.enter_context(talk)
        found = {one: run.await_step(name, "proved", "not proved", "failed") for one, name in names.items()}
        run.handle.close(15)
    return found


@pytest.fixture(scope="module")
def steps(make_place: Callable[[], Place]) -> dict[tuple[str, str], FaultStep]:
    found: dict[tuple[str, str], FaultStep] = {}
    for start in range(0, len(PLAYED), AT_ONCE):
        with make_place() as place:
            found |= played(place, PLAYED[start : start + AT_ONCE])
    return found


@pytest.mark.parametrize(("kind", "use"), PLAYED)
def test_a_fault_acted_only_on_who_used_its_link(steps: dict[tuple[str, str], FaultStep], kind: str, use: str) -> None:
    step = steps[kind, use]
    assert step.step in ("proved", "not proved"), step.detail
    assert step.effective[TOUCHED] == (NOTHING if (kind, use) in NOT_MET else ACTED), step
    if use in ("nobody", "before", "after"):
        assert "no traffic of the run or the target" in str(step.effective[TOUCHED_WHY])
