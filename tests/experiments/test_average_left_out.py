"""A run that cannot be scored on its task costs an average that task alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kvtool
from kvtool.errors import KvtoolError
from tests.support.shell import Shell
from tests.support.tasks.runs import RUNS

TASKS = ("foreground-segmentation", "co-segmentation")
OPTIONS: dict[str, Any] = {"shots": 60, "restarts": 1}
"""No class has that many pictures."""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("runs")
    for task in TASKS:
        (root / task).mkdir()
    return [RUNS[task](root / task).store for task in TASKS]


@pytest.mark.slow
def test_a_task_of_too_few_pictures_is_left_out_and_named(stores: list[Path], shell: Shell) -> None:
    result = kvtool.average(stores, **OPTIONS)
    assert {row["subset"] for row in result.rows} == {"co-segmentation", "segmentation", "all"}
    assert {row["n_tasks"] for row in result.rows} == {1}
    assert (result.n_skipped, result.n_unusable) == (5, 1)
    (line,) = [line for line in result.skipped if "foreground-segmentation" in line]
    assert "is no part of its average: " in line
    assert kvtool.average(stores, **OPTIONS) == result
    flags = ("--shots", "60", "--restarts", "1", "--format", "jsonl")
    code, out, notes = shell("average", *stores, *flags)
    assert code == 4
    assert out
    assert any(line in note for note in notes)


@pytest.mark.slow
def test_where_no_task_can_be_scored_the_first_reason_is_said(stores: list[Path]) -> None:
    with pytest.raises(KvtoolError, match=r"expected a task that can be scored, found none; .*60"):
        kvtool.average(stores[:1], **OPTIONS)
