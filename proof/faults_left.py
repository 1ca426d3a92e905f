"""What of a fault is in force still?  Two looks at the servers of a stack, compared; pure, so that each goes red.

Knows nothing of what a fault meant to undo: whatever is not as before was left.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

NOTHING = "nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One look. An area is a service, or the stack as a whole; its facts are words, so that any two compare."""

    areas: Mapping[str, Mapping[str, str]]  # area -> what -> how it is
    unread: Mapping[str, str] = field(default_factory=dict)  # area -> why it could not be looked at

    def left(self, now: World, *, dead: Collection[str] = ()) -> list[str]:
        """What is not as before, in sentences; `dead` are areas that need not be there any more.

        What could not be looked at is not clean: it is told.
        """
        found: list[str] = []
        for area in sorted({*self.areas, *self.unread, *now.areas, *now.unread} - set(dead)):
            for when, look in (("before", self), ("now", now)):
                if area in look.unread:
                    found.append(f"{area} could not be looked at {when}: {look.unread[area]}")
            if area not in self.unread and area not in now.unread:
                found += _changed(area, self.areas.get(area, {}), now.areas.get(area, {}))
        return found


def _changed(area: str, before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [
        f"{area} {what}: {before.get(what, NOTHING)} -> {now.get(what, NOTHING)}"
        for what in sorted({*before, *now})
        if before.get(what) != now.get(what)
    ]
