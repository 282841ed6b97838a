"""Stores that tests read, damage and mend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kvtool.store import Store
from tests.support.runs import commit, config, create_run, finite_bits, new_store, ragged


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A run of two parts and a text; two results, answers and pictures."""
    store = new_store(tmp_path)
    run = create_run(store, config())
    run.enroll([f"image{index}" for index in range(3)], "/data")
    run.enroll([f"image{index}" for index in range(5)], "/data")
    commit(run, [ragged(index) for index in range(3)])
    commit(run, [ragged(index) for index in range(3, 5)])
    run.commit_text(
        ["cat", "dog"], finite_bits(np.random.default_rng(0), (2, 2, 2, 8), np.dtype("<u2"))
    )
    fields = {"run": "tiny", "run_hash": run.config.hash}
    store.save_result("abc", {"command": "probe", "config": {**fields, "pictures": "drawn"}})
    store.save_result("abd", {"kind": "answers", "run": "tiny", "answers": {}})
    store.keep_pictures("drawn", [("1.png", b"one"), ("questions.jsonl", b"{}\n")])
    return store
