"""Planted runs of every prefix condition, their comparison, and scenes to extract from."""

from __future__ import annotations

from pathlib import Path

import pytest

import kvtool
from kvtool.datasets.spair71k import SPair71k
from kvtool.result import Result
from kvtool.store import Store
from tests.support.prefixes import TASK, half_planted, write_conditions
from tests.support.scenes import World
from tests.support.tasks.semantic_correspondence import planted, write_spair
from tests.support.units import noise


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_spair(tmp_path_factory.mktemp("spair"))


@pytest.fixture(scope="module")
def store(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    pairs = SPair71k(root, "test").pairs()
    fills = {
        "none": half_planted(pairs),
        "correct": planted(pairs),
        "random": noise(3),
        "incorrect": half_planted(pairs),
    }
    return write_conditions(tmp_path_factory.mktemp("planted") / "s.kv", root, fills)


@pytest.fixture(scope="module")
def result(store: Store) -> Result:
    return kvtool.prefix(store, TASK)


@pytest.fixture(scope="module")
def scenes(embedded_world: World) -> Path:
    return embedded_world("spair71k", "refcoco", "bdd10k")
