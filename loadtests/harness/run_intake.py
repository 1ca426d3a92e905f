"""What do the participants bring into a run?  Their status, the frames of their histories, and which of them are gone.

The intake writes the history: the leading process's own records as process `main`, the frames of each worker in order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from loadtests.capture.history_frames import HistoryWriter, Inbox, Recorder
from loadtests.harness.participant import ParticipantStatus
from loadtests.model.records import Header, Record, Trouble


class RunIntake:
    """The intake of one run. `on_written` gets every frame after it was written, in the writer's thread."""

    def __init__(
        self, folder: Path, now_ns: Callable[[], int], opening: list[Record], on_written: Callable[[str, bytes], None]
    ) -> None:
        self._now_ns = now_ns
        self._writer = HistoryWriter(folder, on_written)
        self._recorder = Recorder(lambda _number, frame: self._writer.write("main", frame))
        self._status: dict[str, ParticipantStatus] = {}
        self._inboxes: dict[str, Inbox] = {}
        self._heard_ns: dict[str, int] = {}  # when each participant's last frame came
        self._lost: set[str] = set()
        self._refused: set[str] = set()
        self._header = next(r for r in opening if isinstance(r, Header))
        self._recorder.emit_all(opening)

    def emit(self, record: Record) -> None:
        """Queue a record of this process."""
        self._recorder.emit(record)

    def flush(self) -> OSError | None:
        """Hand what is queued to the writer; the error for which the history cannot be written any more."""
        self._recorder.flush()
        return self._writer.error

    def heard(self, status: ParticipantStatus) -> None:
        """A participant told how far it is."""
        self._status[status.process] = status
        if status.refused:
            self._refused.add(status.process)
            self.emit(Trouble(process=status.process, from_ns=0, to_ns=-1, what=status.refused))

    def arrived(self, process: str, number: int, frame: bytes, done: Callable[[OSError | None], None] | None) -> None:
        """A worker's frame came; it is written in order, and acknowledged when it is written."""
        inbox = self._inboxes.get(process)
        if inbox is None:
            inbox = self._inboxes[process] = Inbox(lambda _n, f, p=process: self._writer.write(p, f))  # type: ignore[misc]
        inbox.take(number, frame)
        self._heard_ns[process] = self._now_ns()
        if done is not None:
            self._writer.write(process, b"", done)

    def lose(self, alive: Collection[str]) -> list[str]:
        """Participants that are newly gone for good: not alive, and not closed before."""
        gone = [p for p, s in self._status.items() if s.frames < 0 and p not in alive and p not in self._lost]
        for process in gone:
            self._lost.add(process)
            # Locust tells seconds after a worker died; what is known of it ends with its last frame.
            since = self._heard_ns.get(process, self._now_ns())
            self.emit(Trouble(process=process, from_ns=since, to_ns=-1, what="the worker is gone"))
            del self._status[process]
        return gone

    def all_in_trouble(self, from_ns: int, what: str) -> None:
        """From a moment on nothing that any participant saw says something about the target."""
        for process in sorted(self._status):
            self.emit(Trouble(process=process, from_ns=from_ns, to_ns=-1, what=what))

    @property
    def connected(self) -> int:
        """Consumers with a confirmed subscription."""
        return sum(s.connected for s in self._status.values())

    @property
    def publishing(self) -> int:
        """Publishers with a slot."""
        return sum(s.publishing for s in self._status.values())

    @property
    def user_faults(self) -> list[dict[str, dict[str, int]]]:
        """What the users of each participant play: fault -> counts."""
        return [s.user_faults for s in self._status.values()]

    def saw_probe(self, nonce: int) -> bool:
        """Whether any consumer has seen a probe message."""
        return any(s.probes.get(str(nonce)) for s in self._status.values())

    # -- the end

    def expected(self, alive: set[str]) -> set[str]:
        """Participants that have something to tell until they are closed."""
        return alive - self._lost - self._refused

    def is_whole(self, process: str) -> bool:
        """Whether a participant is closed and all its frames are here."""
        status = self._status.get(process)
        if status is None or status.frames < 0:
            return False
        inbox = self._inboxes.get(process)
        return inbox is None or not inbox.missing(status.frames)

    def give_up(self, expected: Collection[str]) -> bool:
        """Wait for no more frames; whether every participant of this run told all that it had."""
        cut_off = sorted(p for p in expected if not self.is_whole(p))
        for process in cut_off:
            self.emit(Trouble(process=process, from_ns=0, to_ns=-1, what="its last records never came"))
        for inbox in self._inboxes.values():
            inbox.give_up()
        return not (cut_off or self._lost or self._refused)

    @property
    def frames(self) -> dict[str, int]:
        """Closed participant -> number of its frames."""
        return {p: s.frames for p, s in sorted(self._status.items()) if s.frames >= 0}

    def seal(self) -> None:
        """Nothing is emitted any more."""
        self._recorder.seal(self._header)

    def close(self, wait: Callable[[Callable[[], bool], float], bool], timeout_s: float) -> None:
        """Write all that came. Raises HarnessError where it cannot be written."""
        self._writer.close(wait, timeout_s)
