"""Output buffer: Redis closes every subscriber that is behind by more than so many kilobytes."""

from __future__ import annotations

import os
import socket

from loadtests.inject.deadline import Watch
from loadtests.inject.errors import ControlError
from loadtests.inject.kinds import on_redis
from loadtests.inject.kinds.kind import Kind, Site
from loadtests.inject.kinds.on_redis import RedisWitness, private_name
from loadtests.inject.passage import Touch
from loadtests.inject.probe_connection import Cut, connected
from loadtests.inject.proofs import Effective, Proof
from loadtests.model.injectwire import PlannedFault
from loadtests.model.logins import redis_login
from loadtests.model.records import ACTED, NOT_OBSERVABLE, NOTHING

SETTING = "client-output-buffer-limit"
COUNTER = "client_output_buffer_limit_disconnections"
MOST_BYTES = 64 * 2**20
"""No burst is larger. The kernel holds several MiB of it before Redis itself must."""

_MESSAGE = b"x" * 16 * 1024
_AT_ONCE = 16
_TIMEOUT_S = 3.0
_LOOK_S = 0.1


def _small(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


class OutputBufferWitness(RedisWitness):
    """A subscriber of our own, on a channel of its own, that never reads while a burst is published to it."""

    def __init__(self, site: Site, fault: PlannedFault) -> None:
        super().__init__(site, fault)
        self._closed_before: int | None = None

    def last_look(self) -> None:
        """How many Redis has closed so far: who is behind already is closed as soon as the limit holds."""
        try:
            self._closed_before = self.redis.info("stats", COUNTER)
        except ControlError:
            self._closed_before = None

    def during(self, watch: Watch) -> Proof:
        """Closed by Redis at the limit, and counted there, is proof; one that Redis keeps beyond it is none.

        It has met traffic when Redis closed other clients for it: it is watched for that to its end.
        """
        try:
            before = self.redis.info("stats", COUNTER)
            so_far = before if self._closed_before is None else self._closed_before
            effective: Effective = {"limit": self.redis.setting(SETTING).partition("pubsub ")[2]}
            with connected(self.redis.place, watch, _small) as slow:
                slow.settimeout(_TIMEOUT_S)
                sent, held, closed = self._burst(slow, watch)
            counted = self.redis.info("stats", COUNTER) - before
        except (ControlError, Cut, OSError, ValueError) as error:
            return Proof(proved=False, reason=f"the slow subscriber could not be played: {error}")
        effective |= {"burst_bytes": sent, "held_bytes": held, "disconnected": counted}
        effective["subscriber"] = "closed" if closed else "kept"
        if closed and counted:
            touch = self._others(so_far, watch)
            reason = "" if touch.touched == ACTED else touch.why
            return Proof(proved=True, effective={**effective, **touch.effective()}, reason=reason)
        why = f"Redis kept it with {held} bytes in its buffer, after a burst of {sent} bytes"
        return Proof(proved=False, effective=effective, reason=why)

    def _others(self, before: int, watch: Watch) -> Touch:
        """Whether Redis closed more than our own one."""
        while True:
            try:
                closed = self.redis.info("stats", COUNTER) - before - 1
            except ControlError as error:
                return Touch(touched=NOT_OBSERVABLE, why=str(error))
            if closed > 0 or not watch.pause(_LOOK_S):
                break
        why = "Redis closed no subscriber of the target: none was behind by so much"
        return Touch(touched=ACTED if closed > 0 else NOTHING, why=why, closed=max(0, closed))

    def _burst(self, slow: socket.socket, watch: Watch) -> tuple[int, int, bool]:
        """Bytes sent to it, the most that Redis was seen to hold for it, and whether Redis closed it."""
        if (login := redis_login(self.redis.address, os.environ)) is not None:
            slow.sendall(f"AUTH {login.user} {login.password}\r\n".encode())
            slow.recv(64)
        slow.sendall(b"CLIENT ID\r\n")
        number = int(slow.recv(64).strip(b":\r\n"))
        channel = private_name()
        slow.sendall(f"SUBSCRIBE {channel}\r\n".encode())
        slow.recv(4096)  # the confirmation; from here on it reads no more
        batch = [("PUBLISH", channel, _MESSAGE)] * _AT_ONCE
        sent = held = 0
        enough = limit_bytes(self.fault) + 2 * _AT_ONCE * len(_MESSAGE)
        while held <= enough and sent < MOST_BYTES and not watch.over:
            heard = self.redis.ask_all(batch)
            sent += sum(int(count) for count in heard) * len(_MESSAGE)
            who = self.redis.clients().get(number)
            if who is None:
                return sent, held, True
            held = max(held, int(who.get("omem", 0)))
        return sent, held, False


def limit_bytes(fault: PlannedFault) -> int:
    """The hard limit that was asked."""
    return int(fault.asked["limit_kb"]) * 1024


def _problems(fault: PlannedFault) -> list[str]:
    limit = fault.asked.get("limit_kb")
    fits = isinstance(limit, int) and limit >= 1
    return [] if fits else [f"limit_kb {limit!r}: a whole number of at least 1 is needed"]


def _wanted(fault: PlannedFault) -> str:
    return f"pubsub {limit_bytes(fault)} 0 0"


def _not_in_force(site: Site, fault: PlannedFault) -> list[str]:
    now = site.the_redis().setting(SETTING)
    return [] if _wanted(fault) in now else [f'{SETTING} is "{now}", asked was "{_wanted(fault)}"']


KIND = Kind(
    name="output-buffer",
    problems=_problems,
    holds=lambda _: frozenset({f"redis {SETTING}"}),
    undo_of=lambda site, _fault: on_redis.remember(site, SETTING),
    apply=lambda site, fault: site.the_redis().set(client_output_buffer_limit=_wanted(fault)),
    not_in_force=_not_in_force,
    witness=OutputBufferWitness,
    undo=on_redis.restore,
    remaining=on_redis.remaining,
    escalations=on_redis.escalations,
)
