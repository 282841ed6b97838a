"""Tiny checkpoints have the same weights whatever ran before, so that tests hold in any order."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support import tiny


@pytest.mark.parametrize("build", ["llava_next", "qwen3_5"])
def test_weights_depend_on_nothing_that_ran_before(tmp_path: Path, build: str) -> None:
    """Of families whose classes draw vectors: a class token and a newline, decays of states."""
    weights = []
    for seed in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            folder = getattr(tiny, build)(tmp_path / str(seed))
        weights.append(load_file(folder / "model.safetensors"))
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name
