"""Does the tool's account equal the book?  Every connection, stream and number; the first differences by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from loadtests.model.errors import HarnessError
from proof.history import Found, FoundAccount, Place
from proof.sections import SHOWN, Row, compared
from proof.truth import LOST, OWN_CHOICE, STRANGE, ExpectedDelivery, Got, Truth, expected

NEAR_NS = 1_000_000_000
"""So far the two ends of a connection may disagree about when a subscription began or ended."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """Planted and found of one kind, and the first differences."""

    planted: int = 0
    found: int = 0
    differences: list[str] = field(default_factory=list)

    def add(self, planted: int, found: int, what: str) -> None:
        """Count; `what` says where, should they differ."""
        self.planted += planted
        self.found += found
        if planted != found:
            self.differ(f"{what}: planted {planted}, found {found}")

    def differ(self, text: str) -> None:
        """Note a difference, if it is among the first."""
        if len(self.differences) < SHOWN:
            self.differences.append(text)

    def row(self, what: str) -> Row:
        """What people see."""
        return compared(what, self.planted, self.found, tuple(self.differences))


def compare(truth: Truth, found: Found, results: dict[str, Any], *, but: frozenset[int] = frozenset()) -> list[Row]:
    """Rows for everything that the book decides. `but`: consumers whose process was killed; nothing is said of them."""
    rows = [*_kinds(truth, found, but), *_accounts(truth, found, but)]
    rows += [compared("history is whole", [], [*found.torn, *(t.what for t in found.trouble if not but)])]
    rows += [compared("exceptions that were not kept", 0, found.not_kept)]
    told = found.published if but else None
    block = expected(truth, found.edges, origin_ns=found.origin_ns, but=but, not_ok=found.not_ok, told=told)
    return [*rows, *_published(truth, found, but), *_block(block, results, but=bool(but), calm=not found.not_ok)]


# -- kinds of lies


def _kinds(truth: Truth, found: Found, but: frozenset[int]) -> list[Row]:
    tallies: dict[str, Tally] = {}
    for place, connection in truth.connections.items():
        if place[0] not in but:
            for got in truth.got(connection):
                _stretch(tallies, found, place, got)
            if any(lie.kind == "dropped-connection" for lie in connection.lies):
                edge = found.edges.get(place)
                lost = edge is not None and edge.why not in OWN_CHOICE
                text = f"consumer {place[0]} epoch {place[1]} left: {edge.why if edge else 'never there'}"
                tallies.setdefault("dropped-connection", Tally()).add(1, int(lost), text)
    _strange(tallies, truth, found, but)
    return [tally.row(kind) for kind, tally in sorted(tallies.items())]


def _stretch(tallies: dict[str, Tally], found: Found, place: Place, got: Got) -> None:
    """Lies about messages of one stream over one connection: what should be seen of each, and is it?"""
    account = found.account((*place, got.stream.packed))
    came = {event.seq for event in got.came}
    for lie in got.lies:
        if lie.kind in STRANGE:
            continue
        tally = tallies.setdefault(lie.kind, Tally())
        where = f"consumer {place[0]} epoch {place[1]} {_named(got)} seq {lie.seq}"
        seen = account.first <= lie.seq <= account.last and lie.seq not in account.missing
        if lie.seq not in came:
            tally.add(1, int(not seen), f"{where} was not sent")
        elif lie.kind == "repeated":
            tally.add(got.account.repeated[lie.seq], account.repeated[lie.seq], where)
        elif lie.after:
            tally.add(1, account.filled[lie.seq], f"{where} came {lie.after} behind its place")
        else:
            tally.add(1, int(seen), f"{where} was sent after all")


def _strange(tallies: dict[str, Tally], truth: Truth, found: Found, but: frozenset[int]) -> None:
    planted = truth.strange()
    for (consumer, lie), count in sorted(planted.items()):
        if consumer not in but:
            same = [other for other, kind in STRANGE.items() if kind == STRANGE[lie] and other != lie]
            others = sum(planted[consumer, other] for other in same)
            seen = max(0, found.strange[consumer, STRANGE[lie]] - others)
            tallies.setdefault(lie, Tally()).add(count, seen, f"consumer {consumer}")
    strange = Tally()
    of_kind: Counter[tuple[int, str]] = Counter()
    for (consumer, lie), count in planted.items():
        of_kind[consumer, STRANGE[lie]] += count
    for consumer, kind in sorted({*of_kind, *found.strange}):
        if consumer not in but:
            strange.add(of_kind[consumer, kind], found.strange[consumer, kind], f"consumer {consumer} {kind}")
    tallies["messages of no account"] = strange


def _named(got: Got) -> str:
    keys = " ".join(value for _, value in got.stream.route.keys)
    return f"stream {got.stream.packed} ({got.stream.route.event} {keys})"


# -- accounts


def _accounts(truth: Truth, found: Found, but: frozenset[int]) -> Iterable[Row]:
    connections, stretches, numbers = Tally(), Tally(), Tally()
    for place in sorted({*truth.connections, *found.edges}):
        if place[0] not in but:
            connections.add(place in truth.connections, place in found.edges, f"consumer {place[0]} epoch {place[1]}")
            _edges(connections, truth, found, place)
    left = {stretch for stretch in found.accounts if stretch[0] not in but}
    for place, connection in truth.connections.items():
        if place[0] in but:
            continue
        for got in truth.got(connection):
            stretch = (*place, got.stream.packed)
            left.discard(stretch)
            if got.came or stretch in found.accounts:
                where = f"consumer {place[0]} epoch {place[1]} {_named(got)}"
                mine = found.account(stretch)
                stretches.add(1, int(mine == got.account), where)
                if mine != got.account:
                    stretches.differences[-1:] = [f"{where}: {unlike(got.account, mine)}"]
                numbers.planted += len(got.came) + got.account.repeated.total()
    for stretch in sorted(left):
        stretches.differ(f"consumer {stretch[0]} epoch {stretch[1]} stream {stretch[2]}: nothing was sent of it")
        stretches.found += 1
    yield connections.row("subscriptions")
    yield stretches.row("accounts by consumer, connection, stream")
    if not but:
        came = sum(total.unique + total.repeated for total in found.sums.values())
        numbers.add(0, came, "")
        numbers.differences.clear()
        yield numbers.row("deliveries")
        yield compared("deliveries with a latency", numbers.planted, sum(t.timed for t in found.sums.values()))
        yield compared("accounts that say at least", 0, len(found.at_least))


def _edges(connections: Tally, truth: Truth, found: Found, place: Place) -> None:
    """The tool's edges are near to those of the book: the rest of the comparison builds on them."""
    connection, edge = truth.connections.get(place), found.edges.get(place)
    if connection is None or edge is None:
        return
    pairs = (("confirmed", connection.subscribed_ns, edge.from_ns), ("ended", connection.closed_ns, edge.to_ns))
    for what, theirs, ours in pairs:
        if theirs >= 0 and abs(theirs - found.origin_ns - ours) > NEAR_NS:
            connections.differ(
                f"consumer {place[0]} epoch {place[1]} {what} at {(theirs - found.origin_ns) / 1e9:.3f} s, "
                f"by the tool at {ours / 1e9:.3f} s"
            )


def unlike(planted: FoundAccount, found: FoundAccount) -> str:
    """What differs between two accounts, with the first numbers."""
    said = [
        f"{name} {getattr(planted, name)} is {getattr(found, name)}"
        for name in ("first", "last", "unique")
        if getattr(planted, name) != getattr(found, name)
    ]
    for name in ("skipped", "filled", "repeated"):
        mine, theirs = Counter(getattr(planted, name)), Counter(getattr(found, name))
        if mine != theirs:
            lacking, extra = sorted((mine - theirs).elements()), sorted((theirs - mine).elements())
            said += [f"{name} lacks seq {lacking[:5]}"] if lacking else []
            said += [f"{name} has seq {extra[:5]}, which were not planted"] if extra else []
    return ", ".join(said)


# -- results


def _published(truth: Truth, found: Found, but: frozenset[int]) -> Iterable[Row]:
    """What came is what was handed to Redis; of a message without a good answer both may be true."""
    published = Tally()
    for packed in sorted({*truth.streams, *found.published}):
        stream = truth.streams.get(packed)
        came = {event.seq for event in stream.events} if stream else set()
        told = found.published.get(packed, set()) - (found.not_ok.get(packed, set()) - came)
        if but:  # what a killed process had not told yet is unknown
            came &= told
        published.add(len(came), len(told), f"stream {packed}")
        if came != told and len(came) == len(told):
            published.differ(f"stream {packed}: other numbers")
    yield published.row("published")


def _block(block: ExpectedDelivery, results: dict[str, Any], *, but: bool, calm: bool) -> Iterable[Row]:
    delivery = results["delivery"]
    if delivery["away"] is None:
        told = "; ".join([*results["reasons"], *map(str, results["harness"]["trouble"])][:3])
        raise HarnessError(f"the run has no account to compare, since this machine did not keep up: {told}")
    lost = delivery["lost"]
    defect, not_replayed, owed = (block.total(name) for name in ("defect", "not_replayed", "owed"))
    away = {cause: block.total(cause) for cause in ("own_plan", "disconnected")}
    undecided, delivered = block.total("undecided"), owed - defect - not_replayed
    missed, absent = undecided + away["disconnected"], delivery["away"]
    if but:
        # A worker's end stalls its machine: who is disconnected then may be our own doing, or undecided in its slice.
        undecided, away["disconnected"] = delivery["undecided"], absent["disconnected"]
    due = owed + away["disconnected"]
    pairs = [
        ("owed", owed, delivery["owed"]),
        ("unique", block.total("unique"), delivery["unique"]),
        # What a killed process's consumers were offered is unknown, so there is no sum of all.
        ("offered", None if but else owed + undecided + sum(away.values()), delivery["offered"]),
        ("undecided", undecided, delivery["undecided"]),
        ("away, own plan", away["own_plan"], absent["own_plan"]),
        ("away, disconnected", away["disconnected"], absent["disconnected"]),
        ("delivered", delivered, delivery["delivered"]),
        ("lost, total", defect + not_replayed, lost["total"]),
        ("lost, defect", defect, lost["defect"]),
        ("lost, not replayed", not_replayed, lost["not_replayed"]),
        ("lost, charged", 0, lost["charged"]),
        ("rate", round(delivered / due, 9) if due else None, delivery["rate"]),
    ]
    if but:
        pairs += [("undecided or away", missed, sum(absent.values()) + delivery["undecided"] - away["own_plan"])]
    else:
        pairs += [
            ("repeated", block.total("repeated"), delivery["repeated"]),
            ("reordered", block.total("reordered"), delivery["reordered"]),
            *((name, count, delivery[name]) for name, count in block.no_message.items()),
        ]
    if calm and not but:
        pairs += [
            ("published and answered", block.published, delivery["published"]),
            ("failed", 0, delivery["failed"]),
            ("unknown", 0, delivery["unknown"]),
        ]
    yield from (compared(f"results: {what}", planted, found) for what, planted, found in pairs)
    if but:
        return
    yield _late("results: late (delayed beyond the limit)", block.total("late"), block.near.total(), delivery["late"])
    yield _routes(block, results["routes"]).row("results: numbers of each family and group")


def _late(what: str, sure: int, near: int, found: int) -> Row:
    """Late by far, and so near to the limit that only the reader can tell: a machine that stalled."""
    equal = sure <= found <= sure + near
    planted = f"{sure} to {sure + near}" if near else str(sure)
    differences = () if equal else (f"{what}: planted {planted}, found {found}",)
    return Row(what=what, planted=planted, found=str(found), equal=equal, differences=differences)


def _routes(block: ExpectedDelivery, routes: list[dict[str, Any]]) -> Tally:
    tally = Tally()
    told = {route["group"]: route for route in routes}
    for name in sorted({group for group, _ in block.of} | told.keys()):
        route = told.get(name)
        if route is None:
            tally.differ(f"{name}: not in the results")
            continue
        for number in ("owed", "unique", "repeated", "reordered"):
            tally.add(block.of[name, number], route[number], f"{name} {number}")
        for number in LOST:
            tally.add(block.of[name, number], route["lost"][number], f"{name} lost, {number}")
        late = _late(f"{name} late", block.of[name, "late"], block.near[name], route["late"])
        for difference in late.differences:
            tally.differ(difference)
    return tally
