"""What does the live page show of the pipeline?  Its faults and their recovery, links, services; never evidence.

Folds for `LiveFold`, which holds the lock; a number that nothing measures is None.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping

import msgspec

from loadtests.model.ids import NS_PER_MS, NS_PER_S, SLICE_NS
from loadtests.model.injectwire import PlannedFault
from loadtests.model.live import LiveFault, LiveLink, LiveNote, LiveService
from loadtests.model.profile.fault_times import recovery_limit_s
from loadtests.model.profile.profile import Profile
from loadtests.model.records import (
    ACTED,
    LINK_PROBE,
    TOUCHED,
    FaultStep,
    FirstAfter,
    Note,
    PathProbe,
    Phase,
    PublishTimes,
    ServiceEnded,
)

_PER_SECOND = NS_PER_S // SLICE_NS
_STATES = {
    "announced": "announced",
    "active": "active",
    "not in force": "active",
    "lifted": "healed",
    "not lifted": "not lifted",
    "failed": "failed",
}
_RATES = {
    ("publisher", "redis"): ("published", "published"),
    ("gateway", "redis"): ("published", "to {subscribers}"),
    ("client", "gateway"): ("received", "received"),
}
"""Client and server of a link -> the rate that passes there, and its words."""
_PEOPLE = frozenset({"publisher", "client"})
"""Ends that are the run's own users, not a service of the target."""


class LiveFaults:
    """What became of the faults so far, and how fresh everything is since."""

    def __init__(self, profile: Profile) -> None:
        self.subscribers: dict[int, int] = {}  # by second: most receivers that PUBLISH answered
        self._health: PathProbe | None = None
        self._ended: dict[str, ServiceEnded] = {}
        self.notes: list[tuple[int, str]] = []
        self._faults: dict[str, LiveFault] = {}
        self._healed: dict[str, int] = {}
        self._fresh: dict[int, tuple[int, int]] = {}  # healed -> consumers, and when the last of them came
        self._limits = {fault.name: recovery_limit_s(profile, fault) for fault in profile.faults}
        self._limit_s = profile.recovery.limit_s

    def add(self, record: object, t0_ns: int) -> None:
        """One record of any kind."""
        match record:
            case FaultStep():
                self._step(record, t0_ns)
            case FirstAfter():
                self._first(record)
            case PublishTimes():
                if record.receivers_max >= 0:
                    second = record.due_slice // _PER_SECOND
                    self.subscribers[second] = max(record.receivers_max, self.subscribers.get(second, 0))
            case PathProbe(what="health"):
                self._health = record
            case ServiceEnded():
                self._ended[record.service] = record
            case Note(by="user"):
                self.notes.append((record.at_ns, record.text))

    def _step(self, record: FaultStep, t0_ns: int) -> None:
        old = self._faults.get(record.name)
        at_s = (record.after_ns - t0_ns) / NS_PER_S
        again = old is not None and old.to_s is not None and record.step in ("announced", "active")
        if old is None or again:
            old = _untouched(record.name, record.kind, record.link)
        self._faults[record.name] = msgspec.structs.replace(
            old,
            state=_STATES.get(record.step, old.state),
            from_s=at_s if record.step == "active" else old.from_s,
            to_s=at_s if record.step == "lifted" and old.from_s is not None else old.to_s,
            proved={"proved": record.effective.get(TOUCHED, ACTED) == ACTED, "not proved": False}.get(
                record.step, old.proved
            ),
            asked=record.asked or old.asked,
            effective=old.effective | record.effective,
            detail=record.detail or old.detail,
        )
        if record.step == "lifted":
            self._healed[record.name] = record.after_ns

    def disturbed(self, now_ns: int, consumers: int) -> Phase | None:
        """fault while one is in force; recovery until every consumer is fresh, or the limit is over; else None."""
        found: Phase | None = None
        for name, fault in self._faults.items():
            if fault.state in ("active", "not lifted"):
                return "fault"
            healed_ns = self._healed.get(name)
            if fault.to_s is None or healed_ns is None or self._fresh.get(healed_ns, (0, 0))[0] >= consumers:
                continue
            if now_ns < healed_ns + self._limit_of(name) * NS_PER_S:
                found = "recovery"
        return found

    def _limit_of(self, name: str) -> float:
        return self._limits.get(name.partition("#")[0], self._limit_s)

    def looked_at(
        self, service: str, now_ns: int, memory_mb: float | None, cpu_percent: float | None, read_ns: int | None
    ) -> LiveService:
        """A service with its last readings and its health; or how it ended, if nothing was read of it since."""
        ended, probe = self._ended.get(service), self._health if service == "gateway" else None
        gone = ended is not None and ended.at_ns >= (read_ns or 0)
        known = read_ns is not None and not gone
        return LiveService(
            name=service,
            memory_mb=None if gone else memory_mb,
            cpu_percent=None if gone else cpu_percent,
            read_age_s=max(0, now_ns - read_ns) / NS_PER_S if known and read_ns is not None else None,
            health_ms=probe.took_ns / NS_PER_MS if probe is not None and probe.took_ns >= 0 else None,
            healthy=None if probe is None else probe.ok,
            health_age_s=None if probe is None else max(0, now_ns - probe.at_ns - max(0, probe.took_ns)) / NS_PER_S,
            ended=ended.what if ended is not None and gone else "",
        )

    def _first(self, record: FirstAfter) -> None:
        count, last_ns = self._fresh.get(record.healed_ns, (0, 0))
        came = [at_ns for kind, at_ns in zip(record.kind, record.at_ns, strict=True) if kind == "fresh"]
        self._fresh[record.healed_ns] = (count + len(came), max([last_ns, *came]))

    def shown(self, planned: Mapping[str, PlannedFault], t0_ns: int) -> list[LiveFault]:
        """Faults that came, with how fresh all is since, then those to come."""
        return [self._one(name, planned.get(name), t0_ns) for name in dict.fromkeys([*self._faults, *planned])]

    def _one(self, name: str, plan: PlannedFault | None, t0_ns: int) -> LiveFault:
        fault = self._faults.get(name)
        if fault is None:
            assert plan is not None
            fault = msgspec.structs.replace(_untouched(name, plan.kind, plan.link), asked=dict(plan.asked))
        count, last_ns = self._fresh.get(self._healed.get(name, -1), (0, 0))
        return msgspec.structs.replace(
            fault,
            by_hand=plan is not None and plan.by_hand,
            plan_from_s=(plan.at_ns - t0_ns) / NS_PER_S if plan is not None else None,
            plan_to_s=(plan.until_ns - t0_ns) / NS_PER_S if plan is not None else None,
            fresh=count if fault.to_s is not None else None,
            fresh_s=(last_ns - t0_ns) / NS_PER_S if count else None,
            limit_s=self._limit_of(name),
        )

    def written(self, t0_ns: int) -> list[LiveNote]:
        """What the user wrote down."""
        return [LiveNote(at_s=(at_ns - t0_ns) / NS_PER_S, text=text) for at_ns, text in self.notes]


def _untouched(name: str, kind: str, link: str) -> LiveFault:
    return LiveFault(name=name, kind=kind, link=link, state="planned", from_s=None, to_s=None, proved=None)


class LiveLinks:
    """What the injector's probe saw on each link, last and over time."""

    def __init__(self) -> None:
        self._last: dict[str, PathProbe] = {}
        self._delays: defaultdict[str, dict[int, float]] = defaultdict(dict)  # link -> second -> ms

    def add(self, record: object) -> None:
        """One record of any kind."""
        if not isinstance(record, PathProbe) or not record.what.startswith(LINK_PROBE):
            return
        link = record.what.removeprefix(LINK_PROBE)
        self._last[link] = record
        if record.ok:
            self._delays[link][record.at_ns // NS_PER_S] = record.took_ns / NS_PER_MS

    def with_probe(self, link: LiveLink, now_ns: int) -> LiveLink:
        """The same link with the last reading, where there is one, and how old that is."""
        last = self._last.get(link.name)
        if last is None:
            return link
        return msgspec.structs.replace(
            link,
            probe=last.detail,
            probe_ms=last.took_ns / NS_PER_MS if last.ok else None,
            probe_age_s=max(0, now_ns - last.at_ns - max(0, last.took_ns)) / NS_PER_S,
        )

    def series(self, seconds: Iterable[int]) -> dict[str, list[float | None]]:
        """Per link: its round trip in each of these seconds, None where no ping was answered."""
        wanted = list(seconds)
        return {f"link_delay_ms:{link}": [found.get(s) for s in wanted] for link, found in sorted(self._delays.items())}


def links_and_services(
    links: Collection[str],
    rates: Mapping[str, float | None],
    p50_ms: float | None,
    subscribers: int | None,
    *,
    age_s: float | None = None,
) -> tuple[list[LiveLink], list[LiveService]]:
    """One entry for each link with what passed there `age_s` ago, and one for each service at their ends.

    `subscribers` is what Redis answered to PUBLISH at most: all of them, for it does not name them.
    """
    found: list[LiveLink] = []
    services: list[str] = []
    for name in links:
        client, _, server = name.rpartition("-")
        rate, rate_is = _RATES.get((client, server), ("", ""))
        known = rates.get(rate) if subscribers is not None or "{" not in rate_is else None
        if known is not None and subscribers == 0 and "{" in rate_is:
            known = 0  # nobody listens: nothing passes
        to_clients = (client, server) == ("client", "gateway")
        found.append(
            LiveLink(
                name=name,
                client=client,
                server=server,
                rate_per_s=known,
                rate_is=rate_is.format(subscribers=_some(subscribers)),
                delay_ms=p50_ms if to_clients else None,
                delay_is="p50 from due to received" if to_clients else "",
                age_s=age_s,
            )
        )
        services += [client, server]
    seen = [name for name in dict.fromkeys([*services, "toxiproxy"]) if name and name not in _PEOPLE]
    return found, [LiveService(name=name) for name in seen]


def _some(subscribers: int | None) -> str:
    return "1 subscriber" if subscribers == 1 else f"{subscribers} subscribers"
