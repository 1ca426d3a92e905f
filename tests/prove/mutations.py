"""How is the tool made blind to one kind of lie?  Code for a `sitecustomize.py` that every child of a proof runs.

Each is as silent as it can be: what would notice by itself that something is amiss (the tally's own sum) is put to
sleep as well, so that only the comparison with the book is left.
"""

from __future__ import annotations

HEAD = """
import sys
TOOL = any("locust" in word or "loadtests.cli" in word for word in sys.orig_argv)
"""

_IMPORTS = """
    from loadtests.tally.account import Account
    from loadtests.tally.accountant import Accountant
    from loadtests.tally.batch import Batch
    from loadtests.tally.cells import Cell
    from loadtests.tally.exceptions import DeviationRows, StrangeRows
    from loadtests.tally.subscriptions import Subscriptions
    Account.adds_up = lambda self: True
"""

_GAP = """
    gap = Accountant._gap
    def blind(self, account, index, first, last, now_ns):
        if not ({when}):
            gap(self, account, index, first, last, now_ns)
    Accountant._gap = blind
"""

_ROW = """
    add = DeviationRows.add
    def blind(self, kind, *rest):
        if kind != "{kind}":
            add(self, kind, *rest)
    DeviationRows.add = blind
"""

_STRANGE = """
    add = StrangeRows.add
    def blind(self, kind, consumer, at_ns, example, family=-1):
        if not ({when}):
            add(self, kind, consumer, at_ns, example, family)
    StrangeRows.add = blind
"""

_TAKE = """
    take = Accountant.take
    Accountant.follow = lambda self, account, chunk, now_ns: (None, 0)  # message by message
    def blind(self, account, batch, now_ns):
        kept = [m for m in batch.messages if not ({when})]
        return take(self, account, batch if len(kept) == batch.count else Batch(kept, batch.strange), now_ns)
    Accountant.take = blind
"""

_LATENCY = """
    import msgspec
    from loadtests.tally.histogram import bucket_of
    record, long = Cell.record, bucket_of(1_000_000_000)
    def blind(self, **more):
        made = record(self, **more)
        buckets, counts = made.latency
        short = [(b, c) for b, c in zip(buckets, counts) if b < long]
        late = sum(counts) - sum(c for _, c in short)
        kept = short + [(long, late)] * bool(late)
        return msgspec.structs.replace(made, latency=([b for b, _ in kept], [c for _, c in kept]))
    Cell.record = blind
"""

_BROKE = """
    step = Subscriptions.step
    def blind(self, *rest, why="", **more):
        step(self, *rest, why="own" if why == "peer closed" else why, **more)
    Subscriptions.step = blind
"""

MUTATIONS = {
    "lost": _GAP.format(when="first == last"),
    "held": _GAP.format(when="first < last"),
    "conflated": _GAP.format(when="self.streams.family[index] == 3"),
    "repeated": _ROW.format(kind="repeated"),
    "reordered": _ROW.format(kind="filled"),
    "delayed": _LATENCY,
    "queued": _TAKE.format(when="150e6 < now_ns - m[2] < 400e6"),
    "replayed": _TAKE.format(when="account.epoch and now_ns - m[2] > 30e6"),
    "foreign-run": _STRANGE.format(when="kind == 'foreign run'"),
    "foreign-route": _STRANGE.format(when="kind == 'foreign route'"),
    "no-identity": _STRANGE.format(when="kind == 'no identity'"),
    "undecodable": _STRANGE.format(when="kind == 'undecodable' and len(example) < 20"),
    "truncated": _STRANGE.format(when="kind == 'undecodable' and len(example) >= 20"),
    "dropped-connection": _BROKE,
}
"""Kind of lie -> what makes the tool blind to it."""

NONE = ""


def sitecustomize(mutation: str) -> str:
    """The text of the file; without a mutation one that changes nothing."""
    return HEAD + (f"if TOOL:{_IMPORTS}{mutation}" if mutation else "")
