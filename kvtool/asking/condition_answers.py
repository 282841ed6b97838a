"""What was answered under a condition."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from kvtool.result import Row


@dataclass(frozen=True)
class Answers:
    """The answers of one condition, or of one draw of it: a text for each question.

    `change` is what was done: conditions that did one and the same are one in tests, and one that
    did what the first did is not tested. None where every condition is another.
    """

    condition: str
    draw: int | None
    n_heads: int
    texts: tuple[str, ...]
    change: Hashable = None

    @property
    def subject(self) -> Hashable:
        """What its tests are about."""
        return self.label if self.change is None else self.change

    @property
    def label(self) -> str:
        """A name for files: none, dependent-0."""
        return self.condition if self.draw is None else f"{self.condition}-{self.draw}"


def subject_of(row: Row, conditions: Sequence[Answers]) -> Hashable:
    """Return what the tests in a row of one condition, or of one draw of it, are about."""
    return next(
        answers.subject
        for answers in conditions
        if answers.condition == row["condition"] and row.get("draw", answers.draw) == answers.draw
    )
