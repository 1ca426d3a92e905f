"""Is everything healed when the parent, the injector, or both are killed in the middle of a fault?"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from beside import beside

from loadtests.inject.errors import InjectorGone
from loadtests.inject.injector_client import InjectorHandle
from loadtests.inject.journal import Journal
from loadtests.inject.startup_sweep import heal
from loadtests.inject.toxics import Toxic, ToxiproxyServer
from loadtests.model.injectwire import Begin, Healed, Ready, Schedule
from loadtests.model.records import Trouble

from .conftest import NS_PER_S, Ear, Run, TestLink, begin_for, eventually, free_port, planned

pytestmark = [pytest.mark.e2e, pytest.mark.group("LIFE")]

PARENT = """
import sys, threading
from pathlib import Path
import msgspec
from loadtests.inject.injector_client import InjectorHandle
from loadtests.model.injectwire import Begin, Schedule
begin = msgspec.json.decode(sys.argv[1], type=Begin)
handle = InjectorHandle(begin, lambda message: None, Path(sys.argv[2]))
handle.start()
handle.wait_ready(15)
handle.send(msgspec.json.decode(sys.argv[3], type=Schedule))
print(handle.pid, flush=True)
threading.Event().wait()
"""


def parent_with_fault(begin: Begin, link: TestLink, folder: Path, kind: str, **asked: object) -> tuple[object, int]:
    """A process that has an injector, which has a fault in force; and the injector's process id."""
    fault = planned(link, kind, at_ns=time.monotonic_ns() - begin.origin_ns + 2 * NS_PER_S, for_s=600, **asked)
    argv = [
        sys.executable,
        "-c",
        PARENT,
        msgspec.json.encode(begin).decode(),
        str(folder / "log"),
        msgspec.json.encode(Schedule(faults=[fault])).decode(),
    ]
    parent = subprocess.Popen(argv, stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    eventually(lambda: not link.is_clean)
    return parent, pid


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@beside
@pytest.mark.parametrize(("kind", "asked"), [("down", {}), ("latency", {"latency_ms": 50}), ("black-hole", {})])
def test_a_killed_parent_leaves_nothing_behind(toxiproxy, link: TestLink, tmp_path: Path, kind: str, asked) -> None:
    parent, pid = parent_with_fault(begin_for(toxiproxy, tmp_path, link), link, tmp_path, kind, **asked)
    parent.kill()
    parent.wait()
    eventually(lambda: link.is_clean, 5)
    eventually(lambda: is_gone(pid), 10)
    assert Journal(tmp_path / "faults.journal").pending() == []


@beside
def test_a_copy_of_the_pipe_that_outlives_the_parent_does_not_keep_a_fault(toxiproxy, link, tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    script = """
import subprocess, sys
injector = subprocess.Popen([sys.executable, "-m", "loadtests.inject"], stdin=int(sys.argv[1]), stdout=2)
print(injector.pid, flush=True)
injector.wait()
"""
    argv = [sys.executable, "-c", script, str(ours)]
    parent = subprocess.Popen(argv, pass_fds=[ours], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    pid = int(parent.stdout.readline())
    begin = begin_for(toxiproxy, tmp_path, link)
    fault = planned(link, "down", at_ns=time.monotonic_ns() - begin.origin_ns + NS_PER_S, for_s=600)
    for message in (begin, Schedule(faults=[fault])):
        os.write(theirs, msgspec.json.encode(message) + b"\n")
    eventually(lambda: not link.is_clean)
    parent.kill()
    parent.wait()
    eventually(lambda: link.is_clean, 5)
    eventually(lambda: is_gone(pid), 10)
    os.close(theirs)
    os.close(ours)


@beside
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_heals_first(start: Callable[..., Run], link: TestLink, number: signal.Signals) -> None:
    run = start(link)
    run.handle.send(Schedule(faults=[planned(link, "down", at_ns=run.now_ns() + NS_PER_S, for_s=600)]))
    run.await_step("fault", "active")
    os.kill(run.handle.pid, number)
    eventually(lambda: link.is_clean, 5)
    run.await_step("fault", "lifted")
    assert run.ear.step("fault", "lifted").by == "signal"


@beside
def test_a_killed_injector_is_started_again_sweeps_and_goes_on(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    now_ns = run.now_ns()
    cut = planned(link, "down", name="cut", at_ns=now_ns + NS_PER_S, for_s=600)
    later = planned(link, "latency", name="later", at_ns=now_ns + 5 * NS_PER_S, for_s=1, latency_ms=40)
    run.handle.send(Schedule(faults=[cut, later]))
    run.await_step("cut", "active")
    os.kill(run.handle.pid, signal.SIGKILL)
    lifted = run.await_step("cut", "lifted")
    assert lifted.by == "sweep"
    assert link.is_clean
    eventually(lambda: sum(isinstance(message, Ready) for message in run.ear.heard) == 2)
    eventually(lambda: [record for record in run.ear.records if isinstance(record, Trouble)])
    (trouble,) = [record for record in run.ear.records if isinstance(record, Trouble)]
    assert trouble.process == "injector"
    assert cut.at_ns < trouble.from_ns <= trouble.to_ns <= run.now_ns()
    run.await_step("later", "lifted")
    assert run.ear.names("later") == ["announced", "active", "proved", "lifted"]


@beside
def test_an_injector_that_dies_twice_is_replaced_by_its_parent(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    now_ns = run.now_ns()
    names = ("first", "second")
    faults = [
        planned(link, "down", name=name, at_ns=now_ns + (1 + 5 * i) * NS_PER_S, for_s=600)
        for i, name in enumerate(names)
    ]
    run.handle.send(Schedule(faults=faults))
    for name in names:
        run.await_step(name, "active")
        os.kill(run.handle.pid, signal.SIGKILL)
        eventually(lambda: link.is_clean, 5)
    eventually(lambda: not run.handle.alive)
    assert [record.to_ns for record in run.ear.records if isinstance(record, Trouble)][-1] == -1


def troubles(run: Run) -> list[Trouble]:
    return [record for record in run.ear.records if isinstance(record, Trouble)]


@beside
@pytest.mark.prove_all
def test_a_frozen_injector_is_killed_named_and_replaced(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    now_ns = run.now_ns()
    cut = planned(link, "down", name="cut", at_ns=now_ns + NS_PER_S, for_s=2)
    later = planned(link, "latency", name="later", at_ns=now_ns + 15 * NS_PER_S, for_s=1, latency_ms=40)
    run.handle.send(Schedule(faults=[cut, later]))
    run.await_step("cut", "active")
    frozen = run.handle.pid
    os.kill(frozen, signal.SIGSTOP)
    lifted = run.await_step("cut", "lifted", timeout_s=30)
    assert (lifted.by, link.is_clean) == ("sweep", True)
    eventually(lambda: is_gone(frozen))
    assert any("said nothing for 5 s" in trouble.what for trouble in troubles(run))
    assert all(cut.at_ns < trouble.from_ns <= trouble.to_ns for trouble in troubles(run))
    run.await_step("later", "lifted", timeout_s=30)


@beside
def test_who_asks_a_frozen_injector_to_heal_is_answered_by_the_next_one(start, link: TestLink) -> None:
    run = start(link)
    run.handle.send(Schedule(faults=[planned(link, "down", at_ns=run.now_ns() + NS_PER_S, for_s=600)]))
    run.await_step("fault", "active")
    os.kill(run.handle.pid, signal.SIGSTOP)
    assert run.handle.heal_all("finish", 40) == Healed(left=[])
    assert link.is_clean


@beside
def test_one_that_is_frozen_again_is_replaced_by_its_parent(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    os.kill(run.handle.pid, signal.SIGKILL)
    eventually(lambda: sum(isinstance(message, Ready) for message in run.ear.heard) == 2)
    run.handle.send(Schedule(faults=[planned(link, "down", at_ns=run.now_ns() + NS_PER_S, for_s=600)]))
    run.await_step("fault", "active")
    os.kill(run.handle.pid, signal.SIGSTOP)
    assert run.handle.heal_all("finish", 40) == Healed(left=[])
    assert link.is_clean
    eventually(lambda: not run.handle.alive)


@beside
def test_one_that_is_frozen_when_it_shall_end_is_killed_and_what_it_left_lifted(start, link: TestLink) -> None:
    run = start(link)
    run.handle.send(Schedule(faults=[planned(link, "down", at_ns=run.now_ns() + NS_PER_S, for_s=600)]))
    run.await_step("fault", "active")
    os.kill(run.handle.pid, signal.SIGSTOP)
    assert run.handle.close(1) == -signal.SIGKILL
    assert link.is_clean
    assert any("1 s after it was told to" in trouble.what for trouble in troubles(run))
    assert Journal(Path(run.begin.journal)).pending() == []


@beside
def test_an_injector_with_nothing_to_say_says_that_it_runs(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    told, heard = len(run.ear.heard), run.handle._heard
    eventually(lambda: run.handle._heard >= heard + 2)
    assert len(run.ear.heard) == told


@beside
def test_the_journal_heals_when_both_were_killed(toxiproxy, link: TestLink, tmp_path: Path) -> None:
    parent, pid = parent_with_fault(begin_for(toxiproxy, tmp_path, link), link, tmp_path, "down")
    os.kill(pid, signal.SIGKILL)
    parent.kill()  # it may have started another one, which then sees the closed pipe
    parent.wait()
    done = heal(toxiproxy, [tmp_path / "faults.journal"])
    assert link.is_clean
    assert Journal(tmp_path / "faults.journal").pending() == []
    assert all("not lifted" not in text for text in done)


@beside
def test_the_command_heals_a_proxy_that_only_the_journal_knows(toxiproxy, redis_port: int, tmp_path: Path) -> None:
    server = ToxiproxyServer(toxiproxy)
    server.create("of-the-user", listen="127.0.0.1:0", upstream=f"127.0.0.1:{redis_port}")
    begin = begin_for(toxiproxy, tmp_path)
    begin = msgspec.structs.replace(begin, proxies={"link-x": "of-the-user"}, upstream_kind={"link-x": "redis"})

    class Foreign:
        name = "link-x"

        @property
        def is_clean(self) -> bool:
            return server.proxy("of-the-user").enabled

    parent, pid = parent_with_fault(begin, Foreign(), tmp_path, "down")
    os.kill(parent.pid, signal.SIGSTOP)  # so that it starts no second injector
    os.kill(pid, signal.SIGKILL)
    argv = [sys.executable, "-m", "loadtests.inject", "heal", "--toxiproxy", toxiproxy, "--journal"]
    healed = subprocess.run([*argv, str(tmp_path / "faults.journal")], capture_output=True, text=True, check=False)
    parent.kill()
    parent.wait()
    assert healed.returncode == 0, healed.stderr
    assert 'Lifted fault "fault" (down on link-x)' in healed.stdout
    assert server.proxy("of-the-user").enabled
    assert not healed.stderr
    again = subprocess.run([*argv, str(tmp_path / "faults.journal")], capture_output=True, text=True, check=False)
    assert again.stdout == "Nothing was left to lift.\n"
    server.delete("of-the-user")


@beside
def test_no_toxiproxy_is_said_clearly(tmp_path: Path) -> None:
    port = free_port()
    handle = InjectorHandle(begin_for(f"127.0.0.1:{port}", tmp_path), Ear(), tmp_path / "log")
    handle.start()
    with pytest.raises(InjectorGone, match=rf"nobody listens at 127\.0\.0\.1:{port}, where Toxiproxy should"):
        handle.wait_ready(15)
    assert not handle.alive
    assert handle.close(5) == 3


@beside
def test_the_sweep_at_the_start_is_told(start: Callable[..., Run], link: TestLink) -> None:

    link.server.add(
        link.proxy, Toxic(name="tickstorm-x-downstream", type="latency", stream="downstream", attributes={})
    )
    link.server.add(link.proxy, Toxic(name="of-the-user", type="latency", stream="downstream", attributes={}))
    link.server.set_enabled(link.proxy, False)
    run = start(link, ready=False)
    swept = run.handle.wait_ready(15).swept
    assert any("tickstorm-x-downstream" in text for text in swept)
    assert any("Enabled" in text for text in swept)
    state = link.server.proxy(link.proxy)
    assert state.enabled
    assert [toxic.name for toxic in state.toxics] == ["of-the-user"]


@beside
def test_it_works_in_a_process_that_gevent_has_patched(toxiproxy, link: TestLink, tmp_path: Path) -> None:
    script = """
from gevent import monkey; monkey.patch_all()
import sys, time, gevent
from pathlib import Path
import msgspec
from loadtests.inject.injector_client import InjectorHandle
from loadtests.model.injectwire import Announce, Begin, Emitted, Go, PlannedFault, Schedule
begin = msgspec.json.decode(sys.argv[1], type=Begin)
steps, beats = [], 0
def hear(message):
    if isinstance(message, Announce):
        handle.send(Go(fault=message.fault))
    if isinstance(message, Emitted):
        steps.append(message.record.step)
handle = InjectorHandle(begin, hear, Path(sys.argv[2]))
def beat():
    global beats
    while True:
        gevent.sleep(0.01)
        beats += 1
gevent.spawn(beat)
handle.start()
handle.wait_ready(15)
before = beats
fault = msgspec.json.decode(sys.argv[3], type=PlannedFault)
at_ns = time.monotonic_ns() - begin.origin_ns + 2_500_000_000
handle.send(Schedule(faults=[msgspec.structs.replace(fault, at_ns=at_ns, until_ns=at_ns + 3_000_000_000)]))
deadline = time.monotonic() + 30
while "lifted" not in steps and time.monotonic() < deadline:
    gevent.sleep(0.05)
assert beats > before + 20, "the hub stood still"
assert handle.heal_all("finish", 10).left == []
status = handle.close(10)
print(status, *steps)
"""
    begin = begin_for(toxiproxy, tmp_path, link)
    fault = msgspec.json.encode(planned(link, "latency", at_ns=0, latency_ms=90)).decode()
    argv = [sys.executable, "-c", script, msgspec.json.encode(begin).decode(), str(tmp_path / "log"), fault]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "0 announced active proved lifted\n", done.stderr


@beside
def test_what_cannot_be_read_is_trouble_and_no_end(start: Callable[..., Run], link: TestLink) -> None:
    run = start(link)
    run.handle._process.stdin.write(b'{"type": "nonsense"}\n')
    run.handle._process.stdin.flush()
    eventually(lambda: [record for record in run.ear.records if isinstance(record, Trouble)])
    assert isinstance(run.handle.heal_all("finish", 10), Healed)


@beside
def test_a_parent_that_does_not_read_does_not_stretch_a_fault(toxiproxy, link: TestLink, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtests.inject"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )
    begin = begin_for(toxiproxy, tmp_path, link)
    now_ns = time.monotonic_ns() - begin.origin_ns
    # Every refused fault is a message of some hundred bytes: together far more than a pipe holds.
    noise = [planned(link, "no-such-kind", name=f"noise-{i}", at_ns=now_ns) for i in range(1000)]
    fault = planned(link, "down", at_ns=now_ns + 6 * NS_PER_S, for_s=1)  # a busy machine takes seconds to begin
    for message in (begin, Schedule(faults=[*noise, fault])):
        process.stdin.write(msgspec.json.encode(message) + b"\n")
    eventually(lambda: not link.is_clean, 30)
    eventually(lambda: link.is_clean, 10)
    process.stdin.close()
    process.wait(10)
    process.stdout.close()
