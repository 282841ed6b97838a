"""Co-segmentation on MSRC (protocol 2).

After "Deep ViT features as dense visual descriptors" (Amir et al. 2022).

The unit-length vectors of all images of a class are clustered together; the number of clusters
grows until another one explains little more. A cluster is foreground where it lies inside the
images, for value tokens have no attention of their own to ask; or, by the published vote, where
the attention of the run's tower is high in three of four images. The clustering starts at random,
so that it is done several times: the score is the mean over these seeds, and they are resampled
beside the images.

Memory: one class's vectors, and their distances to the centroids.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np

from kvtool.datasets.masks import VOID
from kvtool.datasets.protocols import HasGroups
from kvtool.errors import DatasetError, UsageError
from kvtool.features.layers import GridImage, Layer, cell_pixels
from kvtool.metrics.segmentation import foreground_units, j_scores
from kvtool.result import Row
from kvtool.store import Run
from kvtool.tasks.base import Array, Grids, Table
from kvtool.tasks.chance import pixels_unseen
from kvtool.tasks.options import Flag
from kvtool.tasks.predictions import save_mask
from kvtool.tasks.regions import on_pixels, predictors
from kvtool.tasks.saliency import run_saliency, saliency_maps
from kvtool.tasks.spread import spread
from kvtool.tasks.truth import LeftOut, Sizes, check_shape
from kvtool.types import VECTOR_KINDS, GridSpan, Kind

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class CoSegmentation:
    """The task of finding what the images of a class have in common, scored by Jaccard index."""

    name: ClassVar[str] = "co-segmentation"
    metric: ClassVar[str] = "j_mean"
    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool] = True
    serves: ClassVar[tuple[str, ...]] = ()
    promptable: ClassVar[bool] = False
    kinds: ClassVar[tuple[Kind, ...]] = VECTOR_KINDS
    drawing: ClassVar[str] = "masks"

    def __init__(
        self,
        dataset: HasGroups,
        ids: Sizes,
        device: torch.device,
        *,
        limit: int | None = None,
        saliency: Annotated[
            Literal["border", "vision"],
            Flag("What tells the object: the border, or the vision tower's attention in the run."),
        ] = "border",
        seeds: Annotated[
            int,
            Flag("Clusterings from different random starts, whose scores are averaged.", 1, 100),
        ] = 5,
        restarts: Annotated[
            int, Flag("Starts of a clustering's k-means, of which the best is followed.")
        ] = 5,
        void: Annotated[
            Literal["ignored", "background"],
            Flag(
                "Pixels of no class, such as black in MSRCv2: ignored, or background as in MSRC7."
            ),
        ] = "ignored",
        seed: int = 0,
    ) -> None:
        if saliency not in ("border", "vision"):
            raise UsageError(
                f"{self.name}: saliency: expected border or vision, found {saliency!r}"
            )
        self.dataset, self.device, self.limit = dataset, device, limit
        if void not in ("ignored", "background"):
            raise UsageError(f"{self.name}: void: expected ignored or background, found {void!r}")
        self.saliency, self.restarts, self.void = saliency, restarts, void
        self.seeds = range(seed, seed + seeds)
        self.sizes = ids
        self._cells: dict[tuple[str, str, GridSpan], tuple[Array, Array]] = {}
        self.groups, left_out = self._usable(dataset, ids)
        self.n = sum(map(len, self.groups.values()))
        self.skipped, self.n_skipped = left_out.lines, left_out.count
        self.n_unusable = left_out.unusable
        self._saved = self.images()
        if not self.groups:
            reason = (
                "the run holds two images of no class that can be used: extract more of the data "
                "set"
            )
            raise left_out.none_left(self.name, reason)

    def _usable(self, dataset: HasGroups, ids: Sizes) -> tuple[dict[str, list[str]], LeftOut]:
        """Class -> its images that the run holds and whose masks can be used, of classes that have
        two.
        """
        listed = dataset.groups()
        left_out = LeftOut.of(dataset)
        groups = {}
        for category, images in listed.items():
            present = [image for image in images if image in ids]
            left_out.many(len(images) - len(present), f"images of {category} are not in the run")
            usable = left_out.usable(
                present, partial(check_mask, dataset, ids, category), self.limit
            )
            # What a class looks like shows in several images alone.
            if len(usable) > 1:
                groups[category] = usable
            else:
                left_out.many(len(usable), f"image of {category} is alone of its class in the run")
        return groups, left_out

    def settings(self) -> dict[str, Any]:
        """Return the options that the numbers depend on."""
        return {
            "saliency": self.saliency,
            "void": self.void,
            "seeds": len(self.seeds),
            "restarts": self.restarts,
            "limit": self.limit,
        }

    def images(self) -> set[str]:
        """Return the ids of the images of all classes."""
        return {image for images in self.groups.values() for image in images}

    def measure(self, layer: Layer) -> Array:
        """(head, image, seed, 4): pixels of background and foreground intersection, then union;
        classes after each other.
        """
        counts = [
            self._counts(tokens, image.span, image.id, category)
            for category, image, tokens in self._predict(layer, self.seeds)
        ]
        return np.moveaxis(np.array(counts), 2, 0)

    @property
    def guesses_by_run(self) -> bool:
        """Whether the attention of a run tells what is the object, of guesses as of values."""
        return self.saliency == "vision"

    def guesses(
        self, grids: Grids, seed: int, run: Run | None = None
    ) -> Iterator[tuple[str, Array]]:
        """What knows nothing of the values gets, as `measure` gives it, see regions.predictors."""
        for name, predict in predictors(len(self.seeds), seed).items():
            counts = []
            for category, images in self.groups.items():
                spans = [grids[image] for image in images]
                maps = (
                    None
                    if run is None
                    else run_saliency(run, dict(zip(images, spans, strict=True)))
                )
                for image, span, tokens in zip(images, spans, predict(spans, maps), strict=True):
                    counts.append(self._counts(tokens, span, image, category))
            # (image, draw, seed, 4) to (draw, image, seed, 4)
            yield name, np.moveaxis(np.array(counts), 0, 1)

    def unseen(self, grids: Grids) -> Array:
        """(image, 2): pixels outside the grid's cover, and all of them."""
        return np.array(
            [
                pixels_unseen(grids[image], self.sizes[image])
                for images in self.groups.values()
                for image in images
            ]
        )

    def only(self, images: Collection[str]) -> None:
        """These, each with all images of its class, which are clustered together."""
        self._saved = self.images() & set(images)

    def save(self, layer: Layer, index: int, folder: Path) -> list[Row]:
        """<class>/<name>.png, as MSRC7's ground truth; of the first seed."""
        files = []
        for category, image, tokens in self._predict(layer, self.seeds[:1]):
            if image.id not in self._saved:
                continue
            # Ids that begin with their class, as MSRC7's, do not name it twice.
            name = f"{category}/{image.id.removeprefix(f'{category}/')}.png"
            mask = on_pixels(tokens[0, index], image.span, image.wh_px)
            save_mask(folder / name, mask)
            files.append({"file": name, "category": category, "image": image.id})
        return files

    def examples(self, count: int) -> list[str]:
        """Images of the first class, which are clustered together: another one costs as much."""
        return spread(next(iter(self.groups.values())), count)

    def truth(self, record: Row) -> Array:
        """Return the mask of a record's class in its image, (height, width)."""
        return self.dataset.group_mask(record["image"], record["category"])

    def _predict(
        self, layer: Layer, seeds: Sequence[int]
    ) -> Iterator[tuple[str, GridImage, Array]]:
        """Class, image and its masks (seed, head, cell), class after class."""
        for category, names in self.groups.items():
            if self._saved.isdisjoint(names):
                continue
            by_id = layer.get(names)
            images = [by_id[name] for name in names]
            values = [image.values for image in images]
            grids = [image.grid for image in images]
            saliency = saliency_maps(layer, images) if self.saliency == "vision" else None
            clusterings = [
                cosegment(values, grids, saliency, restarts=self.restarts, seed=seed)
                for seed in seeds
            ]
            for image, *tokens in zip(images, *clusterings, strict=True):
                yield category, image, np.array(tokens)

    def _counts(self, tokens: Array, span: GridSpan, image: str, category: str) -> Array:
        """(..., 4): binary_counts of masks (..., cell) against an image's, in pixels."""
        n_truth, n_pixels = self._truth_cells(image, category, span)
        predicted = tokens.astype(np.float64) @ np.stack([n_truth, n_pixels], axis=1)
        foreground, union = predicted[..., 0], predicted[..., 1] + n_truth.sum() - predicted[..., 0]
        # What is in the union of neither foreground is the intersection of the backgrounds.
        total = n_pixels.sum()
        return np.stack([total - union, foreground, total - foreground, union], axis=-1)

    def _truth_cells(self, image: str, category: str, span: GridSpan) -> tuple[Array, Array]:
        """Pixels of the class and all that count in each cell of a grid, (cell,) both; read
        once for all layers.
        """
        key = image, category, span
        if key not in self._cells:
            truth = self.dataset.group_mask(image, category)
            check_shape(truth, self.sizes[image], str(self.dataset.truth_file(image)))
            is_counted = (truth != VOID) | (self.void == "background")
            self._cells[key] = cell_pixels(truth == 1, span), cell_pixels(is_counted, span)
        return self._cells[key]

    def tables(self, measured: Array) -> Iterator[Table]:
        """Yield the summary over all images, then a table for each class."""
        units = foreground_units(measured[..., :2], measured[..., 2:])
        # The numbers of the seeds follow each other on the last axis.
        flat = units.reshape(*units.shape[:2], -1)
        sizes = [len(images) for images in self.groups.values()]
        category = np.repeat(np.arange(len(self.groups)), sizes)
        repeats = len(self.seeds)

        def scores(sums: Array) -> dict[str, Array]:
            """Score the sums over images and seeds together."""
            return j_scores(sums.reshape(*sums.shape[:-1], repeats, -1).sum(axis=-2))

        random: dict[str, Any] = {"repeats": repeats, "drawn_by_stratum": True}
        yield Table({}, flat, scores, category, **random)
        for index, name in enumerate(self.groups):
            members = np.flatnonzero(category == index)
            units = flat[:, members]
            yield Table({"category": name}, units, scores, members=members, **random)


def cosegment(
    values: Sequence[Tensor],
    grids: Sequence[tuple[int, int]],
    saliency: Sequence[Array] | None = None,
    *,
    restarts: int = 10,
    seed: int = 0,
) -> list[Array]:
    """Foreground tokens of each image, (head, token) bool; values (head, token, dim).

    saliency: of each image (token,), by which clusters are voted for in place of their place.
    """
    from kvtool.features.clusters import object_clusters, shared_clusters

    labels, k = shared_clusters(values, restarts=restarts, seed=seed)
    is_foreground = [np.zeros(label.shape, bool) for label in labels]
    for head in range(len(k)):
        head_labels = [label[head] for label in labels]
        is_object = object_clusters(head_labels, grids, saliency, int(k[head]))
        for tokens, label in zip(is_foreground, labels, strict=True):
            tokens[head] = is_object[label[head]]
    return is_foreground


def check_mask(dataset: HasGroups, ids: Sizes, category: str, image_id: str) -> None:
    """Raises DatasetError where a mask cannot be used, is not of its image's size, or is empty."""
    location = str(dataset.truth_file(image_id))
    mask = dataset.group_mask(image_id, category)
    check_shape(mask, ids[image_id], location)
    if not (mask == 1).any():
        raise DatasetError(f"{location}: expected pixels of {category}, found none")
