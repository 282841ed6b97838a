"""What one check of a model measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from kvtool.display import Displayed, Facts
from kvtool.types import RunView


@dataclass(frozen=True, repr=False)
class ModelCheck(Displayed):
    """What one check of a model measured.

    Attributes:
        check: What was checked.
        view: In which view of the picture.
        passed: Whether it holds.
        value: What was measured: a share of cells, or a difference as a share of the largest value.
        limit: The largest value with which it holds.
        meaning: The value in words.
    """

    check: str
    view: RunView
    passed: bool
    value: float
    limit: float
    meaning: str

    def row(self) -> dict[str, Any]:
        """Return the values by name, as the command prints them."""
        return asdict(self)

    def _title(self) -> str:
        return f"{self.check} of the {self.view} view"

    def _facts(self) -> Facts:
        return {name: value for name, value in self.row().items() if name not in ("check", "view")}


def check_outcome(
    check: str, view: RunView, value: float, limit: float, meaning: str
) -> ModelCheck:
    """Return a check's outcome: it holds where the value is within the limit."""
    # A value that is no number passes no check.
    return ModelCheck(check, view, bool(value <= limit), value, limit, meaning)
