"""Are faults that the run's own users play ordered, read back, proved by counts, and lifted whoever answers?"""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest
from beside import beside

from loadtests.inject.injector_client import InjectorHandle
from loadtests.inject.kinds import KINDS, on_users
from loadtests.inject.kinds.on_users import SeenOfUsers
from loadtests.model.injectwire import Begin, FromInjector, PlannedFault, Schedule, UserFaultOrder, UserFaultState

from .conftest import NS_PER_S, READY_S, Ear, Place, Run, begin_for

pytestmark = pytest.mark.group("USERS")

MS = 1_000_000


class Users:
    """A parent whose users do as `counts` says: what they tell when they are told to begin; afterwards nobody plays."""

    def __init__(self, counts: dict[str, int] | None, *, stops: bool = True) -> None:
        self.counts, self.stops = counts, stops
        self.orders: list[UserFaultOrder] = []

    def hear(self, message: FromInjector, say: Callable[[Any], object]) -> None:
        if isinstance(message, UserFaultOrder):
            self.orders.append(message)
            if self.counts is not None and (message.on or self.stops):
                counts = self.counts if message.on else self.counts | {"in_force": 0}
                say(UserFaultState(fault=message.fault, counts=counts))


class UsersRun(Run):
    """An injector whose parent has users."""

    def __init__(self, begin: Begin, folder: Path, users: Users) -> None:
        self.begin, self.users = begin, users
        self.log = folder / "injector.log"
        self.ear = Ear()
        self.handle = self.ear.handle = InjectorHandle(begin, self._hear, self.log)
        self.handle.start()

    def _hear(self, message: FromInjector) -> None:
        self.ear(message)
        self.users.hear(message, self.handle.send)

    def play(self, kind: str, *, for_s: float = 1.0, **asked: int | float | str) -> list[str]:
        at_ns = self.now_ns() + 900 * MS
        self.handle.send(
            Schedule(
                faults=[
                    PlannedFault(
                        name="f",
                        kind=kind,
                        link="consumers",
                        direction="both",
                        at_ns=at_ns,
                        until_ns=at_ns + int(for_s * NS_PER_S),
                        asked=dict(asked),
                    )
                ]
            )
        )
        self.await_step("f", "lifted", "not lifted", "failed")
        return self.ear.names("f")


class Here(Place):
    def with_users(self, users: Users, gateway_http: str = "") -> UsersRun:
        plain = begin_for(self.toxiproxy, self.tmp_path)
        run = UsersRun(msgspec.structs.replace(plain, gateway_http=gateway_http), self.tmp_path, users)
        self.held.callback(run.handle.close, 15)
        run.handle.wait_ready(READY_S)
        return run


PLACE = Here
STALLED = {"chosen": 3, "in_force": 3, "measured": 3, "with_unread": 3, "unread_bytes": 900, "read_bytes": 0}


@beside
@pytest.mark.e2e
def test_users_are_told_to_begin_and_to_stop_and_what_they_count_is_the_proof(with_users) -> None:
    users = Users(STALLED)
    run = with_users(users)
    assert run.play("stalled-consumers", share=0.5) == ["announced", "active", "proved", "lifted"]
    begin, stop = users.orders
    assert (begin.on, begin.kind, begin.where, begin.asked) == (True, "stalled-consumers", "consumers", {"share": 0.5})
    assert begin.until_ns - run.ear.step("f", "active").before_ns < 1.2 * NS_PER_S
    assert (stop.fault, stop.on) == ("f", False)
    assert run.ear.step("f", "proved").effective["unread_bytes"] == 900
    assert run.ear.step("f", "lifted").effective == {"clean": 1}
    assert "close" in (Path(run.begin.journal).read_text().splitlines()[-1])


@beside
@pytest.mark.e2e
def test_users_of_whom_one_reads_on_prove_nothing(with_users) -> None:
    run = with_users(Users(STALLED | {"read_bytes": 17}))
    assert run.play("stalled-consumers") == ["announced", "active", "not proved", "lifted"]
    assert "17 bytes were read" in run.ear.step("f", "not proved").detail


@beside
@pytest.mark.e2e
def test_too_few_who_play_is_not_in_force(with_users) -> None:
    run = with_users(Users(STALLED | {"chosen": 10}))
    assert run.play("stalled-consumers", for_s=3)[:3] == ["announced", "not in force", "not proved"]
    assert run.ear.step("f", "not in force").detail == "3 of 10 chosen users play it"


@beside
@pytest.mark.e2e
def test_a_run_whose_users_do_not_answer_says_so(with_users) -> None:
    run = with_users(Users(None))
    run.play("offline-consumers", for_s=3)
    run.await_step("f", "lifted", "not lifted")
    assert run.ear.names("f") == ["announced", "failed", "lifted"]
    assert "did not answer" in run.ear.step("f", "failed").detail


@beside
@pytest.mark.e2e
@pytest.mark.prove_all
def test_users_who_go_on_are_told_again_and_then_reported(with_users) -> None:
    users = Users(STALLED, stops=False)
    run = with_users(users)
    assert run.play("stalled-consumers")[-1] == "not lifted"
    assert "3 users still play it" in run.ear.step("f", "not lifted").detail
    assert [order.on for order in users.orders] == [True, False, False]


@beside
@pytest.mark.e2e
def test_healing_hears_the_users_while_it_waits_for_them(with_users) -> None:
    run = with_users(Users(STALLED))
    at_ns = run.now_ns() + 900 * MS
    fault = PlannedFault(
        name="f", kind="stalled-consumers", link="consumers", direction="both",
        at_ns=at_ns, until_ns=at_ns + 60 * NS_PER_S, asked={},
    )  # fmt: skip
    run.handle.send(Schedule(faults=[fault]))
    run.await_step("f", "proved")
    healed = run.handle.heal_all("finish", 10)
    assert healed is not None
    assert healed.left == []
    assert run.ear.step("f", "lifted").by == "finish"


@beside
@pytest.mark.e2e
def test_an_injector_whose_parent_is_gone_waits_for_no_users(with_users) -> None:
    run = with_users(Users(STALLED, stops=False))
    at_ns = run.now_ns() + 900 * MS
    fault = PlannedFault(
        name="f", kind="stalled-consumers", link="consumers", direction="both",
        at_ns=at_ns, until_ns=at_ns + 60 * NS_PER_S, asked={},
    )  # fmt: skip
    run.handle.send(Schedule(faults=[fault]))
    run.await_step("f", "proved")
    assert run.handle.close(5) is not None


@beside
@pytest.mark.e2e
def test_the_gateway_is_asked_too(with_users) -> None:
    answers = [{"clients": {"plain": 10}}]

    class Stats(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = json.dumps(answers[0]).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stats)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        run = with_users(Users({"chosen": 4, "in_force": 4}), f"127.0.0.1:{server.server_address[1]}")
        assert run.play("offline-consumers") == ["announced", "active", "not proved", "lifted"]
        assert "counts 0 clients less" in run.ear.step("f", "not proved").detail
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def seen(asked: dict[str, Any] | None = None, calm: Any = None, gateway: Any = None, **counts: int) -> SeenOfUsers:
    return SeenOfUsers(counts=counts, calm=calm, gateway=gateway, asked=asked or {})


SLOW = {"chosen": 2, "measured": 2, "unread_bytes": 9, "rates": 2000, "for_ms": 1000}
BAD = {"token": "wrong"}
PROOFS = {
    "slow": (on_users.slow, seen({"read_bytes_per_s": 1000}, **SLOW), ""),
    "slow but read fast": (on_users.slow, seen({"read_bytes_per_s": 600}, **SLOW), "each read 1000"),
    "slow with nothing waiting": (
        on_users.slow,
        seen({"read_bytes_per_s": 1000}, **SLOW | {"unread_bytes": 0}),
        "nothing waited",
    ),
    "slow too short": (on_users.slow, seen({"read_bytes_per_s": 1000}, **SLOW | {"for_ms": 900}), "before"),
    "slow unmeasured": (on_users.slow, seen({"read_bytes_per_s": 1000}, chosen=2), "nobody"),
    "stalled": (on_users.stalled, seen(**STALLED), ""),
    "stalled and sent nothing": (on_users.stalled, seen(**STALLED | {"with_unread": 2}), "wait unread with 2"),
    "stalled unmeasured": (on_users.stalled, seen(chosen=1), "nobody"),
    "away": (on_users.offline, seen(None, {"clients.a": 9.0}, {"clients.a": 5.0}, chosen=4, in_force=4), ""),
    "away, none says": (on_users.offline, seen(chosen=4, in_force=4), ""),
    "away but one": (on_users.offline, seen(chosen=4, in_force=3), "3 of 4"),
    "away, gateway keeps one": (
        on_users.offline,
        seen(None, {"clients.a": 9.0}, {"clients.a": 6.0}, chosen=4, in_force=4),
        "counts 3 clients less",
    ),
    "vanished": (lambda s: on_users.closings(s, back=False), seen(chosen=2, closed_once=2), ""),
    "one did not vanish": (
        lambda s: on_users.closings(s, back=False),
        seen(chosen=2, closed_once=1, closed=5),
        "1 of 2",
    ),
    "storm": (
        lambda s: on_users.closings(s, back=True),
        seen(None, {"connects.a": 1.0}, {"connects.a": 3.0}, chosen=2, closed_once=2, back_once=2),
        "",
    ),
    "storm without return": (
        lambda s: on_users.closings(s, back=True),
        seen(chosen=2, closed_once=2, back_once=1),
        "came back",
    ),
    "storm that the gateway did not see": (
        lambda s: on_users.closings(s, back=True),
        seen(None, {"connects.a": 1.0}, {"connects.a": 2.0}, chosen=2, closed_once=2, back_once=2),
        "counted 1 new",
    ),
    "refused": (on_users.bad_token, seen(BAD, {"refused": 0.0}, {"refused.wrong": 2.0}, chosen=2, refused_once=2), ""),
    "let in": (on_users.bad_token, seen(BAD, chosen=2, refused_once=2, accepted=1), "were accepted"),
    "one not refused": (on_users.bad_token, seen(BAD, chosen=2, refused_once=1), "1 of 2"),
    "gateway refused for another reason": (
        on_users.bad_token,
        seen(BAD, {"refused.missing": 0.0}, {"refused.missing": 2.0, "refused.wrong": 0.0}, chosen=2, refused_once=2),
        "counted 0 refusals",
    ),
    "bad input": (on_users.bad_input, seen(None, {"bad": 0.0}, {"bad.not_json": 3.0}, sent=5, acknowledged=5), ""),
    "not acknowledged": (on_users.bad_input, seen(None, sent=5), "none of 5"),
    "not rejected": (on_users.bad_input, seen(None, {"bad": 0.0}, {"bad": 0.0}, acknowledged=5), "rejected none"),
}


@pytest.mark.parametrize("case", sorted(PROOFS))
def test_what_is_a_proof_and_what_is_none(case: str) -> None:
    judge, what, expected = PROOFS[case]
    reason, effective = judge(what)
    assert reason == "" if expected == "" else expected in reason
    assert effective


def test_a_key_that_is_missing_is_told() -> None:
    fault = PlannedFault(name="f", kind="bad-token", link="", direction="both", at_ns=0, until_ns=1, asked={})
    assert KINDS["bad-token"].problems(fault) == ["token is missing"]
