"""Whether what SAE features fire on in a picture is what they fire on in its caption.

Two measures, both over images and each beside its chance: caption retrieval (which caption's
features are nearest to the image's), and the match rate (whether one of an image's strongest
features fires in its caption). Features that fire nearly everywhere are left out of the match
first; see docs/sae.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import torch

from kvtool.stats.bootstrap import Array, Estimate, bootstrap, ratio
from kvtool.stats.proportions import widened

TOP_PATCHES = 3
"""A feature's activation in an image is its mean over so many patches: the maximum of hundreds
switches on nearly every feature.
"""
TOP_FEATURES = 3
MIN_FEATURES = 100
"""With fewer features a match rate says nothing."""
RANKS = (1, 5, 10)
_MOST_COMMON = 0.5
"""Features that fire in more of the captions do not tell captions apart."""


class Retrieval(NamedTuple):
    """How well images find their own captions among all.

    Attributes:
        recall_1, recall_5, recall_10: The share of images whose caption is among the first so many.
        median_rank: The median rank of the own caption, 1 the best.
        mrr: The mean of 1 over the rank.
        chance: By name, the same of a caption drawn at random in place of the own.
        low, high: By name, 95 % intervals over images for these captions; of median_rank none.
    """

    recall_1: float
    recall_5: float
    recall_10: float
    median_rank: float
    mrr: float
    chance: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]


class Match(NamedTuple):
    """How often one of an image's strongest features fires in its caption.

    Attributes:
        rate: The share of images; low and high are its 95 % interval over images.
        chance: The share with another image's caption, over all pairs of two images.
        lift: The rate less chance, with its interval.
    """

    rate: float
    low: float
    high: float
    chance: float
    lift: float
    lift_low: float
    lift_high: float


def pool_tokens(features: torch.Tensor, top: int = TOP_PATCHES) -> Array:
    """Return each feature's activation in an image or a text, (m,) float32.

    It is the mean of its `top` largest activations over tokens (token, m); tokens that are not
    there count as 0. With 1 it is the maximum, which is what fits a caption.
    """
    n_tokens, m = features.shape
    if not n_tokens:
        return np.zeros(m, np.float32)
    # Divided by `top`, not by how many there are: tokens that are not there count as 0.
    largest = features.topk(min(top, n_tokens), dim=0).values
    return np.asarray(largest.sum(dim=0).div(top).float().cpu().numpy())


def eligible_features(
    image_presence: Array,
    text_presence: Array,
    text_density: Array | None,
    max_presence: float = 0.05,
    max_density: float = 0.005,
    presence_of: Literal["both", "image", "text"] = "both",
) -> Array:
    """Tell which features are specific enough to be compared, (m,) bool.

    Args:
        image_presence: Which features fire on a token of each image, (image, m) bool.
        text_presence: Which fire on a token of each text, (text, m) bool.
        text_density: The share of text tokens that each fires on, (m,), NaN where it is not known;
            or None.
        max_presence: Features that fire in a larger share of images, or of texts, are left out.
        max_density: So are those that fire on a larger share of text tokens.
        presence_of: Whose presence counts. With both, what is dense in either is left out, so that
            images and texts rank the same features.

    A feature that never fires where it is looked at is not eligible either.
    """
    sides = {"image": (image_presence,), "text": (text_presence,)}
    shares = [
        presence.mean(axis=0)
        for presence in sides.get(presence_of, (image_presence, text_presence))
    ]
    eligible: Array = np.all([share <= max_presence for share in shares], axis=0)
    eligible &= np.any([share > 0 for share in shares], axis=0)
    if text_density is not None:
        # A density that is not known compares as false, and leaves nothing out.
        eligible &= ~(text_density > max_density)
    return eligible


def top_features(pooled: Array, eligible: Array, count: int = TOP_FEATURES) -> Array:
    """Return the strongest eligible features of each image, (image, count), the strongest first.

    Args:
        pooled: Each feature's activation in each image, (image, m).
        eligible: Which features count, (m,) bool.
        count: How many features.

    Where fewer fire, -1 fills up.
    """
    candidates = np.flatnonzero(eligible)
    strongest = np.full((len(pooled), count), -1)
    if not candidates.size:
        return strongest
    for image, activations in enumerate(pooled):
        values = activations[candidates]
        # Equals go by their number, so that no sorting algorithm decides.
        order = np.argsort(-values, kind="stable")[:count]
        # A feature that is silent in the image takes no place.
        order = order[values[order] > 0]
        strongest[image, : len(order)] = candidates[order]
    return strongest


def retrieval(
    image_vectors: Array, caption_vectors: Array, *, seed: int = 0, draws: int = 1000
) -> Retrieval:
    """Rank all captions for each image by the cosine of log(1 + f), each feature weighted by its
    inverse document frequency among the captions.

    Args:
        image_vectors: Pooled activations of images, (image, m), see pool_tokens.
        caption_vectors: Those of their captions, (image, m), in the same order.
        seed: The random seed of the intervals.
        draws: The number of resamples.

    Features of no caption, and of more than half of them, do not count. Captions of equal score
    share the mean of their ranks. NaN where there is no image.
    """
    n = len(image_vectors)
    scores = _cosines(image_vectors, caption_vectors)
    ranks = np.empty((n, n))
    for image, row in enumerate(scores):
        ranks[image] = _ranks(row)
    own_ranks = ranks.diagonal()
    # A permuted caption is any of the captions alike: the mean over all pairs is what all
    # permutations give together.
    chance = {name: float(hits.mean()) for name, hits in _hits(ranks).items()} if n else {}
    units = np.stack([*_hits(own_ranks).values(), np.ones(n)], axis=-1)
    estimates = _means(units, list(_hits(own_ranks)), seed, draws)
    value = {name: float(estimate.value) for name, estimate in estimates.items()}
    return Retrieval(
        **{f"recall_{rank}": value[f"recall_{rank}"] for rank in RANKS},
        median_rank=float(np.median(own_ranks)) if n else float("nan"),
        mrr=value["mrr"],
        chance={**chance, "median_rank": float(np.median(ranks)) if n else float("nan")},
        low={name: float(estimate.low) for name, estimate in estimates.items()},
        high={name: float(estimate.high) for name, estimate in estimates.items()},
    )


def match_rate(top: Array, caption_presence: Array, *, seed: int = 0, draws: int = 1000) -> Match:
    """Count the images of which one of the strongest features fires in the image's caption.

    Args:
        top: The strongest features of each image, (image, count), -1 for none; see top_features.
        caption_presence: Which features fire on a content token of each image's caption,
            (image, m) bool.
        seed: The random seed of the intervals.
        draws: The number of resamples.

    Chance is the mean over all pairs of an image and another one's caption: what all permutations
    of the captions without a fixed point give together, so no permutation is drawn. It is NaN for
    a single image.
    """
    n = len(top)
    matches = np.zeros(n)
    per_image = np.zeros(n)
    per_caption = np.zeros(n)
    for image, hits in enumerate(_pair_matches(top, caption_presence)):
        matches[image] = hits[image]
        per_image[image] = hits.sum() - hits[image]
        per_caption += hits
    # Chance is over the captions of other images.
    per_caption -= matches
    n_others = max(n - 1, 1)
    chance = float(per_image.sum() / (n * (n - 1))) if n > 1 else float("nan")
    # What an image adds to the lift: its own match, less what it does to chance from both of its
    # sides, as an image and as the owner of a caption (the first term of Hoeffding's expansion).
    gains = matches - per_image / n_others - per_caption / n_others + chance
    units = np.stack([matches, gains, np.ones(n)], axis=-1)
    estimates = _means(units, ["rate", "lift"], seed, draws)
    rate, lift = estimates["rate"], estimates["lift"]
    return Match(
        float(rate.value),
        float(rate.low),
        float(rate.high),
        chance,
        float(lift.value),
        float(lift.low),
        float(lift.high),
    )


def _pair_matches(top: Array, presence: Array) -> Iterator[Array]:
    """Yield for each image which captions one of its features fires in, (caption,) bool."""
    # A row for each feature: a few of them are looked up at a time.
    by_feature = np.ascontiguousarray(presence.T)
    for features in top:
        yield by_feature[features[features >= 0]].any(axis=0)


def _cosines(image_vectors: Array, caption_vectors: Array) -> Array:
    """Return the cosine of each image and each caption, (image, caption); 0 for empty ones."""
    n = len(caption_vectors)
    frequency = (caption_vectors > 0).sum(axis=0)
    telling = np.flatnonzero((frequency > 0) & (frequency <= _MOST_COMMON * n))
    # Inverse document frequency among the captions.
    weights = np.log(n / frequency[telling])
    images, captions = (
        _unit(np.log1p(vectors[:, telling]) * weights)
        for vectors in (image_vectors, caption_vectors)
    )
    scores: Array = images @ captions.T
    return scores


def _unit(vectors: Array) -> Array:
    """Scale rows to length 1; those of length 0 stay."""
    return ratio(vectors, np.linalg.norm(vectors, axis=1, keepdims=True), empty=0.0)


def _ranks(scores: Array) -> Array:
    """Return the rank of each score, 1 for the highest; equals share the mean of theirs."""
    from scipy.stats import rankdata

    # Cosines of equal vectors differ in their last digits.
    return np.asarray(rankdata(-np.round(scores, 9)))


def _hits(ranks: Array) -> dict[str, Array]:
    """Return by name what each rank counts for."""
    recalls = {f"recall_{rank}": (ranks <= rank).astype(np.float64) for rank in RANKS}
    return {**recalls, "mrr": 1 / ranks}


def _means(units: Array, names: list[str], seed: int, draws: int) -> dict[str, Estimate]:
    """Return the mean of each number over units (unit, name + 1), whose last one counts them."""
    if not len(units):
        nothing = np.array(np.nan)
        return dict.fromkeys(names, Estimate(nothing, nothing, nothing))

    def scores(sums: Array) -> dict[str, Array]:
        return {name: ratio(sums[..., i], sums[..., -1]) for i, name in enumerate(names)}

    estimates = bootstrap(units, scores, seed=seed, draws=draws)
    # A lift is a difference, which the interval of a share does not fit.
    shares = dict.fromkeys((name for name in names if name != "lift"), 1.0)
    return widened(estimates, len(units), shares)
