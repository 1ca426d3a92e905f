"""Is a worker's spool its own, whatever others of this machine put where temporary files lie?"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import pytest

from loadtests.harness import worker
from loadtests.model.profile.reading import canonical
from loadtests.model.runconfig import RunConfig
from tests.measure.simulate import profile


class _Participant(SimpleNamespace):
    """A part that has ended."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(closed=True, start=lambda: None)


def test_a_spool_lies_in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = tmp_path / "ours"
    ours.write_bytes(b"kept")
    shared = tmp_path / "shared"
    theirs = shared / f"tickstorm-{os.getuid()}"
    theirs.mkdir(parents=True)
    (theirs / "run-1-worker-0.tsh").symlink_to(ours)
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    monkeypatch.setattr(worker, "Participant", _Participant)
    monkeypatch.setattr(worker.os, "getppid", lambda: 1)  # type: ignore[attr-defined]  # no parent to be watched
    event = SimpleNamespace(add_listener=lambda _: None)
    environment = SimpleNamespace(events=SimpleNamespace(test_start=event, test_stopping=event, quitting=event))
    runner = SimpleNamespace(register_message=lambda *_: None, send_message=lambda *_: None)
    one = worker.Worker(environment, runner)
    config = RunConfig(**{name: _value(name) for name in RunConfig.__struct_fields__})
    one._open(config, "worker-0", worker.SAME_CLOCK)
    assert ours.read_bytes() == b"kept"
    (own,) = set(shared.iterdir()) - {theirs}
    assert own.stat().st_mode & 0o777 == 0o700
    gevent.wait(timeout=5)  # for the pump, which has nothing left
    assert list(shared.iterdir()) == [theirs]


def _value(name: str) -> Any:
    known = {"run": "run-1", "profile_text": canonical(profile()), "stack": ""}
    return known.get(name, 0)
