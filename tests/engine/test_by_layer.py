"""Extraction layer by layer: the bytes are those of the ordinary way, whatever the family, and at
most two layers' weights are there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import kvtool
from kvtool.engine.by_layer import run_together
from kvtool.errors import KvtoolError, UsageError
from kvtool.models import load_model
from kvtool.store.stored_run import StoredRun
from kvtool.store.verify import verify
from tests.support import tiny

pytest.importorskip("accelerate")

FAMILIES = {
    "llava_onevision": tiny.llava_onevision,
    "qwen2_5_vl": tiny.qwen2_5_vl,
    "qwen3_vl": tiny.qwen3_vl,
    "gemma3": tiny.gemma3,
}
KINDS = ("key", "value", "projected", "vision", "hidden")


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FAMILIES[request.param](tmp_path_factory.mktemp(request.param))


def extract(store: Path, checkpoint: Path, folder: Path, **options: Any) -> StoredRun:
    kvtool.extract(
        store,
        model=str(checkpoint),
        dataset=f"folder:{folder}",
        dtype="float32",
        batch_size=2,
        check=False,
        **{"kinds": KINDS, "codec": "none", **options},
    )
    return kvtool.open(store).run()


def stored_bytes(run: StoredRun) -> dict[str, bytes]:
    """Every file of a run's parts and texts, by its place."""
    files = [path for part in ("parts", "text") for path in (run.folder / part).rglob("*")]
    return {
        str(path.relative_to(run.folder)): path.read_bytes()
        for path in files
        if path.is_file() and path.suffix != ".json"
    }


def test_the_bytes_are_those_of_the_ordinary_way(
    checkpoint: Path, few: Path, tmp_path: Path
) -> None:
    ordinary = extract(tmp_path / "a.kv", checkpoint, few)
    by_layer = extract(tmp_path / "b.kv", checkpoint, few, by_layer=True)
    assert by_layer.config.hash == ordinary.config.hash
    expected = stored_bytes(ordinary)
    assert len(expected) > len(KINDS)
    assert stored_bytes(by_layer) == expected
    assert verify(kvtool.open(tmp_path / "b.kv")) == []
