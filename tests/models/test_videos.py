"""Videos given to Qwen's models in one context, against transformers' own whole prompt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kvtool.errors import ImageError
from kvtool.models import load_model
from kvtool.models.base import Prepared
from kvtool.models.check import whole_prompt
from kvtool.models.families import FAMILIES, TAKES_VIDEOS
from kvtool.models.pixel_maps import pixel_map
from kvtool.models.videos import VideoModel
from kvtool.types import Frame, InputSize
from tests.support import tiny
from tests.support.own_videos import RATE, own_inputs, own_network

FRAMES = [tiny.noise(70, 45, seed) for seed in range(5)]
PREFIX = "red cat"


NEWEST = ("qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")
"""Families with Qwen3-VL's pictures and prompts, and decoders of their own."""


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(family, marks=pytest.mark.slow) if family in NEWEST else family
        for family in TAKES_VIDEOS
    ],
)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkpoint: Path = getattr(tiny, request.param)(
        tmp_path_factory.mktemp("models") / request.param
    )
    return checkpoint


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    return load_model(str(folder), dtype="float32")


@pytest.fixture(scope="module")
def inputs(folder: Path) -> dict[str, Any]:
    return own_inputs(folder.name, folder, FRAMES, PREFIX)


def prepared(model: Any, frames: list[Image.Image], prefix: str = PREFIX) -> Prepared:
    records = [Frame(f"v/{index}", index / RATE) for index in range(len(frames))]
    item: Prepared = model.prepare_video(frames, records, RATE, id="v", index=0, prefix=prefix)
    return item


@pytest.mark.slow
def test_pixels_and_tokens_are_those_of_transformers(model: Any, inputs: dict[str, Any]) -> None:
    item = prepared(model, FRAMES)
    (pixels,) = (item.tensors[n] for n in item.tensors if n.startswith("pixel"))
    assert torch.equal(pixels, inputs["pixel_values_videos"])
    sample = item.sample
    start, end = sample.image_start, sample.image_start + sample.n_tokens
    ids = inputs["input_ids"][0].tolist()
    assert list(sample.prefix_ids) == ids[:start]
    is_video = inputs["mm_token_type_ids"][0] == 2
    assert is_video.nonzero()[[0, -1], 0].tolist() == [start, end - 1]
    on_grids = [start + token for span in sample.spans for token in span.token_indices()]
    assert on_grids == is_video.nonzero()[:, 0].tolist()
    times, rows, cols = inputs["video_grid_thw"][0].tolist()
    assert [span.grid for span in sample.spans] == [(rows // 2, cols // 2)] * times
    assert [span.frames for span in sample.spans] == [(0, 1), (2, 3), (4,)]
    assert [span.frames for span in sample.vision_spans] == [(0, 1), (2, 3), (4,)]


@pytest.mark.sampled
def test_keys_and_values_are_those_of_the_whole_prompt(
    model: Any, folder: Path, inputs: dict[str, Any]
) -> None:
    item = prepared(model, FRAMES)
    with torch.inference_mode():
        layers = own_network(folder.name, folder)(**inputs, use_cache=True).past_key_values.layers
    captured = model.capture([item], model.request(("key", "value"), None))
    tokens = slice(item.sample.image_start, item.sample.image_start + item.sample.n_tokens)
    for kind in ("key", "value"):
        expected = np.stack(
            [
                getattr(layers[layer], f"{kind}s")[0, :, tokens].numpy()
                for layer in model.info.geometry.cached_layers
            ]
        )
        # Linear attention sums in chunks: transformers' own float32 is 4e-5 off its float64.
        atol = 5e-5 if model.info.geometry.recurrent else 2e-6
        np.testing.assert_allclose(captured.arrays[kind][0], expected, rtol=0, atol=atol)


def test_positions_are_those_of_transformers(
    model: Any, folder: Path, inputs: dict[str, Any]
) -> None:
    names = ("video_grid_thw", "second_per_grid_ts")
    positions, _ = own_network(folder.name, folder).model.get_rope_index(
        inputs["input_ids"],
        inputs["mm_token_type_ids"],
        **{name: inputs[name] for name in names if name in inputs},
    )
    sample = prepared(model, FRAMES).sample
    end = sample.image_start + sample.n_tokens
    assert torch.equal(model.positions([sample]), positions[:, :, :end])
    assert positions[0, 0, end] == sample.next_position


def test_what_is_stored_before_rotation_gives_the_same_keys(model: Any) -> None:
    item = prepared(model, FRAMES)
    after, before = (
        model.capture([item], model.request(("key", "value", "projected"), None, keys))
        for keys in ("post-rope", "pre-rope")
    )
    arrays = {kind: values[0] for kind, values in before.arrays.items()}
    arrays |= {f"text_{kind}": before.text[kind][0] for kind in ("key", "value")}
    layers = model.restore([item.sample], [arrays], keys="pre-rope").layers
    keys = np.stack(
        [
            layers[layer].keys[0, :, item.sample.image_start :].numpy()
            for layer in model.info.geometry.cached_layers
        ]
    )
    np.testing.assert_allclose(keys, after.arrays["key"][0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["projected", "vision"])
def test_a_frame_changes_the_tokens_that_its_grid_names(model: Any, kind: Any) -> None:
    """Each frame alone, inverted in one square of its upper right: the token over it changes most
    of all tokens of the video.
    """
    grids = {frame: span for span in _sample(model).spans_of(kind) for frame in span.frames}
    plain = _features(model, FRAMES, kind)
    for frame, span in grids.items():
        col = span.grid[1] - 1
        step_x, step_y = 70 / span.grid[1], 45 / span.grid[0]
        box = (round(col * step_x), 0, 70, round(step_y))
        changed = list(FRAMES)
        changed[frame] = changed[frame].copy()
        changed[frame].paste(Image.new("RGB", (box[2] - box[0], box[3]), "white"), box)
        change = np.linalg.norm(_features(model, changed, kind) - plain, axis=1)
        strongest = int(change.argmax())
        assert strongest == span.start + col, (frame, strongest)


def _sample(model: Any) -> Any:
    return prepared(model, FRAMES).sample


def _features(model: Any, frames: list[Image.Image], kind: Any) -> np.ndarray[Any, Any]:
    item = prepared(model, frames)
    vectors: np.ndarray[Any, Any] = model.capture([item], model.request((kind,), None)).arrays[
        kind
    ][0][0, 0]
    return vectors


@pytest.mark.slow
def test_the_proof_of_a_video_passes_and_fails(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pixel_map(model, FRAMES[:4], "video").value == 0
    assert whole_prompt(model, FRAMES[:4], "video").passed
    right = type(model)._frame_spans

    def swapped(self: Any, *arguments: Any) -> Any:
        spans = right(self, *arguments)
        reversed_frames = [span.frames for span in reversed(spans)]
        return tuple(
            replace(span, frames=frames)
            for span, frames in zip(spans, reversed_frames, strict=True)
        )

    monkeypatch.setattr(type(model), "_frame_spans", swapped)
    assert not pixel_map(model, FRAMES[:4], "video").passed


def test_a_batch_of_videos_is_each_alone(model: Any) -> None:
    """Two videos of one shape whose frames stand at other times."""
    slow = [Frame(f"w/{index}", float(index)) for index in range(5)]
    second = model.prepare_video(FRAMES[::-1], slow, 1.0, id="w", index=1, prefix=PREFIX)
    items = [prepared(model, FRAMES), second]
    assert items[0].signature == items[1].signature
    request = model.request(None, None)
    together = model.capture(items, request)
    for row, item in enumerate(items):
        single = model.capture([item], request)
        for kind, arrays in single.arrays.items():
            np.testing.assert_allclose(together.arrays[kind][row], arrays[0], rtol=0, atol=2e-5)


@pytest.mark.slow
def test_frames_are_brought_to_the_size_that_is_asked_for(folder: Path) -> None:
    areas = {}
    for name, size in (
        ("largest", InputSize(max_pixels=24 * 64)),
        ("smallest", InputSize(min_pixels=70 * 64)),
        ("fixed", InputSize(image_size="24x40")),
    ):
        model: Any = load_model(str(folder), weights=False, size=size)
        sample = prepared(model, FRAMES[:2]).sample
        areas[name] = sample.grid[0] * sample.grid[1]
    assert areas["largest"] <= 24
    assert areas["smallest"] >= 70
    assert areas["fixed"] == 3 * 5


def test_frames_that_are_too_long_are_refused_by_name(model: Any) -> None:
    with pytest.raises(ImageError, match=r"image v: expected one that the model's image processo"):
        prepared(model, [tiny.noise(9000, 10)] * 2)


def test_the_table_names_the_families_that_take_videos() -> None:
    takes = [name for name in FAMILIES.table if issubclass(FAMILIES.load(name), VideoModel)]
    assert takes == list(TAKES_VIDEOS)
