"""Fields of a row that are computed from the sums of its condition."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtool.experiments.sae.sums import ConditionSums
from kvtool.features.reconstruction import UNITS, overlap, reconstruction_scores
from kvtool.result import Row
from kvtool.stats.bootstrap import Array, bootstrap, ratio

QUANTILES = (0.5, 0.9, 0.99)
"""Of the features' token densities."""
PAIRED = ("fvu", "l0", "cos")
"""Scores whose differences to the text's are reported."""
PERMUTATIONS = 10
"""Of captions, by which the chance of overlap is told."""
DRAWS = 1000


def reconstruction_fields(sums: ConditionSums, seed: int) -> Row:
    """Return how well vectors are given back, by how many features, and how long they are."""
    recon = sums.sums
    # Sums stand image by image, since images are what intervals resample.
    units = recon.units()
    tokens = units[:, UNITS.index("tokens")]
    n_tokens = float(tokens.sum())
    score = reconstruction_scores(len(recon.text_center), recon.m)
    # Only this ratio has an interval: it is what layers are compared by.
    fvu = bootstrap(units, lambda totals: {"fvu": score(totals)["fvu"]}, seed=seed, draws=DRAWS)[
        "fvu"
    ]
    # How often features fire, as quantiles over features: most are rare, some nearly always on.
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
    text_scores = reconstruction_scores(d, text_m)
    condition_scores = reconstruction_scores(d, m)

    def scores(totals: Array) -> dict[str, Array]:
        text = text_scores(totals[..., : len(UNITS)])
        condition = condition_scores(totals[..., len(UNITS) :])
        differences = {f"{name}_difference": text[name] - condition[name] for name in PAIRED}
        return {"fvu_ratio": ratio(condition["fvu"], text["fvu"]), **differences}

    return scores


def interval_fields(name: str, value: float, low: float, high: float) -> Row:
    """Return a value and its interval under their names; None where it is not defined."""
    numbers = {name: value, f"{name}_low": low, f"{name}_high": high}
    return {key: number if np.isfinite(number) else None for key, number in numbers.items()}


def overlap_fields(presence: Array, caption_presence: Array, seed: int) -> Row:
    """Return how much of the features of images (image, m) their captions have, and permuted
    captions."""
    rng = np.random.default_rng(seed)
    # Permuted captions tell what features have in common whatever the picture.
    orders = [rng.permutation(len(presence)) for _ in range(PERMUTATIONS)]
    indices, chance = overlap(presence, caption_presence, orders)
    return {"overlap": float(indices.mean()), "overlap_chance": chance}
