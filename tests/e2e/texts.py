"""Which profiles do the end-to-end tests run?  Very short ones, generous with a busy machine."""

from __future__ import annotations

GUARD = """
[guard]
own_lag_p99_ms = 5000
hub_lag_ms = 5000
cpu_percent = 100
clean_coverage_min = 0.05
"""

WORK = """
[[families]]
name = "patterns"
channel = "tickstock.events.patterns"
event = "pattern_detected"
symbols = 4
keys = { pattern = ["Doji", "Hammer"] }

[[publishers]]
name = "detector"
count = 4
families = ["patterns"]
shape = { kind = "constant", rate_per_s = 10 }

[[consumers]]
name = "plain"
count = 5

[[consumers]]
name = "browsers"
count = 5
transport = "socketio"
"""

LIMITS = """
[[thresholds]]
measure = "lost_defect"
at_most = 0

[[thresholds]]
measure = "repeated"
at_most = 0

[[thresholds]]
measure = "latency_p95_ms"
at_most = 20000
"""

CALM = f"""
name = "calm"
question = "Is every message delivered once while nothing is wrong?"
seed = 7

[run]
warm_up_s = 1
duration_s = 4
drain_s = 1
late_s = 1
connect_s = 30
{GUARD}{WORK}{LIMITS}"""
PUBLISHED = 4 * 10 * 5  # publishers x rate x seconds, the warm-up among them
CONSUMERS = 10
PUBLISHERS = 4


def long(seconds: int, drain_s: int = 1) -> str:
    """The same for as long as a test needs to do something in the middle."""
    return CALM.replace("duration_s = 4", f"duration_s = {seconds}").replace("drain_s = 1", f"drain_s = {drain_s}")


CUT = f"""
name = "cut"
question = "What does it cost that the gateway loses Redis for a second?"
seed = 7

[run]
warm_up_s = 1
duration_s = 8
drain_s = 1
late_s = 1
connect_s = 30

[steady]
hold_s = 1
delivery_min = 1.0
latency_add_ms = 2000

[recovery]
limit_s = 4

[[faults]]
name = "blink"
kind = "down"
link = "gateway-redis"
at_s = 1.5
for_s = 1
{GUARD}{WORK}{LIMITS}
[[thresholds]]
measure = "recovery_s"
at_most = 0.1

[[thresholds]]
measure = "not_recovered"
at_most = 0
"""

HEARD = WORK.replace("count = 5\n", 'count = 5\nsubscribe = { families = ["patterns"] }\n')
FLOOD = f"""
name = "flood"
question = "What does a plan become that no process can keep?"

[run]
warm_up_s = 0.5
duration_s = 2.5
drain_s = 4
late_s = 4
connect_s = 30

[[families]]
name = "unheard"
channel = "tickstock.events.market_state"
event = "ranking_change"

[[publishers]]
name = "flood"
families = ["unheard"]
shape = {{ kind = "burst", base_per_s = 10, peak_per_s = 4000000, length_s = 0.1, period_s = 2 }}
{GUARD}{HEARD}{LIMITS}"""
