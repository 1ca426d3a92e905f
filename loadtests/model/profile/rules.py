"""What is wrong with a profile that no single table shows?  Pure: `path: found ..., allowed ...` comes out.

Each rule is a generator over the whole profile; none raises, so that a profile is refused with all its problems.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from math import ceil, prod

from loadtests.model.catalogue import EVENT_TYPES, KEY_FIELDS
from loadtests.model.ids import MAX_ROUTES, MAX_SLOTS
from loadtests.model.measures import OF_THE_RUN
from loadtests.model.profile.fault_rules import fault_problems
from loadtests.model.profile.tables import Tables, generated_symbols
from loadtests.model.profile.threshold_rules import abort_problems, limits, threshold_problems
from loadtests.model.profile.workload import Consumers, Family, Shape
from loadtests.model.stackwire import LINKS

MAX_GROUPS = 64
"""Route family x consumer group pairs that a profile may have: each is a histogram of its own in every slice."""

BYTES_PER_ACCOUNT = 160
"""What the open account of one consumer x stream takes: last number, first number and its entry in a dict."""

BYTES_PER_CONSUMER = 16 * 1024
"""What a connected consumer takes besides: its user, its greenlet, its socket (measured: 12.7 KB)."""

BYTES_PER_SAMPLE, BYTES_PER_ROW, BYTES_PER_CLIENT_S, BYTES_PER_CLIENT_AND_FAULT = 2_500, 50, 15, 600
"""Of a history, deflated: a sample of target and load generator; what one stream published in a tenth of a second and
what became of it; each client and second; each client and fault."""

ROWS_PER_S = 12
"""Of one stream at most: a due slice whose last messages leave in the next one has two."""

DATABASE = "postgres"
"""So end the names of links that no message passes: readers and the target's own services use them."""

SETTLE_SHARE = 0.25
"""The settle time at both ends may take at most this share of the plan."""


def problems(profile: Tables) -> list[str]:
    """All problems of a profile whose tables are each valid; empty where there is none."""
    found = list(_names(profile))
    found += _events(profile)
    found += _contents(profile)
    found += _sizes(profile)
    found += _links(profile)
    found += _writers(profile)
    found += _subscriptions(profile)
    found += _times(profile)
    found += fault_problems(profile)
    found += abort_problems(profile)
    found += threshold_problems(profile)
    found += _gated(profile)
    found += _levels(profile)
    return found


def _levels(profile: Tables) -> Iterator[str]:
    """Loads that cannot go by levels, and stages that the plan does not hold."""
    table = profile.capacity
    if table is not None:
        names = [fault.name for fault in profile.faults]
        plain = [fault.name for fault in profile.faults if fault.repeat is None and fault.after is None]
        if table.under is not None and table.under not in plain:
            why = ", since a level carries it once and at its own time" if table.under in names else ""
            yield f'capacity.under: found "{table.under}", allowed {one_of(plain)}{why}'
        limited = [
            limit.threshold.measure
            for limit in limits(profile, faults=table.under is not None)
            if limit.threshold.measure not in OF_THE_RUN
        ]
        for index, name in enumerate(table.limits):
            if name not in limited:
                yield f'capacity.limits[{index}]: found "{name}", allowed {one_of(dict.fromkeys(limited))}'
    if not profile.by_levels:
        return
    if profile.levels and table is not None and table.search:
        yield "levels: found stages beside capacity.search = true, allowed one of the two"
    for index, group in enumerate(profile.publishers):
        if group.shape.kind in UNSCALED:
            yield (
                f'publishers[{index}].shape.kind: found "{group.shape.kind}", allowed one whose rate stays as it is '
                "within a level"
            )
        if group.shape.at_most is not None:
            yield f"publishers[{index}].shape.at_most: found {group.shape.at_most}, allowed nothing by levels"
        for number, stage in enumerate(profile.levels):
            if group.shape.period_s is not None and stage.hold_s < group.shape.period_s:
                yield (
                    f"levels[{number}].hold_s: found {stage.hold_s:g}, allowed from {group.shape.period_s:g}, a period "
                    f"of publishers[{index}]: a stage without a burst is another load"
                )
    yield from _thin_holds(profile)
    needed_s = sum(stage.settle_s + stage.hold_s for stage in profile.levels)
    if needed_s > profile.run.duration_s:
        yield f"run.duration_s: found {profile.run.duration_s:g}, allowed from {needed_s:g}, what the levels take"


def _thin_holds(profile: Tables) -> Iterator[str]:
    """Holds in which too little comes for the percentiles that bound them."""
    holds = [(f"levels[{number}].hold_s", stage.hold_s, stage.factor) for number, stage in enumerate(profile.levels)]
    if profile.capacity is not None and profile.capacity.search:
        holds.append(("capacity.hold_s", profile.capacity.hold_s, profile.capacity.start))
    measures = {limit.threshold.measure for limit in limits(profile, faults=False)} & set(QUANTILES)
    per_s = offered_per_s(profile)
    for path, hold_s, factor in holds:
        for measure in sorted(measures):
            needed = ceil(BEYOND / (1 - QUANTILES[measure]) - 1e-6)
            if per_s * factor * hold_s < needed:
                allowed = f"from {ceil(needed / (per_s * factor)):,}" if per_s else "none: nobody follows"
                yield (
                    f"{path}: found {hold_s:g}, allowed {allowed}: {measure} needs {needed:,} deliveries in a hold, "
                    f"and the level offers {per_s * factor:,.0f} a second"
                )


def offered_per_s(profile: Tables) -> float:
    """Deliveries a second that the publishers' own rates owe to all consumers; 0 where files decide."""
    routes = {family.name: routes_of(family) for family in profile.families}
    each = {
        family.name: sum(group.count * _subscribed_routes(group, family) for group in profile.consumers
                         if _wants(group, family)) / max(routes[family.name], 1)
        for family in profile.families
    }  # fmt: skip
    found = 0.0
    for group in profile.publishers:
        whole = sum(routes.get(name, 0) for name in group.families)
        for name in group.families:
            found += group.count * _mean_per_s(group.shape) * routes.get(name, 0) / max(whole, 1) * each.get(name, 0.0)
    return found


QUANTILES = {"latency_p50_ms": 0.5, "latency_p95_ms": 0.95, "latency_p99_ms": 0.99}
"""Measures that are a percentile of the deliveries."""
BEYOND = 10
"""A percentile needs so many samples beyond it."""
UNSCALED = ("replay", "ramp")
"""Shapes whose rate is not that of a level."""

GATED_OF = {"first_fresh": "faults", "recovery": "faults", "outage": "faults", "latency": "families"}
"""How the name of a gated figure begins -> the tables that have what it can be of."""


def _gated(profile: Tables) -> Iterator[str]:
    """Figures to be compared from week to week that this profile can never have."""
    for index, name in enumerate(profile.gate.measures if profile.gate else []):
        figure, colon, of = name.partition(":")
        table = next((table for begin, table in GATED_OF.items() if figure.startswith(begin)), None)
        if table is None:
            continue
        names = [part.name for part in getattr(profile, table)]
        if not names:
            yield f'gate.measures[{index}]: found "{name}", allowed nothing of {table}: the profile has none'
        elif colon and of not in names:
            yield f'gate.measures[{index}]: found "{name}", allowed {one_of([f"{figure}:{one}" for one in names])}'


def one_of(names: Collection[str]) -> str:
    """The allowed part of a problem about a name."""
    return "one of " + ", ".join(f'"{name}"' for name in names) if names else "nothing, since there is none"


def _names(profile: Tables) -> Iterator[str]:
    for key in ("families", "publishers", "consumers", "readers", "users", "faults"):
        seen: dict[str, int] = {}
        for index, part in enumerate(getattr(profile, key)):
            if part.name in seen:
                yield (
                    f'{key}[{index}].name: found "{part.name}", the name of {key}[{seen[part.name]}], '
                    "allowed a name of its own"
                )
            seen.setdefault(part.name, index)
    for index, group in enumerate(profile.publishers):
        yield from _once(f"publishers[{index}].families", group.families)
    for index, consumers in enumerate(profile.consumers):
        for key in ("families", "patterns", "symbols"):
            yield from _once(f"consumers[{index}].subscribe.{key}", getattr(consumers.subscribe, key))
    for index, readers in enumerate(profile.readers):
        yield from _once(f"readers[{index}].queries", readers.queries)


def _once(path: str, values: Sequence[str]) -> Iterator[str]:
    for value in sorted({v for v in values if list(values).count(v) > 1}):
        yield f'{path}: found "{value}" twice, allowed each name once'


def _events(profile: Tables) -> Iterator[str]:
    for index, family in enumerate(profile.families):
        where = f"families[{index}]"
        kind = EVENT_TYPES.get(family.event)
        if kind is None:
            yield f'{where}.event: found "{family.event}", allowed {one_of(EVENT_TYPES)}'
            continue
        for key in sorted(keys_of(family).keys() - kind.keys):
            path = "symbols" if key == "symbol" and family.symbols else f"keys.{key}"
            yield f'{where}.{path}: found a key that "{kind.name}" does not have, allowed {one_of(sorted(kind.keys))}'
        if profile.target.kind == "local" and family.channel not in kind.channels:
            yield (
                f'{where}.channel: found "{family.channel}", allowed {one_of(kind.channels)}: '
                f'the local target takes "{kind.name}" nowhere else'
            )


def keys_of(family: Family) -> dict[str, list[str]]:
    """Values of each key of a family, the generated symbols among them."""
    keys: dict[str, list[str]] = {str(key): values for key, values in family.keys.items()}
    return keys | {"symbol": generated_symbols(family.symbols)} if family.symbols else keys


def routes_of(family: Family) -> int:
    """How many routes a family has."""
    return prod(len(values) for values in family.keys.values()) * (family.symbols or 1)


def _sizes(profile: Tables) -> Iterator[str]:
    pairs = len(profile.families) * len(profile.consumers)
    if pairs > MAX_GROUPS:
        yield (
            f"consumers: found {len(profile.families)} families x {len(profile.consumers)} consumer groups = {pairs}, "
            f"allowed {MAX_GROUPS}"
        )
    publishers = sum(group.count for group in profile.publishers)
    if publishers > MAX_SLOTS:
        yield f"publishers: found {publishers} in all groups, allowed {MAX_SLOTS}"
    routes = sum(map(routes_of, profile.families))
    if routes > MAX_ROUTES:
        yield f"families: found {routes} routes in all families, allowed {MAX_ROUTES}"
    needed = memory_mb(profile)
    if needed > profile.guard.memory_mb:
        yield (
            f"guard.memory_mb: found {profile.guard.memory_mb}, allowed from {needed}, since so many consumers x "
            f"streams need about {needed} MB; take fewer consumers, symbols or publishers"
        )


def memory_mb(profile: Tables) -> int:
    """Megabytes (of 1,000,000 bytes) that the accounts of all consumers need at most, rounded up."""
    writers = {
        family.name: sum(group.count for group in profile.publishers if family.name in group.families)
        for family in profile.families
    }
    total = 0.0
    for group in profile.consumers:
        streams = sum(
            writers[family.name] * _subscribed_routes(group, family)
            for family in profile.families
            if _wants(group, family)
        )
        total += group.count * (streams * BYTES_PER_ACCOUNT + BYTES_PER_CONSUMER)
    return -int(-total // 1_000_000)


def history_mb(profile: Tables) -> float:
    """About how many megabytes (of 1,000,000 bytes) the history of a run takes; what is lost comes on top.

    Measured on shipped profiles of a minute and on the history of a day: good to a third.
    """
    routes = {family.name: routes_of(family) for family in profile.families}
    rows = 0.0
    for group in profile.publishers:
        most = float(sum(routes[name] for name in group.families) * ROWS_PER_S)
        rows += group.count * min(most, _mean_per_s(group.shape) or most)
    clients = sum(group.count for group in profile.consumers)
    faults = sum(1 if fault.repeat is None else fault.repeat.times for fault in profile.faults)
    a_second = BYTES_PER_SAMPLE / profile.sampling.every_s + rows * BYTES_PER_ROW + clients * BYTES_PER_CLIENT_S
    return (a_second * profile.run.length_s + faults * clients * BYTES_PER_CLIENT_AND_FAULT) / 1e6


def _mean_per_s(shape: Shape) -> float:
    """Messages a second over the whole plan; 0 where its file decides."""
    if shape.period_s and shape.length_s:
        peak, base = shape.peak_per_s or shape.rate_per_s or 0.0, shape.base_per_s or 0.0
        return base + (peak - base) * shape.length_s / shape.period_s
    if shape.to_per_s is not None:
        return ((shape.from_per_s or 0.0) + shape.to_per_s) / 2
    return shape.rate_per_s or 0.0


def _wants(group: Consumers, family: Family) -> bool:
    return not group.subscribe.families or family.name in group.subscribe.families


def _subscribed_routes(group: Consumers, family: Family) -> float:
    """Routes of a family that one consumer of a group takes at most."""
    ask, keys = group.subscribe, keys_of(family)
    left = float(routes_of(family))
    for key, wanted in (("pattern", ask.patterns), ("symbol", ask.symbols)):
        if wanted:
            have = keys.get(key, [])
            left *= len(set(wanted) & set(have)) / len(have) if have else 0
    if ask.symbol_share < 1:
        left *= ask.symbol_share
    return left


def _links(profile: Tables) -> Iterator[str]:
    known = known_links(profile)
    for index, family in enumerate(profile.families):
        for place, link in enumerate(family.path):
            if link not in known:
                yield f'families[{index}].path[{place}]: found "{link}", allowed {one_of(known)}'
    for index, fault in enumerate(profile.faults):
        if fault.link is not None and fault.link not in known:
            yield f'faults[{index}].link: found "{fault.link}", allowed {one_of(known)}'
        elif fault.link is not None and fault.link not in (used := used_links(profile)):
            yield (
                f'faults[{index}].link: found "{fault.link}", which no family\'s path names and no reader uses, '
                f"so that a fault on it touches nobody, allowed {one_of(used)}, or a path that names it"
            )
    if profile.target.kind == "external":
        if profile.faults and profile.target.toxiproxy is None:
            yield "target.toxiproxy: found nothing, allowed host:port, since the profile has faults"
        if profile.readers and profile.target.postgres is None:
            yield "target.postgres: found nothing, allowed host:port, since the profile has readers"
    else:
        for key in ("proxies", "processes"):
            if getattr(profile.target, key):
                yield f'target.{key}: found names, allowed none unless kind = "external": the local stack has its own'


def known_links(profile: Tables) -> tuple[str, ...]:
    """Links that a path or a fault may name."""
    if profile.target.kind == "local":
        return LINKS
    return (*profile.target.proxies, *(link for link in LINKS if link not in profile.target.proxies))


def used_links(profile: Tables) -> tuple[str, ...]:
    """Those of the known links over which messages go, or a database connection: the readers', or the gateway's own."""
    paths = {link for family in profile.families for link in family.path}
    return tuple(link for link in known_links(profile) if link in paths or link.rpartition("-")[2] == DATABASE)


def _writers(profile: Tables) -> Iterator[str]:
    names = [family.name for family in profile.families]
    for index, group in enumerate(profile.publishers):
        for place, name in enumerate(group.families):
            if name not in names:
                yield f'publishers[{index}].families[{place}]: found "{name}", allowed {one_of(names)}'
    written = {name for group in profile.publishers for name in group.families}
    for index, name in enumerate(names):
        if name not in written:
            yield f'families[{index}].name: found "{name}", which no publishers write, allowed one that some write'


def _subscriptions(profile: Tables) -> Iterator[str]:
    names = [family.name for family in profile.families]
    for index, group in enumerate(profile.consumers):
        where = f"consumers[{index}].subscribe"
        unknown = [(place, name) for place, name in enumerate(group.subscribe.families) if name not in names]
        for place, name in unknown:
            yield f'{where}.families[{place}]: found "{name}", allowed {one_of(names)}'
        if not unknown:
            yield from _filters(profile, group, where)


def _filters(profile: Tables, group: Consumers, where: str) -> Iterator[str]:
    """What a group asks for against what the target will send it."""
    ask = group.subscribe
    taken = [family for family in profile.families if _wants(group, family)]
    wrong = False
    for key, wanted in (("pattern", ask.patterns), ("symbol", ask.symbols)):
        have = {value for family in taken for value in keys_of(family).get(key, ())}
        for place, value in enumerate(wanted):
            if value not in have:
                wrong = True
                yield f'{where}.{key}s[{place}]: found "{value}", allowed a {key} of a family that the group takes'
    pool = set(ask.symbols) or {value for family in profile.families for value in keys_of(family).get("symbol", ())}
    if ask.symbol_share < 1:
        reachable = {value for family in taken for value in keys_of(family).get("symbol", ())}
        take = max(1, round(len(pool) * ask.symbol_share))
        if not pool:
            wrong = True
            yield f"{where}.symbol_share: found {ask.symbol_share}, allowed 1, since no family has symbols"
        elif len(pool - reachable) >= take:
            wrong = True
            yield (
                f"{where}.symbol_share: found {ask.symbol_share}, a share of symbols of which the group's families "
                'lack some, allowed with "symbols" that they have'
            )
    if wrong:
        return
    symbols = set(ask.symbols) or (pool if ask.symbol_share < 1 else set())
    if not any(_passes(family, set(ask.patterns), symbols) for family in taken):
        yield f"{where}: found a subscription that gets no route of any family, allowed one that gets some"
    yield from _foreign(profile, group, where, taken, symbols)


def _foreign(
    profile: Tables, group: Consumers, where: str, taken: Sequence[Family], symbols: set[str]
) -> Iterator[str]:
    """Routes that the target, which filters by channel and keys, will send although the group does not take them."""
    ask = group.subscribe
    channels = {family.channel for family in taken}
    for family in profile.families:
        if family not in taken and family.channel in channels and _passes(family, set(ask.patterns), symbols):
            yield (
                f'{where}.families: found families of channel "{family.channel}" without "{family.name}", which shares '
                "that channel, allowed all of them, or keys that tell them apart"
            )
    for key, wanted in (("pattern", set(ask.patterns)), ("symbol", symbols)):
        for family in profile.families:
            kind = EVENT_TYPES.get(family.event)
            hidden = kind is not None and key in kind.always and key not in keys_of(family)
            if wanted and hidden and (not ask.families or family.channel in channels):
                yield (
                    f'{where}: found a choice of {key}s beside family "{family.name}", whose messages carry a '
                    f"{key} that is no key of it, allowed where keys.{key} names them"
                )


def _contents(profile: Tables) -> Iterator[str]:
    """Fields of `content` that cannot be looked at; the columns of a file that is replayed are unknown yet."""
    place = profile.identity.path.partition(".")
    for index, family in enumerate(profile.families):
        kind = EVENT_TYPES.get(family.event)
        replayed = any(p.shape.file is not None and family.name in p.families for p in profile.publishers)
        for field in family.content if isinstance(family.content, list) else ():
            where = f'families[{index}].content: found "{field}"'
            if place == (field, "", ""):
                yield f"{where}, allowed a field that is not replaced by the identity"
            elif kind is not None and not replayed:
                known = kind.fields | {KEY_FIELDS[key] for key in keys_of(family)}
                if field not in known:
                    yield f"{where}, allowed {one_of(sorted(known))}"


def _passes(family: Family, patterns: set[str], symbols: set[str]) -> bool:
    """Whether some route of a family passes the target's filter."""
    keys = keys_of(family)
    return (not patterns or bool(patterns & set(keys.get("pattern", ())))) and (
        not symbols or bool(symbols & set(keys.get("symbol", ())))
    )


def _times(profile: Tables) -> Iterator[str]:
    both_ends_s = 2 * profile.run.settle_ms / 1000
    if both_ends_s > SETTLE_SHARE * profile.run.duration_s:
        yield (
            f"run.duration_s: found {profile.run.duration_s:g}, allowed from {both_ends_s / SETTLE_SHARE:g}, since the "
            f"settle time at both ends takes {both_ends_s:g} s; or a smaller run.settle_ms"
        )
    if profile.run.late_s > profile.run.drain_s:
        yield (
            f"run.late_s: found {profile.run.late_s:g}, allowed at most run.drain_s, {profile.run.drain_s:g}: "
            "later than that a message is lost"
        )
    for index, group in enumerate(profile.consumers):
        if group.reconnect.first_ms > group.reconnect.max_ms:
            yield (
                f"consumers[{index}].reconnect.first_ms: found {group.reconnect.first_ms:g}, "
                f"allowed at most max_ms, {group.reconnect.max_ms:g}"
            )
