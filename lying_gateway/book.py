"""What was done?  One JSON object per line, in the order of the deeds; README.md says what each line means."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, Final

from lying_gateway.event import Event, quoted

_FLUSH_LINES: Final = 2000


class Book:
    """The file of one gateway. The gateway flushes it now and then and closes it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._lines: list[bytes] = []

    def write(self, kind: str, /, **values: Any) -> None:
        """Add a line of any kind."""
        self._add(json.dumps({"book": kind, **values}, separators=(",", ":")).encode())

    def event(self, event: Event) -> None:
        """Add the line of a message."""
        who: bytes = b'"run":null,"stream":null,"seq":null,"due":null,"sent":null'
        if event.run is not None:
            who = b'"run":%b,"stream":%d,"seq":%d,"due":%d,"sent":%d' % (
                quoted(event.run), event.stream, event.seq, event.due_ns, event.sent_ns,
            )  # fmt: skip
        keys = b""
        if event.pattern is not None:
            keys += b',"pattern":' + quoted(event.pattern)
        if event.symbol is not None:
            keys += b',"symbol":' + quoted(event.symbol)
        if not event.forwarded:
            keys += b',"forwarded":false'
        self._add(
            b'{"book":"event","n":%d,"channel":%b,%b%b,"got_ns":%d}'
            % (event.n, quoted(event.channel), who, keys, event.got_ns)
        )

    def flush(self) -> None:
        """Hand all lines to the file."""
        if self._lines:
            self._lines.append(b"")
            self._file.write(b"\n".join(self._lines))
            self._file.flush()
            self._lines.clear()

    def close(self, deliveries: int) -> None:
        """Complete the book. Safe to repeat."""
        if not self._file.closed:
            self.write("end", deliveries=deliveries, at_ns=time.monotonic_ns())
            self.flush()
            self._file.close()

    def _add(self, line: bytes) -> None:
        self._lines.append(line)
        if len(self._lines) >= _FLUSH_LINES:
            self.flush()
