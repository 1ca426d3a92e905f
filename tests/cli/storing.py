"""How does a simulated run lie on the disk?  A run's folder, as the run left it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec

from loadtests.model import records as r
from loadtests.model.codec import pack
from loadtests.model.profile.reading import canonical
from loadtests.model.runconfig import sha256_of
from tests.measure.simulate import World


def store(folder: Path, world: World, *, chunk: int = 10_000) -> Path:
    """Profile and history, so many records a frame; the last frame of main says how many each worker's file has."""
    history = folder / "history"
    history.mkdir(parents=True)
    text = canonical(world.profile)
    (folder / "profile.toml").write_text(text, encoding="utf-8")
    frames = world.history(chunk=chunk)
    workers = Counter(name for name, _ in frames if name != "main")
    for name, frame in frames:
        with (history / f"{name}.tsh").open("ab") as file:
            file.writelines(pack(frame.number, [_of_run(x, sha256_of(text), workers) for x in frame.records]))
    return folder


def _of_run(record: r.Record, sha256: str, workers: dict[str, int]) -> r.Record:
    if isinstance(record, r.Header):
        return msgspec.structs.replace(record, profile_sha256=sha256)
    return msgspec.structs.replace(record, frames=dict(workers)) if isinstance(record, r.Finish) else record
