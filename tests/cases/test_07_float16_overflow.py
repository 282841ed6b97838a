"""Activations that leave the range of float16 from one layer on: told, named, and never the best
block.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import kvtool
from tests.cases.outcomes import Weights, change_weights, copied, rows
from tests.support.shell import Shell


def loud(weights: Weights) -> Weights:
    for name in weights:
        if name.endswith("layers.1.mlp.down_proj.weight"):
            weights[name] *= 3e6
    return weights


@pytest.mark.slow
def test_an_overflow_is_told_verified_and_never_best(
    shell: Shell, tiny_model: Path, scenes: Path, tmp_path: Path
) -> None:
    model = copied(tiny_model, tmp_path / "model")
    change_weights(model, loud)
    data = (
        "--model",
        model,
        "--dataset",
        f"refcoco:{scenes}/refcoco",
        "--kinds",
        "value",
        "--limit",
        12,
    )
    for dtype in ("bfloat16", "float16"):
        store = tmp_path / f"{dtype}.kv"
        outcome = shell("extract", store, *data, "--dtype", dtype)
        assert outcome[0] == 0
        warned = [line for line in outcome[2] if "not finite" in line]
        verified = shell("store", "verify", store)
        assert verified[0] == 0 or dtype == "float16"
        (result,) = rows(shell("-q", "probe", store, "referring-expression", "--format", "json"))
        best = result["best"]
        values, _ = (
            kvtool.open(store).run().read("value", layer=best["layer"], kv_head=best["kv_head"])
        )
        assert np.isfinite(np.asarray(values, dtype=np.float32)).all()
        assert bool(warned) == (dtype == "float16")
        if dtype == "float16":
            assert any("layer 2" in line or "layers 2" in line for line in warned), warned
            assert "values that are not finite" in verified[1]
            code, out, _ = shell("-q", "probe", store, "referring-expression", "--format", "jsonl")
            spoiled = [row for row in map(json.loads, out.splitlines()) if row.get("layer") == 2]
            assert code == 0
            assert spoiled
            assert all(row["miou_fgbg"] is None for row in spoiled if row["kind"] == "value")
