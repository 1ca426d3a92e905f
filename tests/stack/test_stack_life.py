"""Does a stack begin and end cleanly, in any folder, also when something goes wrong at the worst moment?"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from beside import beside
from stack_peers import family, redis_says, runs, until

from loadtests.model.errors import BadInput
from loadtests.model.stackwire import Ask
from loadtests.stack.errors import PortInUse, StackError
from loadtests.stack.folder import StackFolder, package_root
from loadtests.stack.local import LocalStack

pytestmark = pytest.mark.e2e


def left_of(pids: list[int]) -> list[int]:
    return [pid for pid in pids if runs(pid)]


def broken(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit({text!r})\n", encoding="utf-8")
    program.chmod(0o755)


@beside
@pytest.mark.prove_all
def test_a_long_path_with_a_space_serves_as_well(tmp_path: Path) -> None:
    folder = tmp_path / "two words" / ("long" * 25)
    with LocalStack.up(folder, gateway_env={"GATEWAY_QUEUE": "77"}) as stack:
        status = stack.status()
        pids = [pid for each in status.services.values() for pid in family(each.pid or 0)]
        gateway = psutil.Process(status.services["gateway"].pid or 0)
        assert gateway.environ()["GATEWAY_QUEUE"] == "77"
        assert redis_says(status.links["publisher-redis"].listen) == b"+PONG\r\n"
        socket_path = StackFolder(root=folder).socket()
        assert len(str(socket_path)) <= 100
        # another process, which knows the folder alone
        asked = subprocess.run(
            [sys.executable, "-c", "import sys; from pathlib import Path\n"
             "from loadtests.stack.local import LocalStack\n"
             "print(LocalStack.attach(Path(sys.argv[1])).status().supervisor_pid)", str(folder)],
            capture_output=True, text=True, check=True, timeout=30, cwd=package_root(),
        )  # fmt: skip
        assert asked.stdout.strip() == str(status.supervisor_pid)
        private = StackFolder(root=folder).read_state().private
    assert left_of([*pids, status.supervisor_pid]) == []
    assert not socket_path.exists()
    assert not any(Path(each).exists() for each in private)
    assert sorted(each.name for each in folder.iterdir()) == ["lock", "logs"]
    assert LocalStack.attach(folder) is None
    stack.down()  # safe to repeat


@pytest.mark.prove_all
@beside
def test_sigkill_of_the_supervisor_leaves_no_server_not_even_a_paused_one(tmp_path: Path) -> None:
    stack = LocalStack.up(tmp_path)
    status = stack.status()
    pids = [pid for each in status.services.values() for pid in family(each.pid or 0)]
    private = StackFolder(root=tmp_path).read_state().private
    assert stack.ask(Ask(do="pause", service="postgres")).ok
    assert len(pids) > 8  # five servers and postgres's own processes
    os.kill(status.supervisor_pid, signal.SIGKILL)
    until("every server is gone", lambda: not left_of(pids))
    until("the folder is free", lambda: LocalStack.attach(tmp_path) is None)
    assert not any(Path(each).exists() for each in private)
    stack.down()  # says nothing: there is nothing left


@beside
def test_sigkill_of_supervisor_and_keeper_at_once_leaves_no_server_and_the_next_up_succeeds(tmp_path: Path) -> None:
    stack = LocalStack.up(tmp_path)
    status = stack.status()
    pids = [pid for each in status.services.values() for pid in family(each.pid or 0)]
    private = StackFolder(root=tmp_path).read_state().private
    keeper = psutil.Process(status.supervisor_pid).ppid()
    os.kill(keeper, signal.SIGKILL)
    os.kill(status.supervisor_pid, signal.SIGKILL)
    until("every server is gone", lambda: not left_of(pids))
    with LocalStack.up(tmp_path) as again:
        assert again.status().services["gateway"].state == "ready"
        assert not any(Path(each).exists() for each in private), "the dead one's things are cleaned"


@beside
@pytest.mark.prove_all
def test_it_survives_the_program_that_started_it_also_under_gevent(tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        from gevent import monkey
        monkey.patch_all()
        import sys
        from pathlib import Path
        from loadtests.stack.local import LocalStack
        print(LocalStack.up(Path(sys.argv[1])).status().supervisor_pid)
        """
    )
    started = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True, text=True, check=True, timeout=60, cwd=package_root(),
    )  # fmt: skip
    stack = LocalStack.attach(tmp_path)
    assert stack is not None
    assert started.stdout.strip() == str(stack.status().supervisor_pid)
    os.kill(stack.status().supervisor_pid, signal.SIGTERM)  # ends as in order as `down`
    until("it has ended", lambda: LocalStack.attach(tmp_path) is None)


@beside
def test_two_that_begin_one_at_the_same_instant_get_the_same(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from loadtests.stack.local import LocalStack\n"
        "print(LocalStack.up(Path(sys.argv[1])).status().supervisor_pid)"
    )
    callers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=package_root()
        )
        for _ in range(2)
    ]
    said = {caller.communicate(timeout=60)[0].strip() for caller in callers}
    stack = LocalStack.attach(tmp_path)
    assert stack is not None
    assert said == {str(stack.status().supervisor_pid)}
    stack.down()


def test_a_folder_that_cannot_be_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(BadInput, match="cannot live in"):
        LocalStack.up(tmp_path / "file" / "stack")


@beside
def test_a_chosen_port_that_is_taken_is_refused_with_its_number(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=f"Port {port} for gateway is already in use"):
            LocalStack.up(tmp_path, ports={"gateway": port})
    assert LocalStack.attach(tmp_path) is None


@beside
def test_a_chosen_free_port_is_used(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
    with LocalStack.up(tmp_path, ports={"publisher-redis": port}) as stack:
        assert stack.status().links["publisher-redis"].listen == f"127.0.0.1:{port}"
        assert redis_says(f"127.0.0.1:{port}") == b"+PONG\r\n"


@pytest.mark.parametrize("name", ["redis-server", "toxiproxy-server"])
def test_a_server_that_dies_at_start_is_an_error_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    broken(tmp_path / "bin", name, "no, I will not")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(StackError, match=r"(?s)ended with exit status 1.*no, I will not"):
        LocalStack.up(tmp_path / "stack")
    assert LocalStack.attach(tmp_path / "stack") is None
    assert not (tmp_path / "stack" / "data").exists()


@pytest.mark.prove_all
def test_fetched_servers_serve_where_path_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TICKSTORM_PREFER_FETCHED", "1")
    with LocalStack.up(tmp_path, progress=print) as stack:
        services = stack.status().services
        assert [services[name].origin for name in ("redis", "postgres", "toxiproxy")] == ["wheel", "wheel", "built"]
        assert services["postgres"].version.startswith("18.")
        assert services["toxiproxy"].version == "2.12.0"
        pids = [pid for each in services.values() for pid in family(each.pid or 0)]
        if os.geteuid() == 0:
            assert psutil.Process(services["postgres"].pid or 0).username() == "nobody"
    assert left_of(pids) == []


@beside
def test_down_does_not_wait_for_a_start_that_cannot_succeed(tmp_path: Path) -> None:
    stack = LocalStack.up(tmp_path)
    assert stack.ask(Ask(do="stop", service="redis")).ok
    assert stack.ask(Ask(do="stop", service="gateway")).ok
    program = (
        "import sys; from pathlib import Path; from loadtests.stack.local import LocalStack\n"
        "from loadtests.model.stackwire import Ask\n"
        "print(LocalStack.attach(Path(sys.argv[1])).ask(Ask(do='start', service='gateway', wait_s=300)).error)"
    )
    asker = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=package_root()
    )
    until("it starts", lambda: stack.status().services["gateway"].state == "starting")
    began = time.monotonic()
    stack.down()
    assert time.monotonic() - began < 60  # far from 300: it did not wait
    said, _ = asker.communicate(timeout=30)
    assert "gateway" in said
