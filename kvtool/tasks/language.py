"""Image tokens against the words of a text: the map of dot products, and where to cut it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import numpy as np

from kvtool.errors import KvtoolError, UsageError
from kvtool.features.layers import Layer, upsample
from kvtool.store import Run
from kvtool.tasks.base import Array
from kvtool.tasks.options import Flag
from kvtool.types import GridSpan

if TYPE_CHECKING:
    from torch import Tensor

Cutoff = Annotated[str, Flag("Where a text's map is cut: mean, otsu or fraction:P.")]


def check_texts(run: Run, texts: Sequence[str], task: str) -> None:
    """Raises KvtoolError where a text has no vector in the run."""
    missing = sorted(set(texts) - set(run.text_names))
    if missing:
        raise KvtoolError(
            f"run {run.name}: {task} needs the vectors of {len(set(texts))} texts, found none of "
            f"{missing[0]!r}"
            f" and {len(missing) - 1} more: extract the run again with its whole data set"
        )


def centred_texts(layer: Layer, texts: Sequence[str]) -> Tensor:
    """(head, text, dim) vectors of the texts' last tokens less their mean, so that a dot product
    with a token is its score less the token's mean score over all texts.
    """
    import torch

    index = {name: row for row, name in enumerate(layer.run.text_names)}
    rows = [index[text] for text in texts]
    vectors = np.stack([layer.run.text_values(layer.layer, head)[rows] for head in layer.heads])
    stored = torch.from_numpy(vectors).to(layer.device)
    layer.count_nonfinite(stored)
    return stored - stored.mean(1, keepdim=True)


def check_cutoff(cutoff: str) -> None:
    """Raises UsageError for anything but mean, otsu or fraction:p with 0 < p < 1."""
    if cutoff in ("mean", "otsu"):
        return
    kind, _, share = cutoff.partition(":")
    try:
        valid = kind == "fraction" and 0 < float(share) < 1
    except ValueError:
        valid = False
    if not valid:
        raise UsageError(
            f"cutoff: expected mean, otsu or fraction:p with p between 0 and 1, found {cutoff!r}"
        )


def thresholds(maps: Tensor, cutoff: str) -> Tensor:
    """(...,) where to cut maps (..., token): foreground is what lies above.

    `fraction:p` makes that a share p.
    """
    import torch

    if cutoff == "mean":
        return maps.mean(-1)
    if cutoff == "otsu":
        return _otsu(maps)
    return torch.quantile(maps, 1 - float(cutoff.partition(":")[2]), dim=-1)


def _otsu(maps: Tensor) -> Tensor:
    """The cut with the greatest variance between the two sides (Otsu 1979), over all cuts between
    sorted values.
    """
    import torch

    ordered = maps.double().sort(-1).values
    n = ordered.shape[-1]
    below = torch.arange(1, n, device=maps.device)
    sums = ordered.cumsum(-1)
    low, high = sums[..., :-1] / below, (sums[..., -1:] - sums[..., :-1]) / (n - below)
    best = (below * (n - below) * (high - low).square()).argmax(-1, keepdim=True)
    edges = torch.gather(ordered, -1, best) + torch.gather(ordered, -1, best + 1)
    return (edges[..., 0] / 2).to(maps)


def foreground(maps: Tensor, span: GridSpan, wh_px: tuple[int, int], cutoff: str) -> Array:
    """(..., height, width) bool from maps (..., token) on a grid: upsampled bilinearly to an image,
    cut at a threshold of the tokens.
    """
    cut = thresholds(maps, cutoff)
    return (upsample(maps, span, wh_px) > cut[..., None, None]).cpu().numpy()
