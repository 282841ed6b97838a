"""How much of what a model uses of its image tokens a reconstruction gives back, by the loss of
captions; see kvtool.models.splice.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kvtool.stats.bootstrap import Array, bootstrap, ratio


class Splice(NamedTuple):
    """Losses with the stream at image tokens replaced.

    Attributes:
        delta_loss: How much the caption's loss grows, the mean over images in nats a token; with
            its 95 % interval over images.
        recovered: The share of what the mean image vector loses that the reconstruction keeps: 1
            for nothing lost, 0 for as much, below 0 for more. NaN where the mean image vector loses
            nothing, as after the last layer, whose output at image tokens nobody reads.
    """

    delta_loss: float
    delta_loss_low: float
    delta_loss_high: float
    recovered: float
    recovered_low: float
    recovered_high: float


def splice_scores(
    plain: Array, reconstructed: Array, averaged: Array, *, seed: int = 0, draws: int = 1000
) -> Splice:
    """Return what a reconstruction loses, over images.

    Args:
        plain: The loss of each image's caption with nothing replaced, (image,).
        reconstructed: The loss with the stream's reconstruction in its place.
        averaged: The loss with the mean image vector in its place.
        seed: The random seed of the intervals.
        draws: The number of resamples.
    """
    # Losses as differences to the plain run, and a 1 that counts images.
    units = np.stack([reconstructed - plain, averaged - plain, np.ones(len(plain))], axis=-1)
    if not len(units):
        return Splice(*[float("nan")] * 6)

    def scores(sums: Array) -> dict[str, Array]:
        # What the mean vector does not lose cannot be recovered.
        loses = np.where(sums[..., 1] > 0, sums[..., 1], 0.0)
        return {
            "delta_loss": ratio(sums[..., 0], sums[..., 2]),
            "recovered": 1 - ratio(sums[..., 0], loses),
        }

    estimates = bootstrap(units, scores, seed=seed, draws=draws)
    return Splice(*(float(end) for name in ("delta_loss", "recovered") for end in estimates[name]))
