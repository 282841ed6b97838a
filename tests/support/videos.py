"""Runs over videos whose every vector a test chooses: two frames share the tokens of a grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from kvtool.digests import digest_file
from kvtool.store import Run
from kvtool.types import Frame, GridSpan, Sample
from tests.support.tasks.temporal_correspondence import GRID
from tests.support.units import Array, Fill, sample, write_run

BETWEEN = 2
"""Tokens of text between two grids."""


def video(name: str, index: int, frames: list[str]) -> Sample:
    """A video of some frames, a grid for each two of them."""
    n_cells = GRID[0] * GRID[1]
    plain = sample(name, index, GRID[::-1], GRID)
    pairs = [tuple(range(first, min(first + 2, len(frames)))) for first in range(0, len(frames), 2)]

    def grids(step: int) -> tuple[GridSpan, ...]:
        return tuple(
            replace(plain.spans[0], name="frame", start=number * step, frames=pair)
            for number, pair in enumerate(pairs)
        )

    n_tokens = len(pairs) * (n_cells + BETWEEN) - BETWEEN
    return replace(
        plain,
        spans=grids(n_cells + BETWEEN),
        n_tokens=n_tokens,
        vision_spans=grids(n_cells),
        n_vision_tokens=len(pairs) * n_cells,
        frames=tuple(Frame(frame, number / 24) for number, frame in enumerate(frames)),
        frame_rate=24.0,
        next_position=n_tokens + 1,
    )


def videos_of(labels: Mapping[str, Array]) -> list[Sample]:
    """The videos of a DAVIS's label maps, by sequence."""
    sequences = groupby(labels, key=lambda frame: frame.split("/")[0])
    return [video(name, index, list(frames)) for index, (name, frames) in enumerate(sequences)]


def write_videos(path: Path, root: Path, labels: Mapping[str, Array], fill: Fill) -> Run:
    """A run over the videos of a DAVIS, with the digests of its frames."""

    def digested(sample: Sample) -> Sample:
        frames = tuple(
            replace(frame, digest=digest_file(root / f"JPEGImages/480p/{frame.id}.jpg"))
            for frame in sample.frames
        )
        return replace(sample, frames=frames)

    samples = list(map(digested, videos_of(labels)))
    return write_run(
        path, "davis", "val", root, samples, fill, layers=6, view="video", name="together"
    )
