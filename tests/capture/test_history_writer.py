"""Does the history reach the disk from a thread of its own, and is a disk that refuses an error with a name?"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from loadtests.capture.history_frames import HistoryWriter
from loadtests.model.errors import HarnessError


def wait(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
    return True


def test_bytes_of_each_process_go_to_its_file_in_order(tmp_path: Path) -> None:
    seen: list[tuple[str, bytes]] = []
    done: list[OSError | None] = []
    writer = HistoryWriter(tmp_path / "history", lambda process, data: seen.append((process, data)))
    jobs = [("main", b"a"), ("worker-0", b"b"), ("main", b"c")]
    for process, data in jobs:
        writer.write(process, data, done.append)
    writer.close(wait)
    assert (tmp_path / "history" / "main.tsh").read_bytes() == b"ac"
    assert (tmp_path / "history" / "worker-0.tsh").read_bytes() == b"b"
    assert seen == jobs
    assert done == [None] * 3


def test_a_disk_that_refuses_is_named_and_the_rest_still_written(tmp_path: Path) -> None:
    seen: list[str] = []
    done: list[OSError | None] = []
    writer = HistoryWriter(tmp_path / "history", lambda process, _: seen.append(process))
    (tmp_path / "history" / "worker-0.tsh").mkdir()  # cannot be opened as a file, also not by root
    writer.write("worker-0", b"b", done.append)
    writer.write("main", b"a", done.append)
    with pytest.raises(HarnessError, match="could not be written"):
        writer.close(wait)
    assert seen == ["main"]
    assert isinstance(done[0], IsADirectoryError)
    assert done[1] is None
    assert (tmp_path / "history" / "main.tsh").read_bytes() == b"a"
