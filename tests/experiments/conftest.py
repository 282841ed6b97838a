"""Fixtures of experiments."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import datasets as builders
from tests.support.correlations import write_cvbench
from tests.support.tasks.language import imagenet


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageNet-S of twelve images, CV-Bench of 24 questions, BLINK's Counting of five."""
    root = tmp_path_factory.mktemp("data")
    imagenet(root / "imagenet-s")
    write_cvbench(root / "cvbench")
    builders.blink(root / "blink")
    return root
