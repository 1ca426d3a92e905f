"""Are frames numbered once each, whoever runs meanwhile, and does a file end with the number of its frames?"""

from __future__ import annotations

from loadtests.capture.history_frames import Recorder
from loadtests.model.codec import MAX_BODY, Frame, Torn, decode, decode_file
from loadtests.model.ids import SLICE_NS
from loadtests.model.records import Header, Note

HEADER = Header(
    run="run-1", process="main", role="master", profile_sha256="", origin_ns=0, origin_unix_ns=0, boot_id="b",
    slice_ns=SLICE_NS, versions={}, frames=0,
)  # fmt: skip


def note(length: int = 1) -> Note:
    return Note(at_ns=0, text="x" * length)


def test_the_last_frame_holds_the_header_and_the_number_of_frames_alone() -> None:
    frames: list[bytes] = []
    recorder = Recorder(lambda _, frame: frames.append(frame))
    recorder.emit(HEADER)
    recorder.flush()
    recorder.emit_all([note(MAX_BODY), note(MAX_BODY)])
    recorder.seal(HEADER)
    found = list(decode_file(b"".join(frames)))
    assert [part.number for part in found if isinstance(part, Frame)] == [0, 1, 2, 3]
    last = found[-1]
    assert isinstance(last, Frame)
    assert [x.frames for x in last.records if isinstance(x, Header)] == [4]
    assert len(last.records) == 1
    assert recorder.next_number == 4


def test_who_flushes_while_a_frame_is_handed_on_takes_no_number_twice() -> None:
    numbers: list[int] = []

    def out(number: int, _: bytes) -> None:
        numbers.append(number)
        if number == 0:  # another greenlet runs now
            recorder.emit(note())
            recorder.flush()

    recorder = Recorder(out)
    recorder.emit_all([note(MAX_BODY), note(MAX_BODY)])
    recorder.flush()
    recorder.emit(note())
    recorder.seal(HEADER)
    assert sorted(numbers) == [0, 1, 2, 3, 4]


def test_a_frame_behind_the_last_one_and_one_out_of_place_are_torn() -> None:
    frames: list[bytes] = []
    recorder = Recorder(lambda _, frame: frames.append(frame))
    for _ in range(3):
        recorder.emit(note())
        recorder.flush()
    recorder.seal(HEADER)
    whole = b"".join(frames)
    assert not [part for part in decode_file(whole) if isinstance(part, Torn)]
    for data, what in (
        (whole + frames[3], "it goes on after its last frame"),
        (frames[1] + frames[0] + frames[2], "frame 0 comes after frame 1"),
        (b"", "it is empty"),
    ):
        assert [part.reason for part in decode_file(data) if isinstance(part, Torn)] == [what]
    assert list(decode(b"")) == []  # a piece may be
