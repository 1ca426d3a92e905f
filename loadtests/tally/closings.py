"""How do finished accounts go into the history?  Consumers with equal vectors share one record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from loadtests.model.records import Closing
from loadtests.tally.account import Account

_Vector = tuple[tuple[int, int, int, int], ...]


def closings(accounts: Iterable[Account], packed: Sequence[int]) -> Iterator[Closing]:
    """Closing records of finished accounts; `packed` holds the packed stream of each stream index."""
    alike: dict[tuple[_Vector, bool], list[Account]] = {}
    for account in accounts:
        alike.setdefault((account.vector(), account.at_least), []).append(account)
    for (vector, at_least), members in alike.items():
        yield Closing(
            consumer=[a.consumer for a in members],
            epoch=[a.epoch for a in members],
            stream=[packed[index] for index, *_ in vector],
            first=[first for _, first, _, _ in vector],
            last=[last for _, _, last, _ in vector],
            unique=[unique for *_, unique in vector],
            at_least=at_least,
        )
