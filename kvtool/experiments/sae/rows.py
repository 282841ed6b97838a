"""The rows of a study: one for each layer, condition and SAE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kvtool.experiments.sae.alignment import CHANCE
from kvtool.experiments.sae.conditions import CONDITIONS
from kvtool.experiments.sae.measure import Measured, Reader
from kvtool.experiments.sae.sums import ConditionSums, DirectionSums
from kvtool.features.concepts import shown_iou
from kvtool.features.reconstruction import UNITS, overlap, reconstruction_scores
from kvtool.features.transfer import Transfer, transfer
from kvtool.result import Row
from kvtool.stats.bootstrap import Array, bootstrap, ratio
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
    *("n_features", "match", "match_low", "match_high", "match_chance", "lift"),
    *("described", "described_chance", "delta_loss", "recovered"),
)
"""In their order; null where one does not apply. Differences are text less the condition, paired by
image; `fvu_ratio` is the condition's fvu over the text's."""

QUANTILES = (0.5, 0.9, 0.99)
"""Of the features' token densities."""
PAIRED = ("fvu", "l0", "cos")
"""Scores whose differences to the text's are reported."""
PERMUTATIONS = 10
"""Of captions, by which the chance of overlap is told."""
DRAWS = 1000


@dataclass(frozen=True)
class Scores:
    """The rows of a study, and what its curves over layers are made of.

    Attributes:
        rows: See FIELDS.
        resampled: By name ("fvu_ratio", "transfer", "directions") and layer, the measure of image
            tokens in each resample of the images, (draw,).
    """

    rows: list[Row]
    resampled: dict[str, dict[int, Array]]


class RowMaker:
    """Makes rows of what was measured, layer by layer: numbers on disk are read one by one."""

    def __init__(self, measured: Measured) -> None:
        self.measured = measured
        self.subject = measured.streams.subject
        self.seed = self.subject.seed
        self.resampled: dict[str, dict[int, Array]] = {}
        self._truths = {
            name: (truth.places.read()[:, 0], truth.labels.read())
            for name, truth in measured.truths.items()
        }

    def scores(self, conditions: tuple[str, ...]) -> Scores:
        """Return all rows by layer, SAE and condition."""
        rows = []
        layers = self.measured.streams.layers
        for index, layer in enumerate(layers):
            directions = self._direction_fields(index)
            readers = [reader for reader in self.measured.readers if reader.index == index]
            names = list(dict.fromkeys(reader.sae for reader in readers)) or ["none"]
            for name in names:
                by_condition = {}
                for reader in readers:
                    if reader.sae == name:
                        by_condition |= self._feature_fields(reader)
                for condition in conditions:
                    fields = by_condition.get(condition, {}) | directions.get(condition, {})
                    if fields:
                        labels = {"layer": layer, "condition": condition, "sae": name}
                        rows.append(self._completed({**fields, **labels}))
        return Scores(rows, self.resampled)

    def _completed(self, fields: Row) -> Row:
        """Return a row with every field in its order; what does not apply is None."""
        return {name: fields.get(name) for name in FIELDS}

    # Features.

    def _feature_fields(self, reader: Reader) -> dict[str, Row]:
        """Return the fields of a dictionary's conditions."""
        text = self._text_sums(reader)
        caption_presence = None if text is None else text.sums.presence
        fields = {}
        for condition, sums in reader.sums.items():
            row = reconstruction_fields(sums)
            if text is not None:
                row |= self._beside_text(reader, condition, sums, text)
            if condition != "pca":
                row |= self._transfer_fields(reader, condition, sums)
            if caption_presence is not None and condition not in ("pca", "random-sae"):
                row |= self._overlap_fields(sums.sums.presence, caption_presence)
            fields[condition] = row
        if "image" in reader.sums:
            fields["other-image"] = self._other_image(reader, fields["image"], caption_presence)
        text_transfer = fields.get("text", {}).get("transfer")
        for row in fields.values():
            row["transfer_text"] = text_transfer
        return fields

    def _text_sums(self, reader: Reader) -> ConditionSums | None:
        """Return the sums of the text through the SAE that a dictionary stands for."""
        for other in self.measured.readers:
            if (other.index, other.sae) == (reader.index, reader.sae) and "text" in other.sums:
                return other.sums["text"]
        return None

    def _beside_text(
        self, reader: Reader, condition: str, sums: ConditionSums, text: ConditionSums
    ) -> Row:
        """Return the ratio and the differences to the text, paired by image, with intervals."""
        row: Row = {"norm_ratio": sums.sums.median_norm() / text.sums.median_norm()}
        if condition == "text":
            return row
        units = np.concatenate([text.sums.units(), sums.sums.units()], axis=1)
        d = len(text.sums.text_center)
        score = paired_scores(d, text.sums.m, sums.sums.m)
        for name, estimate in bootstrap(units, score, seed=self.seed, draws=DRAWS).items():
            row |= interval_fields(name, *map(float, estimate))
        if condition == "image":
            weigh = multinomial(units, None, np.random.default_rng(self.seed))
            drawn = resample(units, score, weigh, DRAWS)["fvu_ratio"]
            self.resampled.setdefault("fvu_ratio", {}).setdefault(reader.layer, drawn)
        return row

    def _transfer_fields(
        self, reader: Reader, condition: str, sums: ConditionSums, truth: str | None = None
    ) -> Row:
        places, labels = self._truths[truth or truth_of(condition)]
        scores = sums.scores.read()
        columns = reader.chosen.concepts
        found = self._transfer(scores, labels[:, columns], places, columns)
        if condition == "image" and truth is None and len(found.resampled):
            self.resampled.setdefault("transfer", {}).setdefault(reader.layer, found.resampled)
        usual = ~np.isnan(scores).any(axis=1)
        ious = [
            shown_iou(scores[usual, i], labels[usual, column], reader.chosen.thresholds[i])
            for i, column in enumerate(columns)
            if self.subject.concepts[column] in found.by_concept
        ]
        return {
            **interval_fields("transfer", found.value, found.low, found.high),
            "transfer_chance": CHANCE if found.by_concept else None,
            "iou": float(np.nanmean(ious)) if np.isfinite(ious).any() else None,
            "n_concepts": len(found.by_concept),
        }

    def _overlap_fields(self, presence: Array, caption_presence: Array) -> Row:
        rng = np.random.default_rng(self.seed)
        orders = [rng.permutation(len(presence)) for _ in range(PERMUTATIONS)]
        indices, chance = overlap(presence, caption_presence, orders)
        return {"overlap": float(indices.mean()), "overlap_chance": chance}

    def _other_image(self, reader: Reader, image: Row, caption_presence: Array | None) -> Row:
        """Return the image's tokens against another image's masks and captions; how they are
        reconstructed is the same."""
        sums = reader.sums["image"]
        row = image | self._transfer_fields(reader, "image", sums, "partners")
        if caption_presence is not None:
            paired = self.subject.partners >= 0
            row |= self._overlap_fields(
                sums.sums.presence[paired], caption_presence[self.subject.partners[paired]]
            )
        return row

    # Directions.

    def _direction_fields(self, index: int) -> dict[str, Row]:
        """Return the fields of a layer that no SAE is needed for, by condition."""
        fields = {}
        for (position, condition), sums in self.measured.directions.items():
            if position == index:
                fields[condition] = self._directed(index, condition, sums)
                if condition == "image":
                    other = self._directed(index, "other-image", sums)
                    fields["other-image"] = other
        return fields

    def _directed(self, index: int, condition: str, sums: DirectionSums) -> Row:
        places, labels = self._truths[truth_of(condition)]
        columns = self.measured.words[index].concepts
        found = self._transfer(sums.scores.read(), labels[:, columns], places, columns)
        if condition == "image" and len(found.resampled):
            layer = self.measured.streams.layers[index]
            self.resampled.setdefault("directions", {})[layer] = found.resampled
        return {
            "n_images": int((sums.n_tokens > 0).sum()),
            "n_tokens": int(sums.n_tokens.sum()),
            "n_outliers": sums.n_outliers,
            "norm": float(np.median(np.concatenate(sums.norms))),
            "n_concepts": len(found.by_concept),
            **interval_fields("directions", found.value, found.low, found.high),
        }

    def _transfer(self, scores: Array, labels: Array, places: Array, columns: Array) -> Transfer:
        """Return how well columns of scores (token, concept) find their concepts; outliers, which
        have no score, count nowhere."""
        usual = ~np.isnan(scores).any(axis=1)
        names = [self.subject.concepts[column] for column in columns]
        return transfer(
            {name: scores[usual, i] for i, name in enumerate(names)},
            {name: labels[usual, i] for i, name in enumerate(names)},
            places[usual],
            seed=self.seed,
            draws=DRAWS,
        )


def truth_of(condition: str) -> str:
    """Return the name of the truth that a condition's tokens are scored against."""
    return {"text": "text", "text-prefix": "text-prefix", "other-image": "partners"}.get(
        condition, "patches"
    )


def reconstruction_fields(sums: ConditionSums) -> Row:
    """Return how well vectors are given back, by how many features, and how long they are."""
    recon = sums.sums
    units = recon.units()
    tokens = units[:, UNITS.index("tokens")]
    n_tokens = float(tokens.sum())
    score = reconstruction_scores(len(recon.text_center), recon.m)
    fvu = bootstrap(units, lambda totals: {"fvu": score(totals)["fvu"]}, draws=DRAWS)["fvu"]
    densities = np.quantile(recon.counts / max(n_tokens, 1), QUANTILES)
    return {
        **{name: float(value) for name, value in score(units.sum(axis=0)).items()},
        "fvu_low": float(fvu.low),
        "fvu_high": float(fvu.high),
        "n_images": int((tokens > 0).sum()),
        "n_tokens": int(n_tokens),
        "n_outliers": sums.n_outliers,
        "above": float(ratio(sums.above.sum(), np.array(n_tokens))),
        "alive": float((recon.counts > 0).mean()),
        **{
            f"density_{round(100 * q)}": float(value)
            for q, value in zip(QUANTILES, densities, strict=True)
        },
        "norm": recon.median_norm(),
    }


def paired_scores(d: int, text_m: int, m: int) -> Any:
    """Return the function that turns sums of the text's units beside a condition's into the ratio
    of their fvu and their differences, text less condition."""
    of_text = reconstruction_scores(d, text_m)
    of_condition = reconstruction_scores(d, m)

    def scores(totals: Array) -> dict[str, Array]:
        text = of_text(totals[..., : len(UNITS)])
        condition = of_condition(totals[..., len(UNITS) :])
        differences = {f"{name}_difference": text[name] - condition[name] for name in PAIRED}
        return {"fvu_ratio": ratio(condition["fvu"], text["fvu"]), **differences}

    return scores


def interval_fields(name: str, value: float, low: float, high: float) -> Row:
    """Return a value and its interval under their names; None where it is not defined."""
    numbers = {name: value, f"{name}_low": low, f"{name}_high": high}
    return {key: number if np.isfinite(number) else None for key, number in numbers.items()}
