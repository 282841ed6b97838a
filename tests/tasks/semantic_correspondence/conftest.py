"""A run of which one block holds the answer."""

from __future__ import annotations

import pytest

from kvtool.datasets.spair71k import SPair71k
from kvtool.store import Run
from tests.support.tasks.semantic_correspondence import GRID, WH, planted, write_spair
from tests.support.units import sample, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("spair")
    dataset = SPair71k(write_spair(folder / "data"), "test")
    samples = [sample(ref.id, i, WH, GRID) for i, ref in enumerate(dataset.images())]
    return write_run(
        folder / "store", "spair71k", "test", folder / "data", samples, planted(dataset.pairs())
    )
