"""Names, folders and what is wrong with them; devices and precisions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from kvtool.errors import KvtoolError, ModelError, UsageError
from kvtool.models import load_model
from kvtool.models.families import EXAMPLES, FAMILIES
from tests.support import tiny


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.qwen2_vl(tmp_path_factory.mktemp("qwen"))


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(source, tmp_path / "model"))


def error(name: str | Path, **options: Any) -> str:
    """The one line a failed load answers with."""
    with pytest.raises(KvtoolError) as caught:
        load_model(str(name), **options)
    assert isinstance(caught.value, (ModelError, UsageError))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    assert "did you mean Qwen/Qwen2-VL-7B-Instruct?" in error("qwen2-vl-7b")
    assert "expected a hub id" in error("no such model")
    assert "expected an existing folder, found none; check the path" in error("/no/such/folder")
    assert "choose one of them" in error("demo@9")


def test_folders_that_hold_no_model(folder: Path, tmp_path: Path) -> None:
    assert "expected a folder with config.json, found model" in error(tmp_path)
    assert "expected a folder with config.json, found a file" in error(folder / "config.json")
    (tmp_path / "empty").mkdir()
    assert "found nothing" in error(tmp_path / "empty")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.json", "{", "expected JSON"),
        ("config.json", "[]", "expected a JSON object, found list"),
        ("config.json", "{}", "expected a model_type among llava_onevision"),
        (
            "config.json",
            '{"model_type": "dpt", "vision_config": {}}',
            "found 'dpt'; take a model of one of these",
        ),
        (
            "config.json",
            '{"model_type": "llama4", "vision_config": {}}',
            "found 'llama4', whose class joins tower and decoder itself",
        ),
        (
            "config.json",
            '{"model_type": "paligemma", "vision_config": {}}',
            "found 'paligemma', whose pictures see the text that follows them",
        ),
        ("config.json", '{"model_type": "llama"}', "found 'llama', which reads text alone"),
        (
            "config.json",
            '{"model_type": "internvl_chat", "auto_map": {"AutoModel": "a.B"}}',
            "found 'internvl_chat', which brings code of its own",
        ),
        ("config.json", '{"model_type": "llava_qwen"}', "whose name ends in -hf"),
        (
            "config.json",
            '{"model_type": "qwen2_vl", "text_config": {"num_hidden_layers": "x"}}',
            "readable config.json",
        ),
        ("model.safetensors", None, "expected weights in model.safetensors, found no such file"),
        ("model.safetensors", "short", "expected weights of its configuration"),
        (
            "preprocessor_config.json",
            None,
            "expected an image processor (preprocessor_config.json)",
        ),
        ("tokenizer.json", None, "expected a tokenizer"),
    ],
)
def test_broken_folders(folder: Path, file: str, content: str | None, message: str) -> None:
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_text(content)
    assert message in error(folder)


def test_missing_shard_and_missing_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    part = {name: weights[name] for name in sorted(weights) if "layers.2" not in name}
    save_file(part, folder / "model.safetensors", metadata={"format": "pt"})
    assert "expected weights of every layer, found none for model" in error(folder)
    (folder / "model.safetensors").unlink()
    index = {"weight_map": dict.fromkeys(weights, "model-00001-of-00002.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "expected weights in model-00001-of-00002.safetensors" in error(folder)


@pytest.mark.slow
def test_pickled_weights_are_read_without_running_code(
    folder: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    models = [load_model(str(path), dtype="float32") for path in (folder, source)]
    vectors = [model.text_vectors(["the cat"], [0, 2], ["value"], "{}") for model in models]
    np.testing.assert_array_equal(vectors[0].arrays["value"], vectors[1].arrays["value"])

    class Harmful:
        def __reduce__(self) -> Any:
            return print, ("code of a checkpoint ran",)

    torch.save({**weights, "lm_head.weight": Harmful()}, folder / "pytorch_model.bin")
    assert "expected weights of its configuration" in error(folder)
    assert "ran" not in capsys.readouterr().out


@pytest.mark.slow
def test_published_layout_of_qwen(folder: Path, source: Path) -> None:
    """Hub checkpoints keep the decoder's settings at the top of config.json."""
    config = json.loads((folder / "config.json").read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    text |= {
        "rope_theta": rope["rope_theta"],
        "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]},
    }
    text.pop("model_type")
    (folder / "config.json").write_text(json.dumps({**text, **config}))
    models = [load_model(str(path), dtype="float32") for path in (folder, source)]
    assert models[0].info.geometry == models[1].info.geometry
    captured = [
        model.capture(
            [model.prepare(tiny.noise(70, 45), id="a", index=0)], model.request(None, None)
        )
        for model in models
    ]
    np.testing.assert_array_equal(captured[0].arrays["key"][0], captured[1].arrays["key"][0])


def test_devices_precisions_and_attentions(source: Path) -> None:
    assert "expected cpu, cuda or cuda:N, found 'tpu'" in error(source, device="tpu")
    assert "found 'float8'" in error(source, dtype="float8")
    assert "found 'fast'" in error(source, attention="fast")
    if not torch.cuda.is_available():
        assert "expected cuda:1 to exist, found 0 CUDA devices" in error(source, device="cuda:1")
    eager = load_model(str(source), dtype="float32", attention="eager")
    assert eager.info.attention == "eager"
    assert eager.language_model.config._attn_implementation == "eager"  # type: ignore[attr-defined]


@pytest.mark.slow
def test_weights_are_loaded_in_the_asked_precision(source: Path) -> None:
    for precision in ("float16", "bfloat16", "float32"):
        model: Any = load_model(str(source), dtype=precision)
        assert {parameter.dtype for parameter in model.net.parameters()} == {
            getattr(torch, precision)
        }
        assert not model.net.training


def test_requests(source: Path) -> None:
    model = load_model(str(source), dtype="float32", weights=False)
    request = model.request(None, None)
    assert request.kinds == ("key", "value", "projected", "vision")
    assert (request.layers, request.vision_layers, request.keys) == ((0, 1, 2), (2,), "post-rope")
    assert model.request(["value", "key"], [2, 0, 2]).layers == (0, 2)
    for options, message in (
        ({"kinds": ["query"]}, "found 'query'"),
        ({"kinds": []}, "found none"),
        ({"layers": [3]}, "expected numbers from 0 to 2, found 3"),
        ({"layers": []}, "found none"),
        ({"keys": "rope"}, "expected post-rope or pre-rope, found 'rope'"),
        ({"vision_layers": [-1]}, "found -1"),
    ):
        with pytest.raises(UsageError, match=message):
            model.request(**{"kinds": None, "layers": None, **options})  # type: ignore[arg-type]


def test_tables_agree() -> None:
    assert set(EXAMPLES) <= set(FAMILIES.names())
    for name in FAMILIES.names():
        assert FAMILIES.load(name).family in EXAMPLES


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, kvtool.models, kvtool.models.base; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
