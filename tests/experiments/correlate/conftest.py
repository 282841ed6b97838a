"""Stores of models whose segmentation and answers are planted."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvtool.datasets.cvbench import CvBench
from tests.support.correlations import RIGHT, WRONG, answered, right_for, segmented


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, data: Path) -> list[Path]:
    """Two stores of two models, a third one of one whose runs are one in each of them."""
    root = tmp_path_factory.mktemp("stores")
    paths = [root / "a.kv", root / "b.kv"]
    for number, (wrong, right) in enumerate(zip(WRONG, RIGHT, strict=True)):
        segmented(paths[number % 2], data, f"planted-{number}", wrong)
        store = paths[1 if number == 4 else number % 2]
        answered(store, CvBench(data / "cvbench"), f"planted-{number}", right_for(right))
    return paths
