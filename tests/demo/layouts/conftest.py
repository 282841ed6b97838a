"""One small world on disk for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvtool.demo.layouts import write_scenes


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes") / "world"
    write_scenes(root)
    return root
