"""Where does Ctrl-C strike?  Between two callbacks of the hub, never inside one.

Python's own handler raises KeyboardInterrupt in whatever runs: amid a read that is being accounted, or a burst that is
being sent, whose record would then be incomplete.
"""

from __future__ import annotations

import signal
from typing import Any

import gevent


def heed_ctrl_c() -> None:
    """Have the main greenlet interrupted by the hub; where SIGINT is ignored or somebody else's, nothing changes."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        gevent.signal_handler(signal.SIGINT, _interrupt)


def _interrupt() -> None:
    hub: Any = gevent.get_hub()
    hub.handle_system_error(KeyboardInterrupt, KeyboardInterrupt())  # raised here, it would be printed as an error
