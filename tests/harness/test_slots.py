"""Is every slot held by one user at a time, the lowest free one first, and never an epoch used twice?"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadtests.harness.slots import LOST_EPOCHS, SlotBook


def test_the_lowest_free_slot_comes_first() -> None:
    book = SlotBook({"publisher": 3})
    assert [book.take("publisher", "a") for _ in range(4)] == [(0, 0, -1), (1, 0, -1), (2, 0, -1), None]
    book.give_back("publisher", 2, 5, 100)
    book.give_back("publisher", 0, 7, 200)
    assert book.take("publisher", "b") == (0, 7, 200)
    assert book.take("publisher", "b") == (2, 5, 100)


def test_a_lost_process_frees_its_slots_beyond_the_epochs_it_may_have_used() -> None:
    book = SlotBook({})
    assert book.take("consumer", "a") == (0, 0, -1)
    assert book.take("consumer", "b") == (1, 0, -1)
    assert book.lose("a") == [("consumer", 0)]
    assert book.take("consumer", "b") == (0, LOST_EPOCHS, -1)


@given(st.lists(st.tuples(st.sampled_from(["take", "give", "lose"]), st.integers(0, 3)), max_size=60))
def test_no_slot_has_two_holders_and_no_epoch_two_lives(steps: list[tuple[str, int]]) -> None:
    book = SlotBook({"publisher": 4})
    held: dict[int, str] = {}
    lives: set[tuple[int, int]] = set()
    for what, number in steps:
        holder = f"p{number % 2}"
        if what == "take":
            found = book.take("publisher", holder)
            if found is None:
                assert len(held) == 4
                continue
            assert found[0] not in held
            life = (found.slot, found.epoch)
            assert life not in lives
            lives.add(life)
            held[found.slot] = holder
        elif what == "give" and number in held:
            del held[number]
            book.give_back("publisher", number, max(e for s, e in lives if s == number) + 1, 0)
        elif what == "lose":
            book.lose(holder)
            held = {slot: who for slot, who in held.items() if who != holder}
