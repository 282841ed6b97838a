"""Runs of tasks whose annotations are to be broken."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.support.tasks.runs import RUNS
from tests.tasks.truths import MASKS, Scene, data_of, scored


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Scene]:
    @cache
    def scene(name: str) -> Scene:
        run = RUNS[name](tmp_path_factory.mktemp("run"))
        path = sorted(data_of(run).glob(MASKS.get(name, "PairAnnotation/test/*.json")))[0]
        full, data = scored(run, name), path.read_bytes()
        path.unlink()
        without = scored(run, name)
        path.write_bytes(data)
        assert (full.n_skipped, without.n_skipped) == (0, 1)
        return Scene(run, path, full, without)

    return scene
