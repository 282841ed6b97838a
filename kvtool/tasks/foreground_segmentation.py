"""Few-shot foreground segmentation on Pascal-5i (protocol 1).

Of each episode's supports every patch is a training example, labelled by the majority of its
pixels, void ignored; a patch of void alone, or outside the image, is left out. One L2-regularised
logistic regression per head, all heads of a layer and several episodes at once; its logits on the
query are upsampled bilinearly to the image and cut at 0.

Memory: BATCH_FLOATS features at a time (and three times that in the solver), MASK_BYTES of label
maps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from kvtool.datasets.episodes import Entry, Episode
from kvtool.datasets.masks import VOID
from kvtool.datasets.protocols import HasEpisodes
from kvtool.errors import DatasetError
from kvtool.features.layers import GridImage, Layer, patch_labels, upsample
from kvtool.metrics.segmentation import fewshot_scores, fewshot_units
from kvtool.result import Row
from kvtool.tasks.base import Array, Grids, Table
from kvtool.tasks.chance import pixels_unseen
from kvtool.tasks.episodes import classes_without, draw_episodes
from kvtool.tasks.maps import (
    COUNTS,
    RANKING,
    TruthMask,
    guessed_counts,
    map_counts,
    undefined,
    with_ranking,
)
from kvtool.tasks.options import Flag
from kvtool.tasks.predictions import save_mask
from kvtool.tasks.spread import spread
from kvtool.tasks.truth import LeftOut, Size, Sizes, check_shape
from kvtool.types import VECTOR_KINDS, GridSpan, Kind

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from kvtool.features import logistic

BATCH_FLOATS = {"cpu": 2**23, "cuda": 2**29}
"""Feature values solved at once: what a CPU's cache holds, or enough to fill a GPU."""

MASKS_KEPT = 256
LABELS_KEPT = 4096
EXAMPLES_AMONG = 3
"""Examples are chosen among so many times their number: episodes that follow each other are often
of one class.
"""


class ForegroundSegmentation:
    """The task of few-shot segmentation: a class is learned from an episode's supports."""

    name: ClassVar[str] = "foreground-segmentation"
    metric: ClassVar[str] = "miou"
    unit: ClassVar[str] = "fraction"
    higher_is_better: ClassVar[bool] = True
    serves: ClassVar[tuple[str, ...]] = ()
    promptable: ClassVar[bool] = False
    kinds: ClassVar[tuple[Kind, ...]] = VECTOR_KINDS
    drawing: ClassVar[str] = "masks"

    def __init__(
        self,
        dataset: HasEpisodes,
        ids: Sizes,
        device: torch.device,
        *,
        limit: int | None = None,
        episodes: Annotated[int, Flag("Few-shot episodes.")] = 1000,
        shots: Annotated[int, Flag("Support images of an episode.")] = 5,
        c: Annotated[float, Flag("Inverse strength of the few-shot probe's L2 penalty.")] = 1.0,
        seed: int = 0,
        select: str = "max",
    ) -> None:
        self.dataset, self.device, self.c, self.shots, self.seed = dataset, device, c, shots, seed
        self.sizes = ids
        count = episodes if limit is None else min(limit, episodes)
        listed = dataset.entries()
        left_out = LeftOut.of(dataset)
        present = [entry for entry in listed if entry.image_id in ids]
        left_out.many(
            len(listed) - len(present), "listed images are not in the run: no episode draws them"
        )
        usable = left_out.usable(
            present, lambda entry: check_entry(dataset, entry, ids[entry.image_id])
        )
        if present and not usable:
            raise left_out.none_left(
                self.name, f"the label maps of none of {len(present)} entries can be used"
            )
        self.episodes, self._half = draw_episodes(dataset, count, shots, seed, usable, select)
        left_out.lines += [line for line in dataset.skipped if line not in left_out.lines]
        left_out.lines += classes_without(dataset, usable, self.episodes, left_out.lines)
        self.n, self.skipped, self.n_skipped = len(self.episodes), left_out.lines, left_out.count
        self.n_unusable = left_out.unusable
        self._saved: Collection[int] = range(self.n)
        self._truth = lru_cache(MASKS_KEPT)(dataset.class_mask)
        self._labels = lru_cache(LABELS_KEPT)(self._read_labels)

    def settings(self) -> dict[str, Any]:
        """Return the options that the numbers depend on."""
        return {"episodes": self.n, "shots": self.shots, "c": self.c, "features": "standardized"}

    def images(self) -> set[str]:
        """Return the ids of the queries and supports of all episodes."""
        return {
            image for episode in self.episodes for image in (episode.query_id, *episode.support_ids)
        }

    def measure(self, layer: Layer) -> Array:
        """(head, episode, 7): map_counts of the query's mask and its logits."""
        counts = np.zeros((len(layer.heads), self.n, COUNTS))
        for episode, query, logits, predicted in self._predict(layer):
            truth = self._truth_on(query.span, episode)
            counts[:, episode.index] = map_counts(predicted, logits, truth)
        return counts

    def guesses(self, grids: Grids, seed: int) -> Iterator[tuple[str, Array]]:
        """What knows nothing of the images gets, as `measure` gives it.

        Everything background is also what the majority of the supports' patches says.
        """
        truths = (
            (episode.index, self._truth_on(grids[episode.query_id], episode))
            for episode in self.episodes
        )
        return guessed_counts(truths, self._cut, self.n, seed)

    def _cut(self, maps: Tensor, truth: TruthMask) -> Array:
        return (upsample(maps, truth.span, truth.mask.shape[::-1]) > 0).cpu().numpy()

    def unseen(self, grids: Grids) -> Array:
        """(episode, 2): pixels of its query outside the grid's cover, and all of them."""
        queries = [episode.query_id for episode in self.episodes]
        return np.array([pixels_unseen(grids[query], self.sizes[query]) for query in queries])

    def only(self, images: Collection[str]) -> None:
        """Episodes whose query is one of them."""
        self._saved = [episode.index for episode in self.episodes if episode.query_id in images]

    def save(self, layer: Layer, index: int, folder: Path) -> list[Row]:
        """<episode>.png: the mask of its query."""
        files = []
        for episode, _, _, predicted in self._predict(layer):
            if episode.index not in self._saved:
                continue
            name = f"{episode.index:04d}.png"
            subject = {
                "class_id": episode.class_id,
                "query": episode.query_id,
                "supports": list(episode.support_ids),
            }
            files.append({"file": name, "episode": episode.index, **subject})
            save_mask(folder / name, predicted[index])
        return files

    def examples(self, count: int) -> list[str]:
        """Queries of few episodes: whatever is solved together with one takes its time too."""
        times = Counter(episode.query_id for episode in self.episodes)
        # An image that is the query of one episode costs one batch to draw.
        rarest = sorted(times, key=times.__getitem__)
        return spread(rarest[: EXAMPLES_AMONG * count], count)

    def truth(self, record: Row) -> Array:
        """Return the mask of a record's class in its query, (height, width)."""
        return self._truth(record["query"], record["class_id"])

    def _predict(self, layer: Layer) -> Iterator[tuple[Episode, GridImage, Array, Array]]:
        """Episodes in order, their queries, logits (head, token) and masks (head, height, width);
        those of a batch together, since with others beside it an episode might round a pixel
        differently.
        """
        import torch

        for batch in self._batches(layer):
            if not any(episode.index in self._saved for episode in batch):
                continue
            images = layer.get({image for e in batch for image in (e.query_id, *e.support_ids)})
            fits = self._fit(batch, images)
            parameters = zip(
                fits.weights.float().chunk(len(batch)),
                fits.bias.float().chunk(len(batch)),
                strict=True,
            )
            for episode, (weights, bias) in zip(batch, parameters, strict=True):
                query = images[episode.query_id]
                # A logit of 0 is where both classes are as likely.
                logits = torch.bmm(query.values, weights[:, :, None])[:, :, 0] + bias[:, None]
                predicted = (upsample(logits, query.span, query.wh_px) > 0).cpu().numpy()
                yield episode, query, logits.cpu().numpy(), predicted

    def _batches(self, layer: Layer) -> Iterator[list[Episode]]:
        """Episodes in order, as many at once as BATCH_FLOATS allows for the layer's first
        images.
        """
        first = next(layer.each([self.episodes[0].query_id]))
        size = max(1, BATCH_FLOATS[self.device.type] // max(1, first.values.numel() * self.shots))
        for start in range(0, self.n, size):
            yield self.episodes[start : start + size]

    def _fit(self, batch: list[Episode], images: dict[str, GridImage]) -> logistic.LogisticFit:
        """One problem per (episode, head), episode-major; shorter episodes are filled up with rows
        of weight 0.
        """
        import torch

        from kvtool.features import logistic

        supports = [[images[name] for name in episode.support_ids] for episode in batch]
        # Episodes of a batch are one block of features: shorter ones end in rows of weight 0.
        rows = max(sum(image.values.shape[1] for image in shots) for shots in supports)
        heads, _, dim = supports[0][0].values.shape
        features = torch.zeros(len(batch), heads, rows, dim, device=self.device)
        labels, weights = np.zeros((2, len(batch), 1, rows), np.float32)
        for index, episode in enumerate(batch):
            start = 0
            for image in supports[index]:
                stop = start + image.values.shape[1]
                features[index, :, start:stop] = image.values
                foreground, is_counted = self._labels(image.id, episode.class_id, image.span)
                labels[index, 0, start:stop], weights[index, 0, start:stop] = foreground, is_counted
                start = stop
        tensors = (
            torch.from_numpy(part.repeat(heads, 1).reshape(-1, rows)).to(self.device)
            for part in (labels, weights)
        )
        return logistic.fit_standardized(features.flatten(0, 1), *tensors, c=self.c)

    def _truth_on(self, span: GridSpan, episode: Episode) -> TruthMask:
        query = episode.query_id
        mask = self._truth(query, episode.class_id)
        check_shape(mask, self.sizes[query], str(self.dataset.truth_file(query)))
        return TruthMask(mask == 1, mask != VOID, span)

    def _read_labels(self, image_id: str, class_id: int, span: GridSpan) -> tuple[Array, Array]:
        """Whether each patch is foreground, and whether it counts: (row * col,) bool each."""
        return patch_labels(self._truth(image_id, class_id), span)

    def tables(self, measured: Array) -> Iterator[Table]:
        """Yield the summary over all episodes, then a table for each class."""
        # Classes without an episode have no score: none of theirs is 0.
        ids, class_index = np.unique(
            [episode.class_id for episode in self.episodes], return_inverse=True
        )
        # Episodes with one query see one picture twice: pictures are resampled, not episodes.
        queries = np.array([episode.query_id for episode in self.episodes])
        yield self._table({}, measured, class_index, queries)._replace(half=self._half)
        for index, class_id in enumerate(ids.tolist()):
            members = np.flatnonzero(class_index == index)
            table = self._table(
                {}, measured[:, members], np.zeros(len(members), int), queries[members]
            )
            category = self.dataset.name_of_class(class_id)
            yield table._replace(labels={"category": category}, strata=None, members=members)

    def _table(
        self, labels: dict[str, Any], measured: Array, class_index: Array, queries: Array
    ) -> Table:
        intersection, union = measured[..., :2], measured[..., 2:4]
        n_classes = int(class_index.max()) + 1
        units = fewshot_units(intersection, union, class_index, n_classes)
        k = units.shape[-1]
        return Table(
            labels,
            np.concatenate([units, measured[..., RANKING]], axis=-1),
            with_ranking(
                lambda sums: fewshot_scores(sums[..., :k], drawn_alone=True), slice(k, None)
            ),
            class_index,
            queries,
            facts=undefined(measured),
        )


def check_entry(dataset: HasEpisodes, entry: Entry, wh_px: Size) -> None:
    """Raises DatasetError where an image's label map cannot be used, is not of the image's size, or
    lacks the class.
    """
    location = str(dataset.truth_file(entry.image_id))
    labels = dataset.label_map(entry.image_id)
    check_shape(labels, wh_px, location)
    if not (labels == entry.class_id).any():
        raise DatasetError(
            f"{location}: expected pixels of class {entry.class_id} as the fold's list has it, "
            "found none"
        )
