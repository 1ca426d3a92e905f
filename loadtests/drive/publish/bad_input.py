"""What does a publisher send on which no subscriber should choke?  Beside its plan, on its own channels, never counted.

It has a connection of its own, so that the plan's answers stay apart; Redis acknowledges the messages, and what the
target makes of them its own statistics say.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import gevent

from loadtests.drive.publish.redis_connection import dial, replies_of
from loadtests.drive.publish.resp import ErrorReply, command
from loadtests.drive.publish.sink import sink_of
from loadtests.drive.user_faults import FaultPlayer, PlayedFault, UserFault
from loadtests.model.profile.faults import PUBLISHERS

if TYPE_CHECKING:
    from loadtests.drive.run_context import RunContext
    from loadtests.plan.workload import SlotPlan

OVERSIZE_BYTES: Final = 1_100_000
"""More than the megabyte that a subscriber may be expected to take; at most so much at once is kept in memory."""
SHARE: Final = 0.01  # of the planned messages, where the fault names none
_TICK_S: Final = 0.1
_AT_ONCE: Final = {"oversize": 2}  # messages of a tick and publisher: 22 MB/s are enough to choke on
_MOST_AT_ONCE: Final = 500
_ANSWER_S: Final = 2.0
_AGAIN_S: Final = 0.2


def payloads(form: str, events: Sequence[str], seed: str) -> Iterator[bytes]:
    """Bad messages without end; `events` are the event types that the channel knows. Raises KeyError for a form."""
    make = _FORMS[form]
    draw = random.Random(seed)
    while True:
        yield make(draw, events)


def _whole(draw: random.Random, event: str) -> bytes:
    return json.dumps({"event_type": event, "symbol": f"TEST_{draw.randrange(10_000):04d}", "source": "bad"}).encode()


def _malformed(draw: random.Random, events: Sequence[str]) -> bytes:
    whole = _whole(draw, draw.choice(events))
    cut = draw.randrange(1, len(whole))
    return draw.choice((whole[:cut], whole + b"}", b"\xff\xfe" + whole, b"", b"not JSON at all"))


def _oversize(draw: random.Random, events: Sequence[str]) -> bytes:
    whole = _whole(draw, draw.choice(events))
    return whole[:-1] + b', "pad": "' + b"x" * (OVERSIZE_BYTES - len(whole)) + b'"}'


def _unknown(draw: random.Random, events: Sequence[str]) -> bytes:
    return _whole(draw, f"unheard_of_{draw.randrange(100)}")


_FORMS: Final[dict[str, Callable[[random.Random, Sequence[str]], bytes]]] = {
    "malformed": _malformed,
    "oversize": _oversize,
    "unknown": _unknown,
}


class PublisherFaults(FaultPlayer[UserFault]):
    """The faults that one publisher slot plays."""

    def __init__(self, context: RunContext, plan: SlotPlan) -> None:
        super().__init__((PUBLISHERS, plan.slot))
        self.context, self.plan = context, plan
        self.sink = sink_of(context.profile.publishers[plan.group].sink)

    def close(self) -> None:
        """Play none any more."""
        for fault in list(self.faults.values()):
            self.finish(fault.play)


class BadInput(UserFault):
    """Sends bad messages beside the plan."""

    user: PublisherFaults

    def __init__(self, user: PublisherFaults, play: PlayedFault) -> None:
        super().__init__(user, play)
        self._context, self._plan = user.context, user.plan
        self._sender: gevent.Greenlet[..., Any] | None = None
        self._connected = False

    def begin(self) -> None:
        """Send them from now on."""
        self._sender = gevent.spawn(self._send)

    def finish(self) -> None:
        """Send no more."""
        if self._sender is not None:
            self._sender.kill(block=False)

    @property
    def in_force(self) -> bool:
        """Whether they are being sent."""
        return self._connected

    def _send(self) -> None:
        t0_ns: int = self._context.t0.get()  # type: ignore[assignment]  # gevent says Optional for a get that does not block
        while True:
            try:
                sock = dial(self._context.addresses.redis, _ANSWER_S)
            except OSError:
                self.play.count("failed", self._plan.slot)
                gevent.sleep(_AGAIN_S)
                continue
            try:
                self._connected = True
                self._send_over(sock, t0_ns)
            except OSError:
                self.play.count("failed", self._plan.slot)
            finally:
                self._connected = False
                sock.close()

    def _send_over(self, sock: Any, t0_ns: int) -> None:
        play, clock, form = self.play, self._context.clock, str(self.play.order.asked["form"])
        share = float(play.order.asked.get("share", SHARE))
        channels = self._channels()
        seed = f"{self._context.profile.seed}:{play.order.fault}:{self._plan.slot}"
        bad = {channel: payloads(form, events, f"{seed}:{channel}") for channel, events in channels.items()}
        turn, since_ns, credit = 0, clock.now_ns(), 1.0  # one at once, or a rare publisher might send none
        names = sorted(channels)
        while True:
            now_ns = clock.now_ns()
            credit += share * self._plan.count(since_ns - t0_ns, now_ns - t0_ns)
            since_ns = now_ns
            count = min(int(credit), _AT_ONCE.get(form, _MOST_AT_ONCE))
            credit -= int(credit)  # what is beyond the bound is let go, not saved for a burst
            for _ in range(count):
                channel = names[turn % len(names)]
                turn += 1
                sock.sendall(command(*self.user.sink.words(channel.encode()), next(bad[channel])))
                play.count("sent", self._plan.slot)
            self._hear(sock, count)
            gevent.sleep(_TICK_S)

    def _hear(self, sock: Any, count: int) -> None:
        with gevent.Timeout(_ANSWER_S, TimeoutError("no answer in time")):
            replies = replies_of(sock)
            while count > 0:
                reply, times = next(replies)
                for _ in range(times):
                    self.play.count("refused" if isinstance(reply, ErrorReply) else "acknowledged", self._plan.slot)
                count -= times

    def _channels(self) -> dict[str, list[str]]:
        contract = self._context.contract
        found: dict[str, list[str]] = {}
        for route in contract.publisher_routes(self._plan.slot):
            known = contract.routes[route]
            events = found.setdefault(known.channel, [])
            if known.event not in events:
                events.append(known.event)
        return found
