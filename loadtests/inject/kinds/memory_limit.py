"""Memory limit: the kernel refuses a service address space beyond so much (RLIMIT_AS), and the service must cope.

Where that can be asked without ending the service, the proof is an allocation that is refused.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import psutil

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError, NotAllowedHere, Refused
from loadtests.inject.kinds.kind import Kind, Site, Undo
from loadtests.inject.kinds.on_service import (
    ServiceWitness,
    company,
    escalations,
    family_of,
    remember,
    remembered,
)
from loadtests.inject.proofs import Effective, Proof
from loadtests.inject.servers import OUT_OF_MEMORY, SqlRefused
from loadtests.model.fault_kinds import NOT_ALLOWED_HERE
from loadtests.model.injectwire import PlannedFault

MIB = 2**20
MOST_BYTES = 1_000 * MIB
"""No proof asks a server for more than this at once."""

_BEYOND = 16 * MIB
_PROGRAM_S = 5.0
_LOOKS_S = 1.0
_NONE_HERE = f"{NOT_ALLOWED_HERE}this system cannot limit the memory of a process that runs"
_LIMIT = getattr(psutil, "RLIMIT_AS", None)  # Linux alone


class MemoryLimitWitness(ServiceWitness):
    """Reads the limit from the kernel, and asks the server for more than it may have."""

    def __init__(self, site: Site, fault: PlannedFault) -> None:
        super().__init__(site, fault)
        self.fault = fault

    def during(self, _: Watch) -> Proof:
        """A refused allocation is proof; a limit that was only read back is not."""
        try:
            family = family_of(self.site, self.fault)
            first = family[0].memory_info()
        except (ControlError, psutil.Error) as error:
            return Proof(proved=False, reason=f"it does not run any more: {error}")
        limit = limit_bytes(self.fault)
        effective: Effective = {
            "limit_mb": _mb(told(family[0].pid)[0]),
            "mechanism": "RLIMIT_AS",
            "processes": len(family),
            "address_space_mb": round(first.vms / MIB, 1),
            "rss_mb": round(first.rss / MIB, 1),
        }
        size = max(0, limit - first.vms) + (first.vms - first.rss) + _BEYOND
        if self.name not in ("redis", "postgres"):
            reason = f"the limit is read back, but nothing can ask {self.name} for memory without ending it"
            return Proof(proved=False, effective=effective, reason=reason)
        if size > MOST_BYTES or size > psutil.virtual_memory().available:
            reason = f"an allocation of {size // MIB} MiB would be needed to meet the limit; none so large is tried"
            return Proof(proved=False, effective=effective, reason=reason)
        refused = self._refused(size)
        effective |= {
            "asked_for_mb": round(size / MIB, 1),
            "allocation": "refused" if refused == "" else refused or "granted",
        }
        proved = refused == ""
        reason = "" if proved else refused or f"it was granted {size // MIB} MiB more"
        return Proof(proved=proved, effective=effective, reason=reason)

    def _refused(self, size: int) -> str | None:
        """None: granted; empty: refused for want of memory; else what went wrong."""
        try:
            if self.name == "redis":
                self.site.the_redis().ask("EVAL", "return #string.rep('x', ARGV[1])", 0, size)
            else:  # a new session is a new process, which inherits the limit
                self.site.the_postgres().ask("SELECT length(repeat('x', %s))", (size,), admin=False)
        except SqlRefused as error:
            return "" if error.code == OUT_OF_MEMORY or "out of memory" in str(error).lower() else str(error)
        except Refused as error:
            return "" if "not enough memory" in str(error) else str(error)
        except ControlError as error:
            return str(error)
        return None


def _mb(limit: int) -> float | None:
    return None if limit < 0 else round(limit / MIB, 1)


def limit_bytes(fault: PlannedFault) -> int:
    """What was asked."""
    return int(fault.asked["memory_mb"]) * MIB


def told(pid: int) -> tuple[int, int]:
    """Soft and hard limit in bytes as the kernel tells them, -1 for none. Raises Refused where it tells nothing."""
    try:
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    except PermissionError as error:
        raise NotAllowedHere(f"the limits of process {pid} may not be read: {error.strerror}") from error
    except OSError as error:
        raise Refused(f"the limits of process {pid} cannot be read: {error.strerror}") from error
    words = next(line.split() for line in lines if line.startswith("Max address space"))
    soft, hard = (-1 if word == "unlimited" else int(word) for word in words[3:5])
    return soft, hard


def _problems(fault: PlannedFault) -> list[str]:
    wanted = fault.asked.get("memory_mb")
    fits = isinstance(wanted, int) and wanted >= 1
    found = [] if fits else [f"memory_mb {wanted!r}: a whole number of at least 1 is needed"]
    return found if _LIMIT is not None else [_NONE_HERE, *found]


def _undo_of(site: Site, fault: PlannedFault) -> Undo:
    undo = remember(site, fault)
    soft, hard = told(family_of(site, fault)[0].pid)
    return undo | {"soft": str(soft), "hard": str(hard)}


def _limit(processes: list[psutil.Process], soft: int, hard: int) -> None:
    for process in processes:
        try:
            process.rlimit(_LIMIT or 0, (soft, hard))
        except psutil.NoSuchProcess:
            continue
        except psutil.AccessDenied:
            _limit_as_owner(process, soft, hard)
        except (OSError, ValueError) as error:
            raise Refused(f"the limit of process {process.pid} may not be changed: {error}") from error


def _limit_as_owner(process: psutil.Process, soft: int, hard: int) -> None:
    """Even root may need a capability to limit a process of another user; its owner needs none."""
    program, values = shutil.which("prlimit"), ":".join("unlimited" if n < 0 else str(n) for n in (soft, hard))
    try:
        uid, gid = process.uids().real, process.gids().real
        if program is None or os.geteuid() not in (0, uid):
            raise NotAllowedHere(f"the limit of process {process.pid} may not be changed: it belongs to the user {uid}")
        done = subprocess.run(
            [program, f"--pid={process.pid}", f"--as={values}"],
            user=uid,
            group=gid,
            extra_groups=[],
            capture_output=True,
            timeout=_PROGRAM_S,
            check=False,
        )
    except psutil.NoSuchProcess:
        return
    except PermissionError as error:
        raise NotAllowedHere(f"the limit of process {process.pid} may not be changed: {error.strerror}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"the limit of process {process.pid} could not be changed: {error}") from error
    if done.returncode and process.is_running():
        said = done.stderr.decode("utf-8", "replace").strip()
        denied = os.strerror(errno.EPERM) in said
        raise (NotAllowedHere if denied else Refused)(f"the limit of process {process.pid} was not changed: {said}")


def _apply(site: Site, fault: PlannedFault) -> None:
    """Until none is without it: one that was just being forked has what its parent had then."""
    watch = Watch.of_s(_LOOKS_S)
    while True:
        family = family_of(site, fault)
        _limit(family, limit_bytes(fault), told(family[0].pid)[1])
        if not _not_in_force(site, fault) or not watch.pause():
            return


def _not_in_force(site: Site, fault: PlannedFault) -> list[str]:
    asked, found = limit_bytes(fault), []
    for process in family_of(site, fault):
        try:
            soft = told(process.pid)[0]
        except Refused:
            continue  # it ended just now
        if soft != asked:
            found.append(f"process {process.pid} may have {soft} bytes, asked was {asked}")
    return found


def _undo(_: Site, entry: Undo) -> None:
    _limit(remembered(entry), int(str(entry["soft"])), int(str(entry["hard"])))


def _remaining(_: Site, entry: Undo) -> list[str]:
    """A process forked while the limit was lifted may have it still, so it looks twice."""
    left: list[str] = []
    watch = Watch.of_s(_LOOKS_S)
    while not watch.over:
        left = []
        for process in remembered(entry):
            try:
                soft = told(process.pid)[0]
            except Refused:
                continue  # it ended just now
            if soft != int(str(entry["soft"])):
                left.append(f"process {process.pid} of {entry['service']} may still have {soft} bytes alone")
        if not left:
            return []
        _undo(_, entry)
        watch.pause()
    return left


KIND = Kind(
    name="memory-limit",
    problems=_problems,
    holds=lambda fault: frozenset({f"memory {fault.link}"}),
    undo_of=_undo_of,
    apply=_apply,
    not_in_force=_not_in_force,
    witness=MemoryLimitWitness,
    undo=_undo,
    remaining=_remaining,
    escalations=escalations,
    meets=company,
    looks="at its end",  # it goes through all processes of the machine, too dear beside a measurement
)
