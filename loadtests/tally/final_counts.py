"""How do finished accounts go into the history?  Equal vectors share one record; long ones take several."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import TypeVar

from loadtests.model.records import Closing
from loadtests.tally.account import Account
from loadtests.tally.anomalies import ROWS_A_RECORD

_T = TypeVar("_T")
_Vector = tuple[tuple[int, int, int, int], ...]


def closings(accounts: Iterable[Account], packed: Sequence[int]) -> Iterator[Closing]:
    """Closing records of finished accounts; `packed` holds the packed stream of each stream index."""
    alike: dict[tuple[_Vector, bool], list[Account]] = {}
    for account in accounts:
        alike.setdefault((account.vector(), account.at_least), []).append(account)
    for (vector, at_least), members in alike.items():
        for some, streams in product(_pieces(members), _pieces(vector)):
            yield Closing(
                consumer=[a.consumer for a in some],
                epoch=[a.epoch for a in some],
                stream=[packed[index] for index, *_ in streams],
                first=[first for _, first, _, _ in streams],
                last=[last for _, _, last, _ in streams],
                unique=[unique for *_, unique in streams],
                at_least=at_least,
            )


def _pieces(whole: Sequence[_T]) -> list[Sequence[_T]]:
    """Parts that leave a record below what a frame of the history holds; one empty part of nothing."""
    return [whole[begin : begin + ROWS_A_RECORD] for begin in range(0, max(1, len(whole)), ROWS_A_RECORD)]
