"""Is the offset to the master's clock within its stated error, whatever the two ways of a round trip take?"""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.capture.clock import best, measure
from loadtests.model.errors import HarnessError

ways = st.tuples(st.integers(0, 50_000_000), st.integers(0, 50_000_000))


@given(offset=st.integers(-(10**15), 10**15), trips=st.lists(ways, min_size=1, max_size=40))
def test_the_true_offset_lies_within_the_error(offset: int, trips: list[tuple[int, int]]) -> None:
    rounds, now = [], 10**12
    for there, back in trips:
        rounds.append((now, now + there + offset, now + there + back))
        now += there + back + 1000
    found = best(rounds)
    assert abs(found.offset_ns - offset) <= found.error_ns + 1
    assert found.error_ns <= min(there + back for there, back in trips) // 2 + 1


_SERVER = (
    "import gevent.monkey; gevent.monkey.patch_all()\n"
    "import sys, gevent\n"
    "from loadtests.capture.clock import ClockServer\n"
    "server = ClockServer('127.0.0.1')\n"
    "print(server.port, flush=True)\n"
    "gevent.get_hub().threadpool.spawn(sys.stdin.read).get()\n"
)


@pytest.fixture
def port() -> object:
    server = subprocess.Popen([sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    yield int(server.stdout.readline())
    server.communicate()


def test_one_clock_is_found_to_be_one_clock(port: int) -> None:
    found = measure(("127.0.0.1", port))
    assert abs(found.offset_ns) <= found.error_ns


def test_a_clock_that_does_not_answer_is_said() -> None:
    with pytest.raises(HarnessError, match="does not answer"):
        measure(("127.0.0.1", 9), timeout_s=0.5)


def test_another_time_namespace_is_another_clock(port: int) -> None:
    """A real second clock: the kernel's time namespaces, where this user may make one."""
    unshare = shutil.which("unshare")
    command = [unshare or "unshare", "--time", "--monotonic", "5000", "--fork"]
    if unshare is None or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a time namespace")
    code = (
        "from loadtests.capture.clock import clock_identity\n"
        "from loadtests.capture.clock import measure\n"
        f"found = measure(('127.0.0.1', {port}))\n"
        "print(clock_identity(), found.offset_ns, found.error_ns)\n"
    )
    done = subprocess.run([*command, sys.executable, "-c", code], capture_output=True, text=True, check=True)
    identity, offset, error = done.stdout.split()
    from loadtests.capture.clock import clock_identity

    assert identity != clock_identity()
    assert abs(int(offset) + 5000 * 10**9) <= int(error)
