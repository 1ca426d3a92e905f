"""Where may publishers write?  The table of sinks; data only. What each does: the class that its row names."""

from __future__ import annotations

from collections.abc import Mapping

from loadtests.model.kinds import SinkKind, registry

PUBLISH = SinkKind(name="publish", by="loadtests.drive.publish.sink:Publish", shown="PUBLISH")
SINKS: Mapping[str, SinkKind] = registry("sinks", (PUBLISH,))
"""By name."""
