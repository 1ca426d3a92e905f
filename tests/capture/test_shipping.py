"""Do a worker's frames arrive exactly once and in order, whatever the messages between do?"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtests.capture.history_frames import IN_FLIGHT, RESEND_S, Inbox, Outbox


class Link:
    """Messages that may be dropped, doubled or turned around, as drawn."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes]] = []

    def send(self, number: int, frame: bytes) -> None:
        self.sent.append((number, frame))


@settings(max_examples=60, deadline=None)
@given(frames=st.lists(st.binary(min_size=1, max_size=40), max_size=30), data=st.data())
def test_every_frame_is_written_once_and_in_order(
    tmp_path_factory: object, frames: list[bytes], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("spool")  # type: ignore[attr-defined]
    link, now = Link(), [0.0]
    written: list[tuple[int, bytes]] = []
    outbox = Outbox(folder / "s.tsh", link.send, lambda: now[0])
    inbox = Inbox(lambda number, frame: written.append((number, frame)))
    for number, frame in enumerate(frames):
        outbox.put(number, frame)
    for _ in range(400):
        if not outbox.pending:
            break
        flying, link.sent = link.sent, []
        assert len({n for n, _ in flying}) <= IN_FLIGHT
        for number, frame in data.draw(st.permutations(flying)):
            fate = data.draw(st.sampled_from(["arrives", "arrives", "lost", "twice", "answer lost"]))
            if fate == "lost":
                continue
            inbox.take(number, frame)
            if fate == "twice":
                inbox.take(number, frame)
            if fate != "answer lost":
                outbox.acknowledge(number)
        now[0] += RESEND_S + 1
        outbox.pump()
    else:
        return  # the drawn link never let everything pass; what was written must still be a prefix
    assert written == list(enumerate(frames))
    assert inbox.missing(len(frames)) == []
    outbox.close(keep=False)
    assert not (folder / "s.tsh").exists()


def test_a_hole_is_named_and_what_lies_behind_it_kept() -> None:
    written: list[int] = []
    inbox = Inbox(lambda number, _frame: written.append(number))
    for number in (0, 1, 4, 3):
        inbox.take(number, b"x")
    assert written == [0, 1]
    assert inbox.missing(5) == [2]
    inbox.give_up()
    assert written == [0, 1, 3, 4]


def test_an_unwritable_spool_still_ships(tmp_path: Path) -> None:
    link = Link()
    outbox = Outbox(tmp_path / "s.tsh", link.send, lambda: 0.0)
    outbox._file.close()
    outbox._file = open(tmp_path / "s.tsh", "rb", buffering=0)  # noqa: SIM115  a file that refuses to be written
    outbox.put(0, b"frame")
    assert outbox.error is not None
    assert link.sent == [(0, b"frame")]


def test_a_spool_is_made_anew_and_goes_with_its_folder(tmp_path: Path) -> None:
    """Whoever could put a link at its place would have a file of ours overwritten."""
    ours, folder = tmp_path / "ours", tmp_path / "spool"
    ours.write_bytes(b"kept")
    folder.mkdir()
    for there in (ours, tmp_path / "nothing yet"):
        (folder / "s.tsh").symlink_to(there)
        with pytest.raises(FileExistsError):
            Outbox(folder / "s.tsh", Link().send, lambda: 0.0)
        (folder / "s.tsh").unlink()
    assert ours.read_bytes() == b"kept"
    outbox = Outbox(folder / "s.tsh", Link().send, lambda: 0.0)
    assert (folder / "s.tsh").stat().st_mode & 0o777 == 0o600
    outbox.close(keep=False)
    assert not folder.exists()
