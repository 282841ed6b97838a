"""Pairs of images by category, arranged by target image, as their keypoints are matched."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kvtool.datasets.spair71k import Pair
from kvtool.features.layers import Layer
from kvtool.metrics.correspondence import box_side_px
from kvtool.tasks.base import Array

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Target:
    """All keypoints to be found in one target image: rows of the category's source points, truth,
    and their pairs.
    """

    source_rows: Array
    keypoints_px: Array
    box_sides_px: Array
    pairs: Array
    starts: Array


class PairCategory:
    """The pairs of one category, arranged by target image; its source keypoints, each (image,
    keypoint) once.
    """

    def __init__(self, members: list[int], pairs: list[Pair]) -> None:
        # Source points are numbered, so that the points of all pairs fit one array.
        rows: dict[tuple[str, tuple[float, float]], int] = {}
        by_target: defaultdict[str, list[int]] = defaultdict(list)
        for index in members:
            # A source keypoint that several pairs have is read once.
            for point in pairs[index].src_kps_px:
                rows.setdefault((pairs[index].src_id, point), len(rows))
            by_target[pairs[index].trg_id].append(index)
        self.n_points = len(rows)
        self.sources: defaultdict[str, list[tuple[int, tuple[float, float]]]] = defaultdict(list)
        # Points are listed by image: each is read once for all of its pairs.
        for (image, point), row in rows.items():
            self.sources[image].append((row, point))
        self.targets = {
            image: _target([pairs[i] for i in indices], indices, rows)
            for image, indices in by_target.items()
        }

    def source_vectors(self, layer: Layer) -> torch.Tensor:
        """(head, source point, dim) the vectors of the tokens under the source keypoints, as
        stored.
        """
        import torch

        # The array is made at the first image, which tells the numbers of heads and channels.
        vectors = torch.empty(0)
        for image in layer.each(self.sources):
            if not len(vectors):
                heads, _, dim = image.stored.shape
                vectors = image.stored.new_empty(heads, self.n_points, dim)
            rows, points = zip(*self.sources[image.id], strict=True)
            vectors[:, list(rows)] = image.stored[:, image.cells(points)]
        return vectors


def _target(
    pairs: list[Pair], indices: list[int], rows: dict[tuple[str, tuple[float, float]], int]
) -> Target:
    # The pairs of a target image are matched in one go: their keypoints follow each other.
    counts = [len(pair.src_kps_px) for pair in pairs]
    return Target(
        source_rows=np.array(
            [rows[pair.src_id, point] for pair in pairs for point in pair.src_kps_px]
        ),
        keypoints_px=np.array([point for pair in pairs for point in pair.trg_kps_px]),
        box_sides_px=np.repeat([box_side_px(pair.trg_box_xyxy_px) for pair in pairs], counts),
        pairs=np.array(indices),
        # Where the keypoints of each pair begin, for sums over a pair.
        starts=np.cumsum([0, *counts[:-1]]),
    )


def by_category(pairs: list[Pair]) -> list[list[int]]:
    """Return the indices of the pairs of each category."""
    # Points are matched category by category, so that the vectors of one fit in memory.
    members: defaultdict[str, list[int]] = defaultdict(list)
    for index, pair in enumerate(pairs):
        members[pair.category].append(index)
    return list(members.values())
