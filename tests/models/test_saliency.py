"""The attention of towers to their patches, against transformers' own attention matrices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    Aimv2Model,
    CLIPVisionModel,
    Dinov2Model,
    Dinov2WithRegistersModel,
    DINOv3ViTModel,
    LlavaNextForConditionalGeneration,
    Siglip2ImageProcessorPil,
    Siglip2VisionModel,
    SiglipVisionModel,
    Tipsv2VisionModel,
    ViTModel,
)

from kvtool.errors import UsageError
from kvtool.models import load_model
from kvtool.types import Kind
from tests.support import tiny, tiny_encoders
from tests.support.tiny import noise
from tests.support.units import Array

KINDS: tuple[Kind, ...] = ("saliency", "vision")
LAST = 2
CLASS_TOKENS = {
    "clip": (CLIPVisionModel, 1),
    "clip_of_two": (CLIPVisionModel, 1),
    "vit": (ViTModel, 1),
    "dinov2": (Dinov2Model, 1),
    "dinov2_with_registers": (Dinov2WithRegistersModel, 4),
    "dinov3_vit": (DINOv3ViTModel, 5),
    "tipsv2_vision": (Tipsv2VisionModel, 2),
}
"""Builders of towers with a class token: transformers' class, and the tokens before the patches."""


def eager(network_class: Any, folder: Path) -> Any:
    """transformers' own model, which gives whole attention matrices."""
    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    return network_class.from_pretrained(folder, **options).eval()


def pair_of(model: Any) -> list[Any]:
    """Two images that share a batch."""
    return [model.prepare(noise(70, 45, seed), id=f"{seed}", index=seed) for seed in (0, 1)]


def pixels_of(batch: list[Any]) -> torch.Tensor:
    return torch.stack([item.tensors["pixels"] for item in batch])


def captured(model: Any, batch: list[Any], kinds: tuple[Kind, ...] = KINDS, **choice: Any) -> Array:
    """(image, patch) of saliency."""
    request = model.request(kinds, None, **choice)
    assert request.kinds[-1] == "saliency"
    arrays = model.capture(batch, request).arrays["saliency"]
    n_patches = batch[0].sample.n_vision_tokens
    assert {array.shape for array in arrays} == {(1, 1, n_patches, 1)}
    return np.stack([array[0, 0, :, 0] for array in arrays])


@pytest.mark.sampled
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("build", CLASS_TOKENS)
def test_the_class_token_of_the_last_layer(build: str, attention: str, tmp_path: Path) -> None:
    network_class, special = CLASS_TOKENS[build]
    folder = tiny_encoders.built(build, tmp_path)
    model = load_model(str(folder), dtype="float32", attention=attention)
    batch = pair_of(model)
    options = {"interpolate_pos_encoding": True} if build == "vit" else {}
    with torch.inference_mode():
        theirs = eager(network_class, folder)(pixels_of(batch), output_attentions=True, **options)
    expected = theirs.attentions[LAST][:, :, 0, special:].mean(1).numpy()
    values = captured(model, batch)
    np.testing.assert_allclose(values, expected, atol=1e-5)
    # The maps differ from image to image and from patch to patch by far more than that.
    assert values.std(1).min() > 1e-3
    assert np.abs(values[0] - values[1]).max() > 1e-3
    # Whatever layers are kept, and without any.
    model_layers = model.request(("vision", "saliency"), [0])
    assert model_layers.vision_layers == (0,)
    only_first = model.capture(batch, model_layers).arrays
    np.testing.assert_array_equal(only_first["saliency"][0][0, 0, :, 0], values[0])
    # What else is kept is the same, bit for bit.
    plain = model.capture(batch, model.request(("vision",), [0])).arrays
    assert plain.keys() == {"vision"}
    np.testing.assert_array_equal(plain["vision"][1], only_first["vision"][1])


@pytest.mark.sampled
@pytest.mark.parametrize("build", ["siglip", "siglip_of_two"])
def test_the_probe_of_siglips_pooling_head(build: str, tmp_path: Path) -> None:
    folder = getattr(tiny, build)(tmp_path)
    model = load_model(str(folder), dtype="float32")
    batch = pair_of(model)
    theirs = eager(SiglipVisionModel, folder)
    head = theirs.head
    with torch.inference_mode():
        states = theirs(pixels_of(batch)).last_hidden_state
        probe = head.probe.repeat(len(batch), 1, 1)
        _, weights = head.attention(probe, states, states, need_weights=True)
    values = captured(model, batch)
    np.testing.assert_allclose(values, weights[:, 0].numpy(), atol=1e-5)
    np.testing.assert_allclose(values.sum(1), 1, atol=1e-5)
    assert values.std(1).min() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [("saliency", "projected"), ("saliency", "value", "vision")])
def test_the_class_token_of_llavas_tower(kinds: tuple[Kind, ...], tmp_path: Path) -> None:
    folder = tiny.llava_next(tmp_path)
    model: Any = load_model(str(folder), dtype="float32")
    batch = pair_of(model)
    feeding = model.request(None, None).vision_layers
    assert feeding == (1,)
    theirs = eager(LlavaNextForConditionalGeneration, folder).model.vision_tower
    with torch.inference_mode():
        attentions = theirs(pixels_of(batch)[:, 0], output_attentions=True).attentions
    expected = attentions[feeding[0]][:, :, 0, 1:].mean(1).numpy()
    np.testing.assert_allclose(captured(model, batch, kinds), expected, atol=1e-5)


@pytest.mark.slow
def test_tiles_have_a_class_token_each(tmp_path: Path) -> None:
    """Each tile's map lies where the tile's patches lie in the stitched grid."""
    folder = tiny.llava_next(tmp_path)
    model: Any = load_model(str(folder), dtype="float32")
    prepared = model.prepare(noise(70, 45), id="a", index=0, view="full")
    theirs = eager(LlavaNextForConditionalGeneration, folder).model.vision_tower
    with torch.inference_mode():
        attentions = theirs(prepared.tensors["pixels"], output_attentions=True).attentions
    maps = attentions[1][:, :, 0, 1:].mean(1).numpy()
    rows, cols = prepared.sample.vision_spans[1].grid
    expected = np.zeros((rows, cols))
    for tile, values in enumerate(maps[1:]):
        top, left = 4 * (tile // (cols // 4)), 4 * (tile % (cols // 4))
        expected[top : top + 4, left : left + 4] = values.reshape(4, 4)
    values = captured(model, [prepared])[0]
    np.testing.assert_allclose(values[:16], maps[0], atol=1e-5)
    np.testing.assert_allclose(values[16:], expected.reshape(-1), atol=1e-5)


@pytest.mark.sampled
@pytest.mark.parametrize("build", ["siglip2_vision", "siglip2_of_two"])
def test_the_probe_of_siglip_2s_pooling_head(build: str, tmp_path: Path) -> None:
    """Over 4 x 4 patches, which transformers pads to 24 and masks."""
    folder = tiny_encoders.built(build, tmp_path)
    model = load_model(str(folder), dtype="float32")
    image = noise(64, 64)
    theirs = eager(Siglip2VisionModel, folder)
    processor: Any = Siglip2ImageProcessorPil.from_pretrained(folder)
    with torch.inference_mode():
        states = theirs(**processor(image, return_tensors="pt")).last_hidden_state[:, :16]
        _, weights = theirs.head.attention(theirs.head.probe, states, states, need_weights=True)
    values = captured(model, [model.prepare(image, id="a", index=0)])
    np.testing.assert_allclose(values, weights[:, 0].numpy(), atol=1e-5)
    assert values.std() > 1e-3


@pytest.mark.slow
def test_the_token_of_aimv2s_pooling_head(tmp_path: Path) -> None:
    """The head's own forward, over values that are one in one patch and zero elsewhere."""
    folder = tiny_encoders.aimv2_of_two(tmp_path)
    model = load_model(str(folder), dtype="float32")
    batch = pair_of(model)
    tower = eager(Aimv2Model, folder).vision_model
    head = tower.head
    torch.nn.init.eye_(head.output_proj.weight)
    torch.nn.init.zeros_(head.output_proj.bias)
    with torch.inference_mode():
        states = tower(pixels_of(batch)).last_hidden_state
        maps = []
        for patch in range(states.shape[1]):
            marks = torch.zeros_like(states)
            marks[:, patch] = 1
            with watched_values(head, marks):
                maps.append(head(states).mean(-1))
    values = captured(model, batch)
    np.testing.assert_allclose(values, torch.stack(maps, dim=1), atol=1e-5)
    np.testing.assert_allclose(values.sum(1), 1, atol=1e-5)
    assert values.std(1).min() > 1e-3


@contextmanager
def watched_values(head: Any, values: torch.Tensor) -> Iterator[None]:
    """Put values in the place of those that a head's projection makes."""
    handle = head.v_proj.register_forward_hook(lambda *_: values)
    yield
    handle.remove()


@pytest.mark.parametrize(
    "build", ["qwen2_vl", "qwen2_5_vl", "llava_onevision", "radio", "aimv2_vision"]
)
def test_towers_without_such_a_token_refuse(build: str, tmp_path: Path) -> None:
    folder = tiny_encoders.built(build, tmp_path)
    model = load_model(str(folder), dtype="float32", weights=False)
    with pytest.raises(
        UsageError, match="saliency: expected a tower with a class token or a pooling head"
    ):
        model.request(("vision", "saliency"), None)
    assert "saliency" not in model.request(None, None).kinds


def test_saliency_is_asked_for_and_not_alone(tmp_path: Path) -> None:
    model = load_model(str(tiny.clip(tmp_path)), weights=False)
    assert model.request(None, None).kinds == ("vision",)
    assert model.request(KINDS, None).kinds == ("vision", "saliency")
    with pytest.raises(UsageError, match="expected some of vision beside saliency, found it alone"):
        model.request(("saliency",), None)


def test_a_tower_in_half_precision(tmp_path: Path) -> None:
    """The run's precision holds the attention to its three digits."""
    folder = tiny.dinov2(tmp_path)
    single, half = (load_model(str(folder), dtype=dtype) for dtype in ("float32", "float16"))
    expected, values = (captured(model, pair_of(model)) for model in (single, half))
    assert values.dtype == np.float16
    np.testing.assert_allclose(values.astype(np.float32), expected, rtol=0.02)
