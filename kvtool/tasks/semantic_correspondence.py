"""Semantic correspondence on SPair-71k (protocol 5).

The token under each source keypoint is matched, by cosine, with the target image's tokens; the
centre of the nearest one is the prediction, in pixels of the original image. It is right within
alpha times the longer side of the target's box. With `upsample` the target's features are first
upsampled bilinearly to its pixels, as DIFT does.

Memory: of one category at a time, the vectors under its source keypoints; one target image's
scores.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from kvtool.datasets.protocols import HasPairs
from kvtool.datasets.spair71k import Pair
from kvtool.errors import KvtoolError
from kvtool.features.layers import GridImage, Layer
from kvtool.metrics.correspondence import (
    ALPHAS,
    correct_keypoints,
    pck_scores,
    pck_units,
)
from kvtool.result import Row
from kvtool.tasks.base import Array, Grids, Table
from kvtool.tasks.options import Flag
from kvtool.tasks.pair_categories import PairCategory, Target, by_category
from kvtool.tasks.points import (
    best_patches,
    n_correct,
    n_unseen,
    pixel_points,
    random_patches,
    random_points,
    same_places,
)
from kvtool.tasks.predictions import save_lines
from kvtool.tasks.spread import spread
from kvtool.tasks.truth import LeftOut, Sizes, check_size
from kvtool.types import VECTOR_KINDS, Backend, Kind

if TYPE_CHECKING:
    import torch


PRIMARY_ALPHA = 0.1


class SemanticCorrespondence:
    """The task of finding the keypoints of one image in another one of its category."""

    name: ClassVar[str] = "semantic-correspondence"
    metric: ClassVar[str] = "pck_image"
    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool] = True
    serves: ClassVar[tuple[str, ...]] = ()
    promptable: ClassVar[bool] = True
    kinds: ClassVar[tuple[Kind, ...]] = VECTOR_KINDS
    drawing: ClassVar[str] = "matches"

    def __init__(
        self,
        dataset: HasPairs,
        ids: Sizes,
        device: torch.device,
        *,
        limit: int | None = None,
        upsample: Annotated[
            bool, Flag("Look for points among bilinearly upsampled targets.")
        ] = False,
        backend: Annotated[
            Backend, Flag("What finds the nearest neighbors.", hidden=("numpy",))
        ] = "auto",
    ) -> None:
        pairs = dataset.pairs()
        self.sizes = ids
        self.upsample, self.backend, self.limit, self.device = upsample, backend, limit, device
        # A pair needs both of its images in the run.
        left_out = LeftOut.of(dataset)
        present = [pair for pair in pairs if {pair.src_id, pair.trg_id} <= ids.keys()]
        left_out.many(len(pairs) - len(present), "pairs need images that the run does not hold")
        if not present:
            raise KvtoolError(
                f"{self.name}: the run holds both images of none of {len(pairs)} pairs: extract "
                "more of the data set"
            )
        self.pairs = left_out.usable(present, lambda pair: check_pair(pair, ids), limit)
        self.n, self.skipped, self.n_skipped = len(self.pairs), left_out.lines, left_out.count
        self.n_unusable = left_out.unusable
        if not self.pairs:
            raise left_out.none_left(self.name, f"none of {len(present)} pairs can be used")
        self._groups = [PairCategory(members, self.pairs) for members in by_category(self.pairs)]
        self._saved: Collection[int] = range(self.n)

    def settings(self) -> dict[str, Any]:
        """Return the options that the numbers depend on."""
        return {"alpha": PRIMARY_ALPHA, "upsample": self.upsample, "limit": self.limit}

    def images(self) -> set[str]:
        """Return the ids of both images of all pairs."""
        return {image for pair in self.pairs for image in (pair.src_id, pair.trg_id)}

    def measure(self, layer: Layer) -> Array:
        """(head, pair, alpha) number of keypoints found."""
        counts = np.zeros((len(layer.heads), self.n, len(ALPHAS)), np.int64)
        for target, predicted_px in self._predict(layer):
            # All pairs of a target at once, then summed pair by pair.
            correct = correct_keypoints(predicted_px, target.keypoints_px, target.box_sides_px)
            counts[:, target.pairs] = np.moveaxis(
                np.add.reduceat(correct, target.starts, axis=2), 0, 2
            )
        return counts

    def guesses(self, grids: Grids, seed: int) -> Iterator[tuple[str, Array]]:
        """What knows nothing of the images gets, as `measure` gives it: a random point of the
        target's box, the center of a random patch of its grid, and the place that the source's
        point has in its own image.
        """
        points: dict[str, Callable[[Pair, np.random.Generator], Array]] = {
            "random point": random_points,
            "random patch": lambda pair, rng: random_patches(pair, grids[pair.trg_id], rng),
            "same place": lambda pair, _: same_places(pair),
        }
        for name, guess in points.items():
            # A generator of its own for each pair: what it draws depends on no other pair.
            generators = (np.random.default_rng([seed, index]) for index in range(self.n))
            pairs = zip(self.pairs, generators, strict=True)
            correct = [n_correct(pair, guess(pair, rng)) for pair, rng in pairs]
            yield name, np.stack(correct, axis=1)

    def ceiling(self, grids: Grids) -> Array:
        """(1, pair, alpha) number of keypoints of the best patches; of pixels with `upsample`."""
        # No prediction can be nearer than the patch, or pixel, that lies nearest.
        best = (
            pixel_points(pair, self.sizes[pair.trg_id])
            if self.upsample
            else best_patches(pair, grids[pair.trg_id])
            for pair in self.pairs
        )
        correct = [n_correct(pair, points) for pair, points in zip(self.pairs, best, strict=True)]
        return np.stack(correct, axis=1)

    def unseen(self, grids: Grids) -> Array:
        """(pair, 2): keypoints of which an end lies outside its grid's cover, and all of them."""
        return np.array([n_unseen(pair, grids) for pair in self.pairs])

    def only(self, images: Collection[str]) -> None:
        """Of one image all pairs, of several the pairs among them."""
        ends = [{pair.src_id, pair.trg_id} & set(images) for pair in self.pairs]
        self._saved = [
            number for number, ids in enumerate(ends) if len(ids) >= min(2, len(set(images)))
        ]

    def save(self, layer: Layer, index: int, folder: Path) -> list[Row]:
        """answers.jsonl: a pair a line, its fields as in SPair's annotation and prd_kps."""
        # Points of all pairs with one target come together: they are split pair by pair.
        points: dict[int, Array] = {}
        for target, predicted_px in self._predict(layer):
            points |= zip(
                target.pairs.tolist(), np.split(predicted_px[index], target.starts[1:]), strict=True
            )
        save_lines(
            folder / "answers.jsonl",
            [_answer(self.pairs[number], points[number]) for number in self._saved],
        )
        return [{"file": "answers.jsonl", "pairs": len(self._saved)}]

    def examples(self, count: int) -> list[str]:
        """Images of pairs from all over the list."""
        pairs = spread(self.pairs, count)
        return [image for pair in pairs for image in (pair.src_id, pair.trg_id)]

    def _predict(self, layer: Layer) -> Iterator[tuple[Target, Array]]:
        """Target images, and the points found in them (head, keypoint, 2): those of all pairs with
        this target.
        """
        import torch

        # A target is read once, for all pairs that look for points in it.
        saved = {self.pairs[number].trg_id for number in self._saved}
        for group in self._groups:
            if saved.isdisjoint(group.targets):
                continue
            points = group.source_vectors(layer)
            for image in layer.each(image for image in group.targets if image in saved):
                target = group.targets[image.id]
                yield target, self._match(points[:, torch.as_tensor(target.source_rows)], image)

    def _match(self, queries: torch.Tensor, image: GridImage) -> Array:
        """(head, query, 2) points in pixels of the original image; queries (head, query, dim) as
        stored.
        """
        from kvtool.features.neighbors import nearest
        from kvtool.features.pixels import nearest_pixels

        if self.upsample:
            points = nearest_pixels(queries.float(), image)
        else:
            _, cells = nearest(queries, image.stored, backend=self.backend)
            # The center of the nearest cell is the prediction.
            points = image.centres_px()[cells[:, :, 0]]
        # A vector of NaN is near to nothing: it must not match the first cell.
        finite = queries.isfinite().all(-1).cpu().numpy()
        return np.where(finite[:, :, None], points, np.nan)

    def tables(self, measured: Array) -> Iterator[Table]:
        """Yield the summary over all pairs, then a table for each alpha and for each category."""
        total = np.array([len(pair.src_kps_px) for pair in self.pairs])
        # Right points count at each alpha; PCK divides them by the keypoints of a pair.
        units = pck_units(np.moveaxis(measured, 2, 0), total)
        primary = units[ALPHAS.index(PRIMARY_ALPHA)]
        categories = np.array([pair.category for pair in self.pairs])
        # Pairs with an image in common are dependent: images are resampled.
        images = np.array([(pair.src_id, pair.trg_id) for pair in self.pairs])
        yield Table({}, primary, pck_scores, categories, images)
        for alpha, alpha_units in zip(ALPHAS, units, strict=True):
            yield Table({"alpha": alpha}, alpha_units, pck_scores, categories, images)
        # A category alone has no strata.
        for category in np.unique(categories):
            members = np.flatnonzero(categories == category)
            yield Table(
                {"alpha": PRIMARY_ALPHA, "category": str(category)},
                primary[:, members],
                pck_scores,
                clusters=images[members],
                members=members,
            )


def check_pair(pair: Pair, ids: Sizes) -> None:
    """Raises DatasetError where a pair's annotation speaks of pictures of other sizes than the
    run's.
    """
    location = pair.file or f"pair {pair.id}"
    check_size(pair.src_wh_px, ids[pair.src_id], f"{location}: source {pair.src_id}")
    check_size(pair.trg_wh_px, ids[pair.trg_id], f"{location}: target {pair.trg_id}")


def _answer(pair: Pair, predicted_px: Array) -> Row:
    """A pair's fields as SPair-71k names them, and the points found."""
    return {
        "filename": pair.id,
        "src_imname": f"{pair.src_id.rpartition('/')[2]}.jpg",
        "trg_imname": f"{pair.trg_id.rpartition('/')[2]}.jpg",
        "src_imsize": [*pair.src_wh_px, 3],
        "trg_imsize": [*pair.trg_wh_px, 3],
        "src_bndbox": pair.src_box_xyxy_px,
        "trg_bndbox": pair.trg_box_xyxy_px,
        "category": pair.category,
        "src_kps": pair.src_kps_px,
        "trg_kps": pair.trg_kps_px,
        "kps_ids": [str(number) for number in pair.kps_ids],
        "mirror": pair.mirror,
        "viewpoint_variation": pair.viewpoint_variation,
        "scale_variation": pair.scale_variation,
        "truncation": pair.truncation,
        "occlusion": pair.occlusion,
        "prd_kps": predicted_px.tolist(),
    }
