"""What had an earlier process left behind, and how is it lifted?  By journal, and by the names that we give.

A journal whose injector lives is left alone, and so is its Toxiproxy: that injector lifts its faults itself. A journal
that no injector of this user wrote is told and left: nothing is asked of a server that only it names. A second server
of the local stack that no fault needs any more is ended.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from loadtests.inject.errors import ControlError, NoAnswer, NotThere
from loadtests.inject.journal import Entry, Journal
from loadtests.inject.kinds import KINDS
from loadtests.inject.kinds.kind import Lifted, Site, lift
from loadtests.inject.link import Link
from loadtests.inject.parent import UserFaultControl
from loadtests.inject.servers import RedisServer, SupervisorClient, database_at
from loadtests.inject.toxics import TOXIC_PREFIX, Proxy, ToxiproxyServer
from loadtests.model.stackwire import PROXY_PREFIX, Ask

Tell = Callable[[str], None]

LEFT_ALONE = "Left alone"
"""How a sentence about the faults of a run that goes on begins."""

PATIENCE_S = 10.0
"""So long may an injector whose run is gone take to lift its own faults."""


def heal(
    toxiproxy: str,
    journals: Sequence[Path],
    supervisor: Path | None = None,
    *,
    gone: Collection[str] = (),
    trusted: Collection[Path] = (),
    patience_s: float = PATIENCE_S,
) -> list[str]:
    """Lifts all that earlier runs left: what is open in the journals, then our toxics and our disabled proxies.

    `toxiproxy` is swept by name besides; empty: no one is, and each entry is lifted where it says. `supervisor` is the
    folder of the local stack, which restarts a Toxiproxy that is wedged. `gone`: folders of local stacks of which no
    process is left; what was in force there is over. `trusted`: journals for which the user vouches, also without
    sums. `patience_s`: how long an injector at this Toxiproxy is waited for
    that may be about to end. Returns a sentence for each thing done, for each that is still not lifted, and for each
    run in progress that was left alone; empty when all was clean.
    Raises ControlError where Toxiproxy cannot be reached, and OSError where a journal cannot be read.
    """
    server = ToxiproxyServer(toxiproxy) if toxiproxy else None
    done: list[str] = []
    with ExitStack() as holds:
        known = [Journal(path, vouched=path in trusted) for path in journals]
        free, used = _free(known, toxiproxy, patience_s, holds)
        done += [_of_others(journal) for journal in known if journal not in used and journal.of_others()]
        for journal in free:
            done += _buried(journal, gone)
        for on_links in (False, True):  # Toxiproxy itself may be under a fault
            if on_links and server is not None:
                server.version()
            for journal in free:
                for entry, lifted in undo_pending(journal, server, done.append, on_links=on_links):
                    done.append(sentence(entry, lifted))
        done += [_left_alone(journal) for journal in used if journal.pending()]
        if server is None or any(_works_at(journal, toxiproxy) for journal in used):
            return done
        try:
            done += sweep_or_restart(server, (), supervisor)
            strays = [] if supervisor is None else end_strays(SupervisorClient(supervisor), server, (*free, *used))
            return done + strays
        except NotThere:
            raise
        except NoAnswer as error:
            return [*done, f"What is in force at Toxiproxy is not lifted: {error}. It is wedged: restart it."]


def users_of(toxiproxy: str, journals: Sequence[Path]) -> list[str]:
    """Runs whose injector lives and works at this Toxiproxy, as far as the journals tell."""
    with ExitStack() as holds:
        _, used = _free([Journal(path) for path in journals], toxiproxy, 0.0, holds)
    return [journal.path.parent.name for journal in used if _works_at(journal, toxiproxy)]


def _free(
    journals: Sequence[Journal], toxiproxy: str, patience_s: float, holds: ExitStack
) -> tuple[list[Journal], list[Journal]]:
    """Journals with something open that nobody holds, now held by us; and those that their injectors hold."""
    free, used = [], []
    for journal in journals:
        try:
            hold = journal.hold()
            if hold is None and toxiproxy and _works_at(journal, toxiproxy):
                hold = journal.hold(patience_s)
        except OSError:
            if journal.is_own():
                raise
            continue
        if hold is None:
            used.append(journal)
        elif journal.pending():
            holds.enter_context(hold)
            free.append(journal)
        else:
            hold.release()
    return free, used


def _works_at(journal: Journal, toxiproxy: str) -> bool:
    """Whether its injector works there; one that has not said yet where may do so."""
    return toxiproxy in (known := journal.toxiproxies()) or not known


def _left_alone(journal: Journal) -> str:
    return (
        f'{LEFT_ALONE}: run "{journal.path.parent.name}" goes on and lifts its faults itself; in force may be '
        f"{', '.join(entry.fault for entry in journal.pending())}."
    )


def _of_others(journal: Journal) -> str:
    path = str(journal.path.absolute())
    said = (
        f"Faults that are open in {path} are not lifted ({journal.of_others()}): no injector of this user wrote them, "
        "and whoever lifts them shows passwords to the servers that they name. If they are yours: "
        f"tickstorm stack heal --trust {shlex.quote(path)}"
    )
    return "".join(letter if letter.isprintable() else "?" for letter in said)


def _buried(journal: Journal, gone: Collection[str]) -> list[str]:
    done = []
    for entry in journal.pending():
        if entry.supervisor and entry.supervisor in gone:
            journal.close(entry.fault)
            done.append(
                f'Fault "{entry.fault}" ({entry.kind} on {entry.link}) went with its local stack, which is down.'
            )
    return done


def sweep_or_restart(server: ToxiproxyServer, proxies: Sequence[str], supervisor: Path | None) -> list[str]:
    """As `sweep`; a Toxiproxy that is there but does not tell its proxies is wedged, and the local stack restarts it.

    Raises ControlError: NoAnswer where it is wedged and there is no stack that may restart it.
    """
    try:
        return sweep(server, proxies)
    except NotThere:
        raise
    except NoAnswer as error:
        if supervisor is None:
            raise
        told = f"Toxiproxy is wedged: {error}. Escalation: restarted Toxiproxy; every link's connections ended."
        SupervisorClient(supervisor).ask(Ask(do="restart", service="toxiproxy"))
        return [told, *sweep(server, proxies)]


def undo_pending(
    journal: Journal,
    server: ToxiproxyServer | None,
    tell: Tell,
    *,
    users: UserFaultControl | None = None,
    on_links: bool | None = None,
) -> Iterator[tuple[Entry, Lifted]]:
    """Lifts what is open in a journal, and closes there what was read back as lifted.

    Entries of another Toxiproxy are lifted there, and only if it answers. `on_links`: only what acts on links, or only
    what does not; those that do not come first in any case.
    """
    for entry in sorted(journal.pending(), key=lambda entry: entry.proxy != ""):
        if on_links is not None and on_links != bool(entry.proxy):
            continue
        kind = KINDS.get(entry.kind)
        if kind is None:
            yield entry, Lifted(clean=False, left=_unknown(entry))
            continue
        at = server
        if entry.toxiproxy and (server is None or entry.toxiproxy != server.address):
            at = ToxiproxyServer(entry.toxiproxy)
        site = Site(
            link=Link(server=at, name=entry.link, proxy=entry.proxy) if entry.proxy and at is not None else None,
            supervisor=SupervisorClient(Path(entry.supervisor)) if entry.supervisor else None,
            redis=RedisServer(entry.redis) if entry.redis else None,
            postgres=database_at(entry.postgres, database=entry.database, user=entry.user),
            users=users,
        )
        lifted = lift(kind, site, entry.undo, fault=entry.fault, tell=tell)
        if lifted.clean:
            journal.close(entry.fault)
        yield entry, lifted


def sweep(server: ToxiproxyServer, proxies: Sequence[str]) -> list[str]:
    """Removes our toxics from our proxies and from those named, enables our disabled proxies, and reads back.

    A named proxy that is not ours by its name is not enabled: it may be off for a reason of its owner.
    Returns sentences.
    """
    done: list[str] = []
    for proxy in _concerned(server, proxies):
        try:
            for toxic in _ours(proxy):
                server.remove(proxy.name, toxic)
                done.append(f'Removed toxic "{toxic}" from proxy "{proxy.name}".')
            if not proxy.enabled and proxy.name.startswith(PROXY_PREFIX):
                server.set_enabled(proxy.name, True)
                done.append(f'Enabled proxy "{proxy.name}".')
        except ControlError as error:
            done.append(f'Proxy "{proxy.name}" could not be swept: {error}')
            _recreate(server, proxy, done)
    return done + [f"Still there: {text}" for text in dirt(server, proxies)] if done else done


def dirt(server: ToxiproxyServer, proxies: Sequence[str]) -> list[str]:
    """What of ours is still in force at our proxies and at those named."""
    return [
        text
        for proxy in _concerned(server, proxies)
        for text in (
            *(f'toxic "{toxic}" on proxy "{proxy.name}"' for toxic in _ours(proxy)),
            *([f'proxy "{proxy.name}" is disabled'] if not proxy.enabled and _is_ours(proxy) else []),
        )
    ]


def sentence(entry: Entry, lifted: Lifted) -> str:
    """One line for the user."""
    if not lifted.clean:
        return lifted.left
    how = f" ({lifted.escalation})" if lifted.escalation else ""
    return f'Lifted fault "{entry.fault}" ({entry.kind} on {entry.link}), which an earlier run had left{how}.'


def _unknown(entry: Entry) -> str:
    return f'Fault "{entry.fault}" is not lifted: kind "{entry.kind}" is not known to this version.'


def _is_ours(proxy: Proxy) -> bool:
    return proxy.name.startswith(PROXY_PREFIX)


def _ours(proxy: Proxy) -> list[str]:
    return [toxic.name for toxic in proxy.toxics if toxic.name.startswith(TOXIC_PREFIX)]


def _concerned(server: ToxiproxyServer, proxies: Sequence[str]) -> list[Proxy]:
    return [proxy for name, proxy in sorted(server.proxies().items()) if _is_ours(proxy) or name in proxies]


def _recreate(server: ToxiproxyServer, proxy: Proxy, done: list[str]) -> None:
    """A proxy that does not let go of a toxic is created anew; only one of ours."""
    if not _is_ours(proxy):
        return
    try:
        with suppress(ControlError):  # new connections first: with one more of them a delete would hang
            server.set_enabled(proxy.name, False)
        server.delete(proxy.name)
        server.create(proxy.name, listen=proxy.listen, upstream=proxy.upstream)
        done.append(f'Deleted proxy "{proxy.name}" and created it anew.')
    except ControlError as error:
        done.append(f'Proxy "{proxy.name}" could not be created anew: {error}')


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
