"""Which second servers of the local stack does no fault need any more?  They are ended; all others are left alone."""

from __future__ import annotations

from collections.abc import Iterable

from loadtests.inject.errors import ControlError, NotThere
from loadtests.inject.journal import Journal
from loadtests.inject.supervisor import SupervisorClient
from loadtests.inject.toxics import ToxiproxyServer
from loadtests.model.stackwire import Ask


def end_strays(supervisor: SupervisorClient, toxiproxy: ToxiproxyServer, journals: Iterable[Journal]) -> list[str]:
    """Ends each to which no link leads and which no open entry names. Returns sentences; never raises ControlError."""
    try:
        spares = supervisor.status().spares
        if not spares:
            return []
        named = {str(entry.undo["spare"]) for each in journals for entry in each.pending() if "spare" in entry.undo}
        led_to = {proxy.upstream for proxy in toxiproxy.proxies().values()}
    except NotThere:
        return []  # with its supervisor the stack has ended, and every spare; without Toxiproxy nobody can say
    except ControlError as error:
        return [f"Whether a second server still runs could not be seen: {error}"]
    done = []
    for service, spare in spares.items():
        if service in named or spare.address in led_to:
            continue
        try:
            supervisor.ask(Ask(do="end-spare", service=service))
            done.append(f"Ended the second {service}, which no fault needs any more.")
        except ControlError as error:
            done.append(f"Still there: the second {service}, which could not be ended: {error}")
    return done
