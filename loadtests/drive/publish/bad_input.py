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
from loadtests.drive.user_faults import Key, PlayedFault, UserFaultReading
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


class BadInputFault:
    """The bad messages of one publisher slot."""

    def __init__(self, context: RunContext, plan: SlotPlan) -> None:
        self._context, self._plan = context, plan
        self._sink = sink_of(context.profile.publishers[plan.group].sink)
        self._senders: dict[str, gevent.Greenlet[..., Any]] = {}
        self._connected: set[str] = set()

    @property
    def key(self) -> Key:
        """Its place and slot."""
        return PUBLISHERS, self._plan.slot

    def begin(self, play: PlayedFault) -> None:
        """Send them from now on."""
        self._senders[play.order.fault] = gevent.spawn(self._send, play)

    def finish(self, play: PlayedFault) -> None:
        """Send no more."""
        sender = self._senders.pop(play.order.fault, None)
        if sender is not None:
            sender.kill(block=False)

    def in_force(self, play: PlayedFault) -> bool:
        """Whether they are being sent."""
        return play.order.fault in self._senders and play.order.fault in self._connected

    def reading(self, play: PlayedFault) -> UserFaultReading | None:
        """A publisher reads nothing."""
        return None

    def close(self) -> None:
        """Send no more of any."""
        gevent.killall(list(self._senders.values()), block=False)
        self._senders.clear()

    def _send(self, play: PlayedFault) -> None:
        fault = play.order.fault
        t0_ns: int = self._context.t0.get()  # type: ignore[assignment]  # gevent says Optional for a get that does not block
        while fault in self._senders:
            try:
                sock = dial(self._context.addresses.redis, _ANSWER_S)
            except OSError:
                play.count("failed", self._plan.slot)
                gevent.sleep(_AGAIN_S)
                continue
            try:
                self._connected.add(fault)
                self._send_over(sock, play, t0_ns)
            except OSError:
                play.count("failed", self._plan.slot)
            finally:
                self._connected.discard(fault)
                sock.close()

    def _send_over(self, sock: Any, play: PlayedFault, t0_ns: int) -> None:
        clock, form = self._context.clock, str(play.order.asked["form"])
        share = float(play.order.asked.get("share", SHARE))
        channels = self._channels()
        seed = f"{self._context.profile.seed}:{play.order.fault}:{self._plan.slot}"
        bad = {channel: payloads(form, events, f"{seed}:{channel}") for channel, events in channels.items()}
        turn, since_ns, credit = 0, clock.now_ns(), 1.0  # one at once, or a rare publisher might send none
        names = sorted(channels)
        while play.order.fault in self._senders:
            now_ns = clock.now_ns()
            credit += share * self._plan.count(since_ns - t0_ns, now_ns - t0_ns)
            since_ns = now_ns
            count = min(int(credit), _AT_ONCE.get(form, _MOST_AT_ONCE))
            credit -= int(credit)  # what is beyond the bound is let go, not saved for a burst
            for _ in range(count):
                channel = names[turn % len(names)]
                turn += 1
                sock.sendall(command(*self._sink.words(channel.encode()), next(bad[channel])))
                play.count("sent", self._plan.slot)
            self._hear(sock, play, count)
            gevent.sleep(_TICK_S)

    def _hear(self, sock: Any, play: PlayedFault, count: int) -> None:
        with gevent.Timeout(_ANSWER_S, TimeoutError("no answer in time")):
            replies = replies_of(sock)
            while count > 0:
                reply, times = next(replies)
                for _ in range(times):
                    play.count("refused" if isinstance(reply, ErrorReply) else "acknowledged", self._plan.slot)
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
