"""A model whose noisy heads are planted, the questions that they spoil, and a store of both."""

from __future__ import annotations

from pathlib import Path

import pytest

import kvtool
from tests.support.planted import planted_model, planted_pope


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_model(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def pope(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = planted_pope(tmp_path_factory.mktemp("benchmarks") / "pope", n_images=4)
    return f"pope:{folder}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, model: Path, pope: str) -> Path:
    """A store whose run holds POPE's images."""
    path = tmp_path_factory.mktemp("stores") / "s.kv"
    kvtool.extract(path, model=str(model), dataset=pope, kinds=("key", "value"))
    return path
