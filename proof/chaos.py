"""Does Tickstorm survive its own death, and that of its servers?  Short runs, each with one victim at one instant.

Hands the moments to lanes, which work side by side.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from loadtests.model.errors import HarnessError
from proof.chaos_lane import LONGEST_S, Lane, Told
from proof.chaos_plan import ChaosMoment
from proof.running import ProofError

__all__ = ["Lane", "Told", "carry_out"]


def carry_out(
    moments: Sequence[ChaosMoment], lanes: Sequence[Lane], tell: Callable[[Told], None]
) -> tuple[list[Told], list[str]]:
    """All moments on the lanes side by side, each told when it is over; what could not be carried out, as sentences.

    The first lane begins with a run that nobody disturbs, beside the others as all later ones: it says how long judging
    takes here.  Raises ProofError where that run does not pass.
    """
    undisturbed: Future[float] = Future()
    for lane in lanes:
        lane.judging_s = undisturbed.result
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

    def first(lane: Lane) -> None:
        try:
            undisturbed.set_result(lane.control())
        except (HarnessError, OSError) as error:
            undisturbed.set_exception(error)
        finally:
            if not undisturbed.done():  # an error nobody foresaw: nobody may wait for ever
                undisturbed.set_exception(ProofError("the undisturbed run broke off"))
        if undisturbed.exception() is None:
            work(lane)
            return
        waiting.clear()
        for other in lanes[1:]:
            other.abort()

    threads = [threading.Thread(target=work, args=(lane,)) for lane in lanes[1:]]
    threads.append(threading.Thread(target=first, args=(lanes[0],)))
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
    undisturbed.result()
    return sorted(told, key=lambda each: each.moment.number), failed
