"""A small SPair-71k, whose block PLANTED finds every keypoint, and a viewer of it."""

from __future__ import annotations

from pathlib import Path

import pytest

import kvtool
from kvtool.store import Run
from kvtool.viewer.viewer import Viewer, runs_by_name
from tests.support.tasks import semantic_correspondence as spair


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = spair.make_run(tmp_path_factory.mktemp("viewer"), "pairs.kv")
    kvtool.probe(run, spair.TASK)
    return run


@pytest.fixture
def viewer(run: Run) -> Viewer:
    return Viewer(runs_by_name([(Path(run.store), run)]))


@pytest.fixture
def scope(run: Run) -> dict[str, str]:
    """The parameters that every request about the run has."""
    return {"store": "pairs.kv", "run": run.name, "image": run.ids[1]}
