"""Features of pictures as a layer reads them: from a run that stored the tower's, pooled, in a file
that is mapped into memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from kvtool.errors import UsageError
from kvtool.models.families.linear_adapter import pooled
from kvtool.store import Run
from kvtool.types import GridSpan

_IMAGES = 64
"""Images that are read at a time."""


@dataclass(frozen=True)
class PooledPictures:
    """Pictures and their features.

    Attributes:
        ids: The images.
        spans: Of each image the grid of patches before pooling.
        tokens: Pooled features, (image, token, d) in bfloat16.
        skipped: A line for each image that was left out.
    """

    ids: tuple[str, ...]
    spans: tuple[GridSpan, ...]
    tokens: torch.Tensor
    skipped: tuple[str, ...] = ()


def read_pictures(
    run: Run, ids: Sequence[str], layer: int, pool: int, path: Path
) -> PooledPictures:
    """Read the features of images and write them, pooled, into a file.

    Images with a value that is not finite are left out. Raises UsageError where the images have
    grids of several sizes, or one that cannot be pooled so.
    """
    rows, cols = common_grid(run, pool)
    spans = {sample.id: sample.base("vision") for sample in run.samples}
    d = run.model.geometry.vision_dim
    shape = (len(ids), rows // pool * (cols // pool), d)
    size = shape[0] * shape[1] * shape[2]
    # A mapped file, in the precision of the models: features need not fit into memory.
    tokens = torch.from_file(str(path), shared=True, size=size, dtype=torch.bfloat16).view(shape)
    finite: list[str] = []
    skipped: list[str] = []
    for first in range(0, len(ids), _IMAGES):
        batch = ids[first : first + _IMAGES]
        values, _ = run.read("vision", layer, ids=batch)
        patches = torch.from_numpy(values).view(len(batch), rows * cols, d)
        # One bad number leaves the whole image out.
        is_finite = patches.isfinite().flatten(1).all(dim=1)
        finite_tokens = pooled(patches[is_finite], (rows, cols), pool).to(torch.bfloat16)
        # Images that are left out leave no gap, so that rows are those of `finite`.
        tokens[len(finite) : len(finite) + len(finite_tokens)] = finite_tokens
        for image, is_good in zip(batch, is_finite.tolist(), strict=True):
            (finite if is_good else skipped).append(image)
    return PooledPictures(
        tuple(finite),
        tuple(spans[image] for image in finite),
        tokens[: len(finite)],
        tuple(f"image {image}: features that are not finite" for image in skipped),
    )


def common_grid(run: Run, pool: int) -> tuple[int, int]:
    """Return the rows and columns of patches that all images of a run have.

    Raises UsageError where they have several, or grids that cannot be pooled so.
    """
    # One grid for all, so that the pooled tokens are one array.
    grids = sorted({sample.base("vision").grid for sample in run.samples})
    if len(grids) != 1:
        raise UsageError(
            f"run {run.name}: expected one grid of patches for all images, found {len(grids)}; "
            "take a tower that brings pictures to one size"
        )
    rows, cols = grids[0]
    if rows % pool or cols % pool:
        raise UsageError(
            f"--pool: expected a number that divides the tower's grid of {rows} x {cols} patches, "
            f"found {pool}"
        )
    return rows, cols
