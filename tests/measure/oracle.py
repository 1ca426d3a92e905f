"""What are the right numbers of a simulated world?  Counted message by message; shares no code with the judge."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from loadtests.model.ids import SLICE_NS
from loadtests.tally.histogram import bucket_of
from tests.measure.simulate import S, Stay, World

DELAYS = ("latency", "bandwidth", "slicer", "slow-close")
"""They take nothing from the middle of a stream on a connection that lasts."""


def count(world: World, windows: list[tuple[str, str, int, int, int]]) -> dict[str, Any]:
    """The account. Windows: kind, link, from, healed, to (recovered, or the limit passed)."""
    p, contract = world.profile, world.contract
    settle, late = p.run.settle_ms * 1_000_000, round(p.run.late_s * S)
    total: Counter[str] = Counter()
    by_route: dict[str, Counter[str]] = defaultdict(Counter)
    for m in world.messages:
        total["published"] += 1
        total[m.outcome] += 1
    longest = 0
    for consumer in sorted({s.consumer for s in world.stays}):
        routes = contract.consumer(consumer).routes
        group = contract.consumer_group(consumer)[0]
        stays = [s for s in world.stays if s.consumer == consumer]
        seen: Counter[tuple[int, int]] = Counter()
        overtaken: dict[tuple[int, int], list[int]] = defaultdict(list)
        for stay in stays:
            once: set[tuple[int, int]] = set()
            span: dict[int, tuple[int, int]] = {}
            top: dict[int, int] = {}
            for at, m in stay.got:
                key = (m.stream, m.seq)
                name = contract.group_name(contract.group_index(contract.routes[m.route].family, group))
                if key in once:
                    by_route[name]["repeated"] += 1
                else:
                    if m.seq < top.get(m.stream, -1):
                        by_route[name]["reordered"] += 1
                    top[m.stream] = max(m.seq, top.get(m.stream, -1))
                if bucket_of(max(at - m.due, 0)) > bucket_of(late):
                    by_route[name]["late"] += 1
                once.add(key)
                low, high = span.get(m.stream, (m.seq, m.seq))
                for skipped in [*range(high + 1, m.seq), *range(m.seq + 1, low)]:
                    overtaken[m.stream, skipped].append(at)
                span[m.stream] = (min(low, m.seq), max(high, m.seq))
            seen.update(once)
        run: list[tuple[int, bool]] = []
        for m in world.messages:
            if m.route not in routes:
                continue
            family = contract.routes[m.route].family
            name = contract.group_name(contract.group_index(family, group))
            c = by_route[name]
            times = seen[m.stream, m.seq]
            if m.outcome == "OK" or (m.outcome == "UNKNOWN" and times):
                c["offered"] += 1
                c["owed"] += times > 0
                c["delivered"] += times > 0
            if times:
                c["unique"] += 1
                c["repeated"] += times - 1
                c["failed seen"] += m.outcome == "FAILED"
            if m.outcome != "OK":
                continue
            s = m.sent // SLICE_NS
            owed = edge = excused = False
            for stay in stays:
                inside = -(-(stay.start + settle) // SLICE_NS) <= s < (stay.end - settle) // SLICE_NS
                owed |= inside
                at_start = stay.start // SLICE_NS <= s < -(-(stay.start + settle) // SLICE_NS)
                at_end = (stay.end - settle) // SLICE_NS <= s < -(-stay.end // SLICE_NS)
                at_start &= s < -(-stay.end // SLICE_NS)
                at_end &= s >= stay.start // SLICE_NS
                edge |= at_start or at_end
                for _, link, start, _, to in windows:
                    on_path = link in p.families[family].path
                    excused |= on_path and at_start and start <= stay.start < to
                    excused |= on_path and at_end and start <= stay.end < to
            if not times:
                if owed:
                    c["owed"] += 1
                else:
                    on_path = [
                        w for w in windows if any(w[1] in p.families[contract.routes[r].family].path for r in routes)
                    ]
                    limit = round(p.recovery.limit_s * S)
                    if edge and excused:
                        c["away charged"] += 1
                    elif edge:  # a slice in which the target kept it out holds messages of both sides
                        c["away disconnected" if _shut_out(stays, on_path, s, limit) else "undecided"] += 1
                    else:
                        c[f"away {_cause(stays, on_path, s, limit)}"] += 1
            if owed:
                run.append((m.due // SLICE_NS, not times))
            if not owed or times:
                continue
            begin, until = s * SLICE_NS, (s + 1) * SLICE_NS + late
            hit = [w for w in windows if w[1] in p.families[family].path and begin < w[4] and until > w[2]]
            now = [w for w in hit if begin < w[3]]
            noticed = overtaken[m.stream, m.seq]
            paths = [w for w in windows if w[1] in p.families[family].path]
            if any(all(begin >= w[4] or at < w[2] for w in paths) for at in noticed):
                hit = []
            taking = [w for w in hit if w[0] not in DELAYS]
            if taking or noticed:
                hit, now = taking, [w for w in now if w in taking]
            c["charged" if hit else "defect"] += 1
            if hit:
                by = (now or hit)[-1]
                if by[0] in ("down", "reset", "black-hole") and begin < by[2] + 2_000_000 + 2_000_000 + SLICE_NS:
                    total["injector"] += 1
        longest = max(longest, _longest(run))
    for c in by_route.values():
        total.update(c)
    return {"total": total, "routes": by_route, "run": longest}


def _shut_out(stays: list[Stay], windows: list[tuple[str, str, int, int, int]], slice_: int, limit: int) -> bool:
    """Whether the target kept a consumer out in any part of a slice."""
    moments = {slice_ * SLICE_NS, (slice_ + 1) * SLICE_NS - 1}
    for stay in stays:
        moments |= {at for at in (stay.end, stay.start - 1) if at // SLICE_NS == slice_}
    out = [at for at in moments if not any(stay.start <= at < stay.end for stay in stays)]
    return any(
        any(stay.end <= at for stay in stays) and _cause_at(stays, windows, at, limit) == "disconnected" for at in out
    )


def _cause(stays: list[Stay], windows: list[tuple[str, str, int, int, int]], slice_: int, limit: int) -> str:
    """Why a consumer was away at the end of a slice."""
    at = (slice_ + 1) * SLICE_NS
    left = max(s.end for s in stays if s.end < at)
    return _cause_at(stays, windows, min([at, *(s.start for s in stays if s.start > left)]) - 1, limit)


def _cause_at(stays: list[Stay], windows: list[tuple[str, str, int, int, int]], at: int, limit: int) -> str:
    """Why a consumer was away at a moment: who ended its connection, and what kept it from coming back."""
    left = max((s for s in stays if s.end <= at), key=lambda s: s.end)
    if left.why == "own":
        return "own_plan"
    excused = [(start, healed + limit) for _, _, start, healed, to in windows if start <= left.end < to]
    reach = max((end for _, end in excused), default=left.end)
    for _, _, start, healed, _ in sorted(windows, key=lambda w: w[2]):
        if left.end <= start < reach and excused:
            reach = max(reach, healed + limit)
    held = any(start <= at < healed for _, _, start, healed, _ in windows)
    return "charged" if at < reach or held else "disconnected"


def _longest(run: list[tuple[int, bool]]) -> int:
    slices: dict[int, list[bool]] = defaultdict(list)
    for due, lost in run:
        slices[due].append(lost)
    best, start = 0, None
    for due in sorted(slices):
        if all(slices[due]):
            start = due if start is None else start
            best = max(best, due - start + 1)
        else:
            start = None
    return best
