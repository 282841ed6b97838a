"""What a knockout asks of the model, and the rows of its conditions."""

from __future__ import annotations

from typing import Any

import pytest

from kvtool.asking.answering import Answerer
from kvtool.result import Result, Row

OPTIONS: dict[str, Any] = {"max_new_tokens": 1}
CONTROLS = ("dependent", "random")


def summaries(result: Result) -> list[Row]:
    return [row for row in result.rows if "file" not in row and "subset" not in row]


def by_condition(result: Result) -> dict[str, Row]:
    """The row over all parts of each condition, means over draws."""
    return {
        row["condition"]: row
        for row in reversed(summaries(result))
        if row.get("draw", "all") == "all"
    }


class Counted:
    """How many (image, heads) were asked of the model, and stops after some."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stop_after: int | None = None) -> None:
        self.images: list[str] = []
        self.asked: list[tuple[str, int, int]] = []
        original = Answerer._generate

        def generate(answerer: Answerer, image: str, todo: Any) -> Any:
            if len(self.images) == stop_after:
                raise KeyboardInterrupt
            self.images.append(image)
            self.asked += [
                (image, len(heads), len(texts)) for heads, texts in todo.items() if texts
            ]
            return original(answerer, image, todo)

        monkeypatch.setattr(Answerer, "_generate", generate)
