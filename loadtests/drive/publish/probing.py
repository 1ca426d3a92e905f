"""Is the path open before anything is counted?  One probe message on a route of a family.

Publisher slot 65535 is reserved for probes: a probe's stream is of that slot, its run id is `probe_run(run)`, its `seq`
is the nonce, and no probe is ever accounted, neither here nor by a receiver.
"""

from __future__ import annotations

import random

from loadtests.drive.publish.commands import Stamp
from loadtests.drive.publish.redis_connection import ask, dial
from loadtests.drive.publish.resp import ErrorReply, command
from loadtests.drive.publish.sink import Sink, sink_of
from loadtests.drive.run_context import RunContext
from loadtests.model.ids import MAX_SLOTS, pack_stream
from loadtests.model.sinks import PUBLISH
from loadtests.plan.payload import Payloads
from loadtests.tally.identity import encode, probe_run

PROBE_SLOT = MAX_SLOTS - 1


def probe(context: RunContext, family: int, nonce: int, *, route: int | None, timeout_s: float) -> int:
    """Publish one probe on a route of a family (default: its first); returns how many receivers Redis named.

    Blocks this greenlet.  Raises OSError, also where Redis refuses.
    """
    where = context.contract.routes_of_family[family][0] if route is None else route
    known = context.contract.routes[where]
    identity = context.profile.identity
    families = context.profile.families
    pool = Payloads(context.contract.routes, families, 1, seed=0, identity=identity, payload_bytes=0)
    payload = pool.one(where, random.Random(f"probe:{nonce}"))
    now = context.clock.now_ns()
    stream = pack_stream(PROBE_SLOT, 0, where)
    who = encode(identity.form, probe_run(context.run), stream, nonce, now, now, payload.content)
    sink = _sink(context, families[family].name)
    sock = dial(context.addresses.redis, timeout_s)
    try:
        text = payload.fill(Stamp().now(), who)
        reply = ask(sock, command(*sink.words(known.channel.encode()), text), timeout_s)
    finally:
        sock.close()
    outcome = sink.outcome(reply)
    if not isinstance(outcome, int):
        why = reply.text if isinstance(reply, ErrorReply) else str(reply)
        raise ConnectionError(f"the probe's {sink.words(b'')[0].decode()} was answered by {why[:120]}")
    return outcome


def _sink(context: RunContext, family: str) -> Sink:
    """Where the publishers of a family write."""
    return sink_of(next((group.sink for group in context.profile.publishers if family in group.families), PUBLISH.name))
