"""Peer: k6, whose package carries its binary; its CPU is read from outside at the window's edges.

k6 opens its connections when it likes, so the window is given as wall times: a share of the time for connecting comes
before the warm-up.  Latency is not taken: k6's clock is the wall clock in whole milliseconds.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from counting import asked

USERS = 20
CONNECT_S = 4.0

load = asked()
begin = time.time() + CONNECT_S + load.warm_up_s
end = begin + load.seconds
summary = Path(tempfile.mkdtemp(prefix="bench-k6-")) / "summary.json"
environment = {
    **os.environ,
    "GOMAXPROCS": "1",
    "BENCH_URL": f"ws://{load.host}:{load.port}/ws",
    "BENCH_USERS": str(USERS),
    "BENCH_PER_USER": str(load.connections // USERS),
    "BENCH_FROM_MS": str(round(begin * 1000)),
    "BENCH_TO_MS": str(round(end * 1000)),
}
command = [str(Path(sys.executable).with_name("k6")), "run", "--quiet", "--no-usage-report"]
command += ["--summary-export", str(summary), str(Path(__file__).with_name("k6_script.js"))]
child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def used_s() -> float:
    """CPU of k6 and, where its launcher stays beside it, of that as well."""
    family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in family)


try:
    time.sleep(max(0.0, begin - time.time()))
    before = used_s()
    time.sleep(max(0.0, end - time.time()))
    used = used_s() - before
    _, said = child.communicate(timeout=20)
finally:
    if child.poll() is None:
        child.terminate()
if not summary.exists():
    sys.exit(said.strip()[-300:] or "k6 left no summary")
metrics = json.loads(summary.read_text(encoding="utf-8"))["metrics"]
found = {
    "messages": metrics["bench_messages"]["count"],
    "gaps": metrics.get("bench_gaps", {}).get("count", 0),
    "repeats": 0,
    "other": 0,
    "open": metrics["bench_open"]["count"],
    "seconds": load.seconds,
    "cpu_s": round(used, 4),
    "p50_ms": None,
    "p99_ms": None,
}
sys.stdout.write(json.dumps(found) + "\n")
