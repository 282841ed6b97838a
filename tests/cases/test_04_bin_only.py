"""Checkpoints without safetensors: one .bin, shards, a shard that is missing, and one that would
run code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.cases.outcomes import Weights, copied, refusal, rows
from tests.support.shell import Shell

SHARDS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")


@pytest.fixture
def model(tiny_model: Path, tmp_path: Path) -> Path:
    return copied(tiny_model, tmp_path / "model")


def without_safetensors(model: Path) -> Weights:
    weights = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    return weights


def save_shards(model: Path) -> None:
    weights = without_safetensors(model)
    names = sorted(weights)
    cut = len(names) // 2
    for shard, part in zip(SHARDS, (names[:cut], names[cut:]), strict=True):
        torch.save({name: weights[name] for name in part}, model / shard)
    weight_map = {name: SHARDS[i >= cut] for i, name in enumerate(names)}
    (model / "pytorch_model.bin.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map})
    )


@pytest.mark.slow
def test_one_file_and_shards(shell: Shell, tiny_model: Path, photos: Path, tmp_path: Path) -> None:
    single, sharded = copied(tiny_model, tmp_path / "one"), copied(tiny_model, tmp_path / "sharded")
    torch.save(without_safetensors(single), single / "pytorch_model.bin")
    save_shards(sharded)
    for model in (single, sharded):
        store = tmp_path / f"{model.name}.kv"
        assert (
            rows(shell("extract", store, "--model", model, "--dataset", f"folder:{photos}"))[0][
                "extracted"
            ]
            == 3
        )


def test_a_missing_shard_is_named(shell: Shell, model: Path, photos: Path, tmp_path: Path) -> None:
    save_shards(model)
    (model / SHARDS[1]).unlink()
    line = refusal(
        shell("extract", tmp_path / "s.kv", "--model", model, "--dataset", f"folder:{photos}")
    )
    assert SHARDS[1] in line


@pytest.mark.slow
def test_code_is_refused_and_not_run(
    shell: Shell, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return open, ("ran", "w")

    monkeypatch.chdir(tmp_path)
    torch.save({**without_safetensors(model), "x": Harmful()}, model / "pytorch_model.bin")
    line = refusal(shell("extract", "s.kv", "--model", model, "--dataset", f"folder:{photos}"))
    assert "two options" not in line
    assert not Path("ran").exists()
