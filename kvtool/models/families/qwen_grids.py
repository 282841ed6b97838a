"""What the Qwen families share: a grid at the picture's own aspect ratio, and rotary positions of
three axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from kvtool.models.several import SeveralImages
from kvtool.models.sizes import input_wh_px
from kvtool.types import InputSize, Sample


def sized(
    image: Image.Image, size: InputSize, processor: Any, step_px: int
) -> tuple[Image.Image, dict[str, Any]]:
    """Return a picture at the size that a user asked for, and the options of Qwen's image processor
    that bring it there. A token shows a square of step_px.
    """
    if size.image_size:
        width, height = input_wh_px(image.size, size.image_size, step_px)
        # A token is a whole square of patches: what is left of a side is none.
        wh_px = (max(width // step_px, 1) * step_px, max(height // step_px, 1) * step_px)
        return image.resize(wh_px, processor.resample), {"do_resize": False}
    smallest, largest = area_bounds(size, processor.size)
    return image, {"size": {"shortest_edge": smallest, "longest_edge": largest}}


def area_bounds(size: InputSize, bounds: Any, n_frames: int = 1) -> tuple[int, int]:
    """Return the smallest and the largest area that a user or, by default, a checkpoint allows.

    bounds: the checkpoint's. n_frames: those are of so many frames together, the user's of one.
    """
    smallest = size.min_pixels * n_frames or bounds.shortest_edge
    largest = size.max_pixels * n_frames or bounds.longest_edge
    # One bound that was asked for takes the checkpoint's other one along where they would
    # cross. Equal bounds would not do: sizes are rounded, down from the larger one.
    if smallest > largest:
        share = bounds.shortest_edge / bounds.longest_edge
        if size.max_pixels:
            smallest = max(1, int(largest * share))
        else:
            largest = int(smallest / share)
    return smallest, largest


class GridPositions(SeveralImages):
    """Rotary positions of (time, height, width): text counts on all axes alike, an image's rows and
    cols from where it stands.
    """

    def positions(self, samples: Sequence[Sample]) -> torch.Tensor:
        """(time, height, width) positions, (3, image, token): text counts on all axes alike."""
        # Rows of a batch stand side by side: (axis, image, token).
        rows = [self.prompt_positions([(sample.image_start, sample)])[0] for sample in samples]
        return torch.cat(rows, dim=1).to(self.checkpoint.device)

    def image_positions(self, sample: Sample) -> torch.Tensor:
        """An image stands at one time, its rows and cols counted from there (Qwen2-VL, section
        2.1).
        """
        rows, cols = sample.spans[0].grid
        # In the order of the tokens, row by row: rows repeat along, columns start again.
        time = torch.zeros(rows * cols, dtype=torch.long)
        height = torch.arange(rows).repeat_interleave(cols)
        width = torch.arange(cols).repeat(rows)
        return torch.stack([time, height, width])[:, None]

    def text_positions(self, positions: torch.Tensor) -> torch.Tensor:
        """Text counts on the three axes alike: (row, token) as (3, row, token)."""
        return positions.expand(3, *positions.shape)
