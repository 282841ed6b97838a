"""The mean of segmentation tasks over one data set, whose scores share their images."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvtool.datasets.imagenet_s import ImageNetS
from kvtool.experiments.correlate.measures import segmentation_row
from kvtool.result import Result
from kvtool.store import Run
from tests.support.tasks.language import GRID, imagenet
from tests.support.units import noise, sample, write_run

ENDS = {"co-segmentation": (0.5, 0.4, 0.7), "semantic-segmentation": (0.3, 0.2, 0.6)}
"""Score, low and high of each task."""


def run_over(root: Path, name: str, split: str) -> Run:
    refs = ImageNetS(root).images()
    samples = [sample(ref.id, i, (GRID[1], GRID[0]), GRID) for i, ref in enumerate(refs)]
    kinds = ("value",)
    store = root.parent / "s.kv"
    return write_run(store, "own", split, root, samples, noise(0), layers=1, kinds=kinds, name=name)


def probed(task: str) -> Result:
    score = dict(zip(("j", "j_low", "j_high"), ENDS[task], strict=True))
    return Result(
        command="probe",
        task=task,
        metric="j",
        n=12,
        rows=[],
        best={**score, "chance": 0.1},
        config={},
        versions={},
    )


@pytest.mark.parametrize(
    ("splits", "away"),
    [
        (("all", "all"), (0.1 + 0.1, 0.2 + 0.3)),
        (("train", "val"), (0.02**0.5, 0.13**0.5)),
    ],
)
def test_only_tasks_over_different_images_are_independent(
    tmp_path: Path, splits: tuple[str, str], away: tuple[float, float]
) -> None:
    imagenet(tmp_path / "data")
    # Two runs may be over one data set: each model's fullest for a task.
    runs = {
        task: run_over(tmp_path / "data", f"run-{task}", split)
        for task, split in zip(ENDS, splits, strict=True)
    }
    row = segmentation_row(runs, {task: probed(task) for task in ENDS})
    assert (row["segmentation"], row["segmentation_chance"]) == pytest.approx((0.4, 0.1))
    assert row["segmentation"] - row["segmentation_low"] == pytest.approx(away[0] / 2)
    assert row["segmentation_high"] - row["segmentation"] == pytest.approx(away[1] / 2)
