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
    from loadtests.tally.account import DeviationRows, StrangeRows
    from loadtests.tally.streams import Subscriptions
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

_METHOD = """
@once("loadtests.{module}")
def _(module):
    module.{name} = lambda *_, **__: {answer}
"""

_NEVER_LOOKS = """
@once("loadtests.measure.checks")
def _(module):
    from loadtests.measure.selectors import Figure
    module.MEASURES["{measure}"] = lambda analysis, t: Figure(value=0.0)
"""

_SPOILT = """
@once("loadtests.drive.consume.chunks")
def _(module):
    spoiling = module.Chunks._spoiling
    module.Chunks._spoiling = lambda self, *rest: [odd for odd in spoiling(self, *rest) if odd[0] != "{kind}"]
"""

_UNHEARD = """
@once("loadtests.tally.account")
def _(module):
    add = module.StrangeRows.add
    module.StrangeRows.add = lambda self, kind, *rest: None if kind == "{kind}" else add(self, kind, *rest)
"""

_LEFT = """
@once("loadtests.tally.streams")
def _(module):
    step = module.Subscriptions.step
    def blind(self, *rest, why="", **more):
        step(self, *rest, why="own" if why in ("peer closed", "connect failed") else why, **more)
    module.Subscriptions.step = blind
"""

_ONE_CLIENT = """
@once("loadtests.tally.accountant")
def _(module):
    sampled = module.Accountant.sampled
    def blind(self, account, *rest):
        if account.consumer == 63:
            sampled(self, account, *rest)
    module.Accountant.sampled = blind

@once("loadtests.drive.consume.read_accounting")
def _(module):
    module.SampleGaps.draw = lambda *_: 1

@once("loadtests.measure.deliveries")
def _(module):
    module.BEYOND = 0  # so few samples are enough
    module.contradicts = lambda *_: False
    module.across_limit_ms = lambda *_: None
"""

_TOUCHES = """
@once("loadtests.inject.encounter")
def _(module):
    module.Beside.during = lambda self, watch: self._witness.during(watch)
"""

VERDICTS = {
    "refused from the first: not_admitted": _NEVER_LOOKS.format(measure="not_admitted"),
    "sent away, for good or a while: lost_disconnected": _LEFT,
    "nothing replayed: lost_not_replayed": _NEVER_LOOKS.format(measure="lost_not_replayed"),
    "one copy of two: missing_copies": _NEVER_LOOKS.format(measure="missing_copies"),
    "altered on the way: altered": _SPOILT.format(kind="altered"),
    "restamped on the way: restamped": _SPOILT.format(kind="restamped"),
    "protocol on the way: protocol": _UNHEARD.format(kind="protocol"),
    "undecodable on the way: undecodable": _UNHEARD.format(kind="undecodable"),
    "silent: why its client left": _METHOD.format(
        module="drive.consume.receiver", name="Heartbeat.silent", answer="[]"
    ),
    "8 of 64 late: latency_p95_ms": _ONE_CLIENT,
    "8 of 64 late: slowest_client_p95_ms": _NEVER_LOOKS.format(measure="slowest_client_p95_ms"),
    "refused by Redis: publish_failed": _NEVER_LOOKS.format(measure="publish_failed"),
    "a health page that attacks who asks: health_ms": _METHOD.format(
        module="capture.readings", name="time_health", answer='(1_000_000, True, "")'
    ),
    "a fault that touched nobody": _TOUCHES,
    "frames longer than we take": _METHOD.format(
        module="drive.consume.health", name="Inabilities.begin", answer="None"
    ),
    "four of five samples gone: health_ms": """
@once("loadtests.measure.sample_counts")
def _(module):
    module.Sampled.enough = True
""",
}
"""Row of the section `verdicts` -> what makes the tool, or its judge, blind to that breach."""

NONE = ""


_ONCE = """
import importlib.abc
import importlib.util

class Changes(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    # Applies changes to modules when they are imported: early, Locust could not patch the standard library any more.
    def __init__(self):
        self.of = {}
    def find_spec(self, name, path, target=None):
        if name not in self.of:
            return None
        self.changes, spec = self.of.pop(name), importlib.util.find_spec(name)
        self.loader, spec.loader = spec.loader, self
        return spec
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        changes, loader = self.changes, self.loader
        module.__loader__ = module.__spec__.loader = loader
        loader.exec_module(module)
        for change in changes:
            change(module)

changes = Changes()
sys.meta_path.insert(0, changes)

def once(name):
    return lambda change: changes.of.setdefault(name, []).append(change)
"""


def verdicts(mutation: str) -> str:
    """The text of the file for a mutation of the section `verdicts`."""
    return HEAD + (_ONCE + mutation if mutation else "")


def sitecustomize(mutation: str) -> str:
    """The text of the file; without a mutation one that changes nothing."""
    return HEAD + (f"if TOOL:{_IMPORTS}{mutation}" if mutation else "")
