"""Runs WebSocketClient under a real Locust runner in a process of its own: a plan, a report as last line."""

from __future__ import annotations

import locust  # first: it patches the process  # isort: skip
import json
from typing import Any

import gevent
from locust.env import Environment
from locust.stats import StatsEntry

from loadtests.capture.clock import MonotonicClock
from loadtests.drive.consume.consumer import WebSocketClient
from loadtests.drive.consume.receiver import Receiver
from loadtests.drive.locust_stats import merge
from loadtests.drive.run_context import Addresses, Lease, NoSlot, RunContext
from loadtests.model.contract import Contract
from loadtests.model.profile.profile import Profile


class Slots:
    """Lowest free slot first, epochs remembered."""

    def __init__(self) -> None:
        self.held: set[int] = set()
        self.next: dict[int, int] = {}
        self.back: list[tuple[int, int]] = []

    def take(self, kind: str) -> Lease:
        assert kind == "consumer"
        slot = next(n for n in range(10_000) if n not in self.held)
        if slot >= 6:
            raise NoSlot
        self.held.add(slot)
        return Lease(kind="consumer", slot=slot, epoch=self.next.get(slot, 0))

    def give_back(self, lease: Lease, next_epoch: int) -> None:
        self.held.remove(lease.slot)
        self.next[lease.slot] = next_epoch
        self.back.append((lease.slot, next_epoch))


def wait(condition: Any, what: str) -> None:
    with gevent.Timeout(20, TimeoutError(what)):
        while not condition():
            gevent.sleep(0.01)


def main(plan: dict[str, Any]) -> None:
    records: list[Any] = []
    profile = Profile.model_validate_json(json.dumps(plan["profile"]))
    slots = Slots()
    context = RunContext(
        run=plan["run"],
        profile=profile,
        contract=Contract(profile),
        clock=MonotonicClock(plan["origin_ns"]),
        emit=records.append,
        slots=slots,  # type: ignore[arg-type]
        addresses=Addresses(redis=("127.0.0.1", 1), gateway=("127.0.0.1", plan["port"]), postgres=None),
        trouble=lambda begin, end, what: records.append(what),
    )
    receiver = context.receiver = Receiver(context)
    environment = Environment(user_classes=[WebSocketClient])

    class RunContextProvider:
        def context_of_run(self) -> RunContext:
            return context

    environment.tickstorm = RunContextProvider()
    runner = environment.create_local_runner()
    runner.start(6, spawn_rate=100)
    wait(lambda: receiver.health().connected == 6, "six subscriptions")
    runner.start(3, spawn_rate=100)
    wait(lambda: runner.user_count == 3, "three users left")
    moved = [r.consumer for r in records if getattr(r, "why", "") == "moved"]
    runner.start(8, spawn_rate=100)  # two more users than slots: they park
    wait(lambda: receiver.health().connected == 6, "six again")
    print("six", flush=True)
    received = plan["expect"]

    def all_there() -> bool:
        receiver.flush(context.clock.now_ns())
        receiver.merge_stats(environment)
        return receiver.accountant.sums().messages >= received

    wait(all_there, "every message")
    context.over.set()
    wait(lambda: receiver.health().open == 0, "everybody left")
    wait(lambda: not slots.held, "slots are back")
    receiver.flush(context.clock.now_ns(), final=True)
    receiver.merge_stats(environment)
    runner.quit()
    receiver.close()
    stats = environment.stats
    entry = stats.get("receive all/c", "WS")

    # The same numbers one by one, as Locust itself would count them.
    single, merged = Environment().stats, Environment()
    times = [1, 3, 3, 7, 99, 147, 3432, 58760] * 50
    for ms in times:
        single.log_request("WS", "n", ms, 10)
    single.log_error("WS", "n", "gap")
    hist: dict[int, int] = {}
    for ms in times:
        hist[ms] = hist.get(ms, 0) + 1
    merge(merged, "WS", "n", hist, float(sum(times)), len(times), 10 * len(times), {"gap": 1})
    pairs = [(s.get("n", "WS"), s.total) for s in (single, merged.stats)]

    def shown(e: StatsEntry) -> list[Any]:
        return [
            dict(sorted(e.response_times.items())),
            e.num_requests,
            e.num_failures,
            e.total_response_time,
            e.min_response_time,
            e.max_response_time,
            e.total_content_length,
            e.get_response_time_percentile(0.99),
            e.median_response_time,
        ]

    print(
        json.dumps(
            {
                "moved": sorted(moved),
                "back": slots.back,
                "requests": entry.num_requests,
                "failures": entry.num_failures,
                "p50": entry.median_response_time,
                "errors": {e.error: e.occurrences for e in stats.errors.values()},
                "connects": stats.get("connect c", "WS").num_requests,
                "single": [shown(e) for e in pairs[0]],
                "merged": [shown(e) for e in pairs[1]],
                "locust": locust.__version__,
            }
        ),
        flush=True,
    )
