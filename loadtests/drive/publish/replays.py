"""Which events do a profile's publishers replay?  Reads the files that it names; every problem at once."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from loadtests.model.contract import Contract
from loadtests.model.errors import BadInput
from loadtests.plan.replay import Replayed, ReplayError, parse

MAX_BYTES = 512 * 1024 * 1024
"""Longer files are no replays: that many bytes are about as many rows as one may have."""


def read_bounded(path: Path, most: int, *, links: bool = True) -> bytes:
    """Bytes of a regular file.  Raises OSError, also where it is none or longer; `links`: it may be a link to one."""
    with open_bounded(path, most, links=links) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise _longer(most)
    return data


def _longer(most: int) -> OSError:
    return OSError(0, f"found more than {most:,} bytes, allowed so many")


@contextmanager
def open_bounded(path: Path, most: int, *, links: bool = True) -> Iterator[BinaryIO]:
    """A regular file, open for reading.  Raises OSError as `read_bounded` does."""
    if not links and path.is_symlink():
        raise OSError(0, "found a link, allowed a file")
    flags = os.O_RDONLY | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    descriptor = os.open(path, flags | os.O_NONBLOCK)  # a pipe without a writer waits for ever
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            kind = "a folder" if stat.S_ISDIR(state.st_mode) else "a device, pipe or socket"
            raise OSError(0, f"found {kind}, allowed a file")
        if state.st_size > most:
            raise _longer(most)
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def read_replays(contract: Contract, folder: Path) -> Mapping[str, tuple[Replayed, ...]]:
    """Events by publisher group; paths are relative to the profile's folder.  Raises BadInput with every problem."""
    profile = contract.profile
    found: dict[str, tuple[Replayed, ...]] = {}
    problems: list[str] = []
    slot = 0
    for index, group in enumerate(profile.publishers):
        first, slot = slot, slot + group.count
        if group.shape.file is None:
            continue
        where = f"publishers[{index}].shape.file: {group.shape.file}"
        routes = [contract.routes[index] for index in contract.publisher_routes(first)]
        try:
            data = read_bounded(folder / group.shape.file, MAX_BYTES)
            found[group.name] = parse(data, routes=routes, identity=profile.identity, speed=group.shape.speed)
        except ReplayError as error:
            problems += [f"{where}: {problem}" for problem in error.problems]
        except OSError as error:
            problems.append(f"{where}: {error.strerror}")
    if problems:
        raise BadInput(problems)
    return found
