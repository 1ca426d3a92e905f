"""Does the judge keep its laws?  However a history is cut, spread, interned or stored, it says the same.

The worlds are those of the account's oracle: losses, repeats, reorderings, faults, lost connections.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtests.cli.analyze_command import analyze_run, profile_of, read_history
from loadtests.harness.live import LiveFold
from loadtests.measure.judge import judge
from loadtests.model import records as r
from loadtests.model.codec import Frame, pack
from loadtests.model.ids import unpack_stream
from loadtests.model.profile.reading import canonical
from loadtests.model.results import Results, Verdict, from_json, to_json
from loadtests.tally.accountant import Accountant
from loadtests.tally.batch import Batch, Message, message
from tests.measure.simulate import World
from tests.measure.test_account import messy

History = list[tuple[str, Frame]]

worlds = st.builds(
    messy,
    st.integers(0, 10_000),
    faults=st.booleans(),
    processes=st.integers(1, 3),
    disconnects=st.integers(0, 4),
    share=st.sampled_from([0.0, 0.02]),
)
few = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def said(world: World, history: Iterable[tuple[str, Any]]) -> bytes:
    return to_json(judge(world.profile, history))


def rewritten(history: History, change: Callable[[r.Record], Iterable[r.Record]], records_a_frame: int) -> History:
    """The same history with every record replaced, in frames of another length."""
    files: dict[str, list[r.Record]] = defaultdict(list)
    for name, frame in history:
        for record in frame.records:
            files[name] += change(record)
    return [
        (name, Frame(number, records[at : at + records_a_frame]))
        for name, records in files.items()
        for number, at in enumerate(range(0, len(records), records_a_frame))
    ]


def row_by_row(record: r.Record) -> list[r.Record]:
    """Records of columns as records of one row each; what was interned is said for each consumer apart."""
    match record:
        case r.Published() | r.Settled() | r.Deviations() | r.Strange() | r.Samples():
            shared = {f: v for f in record.__struct_fields__ if not isinstance(v := getattr(record, f), list)}
            columns = {f: v for f in record.__struct_fields__ if isinstance(v := getattr(record, f), list) and v}
            rows = [
                {f: [v] for f, v in zip(columns, values, strict=True)} for values in zip(*columns.values(), strict=True)
            ]
            first = {"more": getattr(record, "more", 0)} if "more" in shared else {}
            rest = {"more": 0} if first else {}
            return [type(record)(**{**shared, **(rest if n else first), **row}) for n, row in enumerate(rows)]
        case r.Closing():
            return [
                msgspec.structs.replace(record, consumer=[c], epoch=[e])
                for c, e in zip(record.consumer, record.epoch, strict=True)
            ]
        case r.Consumed():
            return _thirds(record)
    return [record]


def _thirds(c: r.Consumed) -> list[r.Record]:
    """A cell in three pieces, as flushes within its slice would leave it."""
    found: list[r.Record] = []
    for part in range(3):

        def share(n: int, part: int = part) -> int:
            return n // 3 + (part < n % 3)

        def piece(s: r.Sparse, share: Callable[[int], int] = share) -> r.Sparse:
            kept = [(b, share(n)) for b, n in zip(*s, strict=True) if share(n)]
            return [b for b, _ in kept], [n for _, n in kept]

        latency = piece(c.latency)
        negative, repeated = share(c.negative), share(c.repeated)
        whole = sum(latency[1]) + negative
        found.append(
            msgspec.structs.replace(
                c, latency=latency, service=piece(c.service), read_delay=piece(c.read_delay), negative=negative,
                repeated=repeated, unique=whole - repeated if c.clock == "read" else 0, bytes=share(c.bytes),
                reads=share(c.reads),
            )
        )  # fmt: skip
    return found


@few
@given(worlds, st.randoms(use_true_random=False))
def test_the_order_of_frames_does_not_matter(world: World, dice: random.Random) -> None:
    history = world.history(chunk=30)
    mixed = list(history)
    dice.shuffle(mixed)
    assert said(world, mixed) == said(world, history)


@pytest.mark.prove_all
@few
@given(worlds, st.integers(1, 500))
def test_rows_one_by_one_equal_rows_in_columns(world: World, records_a_frame: int) -> None:
    history = world.history()
    assert said(world, rewritten(history, row_by_row, records_a_frame)) == said(world, history)


@pytest.mark.prove_all
@few
@given(worlds)
def test_interned_routes_equal_routes_that_are_said_each_time(world: World) -> None:
    history = world.history()
    routes: dict[tuple[str, int], list[int]] = {}
    for name, frame in history:
        for record in frame.records:
            if isinstance(record, r.RouteSet):
                routes[name, record.index] = record.routes
    apart: History = []
    for name, frame in history:
        records: list[r.Record] = []
        for record in frame.records:
            if isinstance(record, r.RouteSet):
                continue
            if isinstance(record, r.Subscription):
                index = record.consumer * 1000 + record.epoch
                records.append(r.RouteSet(index=index, routes=list(reversed(routes[name, record.route_set]))))
                record = msgspec.structs.replace(record, route_set=index)
            records.append(record)
        apart.append((name, Frame(frame.number, records)))
    assert said(world, apart) == said(world, history)


@pytest.mark.prove_all
@few
@given(st.integers(0, 10_000), st.booleans(), st.integers(0, 4), st.sampled_from([0.0, 0.02]))
def test_which_process_holds_a_consumer_changes_no_figure(
    seed: int, faults: bool, disconnects: int, share: float
) -> None:
    found: list[Results] = []
    for processes in (1, 2, 3):
        world = messy(seed, faults=faults, processes=processes, disconnects=disconnects, share=share)
        found.append(judge(world.profile, world.history()))
    for other in found[1:]:
        for part in ("delivery", "latency_ms", "calm_latency_ms", "phases", "faults", "recovery", "routes"):
            assert getattr(other, part) == getattr(found[0], part), part
        assert other.verdict is found[0].verdict


@few
@given(world=worlds, body=st.integers(1, 300))
def test_what_is_read_back_from_the_disk_is_judged_alike(tmp_path_factory: Any, world: World, body: int) -> None:
    folder = stored(tmp_path_factory.mktemp("stored"), world, body)
    assert profile_of(folder, []) == world.profile
    assert said(world, read_history(folder, world.profile)) == said(world, world.history())


@settings(few, max_examples=2)
@given(world=worlds)
def test_what_analyze_writes_of_the_stored_history_is_what_was_judged(tmp_path_factory: Any, world: World) -> None:
    folder = stored(tmp_path_factory.mktemp("stored"), world, 100)
    analyze_run(str(folder), [], out=None, quiet=True, html=False)  # the page only costs: it is drawn from the results
    written = from_json((folder / "results.json").read_bytes())
    # A simulated world knows no hash of its profile: that check comes on top, and is UNKNOWN.
    live = judge(world.profile, world.history(), profile_sha256="of another file")
    assert to_json(written) == to_json(live)


def stored(folder: Path, world: World, records_a_frame: int) -> Path:
    """The world's history on disk."""
    (folder / "history").mkdir()
    (folder / "profile.toml").write_text(canonical(world.profile), encoding="utf-8")
    numbers: dict[str, int] = defaultdict(int)
    for name, frame in world.history(chunk=records_a_frame):
        with (folder / "history" / f"{name}.tsh").open("ab") as file:
            for data in pack(numbers[name], frame.records):
                numbers[name] += 1
                file.write(data)
    return folder


@few
@given(worlds)
def test_the_live_page_ends_with_the_totals_of_the_verdict(world: World) -> None:
    live = LiveFold("run-1", world.profile, world.contract)
    for name, frame in world.history(chunk=25):
        live.take(name, b"".join(pack(frame.number, frame.records)))
    now = live.live(
        world.end, {"state": "done", "phase": "end", "plan_s": 1.0, "planned": 5, "connected": 5, "publishing": 2}
    )
    delivery = judge(world.profile, world.history()).delivery
    assert (now.published, now.not_offered) == (delivery.published, delivery.not_offered)
    per_connection = sum(len({(m.stream, m.seq) for _, m in stay.got}) for stay in world.stays)
    assert now.delivered == per_connection
    assert now.delivered + now.repeated == sum(len(stay.got) for stay in world.stays)
    if all(stay.epoch == 0 for stay in world.stays):
        assert delivery.unique == now.delivered
        assert delivery.repeated == now.repeated


# -- with the tally that the run itself uses


def tallied(
    world: World, *, budget: int = 20_000, ranges_kept: int = 1_000_000, batch: int = 1, flush_every: int = 10**9
) -> History:
    """The world's history with the consumers' records made by the accountant of a run."""
    mine = (r.Consumed, r.Deviations, r.Closing, r.Touched)
    files: dict[str, list[r.Record]] = defaultdict(list)
    for name, frame in world.history():
        files[name] += [x for x in frame.records if not isinstance(x, mine)]
    for name in files:
        stays = [s for s in world.stays if world.process_of(s.consumer) == name]
        if stays:
            files[name] += _accounted(world, stays, budget, ranges_kept, batch, flush_every)
    return [(name, Frame(0, records)) for name, records in files.items()]


def _accounted(
    world: World, stays: list[Any], budget: int, ranges_kept: int, batch: int, flush_every: int
) -> list[r.Record]:
    contract = world.contract
    tally = Accountant(
        family_of_route=[route.family for route in contract.routes],
        copies_of_family=[f.copies for f in world.profile.families],
        consumer_groups=len(world.profile.consumers),
        exceptions_per_s=budget,
        now_ns=0,
        ranges_kept=ranges_kept,
    )

    def made(m: Any) -> Message:
        index = tally.streams.index_of(m.stream)
        family = contract.routes[unpack_stream(m.stream).route].family
        return message(index=index, seq=m.seq, due_ns=m.due, sent_ns=m.sent, family=family, size=100)

    reads = []
    for stay in stays:
        plan = contract.consumer(stay.consumer)
        account = tally.account(consumer=stay.consumer, epoch=stay.epoch, group=plan.group, routes=plan.routes)
        got = stay.got
        for at in range(0, len(got), batch):
            part = got[at : at + batch]
            reads.append((part[-1][0], stay.consumer, account, part))
    reads.sort(key=lambda read: read[:2])
    found: list[r.Record] = []
    opened = sorted((f.start - 50_000_000) for f in world.faults)
    for number, (now, _, account, part) in enumerate(reads):
        while opened and opened[0] <= now:
            tally.open_touch(opened.pop(0))
        tally.take(account, Batch([made(m) for _, m in part]), now)
        if number % flush_every == flush_every - 1:
            found += tally.flush(now)
    for account in {id(read[2]): read[2] for read in reads}.values():
        tally.close_account(account)
    found += tally.flush(world.end, final=True)
    assert tally.miscounted == []
    return found


@few
@given(worlds, st.integers(3, 400))
def test_the_tally_of_a_run_writes_what_the_oracles_world_wrote(world: World, flush_every: int) -> None:
    right = judge(world.profile, world.history())
    found = judge(world.profile, tallied(world, flush_every=flush_every))
    for part in ("delivery", "latency_ms", "calm_latency_ms", "phases", "faults", "recovery"):
        assert getattr(found, part) == getattr(right, part), part
    assert found.verdict is right.verdict


@pytest.mark.prove_all
@few
@given(worlds, st.integers(2, 9))
def test_many_messages_a_read_change_no_count(world: World, batch: int) -> None:
    """Times of a read are those of its last message; what came is the same."""
    one, many = (judge(world.profile, tallied(world, batch=b)).delivery for b in (1, batch))
    for name in ("published", "owed", "unique", "repeated", "reordered", "undecided", "offered"):
        assert getattr(one, name) == getattr(many, name), name
    assert one.lost.total == many.lost.total


@pytest.mark.prove_all
@few
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 20]), st.sampled_from([0, 3, 50]), st.integers(20, 200))
def test_an_exceeded_budget_changes_no_total_and_never_the_verdict_to_a_better_one(
    seed: int, budget: int, ranges_kept: int, flush_every: int
) -> None:
    world = messy(seed, faults=False, processes=2, disconnects=2, share=0.1)
    right = judge(world.profile, tallied(world))
    tight = judge(world.profile, tallied(world, budget=budget, ranges_kept=ranges_kept, flush_every=flush_every))
    a, b = right.delivery, tight.delivery
    assert (a.published, a.failed, a.unknown) == (b.published, b.failed, b.unknown)
    assert b.offered in (None, a.offered)
    for whole, part in ((a.owed, b.owed), (a.unique, b.unique), (a.lost.total, b.lost.total)):
        assert part is None or (whole is not None and part <= whole)
    assert tight.latency_ms.count == right.latency_ms.count, "what was received is counted whatever the budget"
    if (a.owed, a.unique, a.lost) != (b.owed, b.unique, b.lost):
        assert tight.verdict is not Verdict.PASS
        assert any(c.verdict is Verdict.UNKNOWN for c in tight.checks)
