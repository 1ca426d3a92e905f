"""What did the injector's probe see on each link, last and over time?  A fold for the page; never evidence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from loadtests.model.ids import NS_PER_MS, NS_PER_S
from loadtests.model.live import LiveLink
from loadtests.model.records import LINK_PROBE, PathProbe


class LiveLinks:
    """Fold with `add`; whoever calls holds the lock."""

    def __init__(self) -> None:
        self._last: dict[str, PathProbe] = {}
        self._delays: defaultdict[str, dict[int, float]] = defaultdict(dict)  # link -> second -> ms

    def add(self, record: object) -> None:
        """One record of any kind."""
        if not isinstance(record, PathProbe) or not record.what.startswith(LINK_PROBE):
            return
        link = record.what.removeprefix(LINK_PROBE)
        self._last[link] = record
        if record.ok:
            self._delays[link][record.at_ns // NS_PER_S] = record.took_ns / NS_PER_MS

    def with_probe(self, link: LiveLink, now_ns: int) -> LiveLink:
        """The same link with the last reading, where there is one, and how old that is."""
        last = self._last.get(link.name)
        if last is None:
            return link
        return msgspec.structs.replace(
            link,
            probe=last.detail,
            probe_ms=last.took_ns / NS_PER_MS if last.ok else None,
            probe_age_s=max(0, now_ns - last.at_ns - max(0, last.took_ns)) / NS_PER_S,
        )

    def series(self, seconds: Iterable[int]) -> dict[str, list[float | None]]:
        """Per link: its round trip in each of these seconds, None where no ping was answered."""
        wanted = list(seconds)
        return {f"link_delay_ms:{link}": [found.get(s) for s in wanted] for link, found in sorted(self._delays.items())}
