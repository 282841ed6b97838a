"""Inputs that several cases share: tiny checkpoints, three pictures, and small data sets in the
official layouts.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from kvtool.demo.layouts import write_scenes
from tests.support import tiny


@pytest.fixture(scope="session")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.qwen2_5_vl(tmp_path_factory.mktemp("qwen") / "qwen")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures p0.png, p1.png, p2.png of two shapes."""
    folder = tmp_path_factory.mktemp("photos") / "photos"
    folder.mkdir()
    for i, size in enumerate(((84, 60), (60, 84), (70, 70))):
        tiny.noise(*size, seed=i).save(folder / f"p{i}.png")
    return folder


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The generated data sets whose truth the cases spoil."""
    root = tmp_path_factory.mktemp("scenes") / "scenes"
    write_scenes(root, size="small", seed=5, only=["refcoco", "spair71k", "msrc", "blink"])
    return root
