"""Both parquet files: columns, sources for the official score, and answers that are true of the
boxes.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kvtool.demo.language import plural
from kvtool.demo.layouts.cvbench import COLUMNS

TASKS = {"2d": ("Count", "Relation"), "3d": ("Depth", "Distance")}


def rows_of(world: Path, kind: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(
        world / "cvbench" / f"test_{kind}.parquet"
    ).to_pylist()
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("kind", TASKS)
def test_rows_are_complete(world: Path, kind: str) -> None:
    rows = rows_of(world, kind)
    assert list(rows[0]) == list(COLUMNS)
    assert [row["task"] for row in rows] == [task for task in TASKS[kind] for _ in range(12)]
    assert {row["type"] for row in rows} == {kind.upper()}
    assert {row["source"] for row in rows} == ({"ADE20K", "COCO"} if kind == "2d" else {"Omni3D"})
    for row in rows:
        letters = [f"({letter})" for letter in "ABCDEF"[: len(row["choices"])]]
        lines = [
            f"{letter} {choice}" for letter, choice in zip(letters, row["choices"], strict=True)
        ]
        assert row["answer"] in letters
        assert row["prompt"] == "\n".join(
            [f"{row['question']} Select from the following choices.", *lines]
        )
        with Image.open(io.BytesIO(row["image"]["bytes"])) as picture:
            x1, y1 = np.max(row["bbox"], axis=0)[2:]
            assert (x1, y1) <= (picture.width, picture.height)
    assert len({row["filename"] for row in rows}) == len(rows)


@pytest.mark.slow
def test_ids_run_through_both_files(world: Path) -> None:
    ids = [row["idx"] for kind in TASKS for row in rows_of(world, kind)]
    assert ids == list(range(48))


@pytest.mark.slow
def test_counts_are_the_number_of_boxes(world: Path) -> None:
    for row in rows_of(world, "2d"):
        if row["task"] == "Count":
            assert row["choices"]["ABCD".index(row["answer"][1])] == str(len(row["bbox"]))
            assert row["target_size"] == len(row["bbox"])
            assert plural(row["target_class"]) in row["question"]


@pytest.mark.slow
def test_relations_and_distances_fit_the_question(world: Path) -> None:
    for kind in TASKS:
        for row in rows_of(world, kind):
            answer = row["choices"]["ABCD".index(row["answer"][1])]
            if row["task"] == "Relation":
                assert sorted(row["choices"]) in (["left", "right"], ["above", "below"])
                assert len(row["bbox"]) == 2
            elif row["task"] in ("Depth", "Distance"):
                assert answer in row["question"]
                assert len(row["bbox"]) == (2 if row["task"] == "Depth" else 3)
                assert "closer to the" in row["question"]
