"""Are the counts of all parts summed per fault, told on change only, and is it recorded whom a fault chose?"""

from __future__ import annotations

from loadtests.harness.fault_control import UserFaultBook
from loadtests.model.injectwire import UserFaultOrder
from loadtests.model.profile.profile import Profile

PROFILE = Profile.model_validate(
    {
        "name": "p",
        "question": "who is chosen?",
        "run": {"duration_s": 10.0},
        "families": [{"name": "patterns", "channel": "tickstock.events.patterns", "event": "pattern_detected"}],
        "publishers": [
            {"name": "p", "count": 3, "families": ["patterns"], "shape": {"kind": "constant", "rate_per_s": 1.0}}
        ],
        "consumers": [{"name": "a", "count": 4}, {"name": "b", "count": 2}],
        "thresholds": [{"measure": "lost_defect", "at_most": 0.0}],
    }
)


def order(kind: str = "stalled-consumers", where: str = "a", **asked: float | str) -> UserFaultOrder:
    return UserFaultOrder(fault="f", kind=kind, where=where, on=True, until_ns=9, asked=dict(asked))


def test_whom_a_fault_chose_is_a_record() -> None:
    record = UserFaultBook(PROFILE, 6).begin(order(share=0.5), 5)
    assert (record.fault, record.kind, record.from_ns, record.to_ns) == ("f", "stalled-consumers", 5, 9)
    assert len(record.consumers) == 2
    assert set(record.consumers) < {0, 1, 2, 3}
    assert record.publishers == []


def test_every_process_chooses_the_same() -> None:
    assert UserFaultBook(PROFILE, 6).slots(order(share=0.5)) == UserFaultBook(PROFILE, 6).slots(order(share=0.5))


def test_consumers_that_somebody_added_by_hand_are_chosen_too() -> None:
    assert UserFaultBook(PROFILE, 10).begin(order(), 5).consumers == [0, 1, 2, 3, 6, 8]


def test_publishers_are_no_consumers() -> None:
    record = UserFaultBook(PROFILE, 6).begin(order("bad-input", "publishers", form="unknown", share=0.1), 5)
    assert (record.consumers, record.publishers) == ([], [0, 1, 2])


def test_parts_are_summed_and_told_when_something_changed() -> None:
    book = UserFaultBook(PROFILE, 6)
    book.begin(order(), 5)
    parts = [{"f": {"in_force": 1, "closed": 2}}, {"f": {"in_force": 3}}, {}]
    (state,) = book.news(parts)
    assert (state.fault, state.counts) == ("f", {"in_force": 4, "closed": 2, "chosen": 4})
    assert list(book.news(parts)) == []
    (state,) = book.news(parts[:1])  # a worker is gone, and with it those who played there
    assert state.counts["in_force"] == 1


def test_a_fault_that_begins_anew_is_told_anew() -> None:
    book = UserFaultBook(PROFILE, 6)
    book.begin(order(), 5)
    parts = [{"f": {"in_force": 4}}]
    assert list(book.news(parts))
    book.begin(order(), 7)
    assert list(book.news(parts))
