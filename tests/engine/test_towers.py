"""Runs of encoders beside those of multimodal models; sizes and text templates of runs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kvtool
from kvtool.errors import UsageError
from kvtool.models import load_model
from kvtool.store import Run
from kvtool.store.verify import verify
from tests.support import tiny, tiny_encoders
from tests.support.datasets import coco


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    builds = (
        "llava_onevision",
        "siglip",
        "siglip_of_two",
        "clip_of_two",
        "vit",
        "qwen2_vl",
        "dinov3_vit",
    )
    folders = {build: tmp_path_factory.mktemp(build) for build in builds}
    return {build: str(tiny_encoders.built(build, folder)) for build, folder in folders.items()}


@pytest.fixture
def data(tmp_path: Path) -> str:
    return f"coco:{coco(tmp_path / 'coco')}"


def extracted(store: Path, model: str, dataset: str, **options: Any) -> Run:
    report = kvtool.extract(store, model=model, dataset=dataset, dtype="float32", **options)
    assert report.failed == {}
    return kvtool.open(store).run(report.run)


@pytest.mark.slow
def test_an_encoder_beside_a_model_keeps_the_layer_that_feeds_it(
    tmp_path: Path, models: dict[str, str], data: str
) -> None:
    """LLaVA-OneVision's tower is its projector's last layer; a tower that drops layers is one whose
    run says so.
    """
    store = tmp_path / "s.kv"
    llava = extracted(store, models["llava_onevision"], data, limit=2)
    beside = extracted(store, models["siglip"], data, limit=2)
    assert beside.config.vision_layers == llava.config.vision_layers == (2,)
    assert beside.config.beside == models["llava_onevision"]
    # CLIP is no tower of it, and DINO nobody's.
    for model in ("clip_of_two", "vit"):
        assert extracted(store, models[model], data, limit=2).config.beside == ""
    # Asked for by number, it stands beside nothing.
    by_number = extracted(store, models["siglip"], data, limit=2, layers=[1])
    assert (by_number.config.vision_layers, by_number.config.beside) == ((1,), "")


@pytest.mark.slow
def test_a_tower_that_feeds_from_an_earlier_layer(
    tmp_path: Path, models: dict[str, str], data: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The tiny LLaVA-NeXT feeds from its tower's last layer but one, as published ones do."""
    store = tmp_path / "s.kv"
    folder = str(tiny.llava_next(tmp_path / "next"))
    assert extracted(store, folder, data, limit=2).config.vision_layers == (1,)
    with caplog.at_level(logging.INFO, "kvtool"):
        clip = extracted(store, models["clip_of_two"], data, limit=1)
    assert clip.config.vision_layers == clip.config.defaults.vision_layers == (1,)
    assert clip.config.vision_norm == ""
    assert any("layers 1, from which" in message for message in caplog.messages)
    extended = extracted(store, models["clip_of_two"], data, limit=2)
    assert (extended.name, len(extended)) == (clip.name, 2)
    last = extracted(store, models["clip_of_two"], data, limit=1, layers="last:1")
    assert last.name != clip.name


@pytest.mark.parametrize(
    ("model", "layers", "norm"),
    [
        ("siglip", None, "post_layernorm"),
        ("siglip", (0, 1), ""),
        ("vit", (0, 2), "layernorm"),
        ("clip_of_two", None, ""),
        ("dinov3_vit", None, "norm"),
    ],
)
@pytest.mark.slow
def test_the_norm_is_in_the_runs_record(
    tmp_path: Path, models: dict[str, str], data: str, model: str, layers: Any, norm: str
) -> None:
    run = extracted(tmp_path / "s.kv", models[model], data, limit=1, layers=layers)
    assert run.config.vision_norm == norm
    again = kvtool.extract(
        tmp_path / "s.kv",
        model=models[model],
        dataset=data,
        dtype="float32",
        limit=1,
        layers=layers,
    )
    assert (again.n_before, again.run) == (1, run.name)


@pytest.mark.slow
def test_sizes_are_part_of_a_runs_identity(
    tmp_path: Path, models: dict[str, str], data: str
) -> None:
    store = tmp_path / "s.kv"
    sizes: list[dict[str, Any]] = [
        {},
        {"image_size": 48},
        {"image_size": "short:48"},
        {"max_pixels": 30 * 64},
        {"min_pixels": 20 * 64},
    ]
    names = [extracted(store, models["qwen2_vl"], data, limit=2, **size).name for size in sizes]
    assert len(set(names)) == len(sizes)
    for size, name in zip(sizes, names, strict=True):
        assert extracted(store, models["qwen2_vl"], data, limit=2, **size).name == name
    square = kvtool.open(store).run(names[1])
    assert {sample.base().grid for sample in square.samples} == {(6, 6)}
    assert square.config.image_size == "48"
    with pytest.raises(UsageError, match="--image-size: expected a model whose input size"):
        extracted(store, models["llava_onevision"], data, image_size=48)
    with pytest.raises(UsageError, match="max_pixels: expected"):
        extracted(store, models["qwen2_vl"], data, max_pixels=0)


@pytest.mark.slow
def test_texts_are_stored_by_template_without_running_images(
    tmp_path: Path, models: dict[str, str], data: str
) -> None:
    store = tmp_path / "s.kv"
    run = extracted(store, models["llava_onevision"], data, limit=2)
    assert run.texts().token_counts == {"person": 1, "dog": 1}
    again = kvtool.extract(
        store,
        model=models["llava_onevision"],
        dataset=data,
        dtype="float32",
        limit=2,
        text_template="a red {}|the {}",
    )
    assert (again.run, again.n_before, again.n_done) == (run.name, 2, 0)
    assert run.text_templates == ["{}", "a red {}|the {}"]
    model = load_model(models["llava_onevision"], dtype="float32")
    names = ["person", "dog"]
    for template in run.text_templates:
        texts = run.texts(template)
        vectors = model.text_vectors(names, [0, 1, 2], ("value", "projected"), template).arrays
        for layer in range(3):
            np.testing.assert_allclose(
                texts.values(layer, 1), vectors["value"][:, layer, 1], rtol=1e-5, atol=1e-6
            )
        for array in ("projected", "projected_mean"):
            np.testing.assert_allclose(
                texts.values(0, 0, array=array), vectors[array][:, 0, 0], atol=1e-6
            )
    assert verify(kvtool.open(store)) == []
    with pytest.raises(UsageError, match="text template: expected"):
        extracted(store, models["llava_onevision"], data, text_template="a cat")


@pytest.mark.slow
def test_encoders_store_the_texts_of_their_own_towers(
    tmp_path: Path, models: dict[str, str], data: str
) -> None:
    store = tmp_path / "s.kv"
    run = extracted(store, models["siglip_of_two"], data, limit=2)
    assert run.config.kinds == ("projected", "vision")
    assert run.texts().names("projected") == ["person", "dog"]
    norms = np.linalg.norm(run.texts().values(0, 0, array="projected"), axis=1)
    np.testing.assert_allclose(norms, 1, rtol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(run.read("projected", 0).values, axis=1), 1, rtol=1e-5
    )
    assert verify(kvtool.open(store)) == []
    wordless = extracted(store, models["vit"], data, limit=2)
    assert (wordless.config.kinds, wordless.text_templates) == (("vision",), [])
