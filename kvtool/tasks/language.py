"""Image tokens against the words of a text: the map of dot products, and where to cut it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from kvtool.datasets.protocols import LabelConvention
from kvtool.errors import KvtoolError, UsageError
from kvtool.features.layers import GridImage, Layer, upsample
from kvtool.store import Run
from kvtool.store.run_arrays import TEXT_MEAN
from kvtool.tasks.base import Array
from kvtool.tasks.options import Flag
from kvtool.text_templates import DEFAULT, TextTemplate
from kvtool.types import GridSpan, Kind

if TYPE_CHECKING:
    from torch import Tensor

Cutoff = Annotated[str, Flag("Where a text's map is cut: mean, otsu or fraction:P.")]


TextVector = Annotated[
    Literal["last", "mean"],
    Flag("Which input embedding of a text `projected` is scored against: last or mean of tokens."),
]
Template = Annotated[
    str, Flag("The template whose text vectors are scored, as it was given to extract.")
]


@dataclass(frozen=True)
class TextChoice:
    """Which of a run's vectors of texts are meant."""

    text_vector: str = "last"
    text_template: str = DEFAULT

    def __post_init__(self) -> None:
        """Raise UsageError for a template that is none."""
        TextTemplate.parse(self.text_template)

    def array(self, layer: Layer) -> str:
        """Return the array of text vectors that a layer's tokens are compared with.

        An encoder's text tower gives a text one vector, whichever of a decoder's is meant.
        """
        is_mean = self.text_vector == "mean" and layer.kind == "projected"
        return TEXT_MEAN if is_mean and layer.run.config.layers else layer.kind


def centred_texts(layer: Layer, names: Sequence[str], task: str, choice: TextChoice) -> Tensor:
    """(head, text, dim) vectors of the texts less their mean, so that a dot product with a token is
    its score less the token's mean score over all texts.

    Raises KvtoolError where a text has no vector in the run.
    """
    import torch

    texts, array = layer.run.texts(choice.text_template), choice.array(layer)
    # Runs store the texts of their whole data set, in an order of their own.
    position_of = {name: position for position, name in enumerate(texts.names(array))}
    if absent := sorted(set(names) - position_of.keys()):
        raise KvtoolError(
            f"run {layer.run.name}: {task} needs the vectors of {len(set(names))} texts, found "
            f"none of {absent[0]!r} and {len(absent) - 1} more for {layer.kind} in the text "
            f"template {choice.text_template!r}: extract the run again with it and its whole data "
            f"set; images are not run again (stored: {_templates(layer.run)})"
        )
    rows = [position_of[name] for name in names]
    vectors = np.stack([texts.values(layer.layer, head, array=array)[rows] for head in layer.heads])
    stored = torch.from_numpy(vectors).to(layer.device)
    layer.count_nonfinite(stored)
    # What a token scores for all texts alike says nothing of any of them.
    return stored - stored.mean(1, keepdim=True)


def wordless_kinds(run: Run, task_kinds: Sequence[Kind], text_template: str) -> list[Kind]:
    """Return the kinds that a run stores and a task could score, but without vectors of texts."""
    texts = run.texts(text_template)
    return [kind for kind in task_kinds if kind in run.config.kinds and not texts.names(kind)]


def _templates(run: Run) -> str:
    """The templates of a run's text vectors, in words."""
    return ", ".join(map(repr, run.text_templates)) or "no texts"


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
    # The share p of tokens above the cut are the foreground.
    return torch.quantile(maps, 1 - float(cutoff.partition(":")[2]), dim=-1)


def _otsu(maps: Tensor) -> Tensor:
    """The cut with the greatest variance between the two sides (Otsu 1979), over all cuts between
    sorted values.
    """
    import torch

    ordered = maps.double().sort(-1).values
    # The count below each cut; the last value is never cut off, or one side would be empty.
    n = ordered.shape[-1]
    below = torch.arange(1, n, device=maps.device)
    sums = ordered.cumsum(-1)
    # Means of the values up to a cut and beyond it, for all cuts at once.
    low, high = sums[..., :-1] / below, (sums[..., -1:] - sums[..., :-1]) / (n - below)
    # Otsu's variance between sides, but for a constant factor.
    best = (below * (n - below) * (high - low).square()).argmax(-1, keepdim=True)
    # The cut lies half way between the two values beside it.
    edges = torch.gather(ordered, -1, best) + torch.gather(ordered, -1, best + 1)
    return (edges[..., 0] / 2).to(maps)


def foreground(maps: Tensor, span: GridSpan, wh_px: tuple[int, int], cutoff: str) -> Array:
    """(..., height, width) bool from maps (..., token) on a grid: upsampled bilinearly to an image,
    cut at a threshold of the tokens.
    """
    cut = thresholds(maps, cutoff)
    return (upsample(maps, span, wh_px) > cut[..., None, None]).cpu().numpy()


def best_ids(
    image: GridImage, classes: Tensor, cutoff: str, convention: LabelConvention
) -> Iterator[Array]:
    """Yield for each head the id of each pixel's best class, (height, width), of class vectors
    (head, class, dim); `other`, where the data set has it, below the cut of that class's map.
    """
    import torch

    for values, vectors in zip(image.values, classes, strict=True):
        # A head at a time: the maps of all classes at a picture's size would not fit.
        maps = vectors @ values.T
        # Running maxima over classes: one map at a picture's size is held at a time.
        best = torch.full(image.wh_px[::-1], -torch.inf, device=maps.device)
        ids = torch.zeros(image.wh_px[::-1], dtype=torch.long, device=maps.device)
        above = torch.zeros_like(ids, dtype=torch.bool)
        cuts = zip(maps, thresholds(maps, cutoff), strict=True)
        for number, (scores, cut) in enumerate(cuts, convention.first_id):
            dense = upsample(scores, image.span, image.wh_px)
            # The best class so far of each pixel; the lower number of equals.
            better = dense > best
            best, ids = torch.where(better, dense, best), torch.where(better, number, ids)
            above = torch.where(better, dense > cut, above)
        yield (torch.where(above, ids, 0) if convention.has_other else ids).cpu().numpy()
