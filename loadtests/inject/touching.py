"""Did a fault meet somebody of the run or the target?  Asked beside its witness, which measures the fault itself.

A fault that acts as asked on nobody proves nothing about the target. Three answers: it acted, it touched nothing, or
that cannot be observed from here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from loadtests.inject.deadline import Watch
from loadtests.inject.proofs import Effective, Proof, Witness
from loadtests.inject.touch import Touch
from loadtests.model.records import ACTED, NOT_OBSERVABLE


class Encounter(Protocol):
    """Watches whom a fault meets. None of its methods raises because of what the target does."""

    def start(self) -> None:
        """The calm before it begins."""
        ...

    def about_to_act(self) -> None:
        """It acts in a moment."""
        ...

    def has_acted(self) -> None:
        """It is in force."""
        ...

    def touch(self, watch: Watch) -> Touch:
        """What is known by now; may look on until the watch ends, where nobody was met yet."""
        ...

    def close(self) -> None:
        """Looks no more; safe to repeat."""
        ...


class Idle:
    """Does nothing at the moments that say nothing of whom it meets; keeps nothing open."""

    def start(self) -> None:
        """Nothing."""

    def about_to_act(self) -> None:
        """Nothing."""

    def has_acted(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Unseen(Idle):
    """Whom it meets cannot be observed."""

    def __init__(self, why: str) -> None:
        self._why = why

    def touch(self, _: Watch) -> Touch:
        """That it cannot."""
        return Touch(touched=NOT_OBSERVABLE, why=self._why)


class Beside:
    """A witness and an encounter as one witness."""

    def __init__(self, witness: Witness, encounter: Encounter) -> None:
        self._witness, self._encounter = witness, encounter

    def before(self, watch: Watch) -> None:
        """Both look at the calm."""
        self._encounter.start()
        self._witness.before(watch)

    def last_look(self) -> None:
        """Both look a last time."""
        self._witness.last_look()
        self._encounter.about_to_act()

    def during(self, watch: Watch) -> Proof:
        """The proof, and beside it whether somebody was met."""
        self._encounter.has_acted()
        proof = self._witness.during(watch)
        touch = self._encounter.touch(watch)
        said = [text for text in (proof.reason, touch.why if touch.touched != ACTED else "") if text]
        return replace(proof, effective={**proof.effective, **touch.effective()}, reason="; ".join(said))

    def after(self, watch: Watch) -> Effective:
        """Whether the fault is gone."""
        self._encounter.close()
        return self._witness.after(watch)

    def close(self) -> None:
        """Lets go of both."""
        self._encounter.close()
        self._witness.close()
