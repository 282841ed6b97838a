"""What patches show of a concept."""

from __future__ import annotations

import numpy as np

from kvtool.features.concepts import concept_labels
from kvtool.types import GridSpan

SPAN = GridSpan("base", 0, (2, 3), 3, (0, 0, 12, 8))


def test_labels() -> None:
    """Half of a patch suffices, a single pixel makes it unsure, and so does void."""
    mask = np.zeros((8, 12), np.uint8)
    mask[:4, :2] = 1
    mask[0, 4] = 1
    mask[7, 0] = 255
    mask[4:, 4:8] = 1
    mask[4:6, 4:8] = 255
    assert concept_labels(mask, SPAN).tolist() == [1, -1, 0, -1, 1, 0]


def test_patches_beyond_the_picture_are_unsure() -> None:
    span = GridSpan("base", 0, (1, 2), 2, (0, 0, 8, 4))
    assert concept_labels(np.ones((4, 4), np.uint8), span).tolist() == [1, -1]


def test_labels_agree_with_counting_pixels() -> None:
    """A slow obvious count over patches that pixels do not divide evenly."""
    span = GridSpan("base", 0, (3, 4), 4, (-1.5, 0, 20.0, 15.0))
    mask = np.random.default_rng(0).choice([0, 1, 255], (16, 18), p=[0.7, 0.25, 0.05])
    mask[:, :9] = 0
    expected = []
    for cell in range(12):
        row, col = divmod(cell, 4)
        pixels = [
            mask[y, x]
            for y in range(16)
            for x in range(18)
            if int((y + 0.5) / 5.0 // 1) == row and int((x + 2.0) / 21.5 * 4 // 1) == col
        ]
        is_shown = 2 * pixels.count(1) >= len(pixels)
        expected.append(1 if is_shown else 0 if pixels.count(0) == len(pixels) else -1)
    assert concept_labels(mask, span).tolist() == expected
