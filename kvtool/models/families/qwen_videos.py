"""Videos of the Qwen families: two frames a token, and how far apart in time their tokens stand.

transformers' video processors need torchvision, which kvtool does not. Here they are asked for the
size of the frames alone; the frames themselves go through Qwen's image processor, one by one, and
patches of the frames that share a token are put side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import torch
from PIL import Image
from transformers import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize
from transformers.models.qwen3_vl.video_processing_qwen3_vl import (
    Qwen3VLVideoProcessor,
    Qwen3VLVideoProcessorInitKwargs,
)
from transformers.video_processing_utils import BaseVideoProcessor

from kvtool.models.base import Prepared, sample_of
from kvtool.models.families.qwen_grids import GridPositions, area_bounds, sized
from kvtool.models.faults import preparing
from kvtool.types import Frame, GridSpan, Sample


class SizeAlone(BaseVideoProcessor):
    """Behind a video processor, what returns the size that it resizes frames to."""

    def resize(self, image: Any, size: Any, *_: Any, **__: Any) -> Any:  # noqa: ARG002
        """Return (width, height)."""
        return size.width, size.height


class Qwen2Videos(SizeAlone):
    """The settings of Qwen2-VL's video processor, whose class transformers cannot import without
    torchvision, and the size to which it brings frames.
    """

    resample = Qwen2VLImageProcessorPil.resample
    image_mean = Qwen2VLImageProcessorPil.image_mean
    image_std = Qwen2VLImageProcessorPil.image_std
    size: ClassVar[Any] = {"shortest_edge": 128 * 28 * 28, "longest_edge": 768 * 28 * 28}
    patch_size, temporal_patch_size, merge_size = 14, 2, 2
    cap_pixels_per_frame, max_video_tokens = None, 128_000
    valid_kwargs: Any = Qwen3VLVideoProcessorInitKwargs

    def __init__(self, **settings: Any) -> None:
        # Older checkpoints give the two edges, which are areas, by other names.
        edges = {"min_pixels": "shortest_edge", "max_pixels": "longest_edge"}
        size = dict(settings.pop("size", None) or self.size)
        for name, edge in edges.items():
            if (area := settings.pop(name, None)) is not None:
                size[edge] = area
        super().__init__(size=size, **settings)

    def resize(self, image: Any, size: Any, *_: Any, **options: Any) -> Any:
        """Return (width, height) of the frames of videos (video, frame, channel, height, width)."""
        # (video, frame, channel, height, width): the number of frames bounds their size.
        n_frames, _, height, width = image.shape[1:]
        largest, factor = size.longest_edge, options["factor"]
        if options["cap_pixels_per_frame"]:
            # All tokens of a video within nine tenths of a context, a token for several frames.
            area = int(0.9 * self.max_video_tokens * factor**2) * options["temporal_factor"]
            largest = max(min(largest, area // n_frames), int(1.05 * size.shortest_edge))
        height, width = smart_resize(height, width, factor, size.shortest_edge, largest)
        return width, height


class Qwen3Videos(Qwen3VLVideoProcessor, SizeAlone):  # type: ignore[misc]  # resize as it is
    """Qwen3-VL's video processor, asked for the size to which it brings frames."""


class QwenVideos(GridPositions):
    """The part of a Qwen family that makes the frames of a video ready.

    A family names its video processor, and says how far a token's frames move time on.
    """

    video_processor_class: ClassVar[Any]
    bounds_all_frames: ClassVar[bool] = False
    """Whether the checkpoint's pixel limits are of all frames together, not of one."""

    @property
    def image_processor(self) -> Any:
        """The image processor, which frames go through."""
        raise NotImplementedError

    @cached_property
    def video_processor(self) -> Any:
        """The checkpoint's video processor, of which the settings serve, and the size of frames."""
        return self.checkpoint.processor(self.video_processor_class)

    def framed(self, pictures: Sequence[Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the patches of a video (patch, value), those of a token together, frames that
        share tokens after each other; and its grid of patches (1, 3): time, rows, cols.
        """
        processor = self.video_processor
        n_together = processor.temporal_patch_size
        # A last token that lacks a frame shows the last one again, as transformers has it.
        padding = -len(pictures) % n_together
        frames = [self._patches(picture, len(pictures)) for picture in pictures]
        frames += [frames[-1]] * padding
        # (patch, channel, frame, pixel): the frames of a token stand between channels and pixels.
        tokens = [
            torch.stack(frames[start : start + n_together], dim=2).flatten(1)
            for start in range(0, len(frames), n_together)
        ]
        width, height = self._frame_wh_px(pictures[0].size, len(pictures))
        grid = [len(tokens), height // processor.patch_size, width // processor.patch_size]
        return torch.cat(tokens), torch.tensor([grid])

    def _patches(self, picture: Image.Image, n_frames: int) -> torch.Tensor:
        """Return the patches of a frame among so many, (patch, channel, pixel)."""
        # Each frame goes through the image processor alone, as a single time.
        processor = self.video_processor
        wh_px = self._frame_wh_px(picture.size, n_frames)
        features = self.image_processor(
            picture if picture.size == wh_px else picture.resize(wh_px, processor.resample),
            do_resize=False,
            temporal_patch_size=1,
            patch_size=processor.patch_size,
            merge_size=processor.merge_size,
            image_mean=processor.image_mean,
            image_std=processor.image_std,
            rescale_factor=processor.rescale_factor,
            return_tensors="pt",
        )
        patches: torch.Tensor = features["pixel_values"]
        return patches.reshape(len(patches), -1, processor.patch_size**2)

    def _frame_wh_px(self, wh_px: tuple[int, int], n_frames: int) -> tuple[int, int]:
        """Return the (width, height) that each of so many frames is resized to."""
        processor, size = self.video_processor, self.checkpoint.settings.size
        step_px = processor.patch_size * processor.merge_size
        if size.image_size:
            # A blank picture of that size is enough: only the size is asked for.
            blank = Image.new("RGB", wh_px)
            return sized(blank, size, self.image_processor, step_px)[0].size
        smallest, largest = area_bounds(
            size, processor.size, n_frames if self.bounds_all_frames else 1
        )
        resized: tuple[int, int] = processor.resize(
            # A tensor without values has the shape that the video processor asks for.
            torch.empty((1, n_frames, 3, wh_px[1], wh_px[0]), device="meta"),
            size=type(processor.size)(shortest_edge=smallest, longest_edge=largest),
            resample=processor.resample,
            factor=step_px,
            temporal_factor=processor.temporal_patch_size,
            cap_pixels_per_frame=processor.cap_pixels_per_frame,
        )
        return resized

    # What stands in the prompt.

    def video_prompt(
        self,
        prefix: str,
        frames: Sequence[Frame],  # noqa: ARG002  a family that writes their times takes them
        grid_thw: torch.Tensor,
    ) -> tuple[tuple[int, ...], list[int], int]:
        """Return the token ids before a video, where the tokens of its grids begin, and how many
        tokens it has; here they follow each other.
        """
        times, n_cells = self._cells(grid_thw)
        starts = [time * n_cells for time in range(times)]
        return self.prompt.prefix_ids(prefix), starts, times * n_cells

    def prepare_video(
        self,
        pictures: Sequence[Image.Image],
        frames: Sequence[Frame],
        frame_rate: float,
        *,
        id: str,
        index: int,
        prefix: str = "",
    ) -> Prepared:
        """See VideoModel.prepare_video."""
        with preparing(id):
            pixels, grid_thw = self.framed(pictures)
        # The decoder's grid is smaller by the side of the squares that share a token.
        merge = self.config.vision_config.spatial_merge_size
        times, rows, cols = (int(n) for n in grid_thw[0])
        grid = (rows // merge, cols // merge)
        prefix_ids, starts, n_tokens = self.video_prompt(prefix, frames, grid_thw)
        tower_starts = [time * rows * cols for time in range(times)]
        # Grids that follow each other share their positions but for time; text between counts on.
        n_blocks = 1 + sum(end - start > grid[0] * grid[1] for start, end in pairwise(starts))
        sample = sample_of(
            pictures[0],
            id=id,
            index=index,
            prefix=prefix,
            prefix_ids=prefix_ids,
            spans=self._frame_spans(pictures, grid, starts),
            vision_spans=self._frame_spans(pictures, (rows, cols), tower_starts),
            advance=n_tokens - times * grid[0] * grid[1] + n_blocks * max(grid),
            n_tokens=n_tokens,
        )
        sample = replace(sample, frames=tuple(frames), frame_rate=frame_rate)
        pixels = pixels.to(self.checkpoint.dtype)
        tensors = {"pixel_values_videos": pixels, "video_grid_thw": grid_thw}
        return Prepared(sample, tensors, (sample.image_start, n_tokens, times, rows, cols))

    def _cells(self, grid_thw: torch.Tensor) -> tuple[int, int]:
        """Return how many grids a video has, and how many tokens each."""
        times, rows, cols = (int(n) for n in grid_thw[0])
        return times, rows * cols // self.config.vision_config.spatial_merge_size**2

    def _frame_spans(
        self, pictures: Sequence[Image.Image], grid: tuple[int, int], starts: Sequence[int]
    ) -> tuple[GridSpan, ...]:
        """Return the grids (rows, cols) that begin at some tokens, each with the frames that it
        shows.
        """
        n_together = self.video_processor.temporal_patch_size
        # All frames have one size, and each grid covers all of it.
        width, height = pictures[0].size
        cover = (0.0, 0.0, float(width), float(height))
        return tuple(
            GridSpan(
                *("frame", start, grid, grid[1], cover),
                frames=tuple(range(first, min(first + n_together, len(pictures)))),
            )
            for start, first in zip(starts, range(0, len(pictures), n_together), strict=True)
        )

    # Positions.

    def seconds_a_token(self, sample: Sample) -> torch.Tensor:
        """Return how much time a token's frames take, as transformers computes it."""
        return torch.tensor(self.video_processor.temporal_patch_size / sample.frame_rate)

    def time_step(self, sample: Sample) -> float | torch.Tensor:  # noqa: ARG002
        """Return how far time moves on from one grid to the next that directly follows."""
        return 1.0

    def image_positions(self, sample: Sample) -> torch.Tensor:
        """See SeveralImages.image_positions; of a video, grids that follow each other directly
        count rows and cols anew and time on, and text between them counts on all axes.
        """
        if not sample.frames:
            return super().image_positions(sample)
        pieces: list[torch.Tensor] = []
        start = end = n_following = 0
        for span in sample.spans:
            rows, cols = span.grid
            if span.start > end:
                # Behind a grid, text counts on from the end of its longer side.
                start += max(span.grid)
                pieces.append(torch.arange(start, start + span.start - end).expand(3, -1))
                start, n_following = start + span.start - end, 0
            # Time is a whole number: fractions of the step are cut off, as transformers does.
            time = (torch.tensor(n_following) * self.time_step(sample)).long().expand(rows * cols)
            height = torch.arange(rows).repeat_interleave(cols)
            pieces.append(start + torch.stack([time, height, torch.arange(cols).repeat(rows)]))
            end, n_following = span.start + rows * cols, n_following + 1
        return torch.cat(pieces, dim=1)[:, None]
