"""Pictures to extract from, and a model that extracts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import tiny


@pytest.fixture
def few(tmp_path: Path, pictures: Path) -> Path:
    """Six pictures of a test's own."""
    folder = tmp_path / "few"
    folder.mkdir()
    for i in range(6):
        shutil.copy(pictures / f"{i:03d}.png", folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random LLaVA-OneVision checkpoint."""
    folder = tmp_path_factory.mktemp("model")
    tiny.llava_onevision(folder)
    return str(folder)
