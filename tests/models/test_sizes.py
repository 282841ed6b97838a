"""Input sizes that a user chooses: what transformers computes of the same pixels, and the grids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoImageProcessor,
    CLIPVisionModel,
    Dinov2Model,
    Dinov2WithRegistersModel,
    SiglipVisionModel,
    ViTModel,
)

from kvtool.errors import ImageError, UsageError
from kvtool.models import load_model
from kvtool.models.sizes import input_wh_px
from kvtool.types import InputSize
from tests.contracts.arrays import Array
from tests.support import tiny

REFERENCES: dict[str, tuple[Any, int]] = {
    "siglip": (SiglipVisionModel, 0),
    "clip": (CLIPVisionModel, 1),
    "vit": (ViTModel, 1),
    "dinov2": (Dinov2Model, 1),
    "dinov2_with_registers": (Dinov2WithRegistersModel, 4),
}
"""transformers' class of each tiny encoder, and its class and register tokens."""


@pytest.mark.sampled
@pytest.mark.parametrize("build", REFERENCES)
@pytest.mark.parametrize(
    ("image_size", "grid"), [("48", (6, 6)), ("40x64", (5, 8)), ("short:48", (6, 8))]
)
def test_position_embeddings_are_interpolated_as_transformers_does(
    build: str, image_size: str, grid: tuple[int, int], tmp_path: Path
) -> None:
    """86 x 48 px (width, height): at 48 px the longer side has 86 px, ten patches of 8 px; DINO
    takes eight, a multiple of 64 px.
    """
    folder = getattr(tiny, build)(tmp_path)
    model = load_model(str(folder), dtype="float32", size=InputSize(image_size))
    image = tiny.noise(86, 48)
    prepared = model.prepare(image, id="a", index=0)
    if image_size.startswith("short") and build != "vit":
        grid = (6, 10)
    assert prepared.sample.base("vision").grid == grid
    assert prepared.sample.base("vision").cover_xyxy_px == (0, 0, 86, 48)
    vision = model.capture([prepared], model.request(None, None)).arrays["vision"][0]
    np.testing.assert_allclose(
        vision[0, 0], own_states(build, folder, image, grid), rtol=1e-5, atol=1e-5
    )


def own_states(build: str, folder: Path, image: Any, grid: tuple[int, int]) -> Array:
    """(patch, dim) of the last layer by transformers, of a picture resized to so many patches."""
    own_class, special = REFERENCES[build]
    reference = own_class.from_pretrained(folder, dtype=torch.float32).eval()
    processors: Any = AutoImageProcessor
    processor = processors.from_pretrained(folder, backend="pil")
    resized = image.resize((8 * grid[1], 8 * grid[0]), processor.resample)
    pixels = processor(resized, do_resize=False, do_center_crop=False, return_tensors="pt")
    options = {} if "dino" in build else {"interpolate_pos_encoding": True}
    with torch.inference_mode():
        states = reference(pixels["pixel_values"], **options).last_hidden_state
    return np.asarray(states[0, special:])


def test_dinos_own_video_frames() -> None:
    """480 x 854 px make 60 x 104 patches of 8 px."""
    width, height = input_wh_px((854, 480), "short:480", 8, 64)
    assert (height // 8, width // 8) == (60, 104)
    assert (width % 8, height % 8) == (0, 0)


@pytest.mark.parametrize(
    ("image_wh_px", "image_size", "wh_px"),
    [
        ((854, 480), "480x832", (832, 480)),
        ((854, 480), "384", (384, 384)),
        ((480, 854), "short:480", (476, 854)),
        ((100, 100), "short:480", (476, 476)),
        ((101, 100), "short:5", (14, 14)),
    ],
)
def test_sizes_by_hand(
    image_wh_px: tuple[int, int], image_size: str, wh_px: tuple[int, int]
) -> None:
    assert input_wh_px(image_wh_px, image_size, 14) == wh_px


@pytest.mark.slow
def test_a_picture_too_long_for_its_shorter_side_is_left_out(tmp_path: Path) -> None:
    model = load_model(str(tiny.vit(tmp_path)), weights=False, size=InputSize("short:4096"))
    with pytest.raises(ImageError, match="67108864 pixels at most, found 100 x 3 px"):
        model.prepare(tiny.noise(100, 3), id="a", index=0)


@pytest.mark.slow
@pytest.mark.parametrize("generation", ["qwen2_vl", "qwen2_5_vl"])
def test_qwens_grids(generation: str, tmp_path: Path) -> None:
    """A token is a square of 8 px here; the checkpoint's bounds are 16 and 80 tokens."""
    folder = str(getattr(tiny, generation)(tmp_path))

    def grids(size: InputSize) -> list[tuple[int, int]]:
        model = load_model(folder, weights=False, size=size)
        return [
            model.prepare(tiny.noise(*wh), id="a", index=0).sample.base().grid
            for wh in ((160, 80), (40, 24), (400, 400))
        ]

    assert grids(InputSize()) == [(6, 12), (4, 6), (8, 8)]
    assert grids(InputSize("48")) == [(6, 6)] * 3
    assert grids(InputSize("33x70")) == [(4, 8)] * 3
    assert grids(InputSize("short:24")) == [(3, 6), (3, 5), (3, 3)]
    for rows, cols in grids(InputSize(min_pixels=64, max_pixels=20 * 64)):
        assert rows * cols <= 20
    for rows, cols in grids(InputSize(min_pixels=100 * 64)):
        assert rows * cols >= 100


def test_qwens_pixel_bounds_are_those_of_its_processor(tmp_path: Path) -> None:
    folder = tiny.qwen2_vl(tmp_path)
    processors: Any = AutoImageProcessor
    processor = processors.from_pretrained(folder, backend="pil")
    size = {"shortest_edge": 16 * 64, "longest_edge": 30 * 64}
    image = tiny.noise(160, 80)
    reference = processor(image, size=size, return_tensors="pt")
    model = load_model(str(folder), dtype="float32", size=InputSize(max_pixels=30 * 64))
    prepared = model.prepare(image, id="a", index=0)
    np.testing.assert_array_equal(prepared.tensors["pixel_values"], reference["pixel_values"])
    rows, cols = prepared.sample.base("vision").grid
    assert [[1, rows, cols]] == reference["image_grid_thw"].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("text", ["0", "-3", "4x", "x4", "384x", "short:", "long:3", "9000", "a"])
def test_sizes_that_are_none(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="image size: expected a side such as 384"):
        load_model(str(tiny.vit(tmp_path)), weights=False, size=InputSize(text))


@pytest.mark.parametrize(
    ("build", "size", "message"),
    [
        ("llava_onevision", InputSize("48"), "--image-size: expected .* llava_onevision, which"),
        ("llava_next", InputSize(max_pixels=64), "--max-pixels: .* pictures at one size alone"),
        ("siglip", InputSize(min_pixels=64), "--min-pixels: .* a siglip, which takes --image-size"),
        ("qwen2_vl", InputSize(min_pixels=65, max_pixels=64), "min_pixels: expected 64 at most"),
        ("qwen2_vl", InputSize(max_pixels=1 << 27), "max_pixels: expected 1 to 67108864"),
    ],
)
def test_what_a_family_cannot_do_is_one_line(
    build: str, size: InputSize, message: str, tmp_path: Path
) -> None:
    folder = getattr(tiny, build)(tmp_path)
    with pytest.raises(UsageError, match=message):
        load_model(str(folder), weights=False, size=size)
