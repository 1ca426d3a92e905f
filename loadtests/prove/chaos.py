"""Does Tickstorm survive its own death, and that of its servers?  Short runs, each with one victim at one instant.

Hands the moments to lanes, which work side by side.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from loadtests.model.errors import HarnessError
from loadtests.prove.chaos_lane import LONGEST_S, Lane, Told
from loadtests.prove.chaos_plan import Moment

__all__ = ["Lane", "Told", "carry_out"]


def carry_out(
    moments: Sequence[Moment], lanes: Sequence[Lane], tell: Callable[[Told], None]
) -> tuple[list[Told], list[str]]:
    """All moments on the lanes side by side, each told when it is over; what could not be carried out, as sentences.

    Raises ProofError where an undisturbed run does not pass.
    """
    judging_s = lanes[0].control()
    for lane in lanes:
        lane.judging_s = judging_s
    waiting, lock = deque(moments), threading.Lock()
    told: list[Told] = []
    failed: list[str] = []

    def work(lane: Lane) -> None:
        while True:
            with lock:
                if not waiting:
                    return
                moment = waiting.popleft()
            try:
                found = lane.moment(moment)
            except (HarnessError, OSError) as error:
                with lock:
                    failed.append(f"moment {moment.number} ({moment.victim}) could not be carried out: {error}")
                continue
            with lock:
                told.append(found)
                tell(found)

    threads = [threading.Thread(target=work, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except BaseException:  # Ctrl-C: what is on its way must be taken away before its stack is
        waiting.clear()
        for lane in lanes:
            lane.abort()
        for thread in threads:
            thread.join(LONGEST_S)
        raise
    return sorted(told, key=lambda each: each.moment.number), failed
