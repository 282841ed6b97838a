"""Runs by what they are of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kvtool.store import Run
from kvtool.store.descriptions import matching
from tests.support.runs import config, new_run


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    model = config().model
    changes: list[dict[str, Any]] = [
        {},
        {"dataset": "msrc"},
        {"prefix": "correct"},
        {"view": "full", "model": replace(model, name="owner/large")},
    ]
    return [new_run(tmp_path / f"{n}.kv", **change) for n, change in enumerate(changes)]


@pytest.mark.parametrize(
    ("description", "numbers"),
    [
        ("dataset=msrc", [1]),
        ("dataset=folder", [0, 2, 3]),
        ("model=owner/large", [3]),
        ("model=large", [3]),
        ("model=owner", []),
        ("dataset=folder, prefix=none", [0, 3]),
        ("dataset=folder,prefix=none,view=base", [0]),
        ("split=all", [0, 1, 2, 3]),
        ("split=val", []),
    ],
)
def test_runs_that_are_as_described(runs: list[Run], description: str, numbers: list[int]) -> None:
    assert matching(description, runs) == [runs[number] for number in numbers]
