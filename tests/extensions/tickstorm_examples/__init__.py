"""One part of each kind, added from outside the tree: rows alone, so that nothing is imported where it does not act.

Installed like any package with an entry point of the group `tickstorm.extensions`; docs/extending.md explains them.
"""

from __future__ import annotations

from loadtests.model.kinds import (
    Column,
    Extension,
    FaultKind,
    Key,
    Measure,
    ShapeKind,
    SinkKind,
    TransportKind,
    UserKind,
)

EXTENSION = Extension(
    sinks=(SinkKind(name="stream", by="tickstorm_examples.stream_sink:Stream", shown="XADD"),),
    transports=(
        TransportKind(
            name="sse",
            by="tickstorm_examples.server_sent_events:ServerSentEvents",
            shown="SSE",
            envelope=("data",),
            stream=False,
        ),
    ),
    faults=(
        FaultKind(
            name="satellite",
            place="link",
            by="tickstorm_examples.satellite",
            may={"hops": Key(of="whole", limits={"ge": 1, "le": 4})},
            directions=True,
            loses=False,
            toxic=True,
        ),
        FaultKind(
            name="roaming-consumers",
            place="consumers",
            by="tickstorm_examples.roaming_proof",
            plays="tickstorm_examples.roaming:Roaming",
        ),
    ),
    shapes=(
        ShapeKind(
            name="opening-bell",
            by="tickstorm_examples.opening_bell:opening_bell",
            needs=("base_per_s", "peak_per_s", "length_s"),
        ),
    ),
    users=(
        UserKind(
            name="poller",
            by="tickstorm_examples.http_poller:HttpPoller",
            keys={
                "path": Key(of="text", default="/health"),
                "polls_per_s": Key(of="number", limits={"gt": 0, "le": 1000}, default=5.0),
            },
            lacking="no poller took part, since its class was not chosen: nothing was asked over HTTP",
        ),
    ),
    measures=(
        Measure(
            name="polled_p95_ms",
            by="tickstorm_examples.polled_measure:polled_p95_ms",
            unit="ms",
            takes=frozenset(),
            needs=frozenset({"due"}),
        ),
    ),
    columns=(Column(table="faults", title="in force", by="tickstorm_examples.fault_column:in_force"),),
)
