"""What do all faults on a link share?  Their undo, their read-back and the harder ways to lift them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from loadtests.inject.deadline import Watch
from loadtests.inject.encounter import Encounter, ServerEncounter, Unseen
from loadtests.inject.errors import Refused
from loadtests.inject.kinds.kind import Escalation, Kind, Site, Undo
from loadtests.inject.link import Link
from loadtests.inject.passage import Meets, Passage, Touch
from loadtests.inject.proofs import Witness, directions
from loadtests.inject.toxics import Direction, Missing, Toxic, problems, toxic_name
from loadtests.model.injectwire import PlannedFault
from loadtests.model.stackwire import Ask

Toxics = Callable[[PlannedFault], list[Toxic]]


def one_per_direction(fault: PlannedFault, type_: str, attributes: dict[str, int]) -> list[Toxic]:
    """The same toxic on each stream that the fault names."""
    streams: list[Direction] = ["downstream", "upstream"]
    return [
        Toxic(name=toxic_name(fault.name, stream), type=type_, stream=stream, attributes=attributes)
        for stream in streams
        if stream in directions(fault.direction)
    ]


def whole(fault: PlannedFault, key: str, *, least: int = 0) -> int:
    """A whole number that was asked. Raises Refused where it is none, or too small."""
    value = fault.asked.get(key, 0)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value != int(value) or value < least:
        raise Refused(f"{key} {value!r}: a whole number of at least {least} is needed")
    return int(value)


def undo_of(site: Site, fault: PlannedFault, toxics: Sequence[Toxic], *, cuts: bool = False) -> Undo:
    """What undoes it: toxics to remove, whether to listen again, and how to create the proxy anew."""
    link = site.the_link()
    state = link.state()
    undo: Undo = {
        "proxy": link.proxy,
        "listen": state.listen,
        "upstream": state.upstream,
        "toxics": [toxic.name for toxic in toxics],
    }
    if cuts:
        undo["listens"] = "again"
    return undo


def undo(site: Site, entry: Undo) -> None:
    """Removes its toxics, and lets the proxy listen where the fault had stopped it."""
    link = site.the_link()
    try:
        link.restore(_toxics(entry))
        if "listens" in entry:
            link.mend()
    except Missing:
        _create(link, entry)  # a restarted Toxiproxy has forgotten it


def remaining(site: Site, entry: Undo) -> list[str]:
    """Toxics that are still there, or a proxy that does not listen."""
    link = site.the_link()
    left = link.remaining(_toxics(entry))
    if not left and "listens" in entry and not link.state().enabled:
        left.append(f'proxy "{link.proxy}" does not listen')
    return left


def escalations(site: Site, entry: Undo) -> list[Escalation]:
    """Close and open the proxy; create it anew; restart Toxiproxy."""
    link, supervisor = site.the_link(), site.supervisor

    def close_and_open() -> None:
        link.cut()
        link.restore(_toxics(entry))
        link.mend()

    def restart() -> None:
        assert supervisor is not None
        supervisor.ask(Ask(do="restart", service="toxiproxy"))
        try:
            link.state()
        except Missing:
            _create(link, entry)

    found = [
        Escalation(name="closed and opened its proxy", also_ends="its connections", act=close_and_open),
        Escalation(
            name="deleted its proxy and created it anew",
            also_ends="its connections and every other fault on this link",
            act=lambda: link.recreate(**_ends(entry)),
        ),
    ]
    if supervisor is not None:
        found.append(
            Escalation(
                name="restarted Toxiproxy",
                also_ends="the connections and faults of every link",
                act=restart,
                needs_answer=False,
                restarts="toxiproxy",
            )
        )
    return found


def _create(link: Link, entry: Undo) -> None:
    link.server.create(link.proxy, **_ends(entry))


def _toxics(entry: Undo) -> list[str]:
    return list(entry.get("toxics", ()))


def _ends(entry: Undo) -> dict[str, str]:
    if "listen" not in entry or "upstream" not in entry:
        raise Refused("the journal does not say how the proxy was created")
    return {"listen": str(entry["listen"]), "upstream": str(entry["upstream"])}


class LinkEncounter:
    """Which connections pass a link, and whether the fault met them."""

    def __init__(self, passage: Passage, meets: Meets, ways: Sequence[str]) -> None:
        self._passage, self._meets, self._ways = passage, meets, ways
        self.start, self.about_to_act, self.has_acted = passage.start, passage.about_to_act, passage.has_acted
        self.close = passage.close

    def touch(self, _: Watch) -> Touch:
        """What the kernel's table says."""
        return self._passage.touch(self._meets, self._ways)


def meeting(meets: Meets) -> Callable[[Site, PlannedFault], Encounter]:
    """How a kind that does this to connections meets traffic on its link."""

    def encounter(site: Site, fault: PlannedFault) -> Encounter:
        passage = site.the_link().passage()
        if isinstance(passage, Passage):
            return LinkEncounter(passage, meets, directions(fault.direction))
        if meets == "cuts" and (roll := site.roll(site.the_link().speaks)) is not None:
            return ServerEncounter(roll, site.the_link(), passage)
        return Unseen(passage)

    return encounter


def toxic_kind(
    name: str, *, toxics: Toxics, witness: Callable[[Link, PlannedFault], Witness], meets: Meets = "delays"
) -> Kind:
    """A kind whose act is toxics on the streams of one link."""

    def why_not(fault: PlannedFault) -> list[str]:
        try:
            wanted = toxics(fault)
        except Refused as error:
            return [str(error)]
        if not wanted:
            return [f'direction "{fault.direction}": allowed are both, downstream, upstream']
        return [text for toxic in wanted for text in problems(toxic)]

    def seen_by(site: Site, fault: PlannedFault) -> Witness:
        return witness(site.the_link(), fault)

    return Kind(
        name=name,
        problems=why_not,
        holds=lambda fault: frozenset(f"{name} {fault.link} {toxic.stream}" for toxic in toxics(fault)),
        undo_of=lambda site, fault: undo_of(site, fault, toxics(fault)),
        apply=lambda site, fault: site.the_link().degrade(toxics(fault)),
        not_in_force=lambda site, fault: site.the_link().not_in_force(toxics(fault)),
        witness=seen_by,
        undo=undo,
        remaining=remaining,
        escalations=escalations,
        meets=meeting(meets),
    )
