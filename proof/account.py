"""Does the tool find every lie, and no other?  One run against the lying gateway, its account against the book."""

from __future__ import annotations

import time
from dataclasses import replace

from proof.comparing import compare
from proof.ground_truth_log import read_book
from proof.history import read_history
from proof.planting import Planting, planting
from proof.run_modes import prove_ways
from proof.running import Bench, Gateway, RunOutcome
from proof.sections import Options, Row, SectionResult
from proof.truth import Truth

FULL = 10_200_000
"""Some more than ten million, since lies take some away."""


def prove_account(bench: Bench, options: Options) -> SectionResult:
    """The section. Raises HarnessError where it could not be carried out."""
    began = time.monotonic()
    made = planting(deliveries=options.deliveries, seed=options.seed)
    rows, note = one_run(bench, made, options)
    if options.full:
        full = planting(deliveries=max(FULL, options.deliveries), seed=options.seed, full=True)
        more, other = one_run(bench, full, options, workers=2)
        rows += [replace(row, what=f"full: {row.what}") for row in more]
        rows += prove_ways(bench, options)
        note += other
    return SectionResult(name="account", rows=tuple(rows), seconds=time.monotonic() - began, notes=tuple(note))


def one_run(bench: Bench, made: Planting, options: Options, *, workers: int = 0) -> tuple[list[Row], list[str]]:
    """A run on a gateway of its own, compared; notes with its sizes."""
    gateway = bench.start_gateway(made.plan)
    outcome = bench.run(made.text(bench.target(gateway)), workers=workers, timeout_s=900)
    options.say(f"run {outcome.run} has ended; comparing it with the book")
    began = time.monotonic()
    rows, deliveries = judged(made, gateway, outcome)
    contract = made.contract
    note = (
        f"{deliveries:,} deliveries to {contract.consumer_count} consumers from {contract.publisher_count} publishers, "
        f"{workers or 'no'} workers; compared in {time.monotonic() - began:.1f} s"
    )
    return rows, [note]


def judged(made: Planting, gateway: Gateway, outcome: RunOutcome) -> tuple[list[Row], int]:
    """Rows of a run that has ended, and how many deliveries there were."""
    truth = Truth(read_book(gateway.close_book()), made.contract, outcome.run)
    deliveries = truth.check()
    return compare(truth, read_history(outcome.folder), outcome.results), deliveries
