"""Runs consumers in a gevent process of its own, as Locust would: a plan, orders on stdin, records in a file.

Its own process, because importing Locust patches everything that the tests' process is made of.
"""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
import gevent.fileobject  # noqa: E402
import msgspec  # noqa: E402

from loadtests.capture.clock import MonotonicClock  # noqa: E402
from loadtests.drive.consume import consumer  # noqa: E402
from loadtests.drive.consume.consumer import Consuming  # noqa: E402
from loadtests.drive.consume.receiver import Receiver  # noqa: E402
from loadtests.drive.run_context import Addresses, Lease, RunContext  # noqa: E402
from loadtests.model.contract import Contract  # noqa: E402
from loadtests.model.profile.profile import Profile  # noqa: E402


def main(plan: dict[str, Any]) -> None:
    records: list[Any] = []
    troubles: list[str] = []
    connects: list[str] = []
    profile = Profile.model_validate_json(json.dumps(plan["profile"]))
    context = RunContext(
        run=plan["run"],
        profile=profile,
        contract=Contract(profile),
        clock=MonotonicClock(plan["origin_ns"]),
        emit=records.append,
        slots=None,  # type: ignore[arg-type]  # this tool hands out the slots itself
        addresses=Addresses(redis=("127.0.0.1", 1), gateway=("127.0.0.1", plan["port"]), postgres=None),
        trouble=lambda begin, end, what, consumers=(): troubles.append([what, *consumers]),
    )
    consumer.OPEN_S = plan.get("open_s", consumer.OPEN_S)  # type: ignore[misc]
    receiver = context.receiver = Receiver(context, source=plan.get("source"), cached=plan.get("cached", True))
    consumers = [
        Consuming(context, Lease(kind="consumer", slot=slot, epoch=0), lambda *said: connects.append(said[-1]))
        for slot in range(context.contract.consumer_count)
    ]
    first = plan.get("first", len(consumers))
    users = [gevent.spawn(consumer.run) for consumer in consumers[:first]]
    orders = gevent.fileobject.FileObject(sys.stdin.buffer, "rb")
    flushing = True
    readings: list[dict[str, Any]] = []

    def flush() -> None:
        while flushing:
            gevent.sleep(plan.get("flush_s", 0.2))
            receiver.flush(context.clock.now_ns())
            readings.append(msgspec.to_builtins(receiver.take_reading()))

    flusher = gevent.spawn(flush)

    def wait(condition: Any) -> None:
        with gevent.Timeout(plan.get("deadline_s", 30)):
            while not condition():
                gevent.sleep(0.01)

    began = (time.perf_counter(), time.process_time(), 0)
    while True:
        line = orders.readline().decode().split()
        match line:
            case ["connected", count]:
                wait(lambda n=int(count): receiver.health().connected == n)
                ports = {c.sock.getsockname()[1]: c.account.consumer for c in receiver._connections}
                print(json.dumps(ports), flush=True)
            case ["epochs", count]:
                wait(lambda n=int(count): min(c.next_epoch for c in consumers) >= n)
                print("epochs", flush=True)
            case ["epoch", slot, count]:
                wait(lambda s=int(slot), n=int(count): consumers[s].next_epoch >= n)
                print("epoch", flush=True)
            case ["all", open_s]:
                # What hangs, hangs no longer than that; those who were first had the time they needed.
                consumer.OPEN_S = float(open_s)  # type: ignore[misc]
                users += [gevent.spawn(consumer.run) for consumer in consumers[first:]]
                print("all", flush=True)
            case ["tried", count]:
                wait(lambda n=int(count): len(connects) >= n)
                print("tried", flush=True)
            case ["received", count]:
                wait(lambda n=int(count): receiver.accountant.sums().messages >= n)
                print("received", flush=True)
            case ["begin"]:
                began = (time.perf_counter(), time.process_time(), receiver.accountant.sums().messages)
                print("begun", flush=True)
            case ["end"]:
                wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
                print(json.dumps([wall, cpu, receiver.accountant.sums().messages - began[2]]), flush=True)
            case ["touch", what]:
                getattr(receiver, f"{what}_touch")(context.clock.now_ns())
                print("touched", flush=True)
            case ["stop", slot]:
                consumers[int(slot)].stop()
                users[int(slot)].kill()
                print("stopped", flush=True)
            case _:
                break
    context.over.set()
    gevent.joinall(users, timeout=20, raise_error=True)
    flushing = False
    flusher.kill()
    receiver.flush(context.clock.now_ns(), final=True)
    receiver.close()
    with open(plan["out"], "wb") as out:
        out.write(msgspec.msgpack.encode(records))
    print(
        json.dumps(
            {
                "receive": receiver.receive_name,
                "troubles": troubles,
                "connects": connects,
                "readings": readings,
                "probes": receiver.probes,
                "epochs": [c.next_epoch for c in consumers],
                "max_rss_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            }
        ),
        flush=True,
    )
