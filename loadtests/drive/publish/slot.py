"""What does one publisher slot send, and what became of it?  Its place in the plan, its streams, its open commands.

Theory of operation.  Open loop: a message stays due while the slot cannot send.  `pump` sends what is due, in sends of
at most MOST_AT_ONCE messages of one due slice, and keeps each send in `_open` until Redis answered it.  A planned
message becomes one of these:

    OK            answered
    FAILED        an error reply; blocked for longer than the delivery limit (it gets a `seq`); cut in two by a break
    UNKNOWN       sent, but the connection broke or no answer came in time
    not offered   late by our own doing for more than a second: no `seq`, and counted in bulk

Example: two commands may be open; messages are due at 0, 1 and 2 ms.

    pump, 2 ms         the first two leave in one send, own lag 2 and 1 ms; the third has no room
    replies, 3 ms      ":5" twice: both OK, and the slot is woken
    pump, 3 ms         the third leaves, own lag 1 ms: how many commands may be open is our choice
    lost, 4 ms         the third is UNKNOWN; the next connection begins epoch + 1, with `seq` from 0

Invariants:
- Replies answer commands in order, and at most `outstanding` of them are open.
- The `seq` of a stream are gapless in the order of sending: what the kernel did not take is taken back.
- Waiting for answers is own lag while they come promptly, else blocked.
- Everything runs in the hub or in the user's greenlet, and never waits.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from gevent.event import Event

from loadtests.drive.publish.commands import Commands
from loadtests.drive.publish.redis_connection import RedisConnection
from loadtests.drive.publish.resp import ErrorReply, Reply
from loadtests.model.ids import MAX_EPOCHS, NS_PER_S, SLICE_NS
from loadtests.model.records import RunClock
from loadtests.plan.workload import Block, SlotPlan
from loadtests.tally.histogram import Times
from loadtests.tally.publishing import Outcome, PublishTally

OWN_LAG_LIMIT_NS = NS_PER_S
MOST_AT_ONCE = 500
"""Messages of one send, a quarter of a millisecond: more would make their one `sent` stamp untrue."""

_LOOK_AGAIN_NS = 20_000_000
_PROMPT_NS = 20_000_000  # an answer that takes no longer is no backpressure
_LAST_BUDGET = 10_000
_SKIP_AGAIN_NS = NS_PER_S // 4
_SKIP_AHEAD_NS = NS_PER_S // 10

Answered = Callable[[str, int, int, int], None]
"""channel, reply time in ns, messages, bytes: for the live display."""
Failed = Callable[[str, str, int], None]
"""channel, why, messages: for the live display."""


@dataclass(slots=True)
class _Open:
    """Messages of one send and due slice that wait for their answers, in order."""

    due_slice: int
    sent_ns: int
    routes: list[int]
    seqs: list[int]
    size: int  # bytes of a command, about
    answered: int = 0


class Slot:
    """A publisher slot that this process holds."""

    def __init__(
        self,
        *,
        plan: SlotPlan,
        epoch: int,
        commands: Commands,
        clock: RunClock,
        tally: PublishTally,
        outstanding: int,
        late_ns: int,
        reply_timeout_ns: int,
        answered: Answered,
        failed: Failed,
        wake: Callable[[Slot], None],
    ) -> None:
        self.plan, self.epoch = plan, epoch
        self.connection: RedisConnection | None = None
        self.went = Event()  # the connection was lost, or nothing more is to be done
        self.outstanding = 0
        self.wake_ns: int | None = None  # when the scheduler is to call `pump`; it alone writes this
        self._commands, self._clock, self._tally = commands, clock, tally
        self._limit, self._late_ns, self._reply_timeout_ns = outstanding, late_ns, reply_timeout_ns
        self._answered, self._failed, self._wake = answered, failed, wake
        self._open: deque[_Open] = deque()
        self._backpressure = Backpressure()
        self._streams = commands.streams(plan.slot, epoch, tally)
        self._outcome = commands.sink.outcome
        self._cursor = Cursor(plan)
        self._crowded = False  # as many commands are open as may be: an answer makes room
        self._over = False
        self._skipped_ns = -NS_PER_S  # when messages were let go for our own lag

    @property
    def done(self) -> bool:
        """The plan is finished or stopped, and no answer is missing."""
        cursor = self._cursor
        return not self.outstanding and (self._over or (cursor.t0_ns is not None and cursor.head() is None))

    @property
    def exhausted(self) -> bool:
        """All epochs that a stream's name has room for are used up."""
        return self._streams.used and self.epoch + 1 >= MAX_EPOCHS

    @property
    def next_epoch(self) -> int:
        """The first epoch that the slot's next holder may use."""
        return self.epoch + 1 if self._streams.used else self.epoch

    def begin(self, t0_ns: int, now_ns: int) -> None:
        """T0 is known: start there, or at `now` where that is later."""
        self._cursor.begin(t0_ns, now_ns)

    def replan(self, from_ns: int) -> None:
        """The plan changed from a moment after T0 on, which lies ahead; what came before is as it was."""
        self._cursor.replan(from_ns)

    def stop(self) -> None:
        """Send what is due this moment, offer nothing more; what is out is still waited for. Safe to repeat."""
        if not self._over:
            now = self._clock.now_ns()
            self.pump(now, _LAST_BUDGET)
            for _ in range(_LAST_BUDGET):
                head = self._cursor.head()
                if head is None or head > now:
                    break
                self._drop(head, now)
            self._skip(now + 1)
        self._over = True
        if not self.outstanding:
            self.went.set()

    def attach(self, connection: RedisConnection) -> None:
        """A new connection is a new epoch, with fresh streams, unless the present one was never used."""
        if self._streams.used:
            self.epoch += 1
            self._streams = self._commands.streams(self.plan.slot, self.epoch, self._tally)
        self.connection = connection
        self.went.clear()

    def lost(self, why: str) -> None:
        """The connection broke: commands without an answer are UNKNOWN, one that was cut in two surely failed."""
        connection, self.connection = self.connection, None
        if connection is not None:
            now = self._clock.now_ns()
            cut = bool(connection.rest)
            connection.close()
            left = self.outstanding
            for entry in self._open:
                for at in range(entry.answered, len(entry.seqs)):
                    left -= 1
                    outcome: Outcome = "FAILED" if cut and not left else "UNKNOWN"
                    self._settled(entry, at, outcome, now, why)
            self._open.clear()
            self.outstanding = 0
            self._backpressure.block(now)
            self._wake(self)
        self.went.set()

    def pump(self, until_ns: int, budget: int) -> int:
        """Send what is due by `until_ns`, at most about `budget` messages; says how many were dealt with.

        What becomes due meanwhile waits for the next turn: chasing it would end in a send for every message.
        """
        now = self._clock.now_ns()
        self._mind_the_answers(now)
        dealt = 0
        while dealt < budget and not self._over:
            head = self._cursor.head()
            if head is None or head > until_ns:
                self._backpressure.caught_up()
                self._crowded = False
                break
            if now - head > self._patience and (overdue := self._drop_some(head, now, budget - dealt)):
                dealt += overdue
                continue
            connection = self._ready(now, look=True)
            if connection is None:
                break
            self._backpressure.release(now)
            sent = self._send(connection, min(until_ns, now), now, budget - dealt)
            if not sent:
                break
            dealt += sent
            now = self._clock.now_ns()
        return dealt

    def next_wake_ns(self, now_ns: int) -> int | None:
        """When `pump` has something to do again, as far as is known now."""
        wakes = [self._open[0].sent_ns + self._reply_timeout_ns] if self._open else []
        head = None if self._over else self._cursor.head()
        if head is not None:
            if head > now_ns or self._ready(now_ns) is not None:
                wakes.append(head)
            elif self._crowded:
                wakes.append(now_ns + _LOOK_AGAIN_NS)
            else:
                # What frees the slot wakes it, if it is known to be blocked; until then only the head's age matters.
                wakes.append(max(now_ns, head + self._patience) + _LOOK_AGAIN_NS)
        return min(wakes, default=None)

    def replies(self, found: list[tuple[Reply, int]]) -> None:
        """Answers, in the order of the commands."""
        now = self._clock.now_ns()
        for reply, count in found:
            outcome = self._outcome(reply)
            if count > self.outstanding or outcome is None:
                self.lost(f"an answer that nothing asked for: {str(reply)[:80]}")
                return
            left = count
            while left:
                left -= self._settle(self._open[0], outcome, left, now)
        if self._backpressure.open or self._crowded or self.done:
            self._wake(self)

    # -- the plan

    def _ready(self, now: int, *, look: bool = False) -> RedisConnection | None:
        """The connection, if it can take something; else the cause is noted: link or target, or our own limit."""
        if look and self.connection is not None and self.outstanding >= self._limit:
            self.connection.read()  # what has come already is no reason to wait
        connection = self.connection
        if connection is not None and not connection.full:
            if self.outstanding < self._limit:
                self._crowded = False
                return connection
            if not self._backpressure.open and self._open and now - self._open[0].sent_ns <= _PROMPT_NS:
                self._crowded = True
                return None
        self._crowded = False
        self._backpressure.block(now)
        return None

    @property
    def _patience(self) -> int:
        return min(self._late_ns, OWN_LAG_LIMIT_NS)

    def _drop_some(self, head: int, now: int, most: int) -> int:
        """Let the overdue head go if it is too late for it, and who shares its fate; 0 = it is to be sent."""
        ours = self._backpressure.own_before(now, OWN_LAG_LIMIT_NS)
        if head < ours:
            # Who cannot keep up at all would skip before every send, and plan each time what is skipped next.
            again = now - self._skipped_ns < _SKIP_AGAIN_NS
            self._skipped_ns = now
            return self._skip(ours + _SKIP_AHEAD_NS if again else ours)
        if self._backpressure.of(head, now) and now - head > self._late_ns:
            return self._drop(head, now, most)
        return 0

    def _skip(self, until_ns: int) -> int:
        """Let go, not offered, all that is due before a moment; it costs no more than one message and counts as one."""
        for due_slice, count in self._cursor.skip(until_ns):
            self._tally.not_offered(self.plan.group, due_slice, count)
        return 1

    def _drop(self, head: int, now: int, most: int = 1) -> int:
        """Account the head without sending it: not offered if this process is to blame, else FAILED.

        What failed like it goes with it: what follows in its slice, was blocked too and is as much too late.
        """
        cursor, group, due_slice = self._cursor, self.plan.group, head // SLICE_NS
        blocked = self._backpressure.of(head, now)
        if not blocked or now - head - blocked > OWN_LAG_LIMIT_NS:
            self._tally.not_offered(group, due_slice)
            cursor.at += 1
            return 1
        assert cursor.t0_ns is not None
        t0, at, due_ns = cursor.t0_ns, cursor.at, cursor.block.due_ns
        too_late = min(now - self._late_ns, (due_slice + 1) * SLICE_NS)
        end = bisect_left(due_ns, too_late - t0, at + 1, max(at + 1, min(len(due_ns), at + most)))
        due = cursor.block.times[at:end] + t0
        blocked_ns = self._backpressure.of_each(due, now)
        assert blocked_ns is not None
        count = int(np.count_nonzero(blocked_ns))  # the earlier one is due, the longer it was blocked
        self._tally.sent(group, due_slice, due[:count], now, blocked_ns[:count])
        for route, of_it in Counter(cursor.block.routes[at : at + count]).items():
            stream, seq, channel = self._streams.give_up(route, (due_slice, now // SLICE_NS), of_it)
            self._tally.settled(stream, seq, "FAILED", now, count=of_it)
            self._failed(channel, "not sent within the delivery limit", of_it)
        cursor.at += count
        return count

    # -- sending

    def _send(self, connection: RedisConnection, until_ns: int, now: int, most: int) -> int:
        cursor, block = self._cursor, self._cursor.block
        assert cursor.t0_ns is not None
        t0, due_ns, at = cursor.t0_ns, block.due_ns, cursor.at
        room = min(MOST_AT_ONCE, most, self._limit - self.outstanding)
        due_slice = (t0 + due_ns[at]) // SLICE_NS
        end = bisect_right(due_ns, until_ns - t0, at, min(len(due_ns), at + room))
        end = bisect_left(due_ns, (due_slice + 1) * SLICE_NS - t0, at, end)
        due = block.times[at:end] + t0
        made = self._streams.build(block.routes[at:end], due, now, block.rows[at:end], (due_slice, now // SLICE_NS))
        try:
            count = connection.send(made.data, made.commands)
        except OSError as error:
            self._streams.take_back(made, 0)
            self.lost(f"{type(error).__name__}: {error}")
            return 0
        left = self._clock.now_ns()
        if count < len(made.seqs):
            self._streams.take_back(made, count)
            self._backpressure.block(left)
            if not count:
                return 0
        if count < len(due):
            due = due[:count]
        cursor.at += count
        self._tally.sent(self.plan.group, due_slice, due, left, self._backpressure.of_each(due, left))
        self._open.append(_Open(due_slice, now, made.routes, made.seqs, len(made.data) // len(made.seqs)))
        self.outstanding += count
        return count

    # -- answers

    def _settle(self, entry: _Open, reply: int | ErrorReply, left: int, now: int) -> int:
        first = entry.answered
        count = min(left, len(entry.seqs) - first)
        if isinstance(reply, ErrorReply):
            for at in range(first, first + count):
                self._settled(entry, at, "FAILED", now, reply.text)
        else:
            self._tally.answered(self.plan.group, entry.due_slice, reply, count)
            for channel, of_it in self._streams.channels(entry.routes[first : first + count]).items():
                self._answered(channel, now - entry.sent_ns, of_it, of_it * entry.size)
        entry.answered += count
        self.outstanding -= count
        if entry.answered == len(entry.seqs):
            self._open.popleft()
        return count

    def _settled(self, entry: _Open, at: int, outcome: Outcome, now: int, why: str) -> None:
        stream, channel = self._streams.stream(entry.routes[at])
        self._tally.settled(stream, entry.seqs[at], outcome, now, why)
        self._failed(channel, why, 1)

    def _mind_the_answers(self, now: int) -> None:
        if self._open and now - self._open[0].sent_ns > self._reply_timeout_ns and self.connection is not None:
            # The hub may have been late, not Redis: what has come is read first.
            self.connection.read()
            if self._open and now - self._open[0].sent_ns > self._reply_timeout_ns:
                self.lost("no answer in time")


_NOTHING = Block([], [], [])


class Cursor:
    """A place in one slot's plan. Times of `block` count from T0, all others are those of the run clock."""

    __slots__ = ("_number", "at", "block", "plan", "t0_ns")

    def __init__(self, plan: SlotPlan) -> None:
        self.plan = plan
        self.t0_ns: int | None = None
        self.block = _NOTHING
        self.at = 0
        self._number = -1

    def begin(self, t0_ns: int, now_ns: int) -> None:
        """T0 is known: start there, or at `now` where that is later."""
        self.t0_ns = t0_ns
        self._go(max(0, now_ns - t0_ns))

    def head(self) -> int | None:
        """Due time of the next message; None before T0 and behind the end of the plan."""
        if self.t0_ns is None:
            return None
        while self.at >= len(self.block.due_ns):
            following = self.plan.next_block(self._number + 1) if self._number < self.plan.blocks else None
            self._number = self.plan.blocks if following is None else following
            self.block = _NOTHING if following is None else self.plan.block(following)
            self.at = 0
            if following is None:
                return None
        return self.t0_ns + self.block.due_ns[self.at]

    def skip(self, until_ns: int) -> Iterator[tuple[int, int]]:
        """Go on to the first message due at `until` or later: (due slice, how many) of those that are passed over."""
        head = self.head()
        if head is None or self.t0_ns is None or head >= until_ns:
            return
        end = min(until_ns - self.t0_ns, self.plan.span_ns)
        due, start = self.block.due_ns, head - self.t0_ns
        first = bisect_left(due, end, self.at)
        passed: dict[int, int] = {}
        at = self.at
        while at < first:
            place = (self.t0_ns + due[at]) // SLICE_NS
            stop = bisect_left(due, (place + 1) * SLICE_NS - self.t0_ns, at, first)
            passed[place] = passed.get(place, 0) + stop - at
            at = stop
        start = (self._number + 1) * self.plan.block_ns
        if first < len(due) or start >= end:
            self.at = first
        else:
            while start < end:
                place = (self.t0_ns + start) // SLICE_NS
                stop = min(end, (place + 1) * SLICE_NS - self.t0_ns)
                count = self.plan.count(start, stop)
                if count:
                    passed[place] = passed.get(place, 0) + count
                start = stop
            self._go(end)
        yield from passed.items()

    def replan(self, from_ns: int) -> None:
        """The plan changed from a moment after T0 on: up to there a block is as it was, `at` messages dealt with."""
        if self.t0_ns is None:
            return
        if self._number < self.plan.blocks and self._number * self.plan.block_ns < from_ns:
            self.block = self.plan.block(self._number)
        else:
            self._go(from_ns)

    def _go(self, since_ns: int) -> None:
        self._number = since_ns // self.plan.block_ns
        self.block = self.plan.block(self._number) if self._number < self.plan.blocks else _NOTHING
        self.at = bisect_left(self.block.due_ns, since_ns)


class Backpressure:
    """The open stretch of blocked time of one publisher; times are ns of the run clock."""

    __slots__ = ("_began", "_blocked", "_from", "_until")

    def __init__(self) -> None:
        self._from: int | None = None
        self._until: int | None = None  # end of the allowance; None while blocked
        self._began = 0
        self._blocked = 0

    @property
    def open(self) -> bool:
        """Whether a message may owe some of its delay to a block."""
        return self._from is not None

    def block(self, now_ns: int) -> None:
        """Pushed back from now on; safe to repeat."""
        if self._from is None or (self._until is not None and now_ns > self._until):
            self._from, self._blocked = now_ns, 0
        elif self._until is None:
            return
        self._began, self._until = now_ns, None

    def release(self, now_ns: int) -> None:
        """Sending is possible again; safe to repeat."""
        if self._from is not None and self._until is None:
            self._blocked += now_ns - self._began
            self._until = now_ns + self._blocked

    def caught_up(self) -> None:
        """Nothing is overdue: whatever is late from here on has a new reason."""
        self._from = self._until = None

    def own_before(self, now_ns: int, limit_ns: int) -> int:
        """What was due before this moment has by now more than so much own lag, whatever it owes to a block."""
        if self._from is None:
            return now_ns - limit_ns
        end = now_ns if self._until is None else min(now_ns, self._until)
        if now_ns - end > limit_ns:
            return now_ns - limit_ns
        return min(self._from, now_ns - limit_ns - (end - self._from))

    def of(self, due_ns: int, now_ns: int) -> int:
        """Blocked part of due -> now; the rest is own lag."""
        if self._from is None:
            return 0
        end = now_ns if self._until is None else min(now_ns, self._until)
        return max(0, end - max(due_ns, self._from))

    def of_each(self, due_ns: Times, now_ns: int) -> Times | None:
        """`of` many at once; None: nothing is blocked of any."""
        if self._from is None:
            return None
        end = now_ns if self._until is None else min(now_ns, self._until)
        blocked: Times = np.maximum(end - np.maximum(due_ns, self._from), 0)
        return blocked
