"""Co-segmentation on MSRC (protocol 2).

After "Deep ViT features as dense visual descriptors" (Amir et al. 2022).

The unit-length vectors of all images of a class are clustered together; the number of clusters
grows until another one explains little more. A cluster is foreground where enough images find it
salient. Salient is what differs from the image's border, since value tokens have no attention of
their own to ask.

Memory: one class's vectors, and their distances to the centroids.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from kvtool.datasets.masks import VOID
from kvtool.datasets.protocols import HasGroups
from kvtool.errors import DatasetError, UsageError
from kvtool.features.layers import GridImage, Layer, nearest_cells
from kvtool.metrics.segmentation import binary_counts, foreground_units, j_scores
from kvtool.result import Row
from kvtool.tasks.base import Array, Table
from kvtool.tasks.options import Flag
from kvtool.tasks.predictions import save_mask
from kvtool.tasks.spread import spread
from kvtool.tasks.truth import LeftOut, Sizes, check_shape
from kvtool.types import KINDS, Kind

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ELBOW = 0.975
MOST_CLUSTERS = 14
SALIENT = 0.065
VOTES = 0.75
FIT_ALL_BELOW, FIT_EVERY = 10_000, 100


class CoSegmentation:
    name: ClassVar[str] = "co-segmentation"
    metric: ClassVar[str] = "j_mean"
    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool] = True
    serves: ClassVar[tuple[str, ...]] = ()
    promptable: ClassVar[bool] = False
    kinds: ClassVar[tuple[Kind, ...]] = KINDS
    drawing: ClassVar[str] = "masks"

    def __init__(
        self,
        dataset: HasGroups,
        ids: Sizes,
        device: torch.device,
        *,
        limit: int | None = None,
        saliency: Annotated[
            str, Flag("Where the object is: border; vision needs what runs do not hold.")
        ] = "border",
        restarts: Annotated[int, Flag("Runs of k-means, of which the best counts.")] = 10,
        seed: int = 0,
    ) -> None:
        if saliency == "vision":
            raise UsageError(
                f"{self.name}: saliency vision is not available: it needs the tower's attention, "
                "which runs do not "
                "hold; take border"
            )
        if saliency != "border":
            raise UsageError(f"{self.name}: saliency: expected border, found {saliency!r}")
        self.dataset, self.device, self.restarts, self.seed, self.limit = (
            dataset,
            device,
            restarts,
            seed,
            limit,
        )
        self.groups, left_out = self._usable(dataset, ids)
        self.n = sum(map(len, self.groups.values()))
        self.skipped, self.n_skipped = left_out.lines, left_out.count
        self.n_unusable = left_out.unusable
        self._saved = self.images()
        if not self.groups:
            why = "the run holds two images of no class that can be used: extract more of the data set"
            raise left_out.none_left(self.name, why)

    def _usable(self, dataset: HasGroups, ids: Sizes) -> tuple[dict[str, list[str]], LeftOut]:
        """Class -> its images that the run holds and whose masks can be used, of classes that have
        two.
        """
        listed = dataset.groups()
        left_out = LeftOut.of(dataset)
        groups = {}
        for category, images in listed.items():
            held = [image for image in images if image in ids]
            left_out.many(len(images) - len(held), f"images of {category} are not in the run")
            usable = left_out.usable(held, partial(check_mask, dataset, ids, category), self.limit)
            if len(usable) > 1:
                groups[category] = usable
            else:
                left_out.many(len(usable), f"image of {category} is alone of its class in the run")
        return groups, left_out

    def settings(self) -> dict[str, Any]:
        return {"saliency": "border", "restarts": self.restarts, "limit": self.limit}

    def images(self) -> set[str]:
        return {image for images in self.groups.values() for image in images}

    def measure(self, layer: Layer) -> Array:
        """(head, image, 4): pixels of background and foreground intersection, then union; classes
        after each other.
        """
        counts = [
            self._score(image, predicted, category)
            for category, image, predicted in self._predict(layer)
        ]
        return np.stack(counts, axis=1)

    def only(self, images: Collection[str]) -> None:
        """These, each with all images of its class, which are clustered together."""
        self._saved = self.images() & set(images)

    def save(self, layer: Layer, index: int, folder: Path) -> list[Row]:
        """<class>/<name>.png, as MSRC7's ground truth."""
        files = []
        for category, image, predicted in self._predict(layer):
            if image.id not in self._saved:
                continue
            # Ids that begin with their class, as MSRC7's, do not name it twice.
            name = f"{category}/{image.id.removeprefix(f'{category}/')}.png"
            save_mask(folder / name, predicted[index])
            files.append({"file": name, "category": category, "image": image.id})
        return files

    def examples(self, count: int) -> list[str]:
        """Images of the first class, which are clustered together: another one costs as much."""
        return spread(next(iter(self.groups.values())), count)

    def truth(self, record: Row) -> Array:
        return self.dataset.group_mask(record["image"], record["category"])

    def _predict(self, layer: Layer) -> Iterator[tuple[str, GridImage, Array]]:
        """Class, image and its mask (head, height, width), class after class."""
        for category, names in self.groups.items():
            if self._saved.isdisjoint(names):
                continue
            images = layer.get(names)
            for image, foreground in self._of_group([images[name] for name in names]):
                rows, cols = nearest_cells(image.span, image.wh_px)
                yield category, image, foreground.reshape(-1, *image.grid)[:, rows[:, None], cols]

    def _of_group(self, of_image: Sequence[GridImage]) -> Iterator[tuple[GridImage, Array]]:
        found = cosegment(
            [image.values for image in of_image],
            [border_saliency(image.values, image.grid) for image in of_image],
            restarts=self.restarts,
            seed=self.seed,
        )
        return zip(of_image, found, strict=True)

    def _score(self, image: GridImage, predicted: Array, category: str) -> Array:
        truth = self.dataset.group_mask(image.id, category)
        check_shape(truth, image.wh_px, str(self.dataset.truth_file(image.id)))
        return np.concatenate(binary_counts(predicted, truth == 1, truth != VOID), axis=-1)

    def tables(self, measured: Array) -> Iterator[Table]:
        units = foreground_units(measured[..., :2], measured[..., 2:])
        category = np.repeat(
            np.arange(len(self.groups)), [len(images) for images in self.groups.values()]
        )
        yield Table({}, units, j_scores, category)
        for index, name in enumerate(self.groups):
            yield Table({"category": name}, units[:, category == index], j_scores)


def check_mask(dataset: HasGroups, ids: Sizes, category: str, image_id: str) -> None:
    """Raises DatasetError where a mask cannot be used, is not of its image's size, or is empty."""
    where = str(dataset.truth_file(image_id))
    mask = dataset.group_mask(image_id, category)
    check_shape(mask, ids[image_id], where)
    if not (mask == 1).any():
        raise DatasetError(f"{where}: expected pixels of {category}, found none")


def border_saliency(values: Tensor, grid: tuple[int, int]) -> Tensor:
    """(head, row * col): one minus the cosine with the mean of the border's unit vectors, stretched
    to 0 .. 1.
    """
    import torch
    from torch.nn.functional import normalize

    unit = normalize(values, dim=-1)
    border = torch.ones(grid, dtype=torch.bool, device=values.device)
    border[1:-1, 1:-1] = False
    mean = normalize(unit[:, border.reshape(-1)].mean(1), dim=-1)
    saliency = 1 - torch.bmm(unit, mean[:, :, None])[:, :, 0]
    low, high = saliency.amin(1, keepdim=True), saliency.amax(1, keepdim=True)
    return torch.where(high > low, (saliency - low) / (high - low).clamp_min(1e-12), 0.0)


def cosegment(
    values: Sequence[Tensor], saliency: Sequence[Tensor], *, restarts: int = 10, seed: int = 0
) -> list[Array]:
    """Foreground tokens of each image, (head, token) bool; values (head, token, dim), saliency
    (head, token).
    """
    from torch.nn.functional import normalize

    bounds = np.cumsum([0, *(v.shape[1] for v in values)])
    labels, k, _ = choose_clusters(
        [normalize(v, dim=-1) for v in values], restarts=restarts, seed=seed
    )
    found = np.zeros(labels.shape, bool)
    for head in range(len(labels)):
        parts = [labels[head, a:b] for a, b in pairwise(bounds)]
        votes = count_votes(parts, [s[head].double().cpu().numpy() for s in saliency], int(k[head]))
        found[head] = (votes >= ceil(VOTES * len(values)))[labels[head]]
    return [found[:, a:b] for a, b in pairwise(bounds)]


def choose_clusters(
    units: Sequence[Tensor], *, restarts: int = 10, seed: int = 0
) -> tuple[Array, Array, Array]:
    """Cluster labels (head, token of all images), their number k (head,), and the mean squared
    distance for each k tried (head, k), NaN beyond the head's own.

    k grows until SSE_k > 0.975 SSE_{k-1}, which then is the k, and is 14 at most. Centroids are
    fitted on every 100th token of each image, or on all where they are fewer than 10,000.
    """
    import torch

    from kvtool.features.kmeans import assign, kmeans

    points = torch.cat(list(units), dim=1)
    fitted = (
        points
        if points.shape[1] < FIT_ALL_BELOW
        else torch.cat([u[:, ::FIT_EVERY] for u in units], dim=1)
    )
    heads = len(points)
    labels = np.zeros(points.shape[:2], np.int64)
    k_of, sse = np.zeros(heads, np.int64), np.full((heads, MOST_CLUSTERS), np.nan)
    active = np.arange(heads)
    for k in range(1, MOST_CLUSTERS + 1):
        at = torch.as_tensor(active, device=points.device)
        centroids = kmeans(fitted[at], k, restarts=restarts, seed=seed)
        label, distance = assign(points[at], centroids)
        labels[active], k_of[active] = label.cpu().numpy(), k
        sse[active, k - 1] = distance.mean(1, dtype=torch.float64).cpu().numpy()
        if k > 1:
            active = active[sse[active, k - 1] <= ELBOW * sse[active, k - 2]]
        if not len(active):
            break
    return labels, k_of, sse


def count_votes(labels: Sequence[Array], saliency: Sequence[Array], k: int) -> Array:
    """(k,) number of images in which a cluster's mean saliency exceeds 0.065; absent from an image,
    it gets no vote.
    """
    votes = np.zeros(k, np.int64)
    for label, salient in zip(labels, saliency, strict=True):
        count = np.bincount(label, minlength=k)
        total = np.bincount(label, weights=salient, minlength=k)
        votes += (count > 0) & (total > SALIENT * np.maximum(count, 1))
    return votes
