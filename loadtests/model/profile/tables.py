"""Which tables does a profile have, and what does each take?  Target, run, limits and the rest, each valid for itself.

What must hold between tables stands in `rules`; `workload` and `faults` have tables of their own.  Seconds and
milliseconds are the user's units here; everything behind the profile counts nanoseconds.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from loadtests.model.ids import MAX_ROUTES
from loadtests.model.labels import CATEGORIES, STAGES
from loadtests.model.measures import ABORTS, AT_LEAST, DEFAULT_LIMITS, GATEABLE, MEASURES, MOST_GATED
from loadtests.model.profile.base import (
    Address,
    Gated,
    Name,
    Positive,
    Seconds,
    Share,
    Table,
    Text,
    UrlPath,
    quoted,
    refuse,
    twice,
)
from loadtests.model.profile.faults import AnyFault
from loadtests.model.profile.workload import (
    Consumers,
    Family,
    Publishers,
    Query,
    Readers,
    Users,
)

# ruff: noqa: RUF012 - pydantic copies a default for every model


class Target(Table):
    """What is tested. `local` is the stack that Tickstorm starts; `external` names every address."""

    kind: Literal["local", "external"] = "local"
    test_system: bool = False  # destructive steps (flush, kill, maxmemory) are allowed
    redis: Address | None = None
    gateway: Address | None = None  # as consumers connect to it, through its proxy
    gateway_http: Address | None = None  # health and statistics, past the proxy
    postgres: Address | None = None
    toxiproxy: Address | None = None
    database: Text = "tickstock_test"
    read_user: Text = "app_readonly"
    write_user: Text = "app_readwrite"
    websocket_path: UrlPath = "/ws"
    socketio_path: UrlPath = "/socket.io/"
    auth: Literal["none", "token"] = "none"  # token: consumers present one, signed with a secret of the environment
    tls: bool = False
    tls_name: Text | None = None  # that the gateway's certificate is for, where consumers reach it by another
    ca_file: Text | None = None  # PEM of the authorities to trust instead of the system's
    compression: bool = False  # permessage-deflate, by a library
    proxies: dict[Name, Text] = {}  # external: link -> proxy name at that Toxiproxy
    processes: dict[
        Name, Annotated[int, Field(ge=1, lt=2**31)]
    ] = {}  # external: name -> pid on this machine, to sample

    @model_validator(mode="after")
    def _addresses_fit_its_kind(self) -> Target:
        external = self.kind == "external"
        needed = ("redis", "gateway")
        refuse(
            f"{key}: found {quoted(getattr(self, key))}, allowed "
            + ("host:port, which an external target must name" if external else 'nothing unless kind = "external"')
            for key in (needed if external else (*needed, "gateway_http", "postgres", "toxiproxy"))
            if (getattr(self, key) is None) == external
        )
        refuse(
            [
                *(
                    f'{key}: found true, allowed false unless kind = "external": the local stack does without'
                    for key in ("tls", "compression")
                    if getattr(self, key) and not external
                ),
                *(
                    f"{key}: found {quoted(getattr(self, key))}, allowed nothing unless tls = true"
                    for key in ("tls_name", "ca_file")
                    if getattr(self, key) is not None and not self.tls
                ),
            ]
        )
        return self


if TYPE_CHECKING:
    StageName = str
    CategoryName = str
else:
    StageName = Literal[tuple(STAGES)]
    CategoryName = Literal[tuple(CATEGORIES)]


class Labels(Table):
    """By what `tickstorm suite` chooses the profile."""

    stages: list[StageName] = []
    categories: list[CategoryName] = []  # its checks stand under the first of those that were asked for

    @model_validator(mode="after")
    def _each_once(self) -> Labels:
        refuse(
            f'{key}: found "{name}" twice, allowed each once'
            for key in ("stages", "categories")
            for name in twice(getattr(self, key))
        )
        return self


class Run(Table):
    """How long, and when to give up."""

    duration_s: Annotated[float, Field(gt=0, le=7 * 24 * 3600)]  # of the plan after the warm-up
    warm_up_s: Seconds = 3.0
    drain_s: Annotated[float, Field(gt=0, le=600)] = 5.0  # a message not there by then is lost
    connect_s: Annotated[float, Field(gt=0, le=600)] = 30.0  # all planned subscriptions confirmed by then
    late_s: Annotated[float, Field(gt=0, le=600)] = 2.0  # delivered later than this is late: the delivery limit
    nap_us: Annotated[int, Field(ge=50, le=10_000)] = 500  # of the publishers' pacer: less is less own lag and more CPU
    spread: Literal["even", "apart"] = "even"  # over workers; apart: one has no consumers, the others nothing else
    settle_ms: Annotated[int, Field(ge=0, le=250)] = 250  # at either end of a subscription: undecided unless seen

    @property
    def length_s(self) -> float:
        """From T0 to the end of the drain."""
        return self.warm_up_s + self.duration_s + self.drain_s


class Identity(Table):
    """Where a message carries its identity in the payload."""

    path: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+){0,5}$")] = "tickstorm"
    form: Literal["object", "text"] = "object"


class Steady(Table):
    """What steady means: limits that hold per slice group before a fault and again after it."""

    delivery_min: Share = 0.95  # of the baseline's delivered / offered
    latency_factor: Annotated[float, Field(ge=1, le=100)] = 1.5
    latency_add_ms: Annotated[float, Field(ge=0, le=600_000)] = 50.0
    connected_min: Share = 0.99
    hold_s: Annotated[float, Field(gt=0, le=600)] = 3.0
    group_ms: Annotated[int, Field(ge=100, le=60_000, multiple_of=100)] = 500
    group_min_messages: Annotated[int, Field(ge=1, le=10**9)] = 20


class Recovery(Table):
    """How long a recovery may take before it counts as none."""

    limit_s: Annotated[float, Field(gt=0, le=3600)] = 30.0


class Sampling(Table):
    """How often target and harness are read, and how finely receive times are taken."""

    every_s: Annotated[float, Field(ge=0.1, le=600)] = 1.0
    stamps: Literal["sampled", "every", "off"] = "sampled"  # kernel receive times
    one_in: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    canary_per_s: Annotated[float, Field(ge=0, le=100)] = 0.0  # messages per second kept flowing in every family


class Guard(Table):
    """Budgets of the harness itself; beyond them a run is refused or its scope UNKNOWN."""

    own_lag_p99_ms: Annotated[float, Field(gt=0, le=600_000)] = 50.0
    cpu_percent: Annotated[float, Field(gt=0, le=100)] = 95.0
    hub_lag_ms: Annotated[float, Field(gt=0, le=600_000)] = 200.0
    not_offered_share: Share = 0.001
    undecided_share: Share = 0.001
    clean_coverage_min: Share = 0.9
    memory_mb: Annotated[int, Field(ge=64, le=10**6)] = 4096  # consumers x streams may need that much
    exceptions_per_s: Annotated[int, Field(ge=100, le=10**8)] = 20_000
    message_bytes: Annotated[int, Field(ge=64 * 1024, le=2**30)] = 4 * 1024 * 1024  # the longest that a consumer takes


if TYPE_CHECKING:
    MeasureName = str
else:
    MeasureName = Literal[tuple(MEASURES)]


class Threshold(Table):
    """A limit for one measure; with `at_most = "off"` none, where there is one by default."""

    measure: MeasureName
    at_most: Annotated[float, Field(ge=0, le=1e15)] | Literal["off"] | None = None
    at_least: Annotated[float, Field(ge=0, le=1e15)] | None = None
    phases: Annotated[list[Literal["calm", "fault", "recovery", "all"]], Field(min_length=1)] = ["calm"]
    group: Name | None = None  # a consumer group; absent = all but those that are expected to be slow
    family: Name | None = None
    fault: Name | None = None  # recovery_s, outage_s: one fault; absent = each
    process: Name | None = None  # growth and cpu: one process; absent = each process of the target
    query: Query | None = None  # query_*: one of the readers' queries; absent = each

    @model_validator(mode="after")
    def _one_bound(self) -> Threshold:
        want = "at_least" if self.measure in AT_LEAST else "at_most"
        other = "at_most" if want == "at_least" else "at_least"
        problems = []
        if getattr(self, want) is None:
            problems.append(f'{want}: found nothing, allowed a number, which measure "{self.measure}" needs')
        if getattr(self, other) is not None:
            problems.append(f'{other}: found {getattr(self, other)}, allowed nothing: "{self.measure}" takes {want}')
        if self.at_most == "off" and self.measure not in DEFAULT_LIMITS:
            problems.append(
                f'at_most: found "off", allowed a number: only {", ".join(DEFAULT_LIMITS)} have a limit by default'
            )
        if self.limit_is_share and (self.at_least or 0) > 1:
            problems.append(f'at_least: found {self.at_least}, allowed 0 to 1: "{self.measure}" is a share')
        refuse(problems)
        return self

    @property
    def limit_is_share(self) -> bool:
        """Whether the limit is a share of one, not a count or a time."""
        return MEASURES[self.measure].unit == "share"

    @property
    def off(self) -> bool:
        """It switches a default limit off, and has none itself."""
        return self.at_most == "off"

    @property
    def limit(self) -> float:
        """The bound, whichever side it is on.  Raises ValueError where it is switched off."""
        bound = self.at_least if self.at_least is not None else self.at_most
        if bound is None or bound == "off":
            raise ValueError(f"{self.measure} has no limit here")
        return bound


if TYPE_CHECKING:
    AbortName = str
else:
    AbortName = Literal[tuple(ABORTS)]


class Abort(Table):
    """A guard of the run: when it holds for so long, all faults are lifted first and then the load ends."""

    measure: AbortName
    at_most: Annotated[float, Field(ge=0, le=1e9)] | None = None
    at_least: Annotated[float, Field(ge=0, le=1e9)] | None = None
    for_s: Annotated[float, Field(ge=0, le=3600)] = 3.0  # beyond the limit without a break
    process: Name | None = None  # target_memory_mb: one process; absent = the sum of the target's

    @model_validator(mode="after")
    def _one_bound(self) -> Abort:
        row = ABORTS[self.measure]
        want, other = ("at_least", "at_most") if row.less_is_worse else ("at_most", "at_least")
        problems = []
        if getattr(self, want) is None:
            problems.append(f'{want}: found nothing, allowed a number, which measure "{self.measure}" needs')
        if getattr(self, other) is not None:
            problems.append(f'{other}: found {getattr(self, other)}, allowed nothing: "{self.measure}" takes {want}')
        if row.share and self.limit > 1:
            problems.append(f'at_most: found {self.limit:g}, allowed 0 to 1: "{self.measure}" is a share')
        if self.process is not None and not row.process:
            problems.append(f'process: found "{self.process}", allowed nothing with measure "{self.measure}"')
        refuse(problems)
        return self

    @property
    def limit(self) -> float:
        """The bound, whichever side it is on; 0 while the profile is still being checked."""
        bound = self.at_least if self.at_least is not None else self.at_most
        return 0.0 if bound is None else bound

    def beyond(self, value: float) -> bool:
        """Whether a value is on the wrong side."""
        return value < self.limit if ABORTS[self.measure].less_is_worse else value > self.limit

    @property
    def said(self) -> str:
        """`target_memory_mb of gateway > 500 for 3 s`."""
        of = f" of {self.process}" if self.process else ""
        than = "<" if ABORTS[self.measure].less_is_worse else ">"
        return f"{self.measure}{of} {than} {self.limit:g} for {self.for_s:g} s"


class Gate(Table):
    """What `tickstorm weekly` compares with the weeks before."""

    measures: Annotated[list[Gated], Field(min_length=1, max_length=MOST_GATED)]

    @model_validator(mode="after")
    def _known_and_once(self) -> Gate:
        known = ", ".join(f'"{name}"' for name in GATEABLE)
        refuse(
            [
                *(
                    f'measures: found "{name}", allowed one of {known}, alone or with ":" and what it is of'
                    for name in self.measures
                    if name.partition(":")[0] not in GATEABLE
                ),
                *(f'measures: found "{name}" twice, allowed each once' for name in twice(self.measures)),
            ]
        )
        return self


Factor = Annotated[float, Field(ge=0.001, le=100_000)]


class CapacitySearch(Table):
    """How `tickstorm capacity` looks for the highest load at which every limit holds."""

    search: bool = False  # the run is a search: its load goes by levels, and its faults are not played
    one_level: bool = False  # the run is one level of a search along another axis: its faults are not played
    start: Factor = 1.0  # the first level, as a factor of the publishers' own rates
    to: Factor = 64.0
    tolerance_percent: Annotated[float, Field(ge=1, le=50)] = 5.0  # width of the last bracket
    settle_s: Annotated[float, Field(ge=0, le=600)] = 2.0
    hold_s: Annotated[float, Field(ge=1, le=600)] = 8.0
    long_s: Annotated[float, Field(ge=1, le=3600)] = 60.0  # of the hold that confirms
    limits: list[Text] = []  # measures whose thresholds bound the search; none: all that a hold can judge
    under: Name | None = None  # a fault of the profile that every level carries once
    plan: Positive | None = None  # deliveries per second that are planned for, to tell the headroom

    @model_validator(mode="after")
    def _climbs(self) -> CapacitySearch:
        problems = [f"to: found {self.to:g}, allowed above start, {self.start:g}"] if self.to <= self.start else []
        problems += [f'limits: found "{name}" twice, allowed each once' for name in twice(self.limits)]
        refuse(problems)
        return self


class Stage(Table):
    """A stage written by hand: the publishers' shapes at a factor, one after another from the warm-up's end on."""

    factor: Factor
    hold_s: Annotated[float, Field(ge=0.1, le=7 * 24 * 3600)]
    settle_s: Annotated[float, Field(ge=0, le=600)] = 2.0  # not judged


class Tables(Table):
    """All tables of a profile, each valid for itself; `Profile` is one whose tables also fit together."""

    name: Name
    question: Annotated[str, Field(min_length=10, max_length=300)]
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    labels: Labels = Labels()
    target: Target = Target()
    run: Run
    identity: Identity = Identity()
    families: Annotated[list[Family], Field(min_length=1, max_length=64)]
    publishers: Annotated[list[Publishers], Field(min_length=1)]
    consumers: Annotated[list[Consumers], Field(min_length=1)]
    readers: list[Readers] = []
    users: list[Users] = []
    faults: list[AnyFault] = []
    steady: Steady = Steady()
    recovery: Recovery = Recovery()
    sampling: Sampling = Sampling()
    guard: Guard = Guard()
    aborts: list[Abort] = []
    thresholds: Annotated[list[Threshold], Field(min_length=1)]
    gate: Gate | None = None
    capacity: CapacitySearch | None = None
    levels: Annotated[list[Stage], Field(max_length=200)] = []

    @model_validator(mode="before")
    @classmethod
    def _no_links_without_proxies(cls, raw: Any) -> Any:
        """Families of an external target that names no Toxiproxy lead over no link that we know."""
        target = raw.get("target") if isinstance(raw, dict) else None
        if not isinstance(target, dict) or target.get("kind") != "external" or target.get("toxiproxy"):
            return raw
        families = raw.get("families")
        if not isinstance(families, list):
            return raw
        return {**raw, "families": [{"path": []} | one if isinstance(one, dict) else one for one in families]}

    @property
    def searches(self) -> bool:
        """The load goes by levels that the run itself chooses."""
        return self.capacity is not None and self.capacity.search

    @property
    def plays_faults(self) -> bool:
        """Its faults are played at their times: not in a search, and not in a run that is one level of it."""
        return self.capacity is None or not (self.capacity.search or self.capacity.one_level)

    @property
    def by_levels(self) -> bool:
        """The load goes by levels, planned or searched for."""
        return bool(self.levels) or self.searches


def generated_symbols(count: int) -> list[str]:
    """Symbols of the shorthand `symbols = n`: TEST_0000 and so on, which a clean-up can tell from real ones."""
    return list(_generated(count))


@lru_cache(maxsize=4)
def _generated(count: int) -> tuple[str, ...]:
    return tuple(f"TEST_{index:04d}" for index in range(count))  # each rule of a profile asks for them anew


assert MAX_ROUTES >= 1 << 20
