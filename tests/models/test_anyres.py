"""The LLaVA views' geometry at the sizes of published checkpoints, worked out by hand and by
transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import LlavaOnevisionImageProcessorPil
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_onevision import modeling_llava_onevision

from kvtool.models.anyres import Tiling, Tower, base_span
from tests.contracts.families.llava_onevision import LlavaOnevision

unpadded: Any = modeling_llava_onevision.unpad_image
SIGLIP = Tower(384, 14)
CLIP = Tower(336, 14)
SIZES = [
    (640, 480),
    (480, 640),
    (1000, 100),
    (100, 1000),
    (384, 384),
    (37, 3001),
    (5000, 30),
    (1, 1),
]


def test_base_view_sees_all_but_the_last_pixels() -> None:
    assert base_span((640, 480), CLIP).cover_xyxy_px == (0, 0, 640, 480)
    span = base_span((640, 480), SIGLIP)
    assert span.grid == (27, 27)
    assert span.cover_xyxy_px == pytest.approx((0, 0, 640 * 378 / 384, 480 * 378 / 384))


def test_tiles_of_a_landscape_picture() -> None:
    """640 x 480 px fits 2 x 2 tiles of 336 px as 672 x 504, 84 px of padding above and below: 6
    rows of tokens each.
    """
    tiling = Tiling((640, 480), (2, 2), CLIP)
    assert tiling.padding() == (6, 0)
    span = tiling.packed_span(576, None)
    assert (span.grid, span.row_stride, span.start) == ((36, 48), 49, 576)
    assert span.cover_xyxy_px == pytest.approx((0, 0, 640, 480))


@pytest.mark.parametrize("tower", [SIGLIP, CLIP])
@pytest.mark.parametrize("size", SIZES)
def test_padding_is_transformers(tower: Tower, size: tuple[int, int]) -> None:
    width, height = size
    for tiles in ((1, 1), (1, 2), (3, 1), (2, 2), (6, 6)):
        canvas = torch.zeros(1, tiles[0] * tower.side, tiles[1] * tower.side)
        expected = unpadded(canvas, (height, width)).shape[1:]
        assert Tiling(size, tiles, tower).packed_span(0, None).grid == tuple(expected)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (1000, 100), (37, 301), (77, 200)])
def test_tokens_of_tiles_stand_where_the_pixels_went(size: tuple[int, int]) -> None:
    """Each token's centre, traced through transformers' own resizing and padding by images whose
    colours are their coordinates: off by at most half the pixels a tile loses (3 of 384) and a
    pixel of the fitted image.
    """
    processor = LlavaOnevisionImageProcessorPil(do_normalize=False, do_rescale=False, resample=2)
    best = select_best_resolution((size[1], size[0]), processor.image_grid_pinpoints)
    tiles = (best[0] // 384, best[1] // 384)
    span = Tiling(size, tiles, SIGLIP).packed_span(0, None)
    padding = Tiling(size, tiles, SIGLIP).padding()
    for axis, n in ((0, size[0]), (1, size[1])):
        ramp = np.linspace(16, 240, n)
        plane = np.tile(ramp, (size[1], 1)) if axis == 0 else np.tile(ramp[:, None], (1, size[0]))
        image = Image.fromarray(np.repeat(plane.round().astype(np.uint8)[..., None], 3, axis=2))
        pixels = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])[1:, 0].astype(
            float
        )
        stitched = pixels.reshape(*tiles, 384, 384)
        fitted_scale = max(size[0] / best[1], size[1] / best[0])
        for row, col in (
            (r, c) for r in range(0, span.grid[0], 5) for c in range(0, span.grid[1], 5)
        ):
            at_row, at_col = row + padding[0], col + padding[1]
            top, left = at_row % 27 * 14, at_col % 27 * 14
            seen = stitched[at_row // 27, at_col // 27, top : top + 14, left : left + 14]
            if (seen == 0).any():  # partly padding
                continue
            position = (seen.mean() - 16) / 224 * (n - 1) + 0.5
            step = 1 / 224 * n  # one level of colour
            assert abs(position - span.centre_px(row, col)[axis]) <= 4 * fitted_scale + step + 0.5


def test_too_many_tokens_are_shrunk_over_the_same_pixels() -> None:
    tiling = Tiling((2304, 2304), (6, 6), SIGLIP)
    full, shrunk = tiling.packed_span(729, None), tiling.packed_span(729, 9)
    assert full.grid == (162, 162)
    assert shrunk.grid == (81, 81)
    assert full.cover_xyxy_px == shrunk.cover_xyxy_px


def test_very_long_images_keep_no_tile_tokens(tmp_path_factory: pytest.TempPathFactory) -> None:
    from kvtool.models import load_model
    from tests.support import tiny

    folder: Path = tiny.llava_onevision(tmp_path_factory.mktemp("long"))
    model = load_model(str(folder), dtype="float32")
    prepared = model.prepare(tiny.noise(9000, 1), id="a", index=0, view="full")
    assert prepared.sample.n_tokens == 16
    assert prepared.sample.spans[1].grid[0] == 0
    processor = LlavaOnevision().own_processor(folder)
    encoded = processor(images=tiny.noise(9000, 1), text="the <image> cat")
    assert encoded["input_ids"][0].count(processor.image_token_id) == 16
    captured = model.capture([prepared], model.request(None, None))
    assert captured.arrays["projected"][0].shape == (1, 1, 16, 32)
