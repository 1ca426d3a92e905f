"""Weeks as a store would hold them, with planted truths: for tests of the store, the gate, drift and pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np

from loadtests.model.results import Verdict
from loadtests.model.store import History, LineageRow, Row, RunRow, Speed, Value, digest, history_of, machine_key

BEGIN = datetime(2026, 1, 5, 3, 17, tzinfo=UTC)
FRESH, LATENCY = "first_fresh_p95_s:redis-cut", "latency_p95_ms:patterns"
PLAN = {"run.duration_s": "60.0", "steady.hold_s": "3.0"}
HERE = {"cpu": "planted", "cores": "2", "kernel": "6.1", "python": "3.11.7"}


def series_name(week: int) -> str:
    """Of a planted week."""
    return f"w{week:02d}"


def week_rows(
    week: int,
    dice: np.random.Generator,
    *,
    factor: float = 1.0,
    from_week: float = 0.02,
    plan: Mapping[str, str] = PLAN,
    machine: Mapping[str, str] = HERE,
    slow: float = 1.0,
    verdict: Verdict = Verdict.PASS,
    usable: bool = True,
    sessions: int = 1,
    runs: int = 3,
    gated: Sequence[str] = (),
    checks: Sequence[str] = (),
    at: datetime | None = None,
) -> list[Row]:
    """Three runs a session; the fault comes four times in each, with a cell of its own for seed and occurrence."""
    cells = np.random.default_rng(99).normal(0, 0.18, (3, 4))
    rows: list[Row] = []
    for session in range(sessions):
        place = dice.normal(0, from_week)
        for index in range(runs):
            of = 0.4 * factor * np.exp(cells[index % 3] + place + dice.normal(0, 0.03) + dice.normal(0, 0.06, 4))
            latency = float(12 * np.exp(place + dice.normal(0, 0.04)))
            name = f"{series_name(week)}-{session}-{index}"
            rows.append(
                RunRow(
                    series=series_name(week),
                    run=name,
                    index=session * runs + index,
                    seed=2 + index % 3,
                    started_at=((at or BEGIN) + timedelta(days=7 * week, minutes=5 * index)).isoformat(),
                    session=session,
                    profile="planted",
                    lineage=digest(dict(plan)),
                    machine_key=machine_key(machine),
                    machine=dict(machine),
                    speed=[Speed(cpu_ms=10 * slow * float(np.exp(dice.normal(0, 0.01))), loopback_us=20 * slow)] * 2,
                    usable=usable,
                    verdict=verdict,
                    target_version=f"v{week // 10}",
                    gated=list(gated),
                    checks=list(checks),
                    values={
                        FRESH: Value(
                            value=float(np.median(of)), unit="s", error=0.002, n=4, of=[float(value) for value in of]
                        ),
                        LATENCY: Value(value=latency, unit="ms", error=0.2, n=1, of=[latency]),
                    },
                )
            )
    return [LineageRow(lineage=digest(dict(plan)), of=dict(plan)), *rows]


def rows_of(
    weeks: int, change: Callable[[int], Mapping[str, object]] = lambda _: {}, *, seed: int = 1, name: str = ""
) -> list[Row]:
    """So many weeks; `change` says what is special about one. `name`: of a single one."""
    dice = np.random.default_rng(seed)
    rows = [row for week in range(weeks) for row in week_rows(week, dice, **change(week))]  # type: ignore[arg-type]
    return (
        rows
        if not name
        else [
            msgspec.structs.replace(row, series=name, run=f"{name} {row.run}") if isinstance(row, RunRow) else row
            for row in rows
        ]
    )


def planted(weeks: int, change: Callable[[int], Mapping[str, object]] = lambda _: {}, *, seed: int = 1) -> History:
    """The same, grouped."""
    return history_of(rows_of(weeks, change, seed=seed))
