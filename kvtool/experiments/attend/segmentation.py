"""Objects cut out of the map of the localization heads, beside those that values cut out.

Both follow the protocol of `referring-expression`: a map is upsampled to its picture and cut at its
mean, and a sentence is scored by the mean of foreground and background IoU.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kvtool.asking.attending import Look
from kvtool.asking.inquiries import Array, Inquiry
from kvtool.asking.records import numbered
from kvtool.datasets.protocols import HasExpressions
from kvtool.errors import KvtoolError
from kvtool.features.layers import Layer
from kvtool.metrics.segmentation import foreground_units, refcoco_scores
from kvtool.result import Row, best_row
from kvtool.store import Run
from kvtool.store.nonfinite import WHAT
from kvtool.tasks.base import Table, table_rows
from kvtool.tasks.differences import difference
from kvtool.tasks.language import foreground
from kvtool.tasks.maps import COUNTS, TruthMask, guessed_counts, map_counts
from kvtool.tasks.referring_expression import ReferringExpression
from kvtool.tasks.truth import sizes_of
from kvtool.types import Sample

if TYPE_CHECKING:
    import torch

METRIC = "miou_fgbg"
CUTOFF = "mean"
VOID = 255


@dataclass
class AttentionMasks:
    """Masks cut from attention, scored sentence by sentence.

    Attributes:
        run: The run.
        dataset: The data set of the sentences, whose values are scored beside; None for none.
        device: The device that values are scored on.
        seed: The random seed of intervals and of random maps.
        counts: Pixels of each inquiry's mask (7,), see kvtool.tasks.maps.map_counts.
        truths: The true mask of each.
        images: The picture of each.
    """

    run: Run
    dataset: HasExpressions | None
    device: str
    seed: int
    counts: dict[str, Array] = field(default_factory=dict)
    truths: dict[str, TruthMask] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)

    def measured(self, look: Look, cells: Array) -> Array | None:
        """Cut an object out of a map on the base grid (cell,) and count the pixels (7,); None of a
        look without one.
        """
        import torch

        # Without an object there is nothing to compare a mask with.
        truth = _truth_of(look.inquiry, look.sample)
        if truth is None:
            return None
        maps = torch.from_numpy(cells[None].astype(np.float32))
        predicted = foreground(maps, truth.span, look.sample.image_wh_px, CUTOFF)
        counts: Array = map_counts(predicted, maps.numpy(), truth)[0]
        return counts

    def add(self, inquiry: Inquiry, counts: Array) -> None:
        """Take in the counts (7,) of an inquiry about an object."""
        truth = _truth_of(inquiry, self.run.image(inquiry.image).sample)
        assert truth is not None, "what was counted has a mask"
        self.counts[inquiry.id] = counts
        self.truths[inquiry.id] = truth
        self.images[inquiry.id] = inquiry.image

    def outcome(self, choosing_ids: Collection[str]) -> Row | None:
        """Score the masks, and beside them those of the best block of values and of what knows
        nothing; None where there is no mask.

        chosen: ids of the inquiries by which heads, and the block of values, are chosen.
        """
        names = list(self.counts)
        if not names:
            return None
        # The chosen map is one block, scored as the blocks of values are.
        attention = np.stack([self.counts[name] for name in names])[None]
        row: Row = {"metric": METRIC, **self._scores(attention, names), "chance": None}
        guesses = [
            {
                "predictor": name,
                METRIC: float(refcoco_scores(_units(draws).sum(axis=1))[METRIC].mean()),
            }
            for name, draws in self._guessed(names)
        ]
        best = best_row(guesses, METRIC)
        if best is not None:
            row |= {"chance": best[METRIC], "chance_kind": best["predictor"]}
        return row | {"values": self._values(attention, names, choosing_ids)}

    def _guessed(self, names: Sequence[str]) -> Iterator[tuple[str, Array]]:
        """Yield what knows nothing of the pictures gets, (draw, n, 7)."""
        truths = [(index, self.truths[name]) for index, name in enumerate(names)]

        def cut(maps: torch.Tensor, truth: TruthMask) -> Array:
            """Cut random maps as attention is cut."""
            return foreground(maps, truth.span, truth.mask.shape[::-1], CUTOFF)

        yield from guessed_counts(truths, cut, len(names), self.seed)

    def _values(
        self, attention: Array, names: Sequence[str], choosing_ids: Collection[str]
    ) -> Row | None:
        """Score the best block of values, chosen on the other half, on the same sentences."""
        if self.dataset is None or "value" not in self.run.config.kinds:
            return None
        try:
            blocks, measured, nonfinite, position_of = self._measured_values()
        except KvtoolError as error:
            return {"absent": str(error)}
        # The block of values is chosen on the half on which the heads were.
        first = [position_of[name] for name in choosing_ids if name in position_of]
        second = [position_of[name] for name in names if name in position_of]
        if not first or len(second) != len(names):
            return {"absent": "values have no sentences in common with attention"}
        choosing = refcoco_scores(_units(measured[:, first]).sum(axis=1))[METRIC]
        block = best_block(choosing, nonfinite)
        if block is None:
            return {"absent": f"no block of values has a score: {WHAT} in all of them"}
        values = measured[block : block + 1, second]
        ours, theirs = (self._table(counts, names) for counts in (attention, values))
        return {
            **blocks[block],
            **self._scores(values, names),
            **difference(ours, theirs, METRIC, self.seed),
        }

    def _measured_values(self) -> tuple[list[Row], Array, Array, Mapping[str, int]]:
        """Return all blocks of values, their counts (block, sentence, 7), how many values under
        each are not finite, and each sentence's place among them. Raises KvtoolError where the run
        lacks the vectors of sentences.
        """
        from kvtool.tasks.blocks import torch_device

        # Values cut out the object by the words' vectors, as the task of RefCOCO does.
        dataset: Any = self.dataset
        device = torch_device(self.device)
        task = ReferringExpression(dataset, sizes_of(self.run), device)
        geometry = self.run.config.model.geometry
        blocks: list[Row] = []
        measured: list[Array] = []
        nonfinite: list[Array] = []
        for layer in geometry.cached(self.run.config.layers):
            heads = range(geometry.shape(layer)[0])
            vectors = Layer(self.run, "value", layer, heads, device)
            measured.append(task.measure(vectors))
            # Counted as vectors are read, so after the layer is measured.
            nonfinite.append(vectors.nonfinite)
            blocks += [{"layer": layer, "kv_head": head} for head in heads]
        positions = {str(entry.sent_id): n for n, entry in enumerate(task.expressions)}
        return blocks, np.concatenate(measured), np.concatenate(nonfinite), positions

    def _table(self, counts: Array, names: Sequence[str]) -> Table:
        pictures = numbered([self.images[name] for name in names])
        return Table({}, _units(counts), refcoco_scores, clusters=pictures)

    def _scores(self, counts: Array, names: Sequence[str]) -> Row:
        """Return the metric of counts (1, n, 7) with its interval by picture."""
        assert counts.shape[-1] == COUNTS
        (row,) = table_rows([{}], self._table(counts, names), self.seed)
        return {name: row[name] for name in (METRIC, f"{METRIC}_low", f"{METRIC}_high", "n")}


def best_block(scores: Array, nonfinite: Array) -> int | None:
    """Return the block of the highest score, the first of equals; None where none has one.

    Args:
        scores: of each block, NaN where it has none.
        nonfinite: how many values under each are not finite; what is computed from such values
            means nothing.
    """
    ranked = np.where(np.isnan(scores) | (nonfinite > 0), -np.inf, scores)
    block = int(ranked.argmax())
    return block if np.isfinite(ranked[block]) else None


def _truth_of(inquiry: Inquiry, sample: Sample) -> TruthMask | None:
    """Return the true mask of an inquiry; None for one without."""
    if inquiry.mask is None:
        return None
    mask = inquiry.mask()
    # Void pixels count on neither side.
    keep = mask != VOID if (mask == VOID).any() else None
    return TruthMask(mask == 1, keep, sample.base())


def _units(counts: Array) -> Array:
    return foreground_units(counts[..., :2], counts[..., 2:4])
