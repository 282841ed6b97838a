"""An annotation file that is not there, of every data set that has some: it is left out, named, and
counts as one that cannot be used, so that `kvtool probe` ends with 4 (tests/cli/test_unusable.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from kvtool.datasets import open_dataset
from kvtool.tasks import TASKS
from kvtool.tasks.survey import read_pictures
from tests.support import datasets as builders


@dataclass(frozen=True)
class Case:
    """A data set, a task over it, and the place of one of its annotations."""

    build: Callable[[Path], Path]
    task: str
    annotation: str
    split: str = ""


FEW_SHOT = "foreground-segmentation"
SEMANTIC = "semantic-segmentation"
VIDEOS = "temporal-correspondence"
CASES = {
    "pascal5i": Case(builders.pascal, FEW_SHOT, "VOC2012/SegmentationClassAug/*.png"),
    "msrc": Case(builders.msrc7, "co-segmentation", "groundtruth/*/*"),
    "imagenet-s": Case(
        builders.imagenet_s, SEMANTIC, "ImageNetS50/validation-segmentation/*/*.png"
    ),
    "davis": Case(builders.davis, VIDEOS, "Annotations/480p/two/00002.png"),
    "bdd10k": Case(builders.bdd10k, SEMANTIC, "labels/sem_seg/masks/val/day1.png"),
    "spair71k": Case(builders.spair, "semantic-correspondence", "PairAnnotation/*/*.json"),
    "own": Case(builders.own, "co-segmentation", "masks/*.png"),
}


def task_over(name: str, root: Path) -> Any:
    """The task over all pictures of a data set, as if a run held them."""
    dataset = open_dataset(f"{name}:{root}")
    sizes = read_pictures(dataset).sizes
    return TASKS.load(CASES[name].task)(dataset, sizes, torch.device("cpu"))


@pytest.mark.parametrize("name", CASES)
def test_it_is_counted_as_one_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    root = CASES[name].build(tmp_path / "data")
    intact = task_over(name, root)
    path = sorted(root.glob(CASES[name].annotation))[0]
    path.unlink()
    task = task_over(name, root)
    assert task.n_unusable == intact.n_unusable + 1
    assert task.n_skipped > intact.n_skipped
    new_lines = set(task.skipped) - set(intact.skipped)
    assert any(path.stem in line or path.parent.name in line for line in new_lines), new_lines
