"""Is a process of the target that ends by itself told once, with its time, and one that was told to end not at all?"""

from __future__ import annotations

import subprocess
import sys

import msgspec

from loadtests.harness.target import ServiceWatch, ends_of_processes, ends_of_stack
from loadtests.model.errors import HarnessError
from loadtests.model.records import ServiceEnded
from loadtests.model.stackwire import Service, ServiceState, Status


def service(state: ServiceState, error: str = "") -> Service:
    return Service(address="127.0.0.1:1", pid=1, version="", state=state, origin="ours", error=error)


def status(**services: Service) -> Status:
    return Status(services=services, links={}, folder="", supervisor_pid=1)


def test_only_a_service_that_nobody_told_to_end_has_ended() -> None:
    now = status(
        gateway=service("dead", "gateway ended by SIGKILL. Its last words:\nbye"),
        redis=service("stopped"),
        postgres=service("paused"),
        toxiproxy=service("ready"),
        producer=service("dead", "producer ended with exit status 1. It said nothing."),
    )
    assert ends_of_stack(lambda: now)() == {
        "gateway": "ended by SIGKILL",
        "producer": "ended with exit status 1",
    }


def test_one_that_was_started_again_before_anybody_looked_had_ended_all_the_same() -> None:
    alive = service("ready")
    killed = msgspec.structs.replace(alive, ends=1, last_end="toxiproxy ended by SIGKILL. It said nothing.")
    now = [status(toxiproxy=alive)]
    told: list[ServiceEnded] = []
    vigil = ServiceWatch(ends_of_stack(lambda: now[-1]), iter(range(99)).__next__, told.append)
    for state in (alive, killed, killed, alive_again := msgspec.structs.replace(killed, ends=2), alive_again):
        now.append(status(toxiproxy=state))
        vigil.look()
    assert [(t.service, t.what) for t in told] == [("toxiproxy", "ended by SIGKILL")] * 2


def test_ends_of_before_the_run_are_none_of_it() -> None:
    ended = msgspec.structs.replace(service("ready"), ends=3, last_end="redis ended by SIGKILL. It said nothing.")
    ends = ends_of_stack(lambda: status(redis=ended))
    assert ends() == ends() == {}


def test_every_end_is_told_once_and_again_after_a_start() -> None:
    told: list[ServiceEnded] = []
    now = {"gateway": "ended by SIGKILL"}
    vigil = ServiceWatch(lambda: dict(now), iter(range(10)).__next__, told.append)
    vigil.look()
    vigil.look()
    assert told == [ServiceEnded(service="gateway", at_ns=0, what="ended by SIGKILL")]
    now.clear()
    vigil.look()
    now["gateway"] = "ended with exit status 1"
    vigil.look()
    assert [(t.at_ns, t.what) for t in told] == [(0, "ended by SIGKILL"), (1, "ended with exit status 1")]


def test_who_does_not_answer_ends_nothing() -> None:
    def ends() -> dict[str, str]:
        raise HarnessError("no answer")

    told: list[ServiceEnded] = []
    ServiceWatch(ends, lambda: 0, told.append).look()
    assert told == []


def test_the_last_look_is_at_the_close() -> None:
    told: list[ServiceEnded] = []
    now: dict[str, str] = {}
    vigil = ServiceWatch(lambda: dict(now), lambda: 7, told.append)
    vigil.start()
    now["redis"] = "ended by SIGKILL"
    vigil.close()
    vigil.close()
    assert [t.service for t in told] == ["redis"]


def test_a_named_process_that_is_not_there_any_more_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        ends = ends_of_processes({"mine": child.pid, "never": 2**31 - 2})
        assert ends() == {}
        child.kill()
        child.wait()
        assert ends() == {"mine": f"ended (process {child.pid})"}


def test_a_stack_that_goes_all_at_once_has_vanished_since_it_was_last_whole() -> None:
    """Its supervisor is gone, or was asked to bring it down, or all services ended: none of it is the target's."""
    ready, ended = service("ready"), service("dead", "ended by SIGKILL.")
    for last, how in (
        (HarnessError("no answer"), "its supervisor is gone"),
        (msgspec.structs.replace(status(gateway=ready, redis=ready), ending=True), "somebody brought it down"),
        (status(gateway=ended, redis=service("stopped")), "all its services ended at once"),
    ):
        looks: list[Status | Exception] = [
            status(gateway=ready, redis=ready), status(gateway=service("stopped"), redis=ready), last, last,
        ]  # fmt: skip
        told: list[ServiceEnded] = []
        vanished: list[tuple[int, str]] = []

        def ask(looks: list[Status | Exception] = looks) -> Status:
            found = looks.pop(0)
            if isinstance(found, Exception):
                raise found
            return found

        def on_vanish(since_ns: int, text: str, to: list[tuple[int, str]] = vanished) -> None:
            to.append((since_ns, text))

        times = iter(range(100, 200))
        vigil = ServiceWatch(ends_of_stack(ask, lambda: False), times.__next__, told.append, on_vanish)
        for _ in range(4):
            vigil.look()
        assert told == []
        assert vanished == [(100, how)]


def test_a_supervisor_that_is_merely_busy_has_not_vanished() -> None:
    def ask() -> Status:
        raise HarnessError("no answer")

    vanished: list[str] = []
    vigil = ServiceWatch(
        ends_of_stack(ask, lambda: True), lambda: 0, lambda _: None, lambda _, how: vanished.append(how)
    )
    vigil.look()
    assert vanished == []
