"""From which layer on image tokens read as text does, and where a curve over layers changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

MOST_RATIO = 1.25
"""An image's fvu is text-like where it is at most so many times the text's."""
NEAR_BEST = 0.9
"""Transfer counts as reached from so much of its highest value over the layers on."""
CHANCE = 0.5
LEAST_TRANSFER = 0.6
"""What knows nothing of the image reaches up to 0.58 where words are few (docs/sae.md); nothing
below this counts as alignment."""
LEAST_LAYERS = 4
"""Fewer layers have no change point."""


@dataclass(frozen=True)
class LayerCurve:
    """A measure over layers.

    Attributes:
        layers: Their numbers, rising.
        values: (layer,), NaN where it is not defined.
        resampled: (draw, layer), of the same resamples of images in every layer.
    """

    layers: tuple[int, ...]
    values: Array
    resampled: Array

    def interval(self) -> tuple[Array, Array]:
        """Return the ends of the 95 % interval of each layer."""
        low, high = np.quantile(self.resampled, [0.025, 0.975], axis=0)
        return low, high


def alignment_by_fvu(ratios: LayerCurve) -> dict[str, Any]:
    """Return the first layer from which on the interval of log(fvu of image / fvu of text) stays
    below log MOST_RATIO; see `_layer_of`.

    Args:
        ratios: The condition's fvu over the text's.
    """
    _, high = ratios.interval()
    # A resample has no interval: its ends are taken to be as far away as those of the estimate.
    ends = ratios.resampled * (high / ratios.values)
    return {"by": "fvu", **_layer_of(ratios.layers, high < MOST_RATIO, ends < MOST_RATIO)}


def alignment_by_transfer(transfer: LayerCurve) -> dict[str, Any]:
    """Return the first layer from which on transfer stays above LEAST_TRANSFER with its interval,
    and above NEAR_BEST of its highest value; see `_layer_of`."""
    # In a resample the lower end moves with the curve: its distance to the curve is kept.
    low, _ = transfer.interval()
    draws = transfer.resampled
    low_draws = draws - (transfer.values - low)
    holds, resampled = (
        (values > NEAR_BEST * values.max(axis=1, keepdims=True)) & (ends > LEAST_TRANSFER)
        for values, ends in ((transfer.values[None], low[None]), (draws, low_draws))
    )
    return {"by": "transfer", **_layer_of(transfer.layers, holds[0], resampled)}


def _layer_of(layers: tuple[int, ...], holds: Array, resampled: Array) -> dict[str, Any]:
    """Return the first layer from which on something holds to the end, with the 95 % interval of
    it over resamples.

    Where it does not hold in the last layer, there is none; an end of the interval is None where
    that many resamples have none.
    """
    # Infinity stands for no layer, so that resamples without one count in the quantiles.
    numbers = np.array([*map(float, layers), np.inf])
    first = int(_first_to_the_end(holds[None])[0])
    first_layers = numbers[_first_to_the_end(resampled)]
    # Of layers, which are whole numbers, those that were drawn are the ends.
    low, high = np.quantile(first_layers, [0.025, 0.975], method="closest_observation")
    return {
        "layer": _whole(numbers[first]),
        "low": _whole(low),
        "high": _whole(high),
    }


def _first_to_the_end(holds: Array) -> Array:
    """Return the first column from which on a row (row, layer) is true; the number of columns where
    its last is not."""
    n_true = np.logical_and.accumulate(holds[:, ::-1], axis=1).sum(axis=1)
    return np.asarray(holds.shape[1] - n_true)


def _whole(number: float) -> int | None:
    return int(number) if np.isfinite(number) else None


def change_point(by: str, curve: LayerCurve) -> dict[str, Any]:
    """Return the layer at which a curve changes its level: the first of the second of two segments
    whose means leave the least squares; with the 95 % interval over resamples.

    None for fewer than LEAST_LAYERS layers, and for a curve that is not defined in some.
    """
    is_defined = np.isfinite(curve.values).all() and np.isfinite(curve.resampled).all()
    if len(curve.layers) < LEAST_LAYERS or not is_defined:
        return {"by": by, "layer": None, "low": None, "high": None}
    numbers = np.array(curve.layers)
    # The interval is of whole layers, those at which resampled curves change.
    splits = numbers[_best_split(curve.resampled)]
    low, high = np.quantile(splits, [0.025, 0.975], method="closest_observation")
    (layer,) = numbers[_best_split(curve.values[None])]
    return {"by": by, "layer": int(layer), "low": int(low), "high": int(high)}


def _best_split(curves: Array) -> Array:
    """Return the column at which the second segment of each row (row, layer) begins."""
    n_layers = curves.shape[1]
    # Every split has one mean on each side; the best leaves the least squares.
    residuals = [
        _squares(curves[:, :split]) + _squares(curves[:, split:]) for split in range(1, n_layers)
    ]
    return np.asarray(1 + np.argmin(residuals, axis=0))


def _squares(segments: Array) -> Array:
    """Return the sum of squares of each row (row, layer) about its mean."""
    return np.asarray(((segments - segments.mean(axis=1, keepdims=True)) ** 2).sum(axis=1))
