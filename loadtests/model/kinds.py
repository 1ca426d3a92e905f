"""What is a kind, and how does one from outside the tree take part?  A row of each table of kinds, and its registry.

A kind is a pure row, and a part that acts. The row names the part by `package.module:attribute`; only the process in
which the part acts imports it, so that the tables stay data:

    Measure("health_ms", by="loadtests.measure.measures_target")     read by measure, when a limit asks for it
    UserKind("reader", by="loadtests.drive.database_reader:DatabaseReader")   read by Locust's processes

A port is asked once, when a run is set up, and hands back what then works by itself: nothing for each message goes
through a row. An extension is a set of such rows, found by `loadtests.extensions` before any table is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from typing import Any, Literal, TypeVar

from loadtests.model.errors import BadInput

Place = Literal["link", "service", "consumers", "publishers", "target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What a key of a kind takes: limits as pydantic names them (ge, gt, le, lt, pattern), or a choice of words."""

    of: Literal["whole", "number", "yes", "text", "address or spare", "choice"]
    limits: Mapping[str, float | str] = field(default_factory=dict)
    choices: tuple[str, ...] = ()
    default: float | str | bool | None = None  # None: absent, or needed where the kind says so
    offered: float | str | None = None  # what a form offers first, where the kind needs it


Keys = Mapping[str, Key]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKind:
    """A fault that a profile may plan. What it does: `KIND` of the module `by` (inject.kinds.kind.Kind)."""

    name: str
    place: Place  # what the fault names: a link, a service, a consumer or publisher group; target: its own switches
    help: str = ""  # one sentence for who plays it by hand: what happens then
    by: str = ""  # module, where it is not the one of its name in loadtests.inject.kinds
    plays: str = ""  # class (drive.user_faults.UserFault) of what a consumer or publisher does in it
    services: tuple[str, ...] = ()  # that it may act on; one alone need not be named
    needs: Keys = field(default_factory=dict)  # keys of its own
    may: Keys = field(default_factory=dict)
    directions: bool = False  # acts on one stream of a link where asked
    hides: bool = False  # nothing else on the same place can be seen under it
    destructive: bool = False  # only on a target that the profile marks as a test system
    instant: bool = False  # nothing stays in force, so it is healed at once; its effect is watched for `for_s`
    charges: bool = True  # losses on its path are charged to it; a planted defect is the target's all the same
    loses: bool = True  # may take from the middle of a stream whose connection lasts; what only delays takes nothing
    stops: bool = False  # its service does not serve: down and started again count, the time until it is ready apart
    cuts: Literal["", "as it begins", "while it lasts"] = (
        ""  # connections of its link: once, or again and until it ends
    )
    ends_process: bool = False  # a new process serves afterwards
    own_closed: str = ""  # key of its evidence: how many subscribers of its own it had Redis close, to prove itself
    tokens: bool = False  # only on a target that asks for tokens
    upstream_needs: str = ""  # key without which nothing shows of it on requests
    may_end: bool = False  # the process that it acts on may end of it without having been told to
    toxic: bool = False  # adds a toxic to a link and removes it; others disable the proxy, which works beside readers
    unread: bool = False  # bytes wait unread at a consumer, and then in Toxiproxy
    on_process: bool = False  # acts on a process, and only the local stack's are ours
    least_s: float = 0.5  # shorter, it is over before its probe has seen it

    @property
    def module(self) -> str:
        """The module that acts."""
        return self.by or f"loadtests.inject.kinds.{self.name.replace('-', '_')}"

    @property
    def keys(self) -> Keys:
        """All of its own."""
        return {**self.needs, **self.may}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A number that a threshold may limit: `(Analysis, Threshold) -> Figure`, of its name in the module `by`."""

    name: str
    by: str
    unit: str = "count"  # as report.formats has it: count, ms, s, share, mb, mb_per_h, percent, per_s
    better: Literal["less", "more"] = "less"
    takes: frozenset[str] = frozenset({"group", "family"})  # selectors of a threshold that mean something for it
    limit: float | None = None  # at_most that holds though a profile names none
    at_all_times: bool = False  # that limit holds in every phase: no fault excuses it; else it holds in calm
    needs: frozenset[str] = frozenset()
    """Without what it is UNKNOWN. account: the fate of every message. seen: what consumers noted. whole: a run that was
    neither cut short nor offered less than planned. publishers, consumers, readers: users of that kind. faults: that
    some are planned. sent: send times that nobody moved. clock: clocks that agree to a tenth of the limit. due: that we
    were on time ourselves. own: the load generator alone, so that a breach says nothing of the target. health: a health
    page. content: a content that is checked."""
    none_better: bool = False  # a count of what should not be: what lies outside a threshold's phases is said beside it
    stands: bool = False  # it fails by what was seen, so that no record that is missing excuses it
    shown: bool = False  # its evidence is shown also where it passes

    @property
    def at_least(self) -> bool:
        """Whether its thresholds say `at_least`."""
        return self.better == "more"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserKind:
    """A Locust user class, and the groups of a profile that want such users."""

    name: str  # one of them, as leases name it
    by: str  # module:class
    groups: str = "users"  # the profile's list of its groups; "users": those whose kind is its name
    keys: Keys = field(default_factory=dict)  # of a group in `users`, beside kind, name and count
    kept: bool = True  # none is taken away when fewer users are asked for; of one kind the number may be edited
    lacking: str = ""  # what a run says where its class was not chosen

    @property
    def key(self) -> str:
        """How effective values name the number of such users."""
        return self.groups if self.groups != "users" else f"users.{self.name}"

    @property
    def user_class(self) -> str:
        """Name of the class, as Locust, records and stored runs have it."""
        return self.by.partition(":")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkKind:
    """Where publishers write: an implementation of `drive.publish.sink.Sink`, called with no arguments."""

    name: str
    by: str
    shown: str  # request type in Locust's statistics


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportKind:
    """How consumers connect and are spoken to: an implementation of `drive.consume.transport.Transport`."""

    name: str
    by: str
    shown: str  # request type in Locust's statistics
    envelope: tuple[str | int, ...]  # where the payload stands in a message's JSON: names, or places of a list
    prefix: bytes = b""  # what stands before that JSON in a frame
    stream: bool = True  # its bytes may be compared with those of other consumers before they are decoded


@dataclass(frozen=True, slots=True, kw_only=True)
class ShapeKind:
    """How the rate of a publisher goes over time: `(Shape, Seeded) -> Pacer` of plan.pacing."""

    name: str
    by: str
    needs: tuple[str, ...]  # keys of model.profile.workload.Shape; others are not taken


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortMeasure:
    """A live figure that may end the run: `(AbortGuards, Abort, now_ns) -> float | None` of harness.triggers."""

    name: str
    by: str
    less_is_worse: bool = False  # limited by at_least
    share: bool = False  # 0 to 1
    process: bool = False  # of one process of the target, or of all


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table of the report: `(row) -> text`; the row is a FaultResult or a Check of model.results."""

    table: Literal["faults", "checks"]
    title: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """What one installed package adds."""

    faults: tuple[FaultKind, ...] = ()
    measures: tuple[Measure, ...] = ()
    users: tuple[UserKind, ...] = ()
    sinks: tuple[SinkKind, ...] = ()
    transports: tuple[TransportKind, ...] = ()
    shapes: tuple[ShapeKind, ...] = ()
    aborts: tuple[AbortMeasure, ...] = ()
    columns: tuple[Column, ...] = ()


Row = TypeVar("Row", FaultKind, Measure, UserKind, SinkKind, TransportKind, ShapeKind, AbortMeasure)

_added: dict[str, tuple[Any, ...]] = {each.name: () for each in fields(Extension)}
_read: set[str] = set()


def add(extension: Extension) -> None:
    """Let an extension's rows take part. Raises RuntimeError where a table was read already."""
    for table in _added:
        rows = getattr(extension, table)
        if rows and table in _read:
            raise RuntimeError(f"the table of {table} is in use: extensions come before anything else")
        _added[table] += rows


def added(table: str) -> tuple[Any, ...]:
    """Rows that extensions add to a table; from now on no more may come."""
    _read.add(table)
    return _added[table]


def registry(table: str, rows: Iterable[Row]) -> dict[str, Row]:
    """A table of kinds by name, with what extensions add. Raises BadInput where a name stands twice."""
    found: dict[str, Row] = {}
    for row in (*rows, *added(table)):
        if row.name in found:
            raise BadInput([f'extension: {table}: found "{row.name}" twice, allowed each name once'])
        found[row.name] = row
    return found


def part(by: str) -> Any:
    """What acts: `module:attribute`, or a module. Raises ImportError, AttributeError."""
    module, _, attribute = by.partition(":")
    found: Any = import_module(module)
    return getattr(found, attribute) if attribute else found
