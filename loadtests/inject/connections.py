"""Which connections does a listening port of this machine hold?  Reads the kernel's table; opens none."""

from __future__ import annotations

from pathlib import Path

_ESTABLISHED, _LISTEN = "01", "0A"
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


def open_connections(port: int, *, must_listen: bool = True) -> frozenset[str] | None:
    """Remote ends of the connections that this port has accepted, as the kernel writes them.

    None where it cannot be known: no such table, or nobody on this machine listens on the port.
    """
    listens, remotes = False, set()
    wanted = f":{port:04X}"
    for table in _TABLES:
        try:
            lines = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, local, remote, state = line.split(None, 4)[:4]
            if local.endswith(wanted):
                listens = listens or state == _LISTEN
                if state == _ESTABLISHED:
                    remotes.add(remote)
    return frozenset(remotes) if listens or not must_listen else None


def without_port(remotes: frozenset[str], port: int | None) -> frozenset[str]:
    """The same without the end that has this port: a probe does not count itself."""
    return remotes if port is None else frozenset(r for r in remotes if not r.endswith(f":{port:04X}"))
