"""Which sockets are, or just were, connected to a listening port?  Asked of the kernel; opens no connection.

Linux: by its socket diagnostics, which also count bytes. In the network namespace of another process, or where the
diagnostics are not there, by the tables under /proc, which tell the same without bytes.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Peer = tuple[str, int]
"""Address and port of the end that connected."""

Counted = tuple[int, int]
"""Bytes that came from the peer, and bytes that went to it and were acknowledged."""

_ESTABLISHED, _TIME_WAIT, _LISTEN = 1, 6, 10
_OPENING = frozenset({2, 3, 12})
_ALL_STATES, _ENDED_AT_CLIENT = 0xFFF & ~1, 1 << _TIME_WAIT
_SOCK_DIAG, _DIAG_BY_FAMILY, _REQUEST_DUMP = 4, 20, 0x301
_ERROR, _DONE, _INFO = 2, 3, 2
_BYTES_AT = 120  # of `bytes_acked` and `bytes_received` in the kernel's tcp_info
_ANSWER_BYTES, _ANSWER_S = 1 << 17, 1.0
_MESSAGE_BYTES, _HEAD = 72, struct.Struct("=IHHII")
_FORWARDERS = ("docker-proxy", "rootless", "slirp4netns", "pasta", "passt", "conmon", "kubectl", "ssh", "socat")
"""Programs that listen here for a server that is elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the kernel knows of one listening port at one moment."""

    held: dict[Peer, Counted | None]  # established; None where no bytes are told
    ended: frozenset[Peer]  # a close of either side is known, and not yet forgotten
    left: frozenset[Peer]  # of those: who connected from this machine and closed first
    listeners: frozenset[int]  # inodes of the sockets that listen


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    state: int
    local: Peer
    remote: Peer
    inode: int
    counted: Counted | None


def look(port: int, pid: int | None = None) -> Look | None:
    """One look, in the network namespace of a process or in ours; None where the kernel tells nothing."""
    if pid is not None and not _is_ours(pid):
        rows = _from_tables(Path(f"/proc/{pid}/net"), port)
    else:
        rows = _from_diagnostics(port)
        rows = _from_tables(Path("/proc/net"), port) if rows is None else rows
    if rows is None:
        return None
    held: dict[Peer, Counted | None] = {}
    ended, left, listeners, entrances = set(), set(), set(), set()
    for row in rows:
        if row.local[1] != port:
            continue
        if row.state == _LISTEN:
            listeners.add(row.inode)
            entrances.add(row.local[0])
        elif row.state == _ESTABLISHED:
            held[row.remote] = row.counted
        elif row.state not in _OPENING:
            ended.add(row.remote)
    anywhere = bool(entrances & {"0.0.0.0", "::"})
    for row in rows:
        if row.local[1] != port and row.state == _TIME_WAIT and (anywhere or row.remote[0] in entrances):
            left.add(row.local)
    return Look(held=held, ended=frozenset(ended | left), left=frozenset(left), listeners=frozenset(listeners))


def open_connections(port: int, *, must_listen: bool = True) -> frozenset[Peer] | None:
    """The remote ends of the connections that this port of ours has accepted.

    None where it cannot be known: no such table, or no process of this machine listens on the port.
    """
    rows = [row for row in _from_tables(Path("/proc/net"), port) or () if row.local[1] == port]
    listens = any(row.state == _LISTEN for row in rows)
    found = frozenset(row.remote for row in rows if row.state == _ESTABLISHED)
    return found if listens or not must_listen else None


def without_port(remotes: frozenset[Peer], port: int | None) -> frozenset[Peer]:
    """The same without the end that has this port: a probe does not count itself."""
    return frozenset(remote for remote in remotes if remote[1] != port)


def why_unseen(port: int, api_port: int, pid: int | None) -> str:
    """Why the connections to a port cannot be observed from here; empty where they can.

    A port that a forwarder holds shows none of the connections inside the container that it leads to. The server
    itself is known by its API: the same process listens at both ports.
    """
    seen = look(port, pid)
    if seen is None:
        return "this system tells nobody's connections"
    if pid is not None:
        return "" if seen.listeners else f"process {pid} does not listen there"
    if not seen.listeners:
        return "nobody on this machine listens there"
    api = look(api_port)
    owners = owners_of(seen.listeners | (frozenset() if api is None else api.listeners))
    here = set().union(*(owners.get(inode, ()) for inode in seen.listeners))
    if not here:
        return "whose socket listens there may not be seen"
    both = here & set().union(*(owners.get(inode, ()) for inode in (api.listeners if api else ())))
    forwards = [name for one in sorted(here) if (name := _name(one)).startswith(_FORWARDERS)]
    if forwards:
        return f"{forwards[0]} listens there for a container or another host"
    return "" if both else "another process than Toxiproxy's listens there"


def owners_of(inodes: frozenset[int]) -> dict[int, set[int]]:
    """Processes that have each of these sockets open, as far as they may be seen."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, set[int]] = {}
    for folder in Path("/proc").glob("[0-9]*/fd"):
        try:
            for entry in os.scandir(folder):
                inode = wanted.get(os.readlink(entry.path))
                if inode is not None:
                    found.setdefault(inode, set()).add(int(folder.parent.name))
        except OSError:
            continue  # it ended just now, or belongs to another user
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _is_ours(pid: int) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/self/ns/net")
    except OSError:
        return False


def _from_tables(folder: Path, port: int) -> list[_Row] | None:
    rows, read, wanted = [], False, f":{port:04X} "
    for name in ("tcp", "tcp6"):
        try:
            lines = (folder / name).read_text().splitlines()[1:]
        except OSError:
            continue
        read = True
        for line in lines:
            if wanted not in line:
                continue
            words = line.split(None, 10)
            local, remote = _hex_peer(words[1]), _hex_peer(words[2])
            if port in (local[1], remote[1]):
                rows.append(
                    _Row(state=int(words[3], 16), local=local, remote=remote, inode=int(words[9]), counted=None)
                )
    return rows if read else None


def _hex_peer(text: str) -> Peer:
    address, _, port = text.partition(":")
    words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
    return _plain(struct.pack(f"={len(words)}I", *words)), int(port, 16)


def _plain(packed: bytes) -> str:
    """One spelling for an IPv4 address, however the kernel wraps it."""
    address = ipaddress.ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _from_diagnostics(port: int) -> list[_Row] | None:
    if not hasattr(socket, "AF_NETLINK"):
        return None
    rows: list[_Row] = []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
            kernel.settimeout(_ANSWER_S)
            for family in (socket.AF_INET, socket.AF_INET6):
                rows += _dump(kernel, family, _ALL_STATES, (port, 0))
                rows += _dump(kernel, family, _ENDED_AT_CLIENT, (0, port))
                if any(row.state == _LISTEN for row in rows):
                    break  # each question costs the kernel a walk over all sockets, and one family alone is accepted
    except OSError:
        return None
    return rows


def _dump(kernel: socket.socket, family: int, states: int, ports: tuple[int, int]) -> Iterator[_Row]:
    """The kernel's answer for a local or a remote port. Raises OSError."""
    ask = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 1 << (_INFO - 1), 0, states)
    ask += struct.pack("!HH", *ports) + bytes(36) + b"\xff" * 8
    kernel.send(_HEAD.pack(_HEAD.size + len(ask), _DIAG_BY_FAMILY, _REQUEST_DUMP, 0, 0) + ask)
    while True:
        answer, at = kernel.recv(_ANSWER_BYTES), 0
        while at < len(answer):
            length, kind, *_ = _HEAD.unpack_from(answer, at)
            if kind == _DONE:
                return
            if kind == _ERROR:
                raise OSError(-struct.unpack_from("=i", answer, at + _HEAD.size)[0], "socket diagnostics")
            yield _row(answer[at + _HEAD.size : at + length])
            at += -(-length // 4) * 4


def _row(raw: bytes) -> _Row:
    family, state = raw[0], raw[1]
    local_port, remote_port = struct.unpack_from("!HH", raw, 4)
    width = 4 if family == socket.AF_INET else 16
    counted, at = None, _MESSAGE_BYTES
    while at + 4 <= len(raw):
        length, kind = struct.unpack_from("=HH", raw, at)
        if kind == _INFO and length >= 4 + _BYTES_AT + 16:
            acknowledged, received = struct.unpack_from("=QQ", raw, at + 4 + _BYTES_AT)
            counted = (received, acknowledged)
        at += max(4, -(-length // 4) * 4)
    return _Row(
        state=state,
        local=(_plain(raw[8 : 8 + width]), local_port),
        remote=(_plain(raw[24 : 24 + width]), remote_port),
        inode=struct.unpack_from("=I", raw, 68)[0],
        counted=counted,
    )
