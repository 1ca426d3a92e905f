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
    Consumed,
    FaultStep,
    FirstAfter,
    Note,
    PathProbe,
    PublishTimes,
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
        self.received: defaultdict[int, int] = defaultdict(int)  # by second of the receipt
        self.health: tuple[float | None, bool] | None = None  # ms, whether it answered well
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
            case Consumed():
                self.received[record.received_slice // _PER_SECOND] += record.unique
            case PublishTimes():
                if record.receivers_max >= 0:
                    second = record.due_slice // _PER_SECOND
                    self.subscribers[second] = max(record.receivers_max, self.subscribers.get(second, 0))
            case PathProbe(what="health"):
                self.health = (record.took_ns / NS_PER_MS if record.took_ns >= 0 else None, record.ok)
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
            limit_s=self._limits.get(name.partition("#")[0], self._limit_s),
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
    memory_mb: Mapping[str, float],
    cpu_percent: Mapping[str, float],
    health: tuple[float | None, bool] | None,
    subscribers: int | None,
) -> tuple[list[LiveLink], list[LiveService]]:
    """One entry for each link, and one for each service at their ends.

    `subscribers` is what Redis answered to PUBLISH at most: all of them, for it does not name them.
    """
    found: list[LiveLink] = []
    services: list[str] = []
    for name in links:
        client, _, server = name.rpartition("-")
        rate, rate_is = _RATES.get((client, server), ("", ""))
        known = rates.get(rate) if subscribers is not None or "{" not in rate_is else None
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
            )
        )
        services += [client, server]
    seen = [name for name in dict.fromkeys([*services, "toxiproxy"]) if name and name not in _PEOPLE]
    took_ms, healthy = health if health is not None else (None, None)
    return found, [
        LiveService(
            name=name,
            memory_mb=memory_mb.get(name),
            cpu_percent=cpu_percent.get(name),
            health_ms=took_ms if name == "gateway" else None,
            healthy=healthy if name == "gateway" else None,
        )
        for name in seen
    ]


def _some(subscribers: int | None) -> str:
    return "1 subscriber" if subscribers == 1 else f"{subscribers} subscribers"
