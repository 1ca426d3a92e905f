"""What is drawn of the pipeline?  Links and services with their live numbers; what nobody measures is None.

Pure: numbers in, values for the page out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from loadtests.model.live import LiveLink, LiveService

_RATES = {
    ("publisher", "redis"): ("published", "published"),
    ("gateway", "redis"): ("published", "to {subscribers}"),
    ("client", "gateway"): ("received", "received"),
}
"""Who connects to whom: which rate passes there, in words."""
_PEOPLE = frozenset({"publisher", "client"})
"""Ends that are the run's own users, not a service of the target."""


def drawn(
    links: Collection[str],
    rates: Mapping[str, float | None],
    p50_ms: float | None,
    memory_mb: Mapping[str, float],
    cpu_percent: Mapping[str, float],
    health: tuple[float | None, bool] | None,
    subscribers: int | None,
) -> tuple[list[LiveLink], list[LiveService]]:
    """One entry for each link, and one for each service at their ends.

    `subscribers` is what Redis answered to PUBLISH at most: all of them, for it does not say who they are.
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
