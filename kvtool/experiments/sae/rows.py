"""The rows of a study: one for each layer, condition and SAE."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kvtool.experiments.sae.alignment import CHANCE
from kvtool.experiments.sae.batches import TEXTS
from kvtool.experiments.sae.describing import Describing
from kvtool.experiments.sae.fields import (
    DRAWS,
    interval_fields,
    overlap_fields,
    paired_scores,
    reconstruction_fields,
)
from kvtool.experiments.sae.items import feature_items
from kvtool.experiments.sae.matches import CaptionFeatures
from kvtool.experiments.sae.measure import DictionaryReader, Measured
from kvtool.experiments.sae.settings import Filters
from kvtool.experiments.sae.splices import Losses
from kvtool.experiments.sae.sums import ConditionSums, DirectionSums
from kvtool.features.concepts import shown_iou
from kvtool.features.transfer import Transfer, transfer
from kvtool.result import Row
from kvtool.stats.bootstrap import Array, bootstrap
from kvtool.stats.resampling import multinomial, resample

FIELDS = (
    *("layer", "condition", "sae", "n_images", "n_tokens", "n_outliers"),
    *("mse", "mse_token", "fvu", "fvu_low", "fvu_high", "fvu_text", "nmse", "cos", "bias"),
    *("l0", "l0_fraction", "above", "alive", "density_50", "density_90", "density_99"),
    *("norm", "norm_ratio", "overlap", "overlap_chance"),
    *("fvu_ratio", "fvu_ratio_low", "fvu_ratio_high"),
    *("fvu_difference", "fvu_difference_low", "fvu_difference_high"),
    *("l0_difference", "l0_difference_low", "l0_difference_high"),
    *("cos_difference", "cos_difference_low", "cos_difference_high"),
    *("transfer", "transfer_low", "transfer_high", "transfer_chance", "transfer_text", "iou"),
    *("n_concepts", "directions", "directions_low", "directions_high"),
    *("recall_1", "recall_5", "recall_10", "median_rank", "mrr"),
    *("recall_1_chance", "recall_5_chance", "recall_10_chance"),
    *("n_features", "match", "match_low", "match_high", "match_chance"),
    *("lift", "lift_low", "lift_high"),
    *("described", "described_low", "described_high", "described_chance"),
    *("delta_loss", "delta_loss_low", "delta_loss_high"),
    *("recovered", "recovered_low", "recovered_high"),
)
"""In their order; null where one does not apply. Differences are text less the condition, paired by
image; `fvu_ratio` is the condition's fvu over the text's."""

SPARSENESS = ("l0_fraction", "above", "alive", "density_50", "density_90", "density_99")
"""What tells how sparse a dictionary is: principal components are signed and never 0, so that their
rows have none of it."""

TRUTHS = {"text": "text", "text-prefix": "text-prefix", "other-image": "partners"}
"""What the tokens of a condition are scored against, where that is not the image's own masks."""


@dataclass(frozen=True)
class Scores:
    """The rows of a study, and what its curves over layers are made of.

    Attributes:
        rows: See FIELDS.
        items: Features of a few pictures, see kvtool.experiments.sae.items.
        resampled: By name ("fvu_ratio", "transfer", "directions") and layer, the measure of image
            tokens in each resample of the images, (draw,).
    """

    rows: list[Row]
    items: list[Row]
    resampled: dict[str, dict[int, Array]]


class RowMaker:
    """Makes rows of what was measured, layer by layer: numbers on disk are read one by one."""

    def __init__(self, measured: Measured, filters: Filters, describing: Describing) -> None:
        self.measured = measured
        self.filters = filters
        self.describing = describing
        self.subject = measured.streams.subject
        self.seed = self.subject.seed
        self.resampled: dict[str, dict[int, Array]] = {}
        self.items: list[Row] = []
        self._truths = {
            name: (truth.positions.read()[:, 0], truth.labels.read())
            for name, truth in measured.notes.truths.items()
        }

    def scores(self, conditions: tuple[str, ...], losses: Losses | None = None) -> Scores:
        """Return all rows by layer, SAE and condition; with the losses of spliced images."""
        rows = []
        # Directions need no SAE: they are told beside each of a layer's.
        for index, layer in enumerate(self.measured.streams.layers):
            directions = self._direction_fields(index)
            for name, by_condition in self._saes(index):
                for condition in conditions:
                    # What both count, such as concepts, is told of the SAE.
                    fields = directions.get(condition, {}) | by_condition.get(condition, {})
                    fields |= (losses or {}).get((layer, name, condition), {})
                    if fields:
                        labels = {"layer": layer, "condition": condition, "sae": name}
                        rows.append({key: (fields | labels).get(key) for key in FIELDS})
        return Scores(rows, self.items, self.resampled)

    # Features.

    def _saes(self, index: int) -> Iterator[tuple[str, dict[str, Row]]]:
        """Yield the name of each SAE of a layer and its fields by condition; "none" and nothing
        without any."""
        # An SAE and its controls are one group, beside the same captions.
        readers = [reader for reader in self.measured.readers if reader.index == index]
        if not readers:
            yield "none", {}
        for name in dict.fromkeys(reader.sae for reader in readers):
            group = [reader for reader in readers if reader.sae == name]
            captions = self._captions(group[0])
            fields: dict[str, Row] = {}
            for reader in group:
                fields |= self._feature_fields(reader, captions)
            yield name, fields

    def _captions(self, reader: DictionaryReader) -> CaptionFeatures:
        """Return the captions as an SAE reads them."""
        return CaptionFeatures(
            reader.sums["text"],
            reader.sums["image"],
            self.filters,
            reader.layer,
            self.subject.captions,
            self.describing,
            self.seed,
        )

    def _feature_fields(
        self, reader: DictionaryReader, captions: CaptionFeatures
    ) -> dict[str, Row]:
        """Return the fields of a dictionary's conditions."""
        fields = {}
        is_plain = captions.image is reader.sums.get("image")
        for condition, sums in reader.sums.items():
            row = reconstruction_fields(sums, self.seed)
            row |= self._beside_text(reader, condition, sums, captions.text)
            if condition == "pca":
                # Axes are not sparse, and no feature of theirs stands for a word.
                row |= dict.fromkeys(SPARSENESS)
            else:
                row |= self._transfer_fields(reader, condition, sums)
            # A turned SAE and axes have other features, which cannot be matched with the text's.
            if is_plain:
                presence = captions.text.sums.presence
                row |= overlap_fields(sums.sums.presence, presence, self.seed)
            if is_plain and condition not in TEXTS:
                row |= captions.fields(sums)
            elif condition == "text":
                row |= captions.described(captions.pooled, np.arange(len(self.subject)))
            fields[condition] = row
        # Another image's masks and captions are a control that needs no further pass.
        if is_plain:
            fields["other-image"] = self._other_image(reader, fields["image"], captions)
            for row in fields.values():
                row["transfer_text"] = fields["text"]["transfer"]
        return fields

    def _beside_text(
        self, reader: DictionaryReader, condition: str, sums: ConditionSums, text: ConditionSums
    ) -> Row:
        """Return the ratio and the differences to the text, paired by image, with intervals."""
        row: Row = {"norm_ratio": sums.sums.median_norm() / text.sums.median_norm()}
        if condition == "text":
            return row
        # Text and condition of an image are one unit: resamples draw them together.
        units = np.concatenate([text.sums.units(), sums.sums.units()], axis=1)
        score = paired_scores(len(text.sums.text_center), text.sums.m, sums.sums.m)
        for name, estimate in bootstrap(units, score, seed=self.seed, draws=DRAWS).items():
            row |= interval_fields(name, *map(float, estimate))
        # The image's resampled curve over layers gives the layer of alignment its interval.
        if condition == "image":
            weigh = multinomial(units, None, np.random.default_rng(self.seed))
            resampled = resample(units, score, weigh, DRAWS)["fvu_ratio"]
            # Of several SAEs of a layer the first counts.
            self.resampled.setdefault("fvu_ratio", {}).setdefault(reader.layer, resampled)
        return row

    def _transfer_fields(
        self, reader: DictionaryReader, condition: str, sums: ConditionSums
    ) -> Row:
        """Return how well the concepts' features find their patches, or words; `sums` are those of
        the tokens that a condition scores."""
        positions, labels = self._truths[TRUTHS.get(condition, "patches")]
        scores = sums.scores.read()
        columns = reader.selection.concepts
        estimate = self._transfer(scores, labels[:, columns], positions, columns)
        if condition == "image":
            self._note_image(reader, estimate)
        # Outliers have NaN scores, and count on neither side.
        usual = ~np.isnan(scores).any(axis=1)
        # A concept whose patches are scored has a score at every usual token.
        ious = [
            shown_iou(scores[usual, i], labels[usual, column], reader.selection.thresholds[i])
            for i, column in enumerate(columns)
            if self.subject.concepts[column] in estimate.by_concept
        ]
        return {
            **interval_fields("transfer", estimate.value, estimate.low, estimate.high),
            "transfer_chance": CHANCE if estimate.by_concept else None,
            "iou": float(np.nanmean(ious)) if np.isfinite(ious).any() else None,
            "n_concepts": len(estimate.by_concept),
        }

    def _note_image(self, reader: DictionaryReader, estimate: Transfer) -> None:
        """Keep the resamples of the image's transfer, and the features of a few pictures."""
        if len(estimate.resampled):
            self.resampled.setdefault("transfer", {}).setdefault(reader.layer, estimate.resampled)
        self.items += feature_items(
            reader,
            self._captions(reader),
            self.subject,
            self.measured.notes.pieces,
            estimate.by_concept,
            self.describing.of_layer(reader.layer),
        )

    def _other_image(self, reader: DictionaryReader, image: Row, captions: CaptionFeatures) -> Row:
        """Return the image's tokens against another image's masks and captions; how they are
        reconstructed is the same."""
        sums = reader.sums["image"]
        # Images without a partner of their grid are left out of the control.
        partners = self.subject.partners
        paired = partners >= 0
        presence = captions.text.sums.presence[partners[paired]]
        return (
            image
            | self._transfer_fields(reader, "other-image", sums)
            | overlap_fields(sums.sums.presence[paired], presence, self.seed)
            | captions.fields(sums, partners)
        )

    # Directions.

    def _direction_fields(self, index: int) -> dict[str, Row]:
        """Return the fields of a layer that no SAE is needed for, by condition."""
        fields = {}
        for (position, condition), sums in self.measured.directions.items():
            if position == index:
                fields[condition] = self._directed(index, condition, sums)
                if condition == "image":
                    fields["other-image"] = self._directed(index, "other-image", sums)
        return fields

    def _directed(self, index: int, condition: str, sums: DirectionSums) -> Row:
        positions, labels = self._truths[TRUTHS.get(condition, "patches")]
        columns = self.measured.words[index].concepts
        estimate = self._transfer(sums.scores.read(), labels[:, columns], positions, columns)
        if condition == "image" and len(estimate.resampled):
            layer = self.measured.streams.layers[index]
            self.resampled.setdefault("directions", {})[layer] = estimate.resampled
        return {
            "n_images": int((sums.n_tokens > 0).sum()),
            "n_tokens": int(sums.n_tokens.sum()),
            "n_outliers": sums.n_outliers,
            "norm": sums.median_norm(),
            "n_concepts": len(estimate.by_concept),
            **interval_fields("directions", estimate.value, estimate.low, estimate.high),
        }

    def _transfer(self, scores: Array, labels: Array, positions: Array, columns: Array) -> Transfer:
        """Return how well columns of scores (token, concept) find their concepts; outliers, which
        have no score, count nowhere."""
        if not len(columns):
            return transfer({}, {}, positions[:0])
        usual = ~np.isnan(scores).any(axis=1)
        names = [self.subject.concepts[column] for column in columns]
        return transfer(
            {name: scores[usual, i] for i, name in enumerate(names)},
            {name: labels[usual, i] for i, name in enumerate(names)},
            positions[usual],
            seed=self.seed,
            draws=DRAWS,
        )
