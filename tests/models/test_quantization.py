"""Quantized checkpoints: what is said of them, and what reads them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import kvtool
from kvtool.errors import KvtoolError
from kvtool.models import load_model, quantization
from kvtool.models.quantization import quantization_of, quantization_text
from kvtool.store import RunConfig
from kvtool.store.manifest import same_numbers
from kvtool.store.provenance import describe_run
from tests.support import tiny
from tests.support.shell import Shell

FP8 = {"quant_method": "fp8", "weight_block_size": [32, 32], "activation_scheme": "dynamic"}
BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
TORCHAO = {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}}}


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.llava_onevision(tmp_path_factory.mktemp("llava"))


def with_settings(llava: Path, folder: Path, settings: dict[str, Any]) -> Path:
    """A copy whose config.json says that its weights are quantized."""
    shutil.copytree(llava, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    return folder


def error(folder: Path, **options: Any) -> str:
    with pytest.raises(KvtoolError) as caught:
        load_model(str(folder), dtype="float32", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (None, ""),
        (BNB, "bitsandbytes, 4 bits, nf4"),
        ({"load_in_8bit": True}, "bitsandbytes, 8 bits"),
        ({"quant_method": "gptq", "bits": 4}, "gptq, 4 bits"),
        ({"quant_method": "awq", "bits": 4}, "awq, 4 bits"),
        ({"quant_method": "fp8", "fmt": "e4m3"}, "fp8, e4m3"),
        (TORCHAO, "torchao, Int8WeightOnlyConfig"),
        (
            {"quant_method": "torchao", "quant_type": "int8_weight_only"},
            "torchao, int8_weight_only",
        ),
        ({"quant_method": ["x"], "bits": "four"}, "['x']"),
    ],
)
def test_a_few_words_say_how_weights_are_quantized(
    settings: dict[str, Any] | None, words: str
) -> None:
    assert quantization_text(quantization_of({"quantization_config": settings})) == words
    assert quantization_text(
        quantization_of({"text_config": {"quantization_config": settings}})
    ) == (words)


@pytest.mark.parametrize(
    ("settings", "package"),
    [
        (BNB, "bitsandbytes"),
        ({"quant_method": "gptq", "bits": 4}, "optimum gptqmodel"),
        ({"quant_method": "awq", "bits": 4}, "gptqmodel"),
        ({"quant_method": "compressed-tensors"}, "compressed-tensors"),
        (TORCHAO, "torchao"),
        ({"quant_method": "quanto", "weights": "int8"}, "optimum-quanto"),
    ],
)
def test_one_line_says_what_to_install(
    llava: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    package: str,
) -> None:
    monkeypatch.setattr(quantization, "is_installed", lambda module: module == "accelerate")
    message = error(with_settings(llava, tmp_path / "model", settings))
    assert message.endswith(f"found none; pip install {package}")


def test_an_unknown_method_is_refused(llava: Path, tmp_path: Path) -> None:
    folder = with_settings(llava, tmp_path / "model", {"quant_method": "unheard"})
    assert "expected a quant_method that transformers reads, found 'unheard'" in error(folder)


def test_quantized_weights_are_no_part_of_the_identity_but_of_the_description(
    llava: Path, tmp_path: Path
) -> None:
    folder = with_settings(llava, tmp_path / "model", BNB)
    plain, quantized = (load_model(str(path), weights=False).info for path in (llava, folder))
    assert (plain.quantization, quantized.quantization) == ("", "bitsandbytes, 4 bits, nf4")
    assert plain.revision != quantized.revision
    assert not same_numbers(plain, quantized)
    assert same_numbers(plain, replace(plain, quantization="said otherwise"))


def fp8(llava: Path, folder: Path) -> tuple[Path, Path]:
    """A checkpoint whose decoder layers are in 8 bits, by blocks with a scale each; and the plain
    one of the values that they stand for.
    """
    quantized = with_settings(
        llava,
        folder / "fp8",
        {**FP8, "modules_to_not_convert": ["vision_tower", "multi_modal_projector", "lm_head"]},
    )
    plain = Path(shutil.copytree(llava, folder / "plain"))
    weights = load_file(llava / "model.safetensors")
    values = dict(weights)
    for name, weight in values.items():
        if "language_model" in name and "layers" in name and name.endswith("proj.weight"):
            scale = torch.full([-(-side // 32) for side in weight.shape], 0.0625)
            weights[name] = (weight / 0.0625).to(torch.float8_e4m3fn)
            weights[f"{name}_scale_inv"] = scale
            values[name] = weights[name].float() * 0.0625
    save_file(weights, quantized / "model.safetensors", metadata={"format": "pt"})
    save_file(values, plain / "model.safetensors", metadata={"format": "pt"})
    return quantized, plain


@pytest.mark.slow
def test_weights_in_8_bits_are_loaded_by_transformers(llava: Path, tmp_path: Path) -> None:
    """On a CPU transformers brings them to the asked precision: the values that they stand for."""
    pytest.importorskip("accelerate")
    quantized, plain = (load_model(str(path), dtype="float32") for path in fp8(llava, tmp_path))
    assert quantized.info.quantization == "fp8"
    captures = []
    for model in (quantized, plain):
        item = model.prepare(tiny.noise(70, 45), id="a", index=0)
        captures.append(model.capture([item], model.request(None, None)).arrays)
    for kind, arrays in captures[1].items():
        np.testing.assert_array_equal(captures[0][kind][0], arrays[0])


@pytest.mark.parametrize("n_scales", [0, 20])
def test_weights_in_8_bits_without_their_scales_are_refused(
    llava: Path, tmp_path: Path, n_scales: int
) -> None:
    """None of 21 is there, or all but one."""
    pytest.importorskip("accelerate")
    folder, _ = fp8(llava, tmp_path)
    weights = load_file(folder / "model.safetensors")
    scales = sorted(key for key in weights if key.endswith("_scale_inv"))
    assert len(scales) == 21
    for key in scales[n_scales:]:
        del weights[key]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    weight = scales[n_scales].removesuffix("_scale_inv").partition("layers.")[2]
    assert f"layers.{weight} and {20 - n_scales} others; fetch" in error(folder)


def test_quantized_weights_are_not_read_layer_by_layer(llava: Path, tmp_path: Path) -> None:
    folder = with_settings(llava, tmp_path / "model", FP8)
    assert "--by-layer: expected plain weights" in error(folder, by_layer=True)


@pytest.mark.slow
def test_a_run_of_a_quantized_model_says_so(llava: Path, tmp_path: Path, shell: Shell) -> None:
    pytest.importorskip("accelerate")
    quantized, _ = fp8(llava, tmp_path)
    tiny.noise(70, 45).save(tmp_path / "a.png")
    kvtool.extract(
        tmp_path / "s.kv", model=str(quantized), dataset=[tmp_path / "a.png"], dtype="float32"
    )
    run = kvtool.open(tmp_path / "s.kv").run()
    assert "weights: fp8" in repr(run)
    assert describe_run(run)["quantization"] == "fp8"
    code, lines, _ = shell("store", "runs", tmp_path / "s.kv")
    assert code == 0
    assert json.loads(lines)["quantization"] == "fp8"
    assert RunConfig.from_json(run.config.to_json()) == run.config
