"""Is a stored run with damage UNKNOWN, whatever was done to its files, and is a real failure never made a pass?"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from loadtests.cli.analyze_command import analyze_run
from loadtests.model import records as r
from loadtests.model.codec import decode, pack
from loadtests.model.results import Results, Verdict, from_json
from tests.cli.storing import store
from tests.examples import examples
from tests.measure.simulate import MS, FaultIn, S, World, profile

Edit = Callable[[Path], None]
CUT = {"name": "cut", "kind": "down", "link": "gateway-redis", "at_s": 3.0, "for_s": 1.0}
LIMITS = [{"measure": measure, "at_most": 0.0, "phases": ["all"]} for measure in ("lost_defect", "repeated", "foreign")]
MORE = [{"measure": "not_recovered", "at_most": 0}, {"measure": "connected", "at_least": 5}]
FILES = ("main", "worker-0", "worker-1")
CHUNK = 12
"""Records of a frame: that makes some thirty frames a file."""


def world_of(*, lose: bool) -> World:
    """Two workers, and a link that is cut for a second; with `lose` a consumer of worker-1 lost one message in calm."""
    world = World(profile(faults=[CUT], thresholds=LIMITS + MORE), processes=2)
    world.sealed = True
    world.publish()
    world.subscribe()
    start = world.warm + 3 * S
    fault = FaultIn(name="cut", kind="down", link="gateway-redis", start=start, end=start + S)
    world.faults.append(fault)
    calm = [m for m in world.messages if world.warm < m.sent < start - S]
    gone = calm[len(calm) // 2 : len(calm) // 2 + 6]
    world.deliver(
        lambda m, stay: fault.start <= m.sent < fault.end + 50 * MS or (lose and m in gone and stay.consumer == 1)
    )
    return world


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = store(tmp_path_factory.mktemp("passed") / "run-1", world_of(lose=False), chunk=CHUNK)
    assert analyze_run(str(folder), [], out=None, quiet=True, html=False) == 0
    return folder


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = store(tmp_path_factory.mktemp("failed") / "run-1", world_of(lose=True), chunk=CHUNK)
    assert analyze_run(str(folder), [], out=None, quiet=True, html=False) == 1
    return folder


def again(folder: Path, out: Path, edit: Edit) -> Results:
    copy = out / folder.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    edit(copy / "history")
    status = analyze_run(str(copy), [], out=None, quiet=True, html=False)
    results = from_json((copy / "results.json").read_bytes())
    assert status == results.verdict.exit_status
    return results


def path_of(folder: Path, name: str) -> Path:
    return folder / f"{name}.tsh"


def frames_of(data: bytes) -> list[bytes]:
    """The bytes of each frame."""
    found = []
    while data:
        length = 20 + int.from_bytes(data[4:8], "big")
        found.append(data[:length])
        data = data[length:]
    return found


def on_frames(name: str, change: Callable[[list[bytes]], list[bytes]]) -> Edit:
    def edit(folder: Path) -> None:
        path = path_of(folder, name)
        path.write_bytes(b"".join(change(frames_of(path.read_bytes()))))

    return edit


def flipped(name: str, share: float) -> Edit:
    def edit(folder: Path) -> None:
        data = bytearray(path_of(folder, name).read_bytes())
        data[int(len(data) * share)] ^= 0x5A
        path_of(folder, name).write_bytes(data)

    return edit


def cut(name: str, share: float) -> Edit:
    return lambda folder: os.truncate(path_of(folder, name), int(path_of(folder, name).stat().st_size * share))


def exchanged(one: str, other: str) -> Edit:
    def edit(folder: Path) -> None:
        a, b = path_of(folder, one), path_of(folder, other)
        first, second = a.read_bytes(), b.read_bytes()
        a.write_bytes(second)
        b.write_bytes(first)

    return edit


def renumbered(name: str, drop: int) -> Edit:
    """A frame is taken out and the others are numbered anew, each with a right checksum, as the last one says."""

    def change(frames: list[bytes]) -> list[bytes]:
        kept = [frame for n, frame in enumerate(frames) if n != drop]
        found = []
        for number, data in enumerate(kept):
            records = [x for part in decode(data) for x in part.records]  # type: ignore[union-attr]
            records = [
                msgspec.structs.replace(x, frames=len(kept)) if isinstance(x, r.Header) and x.frames > 0 else x
                for x in records
            ]
            found.extend(pack(number, records))
        return found

    return on_frames(name, change)


def written(name: str, data: bytes) -> Edit:
    def edit(folder: Path) -> None:
        (folder / name).write_bytes(data)

    return edit


def copied(one: str, other: str) -> Edit:
    return lambda folder: shutil.copy(path_of(folder, one), path_of(folder, other)) and None


def removed(name: str) -> Edit:
    return lambda folder: path_of(folder, name).unlink()


def of_another_run(name: str) -> Edit:
    def change(frames: list[bytes]) -> list[bytes]:
        found = []
        for number, data in enumerate(frames):
            records = [x for part in decode(data) for x in part.records]  # type: ignore[union-attr]
            records = [msgspec.structs.replace(x, run="run-0") if isinstance(x, r.Header) else x for x in records]
            found.extend(pack(number, records))
        return found

    return on_frames(name, change)


def unreadable(name: str) -> Edit:
    def edit(folder: Path) -> None:
        path_of(folder, name).unlink()
        path_of(folder, name).mkdir()

    return edit


def all_gone(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


EDITS: dict[str, Edit] = {
    "exchanged workers": exchanged("worker-0", "worker-1"),
    "exchanged main and worker": exchanged("main", "worker-1"),
    "copied": copied("worker-0", "worker-2"),
    "copied main": copied("main", "worker-2"),
    "copied over": copied("worker-0", "worker-1"),
    "an empty file more": written("worker-2.tsh", b""),
    "an unknown file more": written("worker-2.tsh", b"no frame at all, but some bytes"),
    "a file of another kind": written("notes.txt", b"a note"),
    "nothing left": all_gone,
}
for _name in FILES:
    EDITS |= {
        f"emptied {_name}": written(f"{_name}.tsh", b""),
        f"removed {_name}": removed(_name),
        f"unreadable {_name}": unreadable(_name),
        f"twice {_name}": on_frames(_name, lambda f: [*f[:5], f[4], *f[5:]]),
        f"swapped {_name}": on_frames(_name, lambda f: [*f[:4], f[5], f[4], *f[6:]]),
        f"first frame gone {_name}": on_frames(_name, lambda f: f[1:]),
        f"a frame gone {_name}": on_frames(_name, lambda f: [*f[:7], *f[8:]]),
        f"last frame gone {_name}": on_frames(_name, lambda f: f[:-1]),
        f"last three frames gone {_name}": on_frames(_name, lambda f: f[:-3]),
        f"half of the frames {_name}": on_frames(_name, lambda f: f[: len(f) // 2]),
        f"bytes behind {_name}": on_frames(_name, lambda f: [*f, b"\0" * 100]),
        f"a frame behind {_name}": on_frames(_name, lambda f: [*f, *pack(len(f), [r.Note(at_ns=0, text="more")])]),
        f"cut {_name}": cut(_name, 0.6),
    }


@pytest.mark.parametrize("what", sorted(EDITS))
def test_a_pass_with_damage_is_unknown_and_says_what_is_damaged(passed: Path, tmp_path: Path, what: str) -> None:
    results = again(passed, tmp_path, EDITS[what])
    assert results.verdict is Verdict.UNKNOWN, results.reasons
    assert results.reasons[0].startswith("the history is whole: "), results.reasons
    whole = next(c for c in results.checks if c.name == "the history is whole")
    assert whole.verdict is Verdict.UNKNOWN
    assert whole.evidence


@pytest.mark.parametrize("what", sorted(EDITS))
def test_a_failure_with_damage_is_never_a_pass(failed: Path, tmp_path: Path, what: str) -> None:
    assert again(failed, tmp_path, EDITS[what]).verdict in (Verdict.FAIL, Verdict.UNKNOWN)


@pytest.mark.parametrize("name", FILES)
def test_wherever_a_byte_is_flipped_or_the_file_is_cut_a_pass_is_unknown(
    passed: Path, tmp_path: Path, name: str
) -> None:
    dice = random.Random(name)
    for share in [0.0, *(dice.random() for _ in range(examples(12))), 0.99999]:
        for edit in (flipped(name, share), cut(name, share)):
            results = again(passed, tmp_path, edit)
            assert results.verdict is Verdict.UNKNOWN, (share, results.reasons)
            assert results.reasons[0].startswith("the history is whole: "), (share, results.reasons)


def test_rows_of_a_stream_that_do_not_follow_each_other_are_damage_though_every_frame_is_right(
    passed: Path, tmp_path: Path
) -> None:
    data = path_of(passed / "history", "main").read_bytes()
    at = next(
        n
        for n, part in enumerate(decode(data))
        if any(isinstance(x, r.Published) for x in part.records)  # type: ignore[union-attr]
    )

    def halved(frames: list[bytes]) -> list[bytes]:
        records = [x for part in decode(frames[at]) for x in part.records]  # type: ignore[union-attr]
        names = ("stream", "due_slice", "sent_slice", "first", "last", "bytes")
        changed = [
            r.Published(**{k: [v for n, v in enumerate(getattr(x, k)) if n != 3] for k in names})
            if isinstance(x, r.Published)
            else x
            for x in records
        ]
        return [*frames[:at], *pack(at, changed), *frames[at + 1 :]]

    results = again(passed, tmp_path, on_frames("main", halved))
    assert results.verdict is Verdict.UNKNOWN
    assert "goes on behind" in results.reasons[0]


def test_a_real_loss_that_is_told_by_whole_files_stays_a_failure(failed: Path, tmp_path: Path) -> None:
    """The other worker's file is damaged: what this one lost is on record all the same."""
    results = again(failed, tmp_path, flipped("worker-0", 0.5))
    assert results.verdict is Verdict.FAIL
    assert results.reasons[0].startswith("lost_defect")
    assert not [c for c in results.checks if c.verdict is Verdict.FAIL and not c.name.startswith("lost_defect")]
    # That of the worker which saw it, or of the process that knows of faults and phases, leaves nothing to fail by.
    for name in ("worker-1", "main"):
        assert again(failed, tmp_path, flipped(name, 0.5)).verdict is Verdict.UNKNOWN, name


def test_an_old_history_has_no_last_frame_and_lacks_nothing(tmp_path: Path) -> None:
    world = world_of(lose=False)
    world.sealed = False
    folder = store(tmp_path / "run-1", world, chunk=CHUNK)
    assert analyze_run(str(folder), [], out=None, quiet=True, html=False) == 0


def test_a_worker_that_was_lost_has_no_last_frame_and_its_trouble_is_the_reason(tmp_path: Path) -> None:
    world = world_of(lose=False)
    gone = r.Trouble(process="worker-1", from_ns=world.plan_end, to_ns=-1, what="the worker is gone")
    world.extra.append(gone)
    world.finish = r.Finish(at_ns=world.end, reason="plan done", plan_done=True, drained=True, complete=False)
    folder = store(tmp_path / "run-1", world, chunk=CHUNK)
    results = again(folder, tmp_path / "again", on_frames("worker-1", lambda f: f[:-1]))
    assert results.verdict is Verdict.UNKNOWN
    assert not [x for x in results.harness.trouble if "last frame" in x]


@pytest.mark.parametrize("name", ["worker-0", "worker-1"])
def test_frames_that_are_numbered_anew_are_missed_by_the_leading_process(
    passed: Path, tmp_path: Path, name: str
) -> None:
    frames = len(frames_of(path_of(passed / "history", name).read_bytes()))
    for drop in (1, frames // 2, frames - 2):
        results = again(passed, tmp_path, renumbered(name, drop))
        assert results.verdict is Verdict.UNKNOWN, (drop, results.reasons)


def test_a_file_of_another_run_counts_for_nothing(passed: Path, tmp_path: Path) -> None:
    results = again(passed, tmp_path, of_another_run("worker-1"))
    assert results.verdict is Verdict.UNKNOWN
    assert "another run" in results.reasons[0]


@pytest.mark.parametrize("name", FILES)
def test_where_files_of_two_runs_lie_together_nobody_knows_whose_failure_it_is(
    failed: Path, tmp_path: Path, name: str
) -> None:
    assert again(failed, tmp_path, of_another_run(name)).verdict is Verdict.UNKNOWN
