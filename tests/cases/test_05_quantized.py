"""Quantized variants of one checkpoint, on a machine without their libraries: refused in one line,
or loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cases.outcomes import Weights, change_json, change_weights, copied, refusal
from tests.support.shell import Shell

TENSOR = {"num_bits": 8, "type": "float", "strategy": "tensor", "symmetric": True}
METHODS: dict[str, dict[str, Any]] = {
    "awq": {
        "quant_method": "awq",
        "bits": 4,
        "group_size": 32,
        "version": "gemm",
        "zero_point": True,
    },
    "gptq": {
        "quant_method": "gptq",
        "bits": 4,
        "group_size": 32,
        "desc_act": False,
        "dataset": "c4",
    },
    "bitsandbytes": {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": "bfloat16",
    },
    "compressed-tensors": {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": TENSOR}},
    },
    "fp8": {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
}


def is_projection(name: str) -> bool:
    """A weight of the decoder's linear layers."""
    return "layers" in name and "visual" not in name and name.endswith("proj.weight")


def packed(weights: Weights) -> Weights:
    """As AWQ and GPTQ have them: integers, zero points and scales in the weight's place."""
    out: Weights = {}
    for name, tensor in weights.items():
        if not is_projection(name):
            out[name] = tensor
            continue
        rows, columns = tensor.shape
        base = name.removesuffix("weight")
        out[f"{base}qweight"] = torch.zeros(columns // 8, rows, dtype=torch.int32)
        out[f"{base}qzeros"] = torch.zeros(2, rows // 8, dtype=torch.int32)
        out[f"{base}scales"] = torch.ones(2, rows, dtype=torch.float16)
    return out


def scaled(weights: Weights) -> Weights:
    """Float8 weights, a hundred times as large, with the scale that makes them what they were
    beside them.
    """
    out: Weights = {}
    for name, tensor in weights.items():
        if is_projection(name):
            out[name] = (tensor / 0.01).to(torch.float8_e4m3fn)
            out[f"{name}_scale"] = torch.full((1,), 0.01)
        else:
            out[name] = tensor
    return out


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_quantized_checkpoints_are_refused_in_one_line(
    shell: Shell, qwen: Path, photos: Path, tmp_path: Path, method: str
) -> None:
    model = copied(qwen, tmp_path / "model")
    change_json(
        model / "config.json", lambda config: config.update(quantization_config=METHODS[method])
    )
    if method != "bitsandbytes":
        change_weights(model, packed if method in ("awq", "gptq") else scaled)
    refusal(
        shell("-q", "extract", tmp_path / "s.kv", "--model", model, "--dataset", f"folder:{photos}")
    )
    assert not list(tmp_path.glob("s.kv/runs/*/"))


@pytest.mark.slow
def test_scales_that_nobody_applies_are_refused(
    shell: Shell, qwen: Path, photos: Path, tmp_path: Path
) -> None:
    model = copied(qwen, tmp_path / "model")
    change_weights(model, scaled)
    line = refusal(
        shell("-q", "extract", tmp_path / "s.kv", "--model", model, "--dataset", f"folder:{photos}")
    )
    assert "that it has no place for" in line
    assert "_scale" in line
