"""What does each process of ours need from its operating system and interpreter?

- Versions and machine, for the header of a history.
- Garbage collection: a full one looks at every object of Locust and holds up the hub for 100 ms. While a run lasts,
  what was there at its start is left out, and the rest is collected rarely; reference counts free nearly all anyway.
  The collector is the interpreter's: where runs overlap in a process, the first changes it, the last restores it.
- A closed terminal: its signal kills at once, where nobody heeds it. Here the run ends as by SIGTERM, with a verdict.
- Ctrl-C: Python's own handler raises KeyboardInterrupt in whatever code runs, such as a read that is being accounted or
  a burst that is being sent, whose record would then be incomplete. Here it is raised between two callbacks of the hub.
- The parent's death: Locust forks workers before they connect, and a worker whose master is gone by then would try to
  reach it for minutes.
- Standard streams: a terminal of another encoding, a closed descriptor, a pipe without a reader or a full disk would
  raise in the code that prints, or when the interpreter flushes at its end, and turn a pass into another exit status.
"""

from __future__ import annotations

import ctypes
import gc
import io
import os
import platform
import select
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Final

VERSION = version("tickstorm")
_SHOWN = ("locust", "gevent", "msgspec", "redis", "psycopg2-binary", "bokeh")
_RARELY: Final = (50_000, 50, 100)
_PR_SET_PDEATHSIG = 1
FULL_S = 1.0
"""How long a reader that is behind may hold up one write, where the descriptor does not wait by itself."""
SAMPLE = "a\u00e9\u2264\u65e5\U0001f4c9" * 40
"""What an encoding must be able to take in some way; idna, for one, takes no long lines."""


def versions() -> dict[str, str]:
    """Name to version of what decides the figures."""
    return {"tickstorm": VERSION, "python": platform.python_version()} | {name: version(name) for name in _SHOWN}


def machine() -> str:
    """The machine's print: processor, cores, memory, kernel; nothing that names the machine."""
    model = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}"


class QuietHeap:
    """The garbage collector's settings for the length of a run."""

    _quiet: ClassVar[set[QuietHeap]] = set()  # those between begin and end
    _before: ClassVar[tuple[int, int, int]]

    def begin(self) -> None:
        """Collect once, and leave out what is there, unless another run did. Safe to repeat."""
        if not QuietHeap._quiet:
            QuietHeap._before = gc.get_threshold()
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_RARELY)
        QuietHeap._quiet.add(self)

    def end(self) -> None:
        """As before the first, if no other run is left. Safe to repeat."""
        if self not in QuietHeap._quiet:
            return
        QuietHeap._quiet.remove(self)
        if not QuietHeap._quiet:
            gc.set_threshold(*QuietHeap._before)
            gc.unfreeze()


def heed_ctrl_c() -> None:
    """Have the main greenlet interrupted by the hub; where SIGINT is ignored or handled already, nothing changes."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        import gevent  # not for the commands, which have no hub

        gevent.signal_handler(signal.SIGINT, _interrupt)


def heed_a_closed_terminal() -> Callable[[], bool]:
    """End as by SIGTERM when the terminal goes, unless nohup forbade it; the answer: whether that has happened."""
    gone: list[int] = []
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        import gevent

        def end() -> None:
            gone.append(signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)

        gevent.signal_handler(signal.SIGHUP, end)
    return lambda: bool(gone)


def _interrupt() -> None:
    import gevent

    hub: Any = gevent.get_hub()
    hub.handle_system_error(KeyboardInterrupt, KeyboardInterrupt())  # raised here, it would be printed as an error


def end_forks_with_us() -> None:
    """Let the kernel send SIGTERM to every fork of this process when it dies. Where no kernel does, workers poll."""
    if not sys.platform.startswith("linux"):
        return
    libc, us = ctypes.CDLL(None), os.getpid()
    forker = us

    def before() -> None:
        nonlocal forker
        forker = os.getpid()

    def in_child() -> None:
        if forker != us:
            return  # a fork of a fork
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != us:  # it died before the kernel knew whom to tell
            os.kill(os.getpid(), signal.SIGTERM)

    os.register_at_fork(before=before, after_in_child=in_child)


class Unfailing(io.RawIOBase):
    """Writes to a descriptor what it takes; the rest is dropped. None: there is no descriptor."""

    def __init__(self, descriptor: int | None) -> None:
        super().__init__()
        self._descriptor = descriptor
        self.name = "<console>"

    def writable(self) -> bool:
        """Always, as far as a writer is concerned."""
        return True

    def fileno(self) -> int:
        """Raises OSError where there is none."""
        if self._descriptor is None:
            raise io.UnsupportedOperation("this stream was closed before we began")
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._descriptor is not None and os.isatty(self._descriptor)

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """All of it, as every writer believes."""
        rest = memoryview(data)
        while rest and self._descriptor is not None:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                if not select.select([], [self._descriptor], [], FULL_S)[1]:
                    break
            except OSError:
                break
        return len(data)


def outlive_the_console() -> None:
    """From now on no write to standard output or error raises in this process. Safe to repeat."""
    while (nothing := os.open(os.devnull, os.O_RDWR)) <= 2:  # else the next file that is opened would be one of them
        os.set_inheritable(nothing, True)
    os.close(nothing)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _text(Unfailing(None), "utf-8"))
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _text(Unfailing(descriptor), stream.encoding))


def _text(raw: Unfailing, encoding: str) -> io.TextIOWrapper:
    try:
        SAMPLE.encode(encoding, "backslashreplace")
    except (UnicodeError, LookupError):
        encoding = "utf-8"
    return io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace", write_through=True)
