"""Peer: redis-py publishing as fast as it can, one by one or in pipelines; arguments HOST PORT WARM_UP_S SECONDS BATCH.

Each message is encoded anew with its number and times, as a load generator must; its answer is awaited.
"""

import json
import sys
import time

import msgspec
import redis
from counting import cpu_s

host, port, warm_up, seconds, batch = sys.argv[1:6]
client = redis.Redis(host=host, port=int(port))
encode = msgspec.json.Encoder().encode
number = 0


def payload() -> bytes:
    """About 200 bytes."""
    global number
    number += 1
    now = time.monotonic_ns()
    return encode(
        {
            "event_type": "pattern_detected",
            "pattern": "Doji",
            "symbol": "TEST_0000",
            "confidence": 0.87,
            "timestamp": "2026-01-02T03:04:05.678Z",
            "source": "bench",
            "tickstorm": {"r": "bench", "s": 0, "q": number, "d": now, "t": now},
            "padding": "xxxxxxxxxxxx",
        }
    )


def publish(until: float) -> int:
    """Publish for a while; how many were answered."""
    done, size = 0, int(batch)
    while time.monotonic() < until:
        if size == 1:
            client.publish("bench.publish", payload())
        else:
            pipe = client.pipeline(transaction=False)
            for _ in range(size):
                pipe.publish("bench.publish", payload())
            pipe.execute()
        done += size
    return done


publish(time.monotonic() + float(warm_up))
cpu, begin = cpu_s(), time.monotonic()
messages = publish(begin + float(seconds))
found = {"messages": messages, "seconds": round(time.monotonic() - begin, 4), "cpu_s": round(cpu_s() - cpu, 4)}
found |= {"gaps": 0, "repeats": 0, "other": 0, "open": 1, "p50_ms": None, "p99_ms": None}
sys.stdout.write(json.dumps(found) + "\n")
