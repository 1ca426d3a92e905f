"""Which kinds of fault are there?  The table; the injector, the journal and the sweep know a kind only through it.

How to add a kind
1. Write one small file here, with a `KIND` of the type `kind.Kind`. Nothing says that it acts on a link: a kind takes
   what it needs from its `Site` (the link, the stack's supervisor; add a control to `Site` where it needs another).
2. `undo_of` is called before `apply` and goes to the journal. `undo` and `remaining` get nothing but a `Site` and that
   entry: another process must be able to undo the fault. `undo` may be repeated, and may find nothing to undo.
3. `not_in_force` compares what is read back with what was asked; an answer "ok" is not a read-back.
4. `witness` measures the effect itself. What it could not measure is not proved, and says why. `meets` watches whether
   somebody of the run or the target met it; a kind without it has a proof that demands such a somebody.
5. `resorts` are the harder ways, mildest first, each with what else it ends.
6. Add the row below, the kind to `model.profile.Fault`, and a test that applies, proves and lifts it on real servers
   and one in which the proof fails.
"""

from __future__ import annotations

from collections.abc import Mapping

from loadtests.inject.kinds import (
    backend_kill,
    bad_input,
    bad_token,
    bandwidth,
    black_hole,
    client_kill,
    connection_exhaustion,
    cpu_limit,
    down,
    failover,
    flap,
    half_open_consumers,
    kill,
    latency,
    limit_data,
    lock,
    memory_limit,
    memory_pressure,
    offline_consumers,
    output_buffer,
    pause,
    planted_defect,
    raw_toxic,
    reconnect_storm,
    reset,
    restart,
    slicer,
    slow_close,
    slow_consumers,
    slow_queries,
    stalled_consumers,
    vanishing_consumers,
)
from loadtests.inject.kinds.kind import Kind

KINDS: Mapping[str, Kind] = {
    module.KIND.name: module.KIND
    for module in (
        latency,
        bandwidth,
        slicer,
        limit_data,
        slow_close,
        down,
        flap,
        reset,
        black_hole,
        failover,
        kill,
        restart,
        pause,
        client_kill,
        memory_pressure,
        output_buffer,
        backend_kill,
        connection_exhaustion,
        slow_queries,
        lock,
        cpu_limit,
        memory_limit,
        planted_defect,
        slow_consumers,
        stalled_consumers,
        half_open_consumers,
        vanishing_consumers,
        offline_consumers,
        reconnect_storm,
        bad_token,
        bad_input,
        raw_toxic,
    )
}
