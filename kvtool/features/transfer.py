"""Transfer: whether what stands for a word in text finds the word's patches in pictures.

For each concept (a category's word) a feature of an SAE, or a direction, is chosen on text alone;
then its activation tells patches that show the concept from those that do not. 0.5 is chance, and
since nothing is chosen on pictures, no winner's luck is in it (docs/sae.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from kvtool.stats.bootstrap import Array, ratio, resample_weights

GROUPS = 256
"""More images than this are resampled in so many groups."""
DRAWS = 1000
PERMUTATIONS = 5
"""How often concepts are given the labels of others."""
_CANDIDATES = 2048
"""So many features are ranked at a time."""


class ChosenFeature(NamedTuple):
    """The feature of a concept, and how well it tells the concept's words from other words."""

    feature: int
    auroc: float


class Transfer(NamedTuple):
    """How well the concepts' patches are found.

    Attributes:
        value: The mean AUROC over concepts; low and high are its 95 % interval over images, for
            these concepts. All are NaN where no concept has patches.
        by_concept: The AUROC of each concept that has patches.
        resampled: The mean AUROC of each resample of the images, (draw,), so that layers that see
            the same images can be compared; empty where no concept has patches.
    """

    value: float
    low: float
    high: float
    by_concept: dict[str, float]
    resampled: Array


def auroc(scores: Array, is_positive: Array) -> Array:
    """Compute the area under the ROC curve of each column, ties counted half.

    Args:
        scores: (n, column).
        is_positive: (n,) bool.

    Returns (column,): the probability that a positive scores above a negative; NaN where either is
    missing.
    """
    from scipy.stats import rankdata

    # Mann and Whitney's U, divided by the number of pairs, is the area.
    n_positive = int(is_positive.sum())
    n_negative = len(is_positive) - n_positive
    # The ranks' sum of the positives, less that among themselves, counts the pairs they win.
    ranks = rankdata(scores, axis=0)[is_positive].sum(axis=0)
    wins = ranks - n_positive * (n_positive + 1) / 2
    return ratio(wins, np.full_like(wins, n_positive * n_negative))


def choose_features(features: Array, labels: Mapping[str, Array]) -> dict[str, ChosenFeature]:
    """Choose the feature of each concept by words alone.

    Args:
        features: (token, m), of text.
        labels: For each concept, which tokens are its word, (token,) bool.

    Returns the feature of the highest AUROC for each concept, the first of equals. A concept whose
    word fires no feature, or does not occur, has none.
    """
    is_active = features != 0
    features_by_concept: dict[str, ChosenFeature] = {}
    for concept, is_word in labels.items():
        # A feature that is silent on all of the word's tokens cannot rank them above others.
        candidates = np.flatnonzero(is_active[is_word].any(axis=0))
        if not candidates.size or is_word.all():
            continue
        # A few features at a time: ranks are copies in double precision.
        areas = np.concatenate(
            [
                auroc(features[:, candidates[start : start + _CANDIDATES]], is_word)
                for start in range(0, len(candidates), _CANDIDATES)
            ]
        )
        best = int(areas.argmax())
        features_by_concept[concept] = ChosenFeature(int(candidates[best]), float(areas[best]))
    return features_by_concept


def word_directions(states: Array, labels: Mapping[str, Array]) -> dict[str, Array]:
    """Compute a direction for each word without any SAE.

    It is the word's mean state less the mean of the other words' states, divided by the variance
    of each channel over all of the text, so that channels of great spread do not decide.

    Args:
        states: (token, d), of text.
        labels: For each word, which tokens are it, (token,) bool; words of one kind, which are told
            from each other.

    Returns (d,) for each word that occurs; none where no other word occurs.
    """
    # A channel that never varies tells nothing: it keeps its scale.
    variance = states.var(axis=0, dtype=np.float64)
    spread = np.where(variance > 0, variance, 1.0)
    occurring = {word: is_word for word, is_word in labels.items() if is_word.any()}
    means = {word: states[is_word].mean(axis=0) for word, is_word in occurring.items()}
    directions = {}
    for word in means:
        # Each other word counts once, however often it occurs.
        neighbor_means = [mean for neighbor, mean in means.items() if neighbor != word]
        if neighbor_means:
            directions[word] = (means[word] - np.mean(neighbor_means, axis=0)) / spread
    return directions


def transfer(
    scores: Mapping[str, Array],
    labels: Mapping[str, Array],
    images: Array,
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Transfer:
    """Measure how well scores find the patches that show their concepts.

    Args:
        scores: For each concept the activation at every patch, (patch,).
        labels: For each concept 1 where a patch shows it, 0 where not, -1 where neither is sure.
        images: The image of each patch, (patch,) whole numbers.
        seed: The random seed of the interval.
        draws: The number of resamples.

    A concept without both kinds of patches is left out. Images are resampled and concepts are not:
    they are all that the data set has, and to resample both counts what they share three times
    (such intervals held the truth in 400 of 400 draws of a null).
    """
    groups = _groups(images)
    n_groups = int(groups.max(initial=-1)) + 1
    pairs = {
        concept: _comparisons(scores[concept], labels[concept], groups, n_groups)
        for concept in scores
        if {0, 1} <= set(np.unique(labels[concept]).tolist())
    }
    if not pairs:
        return Transfer(np.nan, np.nan, np.nan, {}, np.empty(0))
    # The value itself: every image weighs 1.
    ones = np.ones((1, n_groups))
    areas = {concept: float(_area(counts, ones)[0]) for concept, counts in pairs.items()}
    rng = np.random.default_rng(seed)
    image_weights = resample_weights(n_groups, draws, rng)
    # One row a draw: the AUROC of each concept over the images drawn, (draw, concept).
    resampled = np.stack([_area(counts, image_weights) for counts in pairs.values()], axis=1)
    # A draw may hold no positive of a rare concept: its mean is over the others.
    defined = ~np.isnan(resampled)
    means = ratio(np.nan_to_num(resampled).sum(axis=1), defined.sum(axis=1).astype(float))
    low, high = np.nanquantile(means, [0.025, 0.975])
    return Transfer(float(np.mean(list(areas.values()))), float(low), float(high), areas, means)


def permuted_auroc(scores: Array, labels: Array, *, seed: int = 0) -> float:
    """Return how well the scores of one concept find the patches of another, the mean AUROC.

    It is 0.5 where scores speak of their own concept alone, and more where they rise on any thing.
    Patches that show the scores' own concept are left out.

    Args:
        scores: The activation of each concept at every patch, (patch, concept).
        labels: 1 where a patch shows a concept, 0 where not, -1 where neither is sure, (patch,
            concept).
        seed: The random seed of the permutations; each gives every concept another one's labels.

    NaN for fewer than two concepts, and where no other one's patches can be told.
    """
    n_concepts = scores.shape[1]
    # Each concept gets the labels of those that follow it in a random order: every shift is a
    # permutation without fixed points.
    order = np.random.default_rng(seed).permutation(n_concepts)
    areas = [np.nan]
    for position, concept in enumerate(order):
        # Sorted once for all strangers.
        ordered = np.sort(scores[:, concept])
        for shift in range(1, min(n_concepts, PERMUTATIONS + 1)):
            stranger = order[(position + shift) % n_concepts]
            areas.append(
                _area_of_stranger(
                    scores[:, concept], ordered, labels[:, concept] == 1, labels[:, stranger]
                )
            )
    # Shifts of a single concept, or strangers without patches, leave nothing.
    defined = np.array(areas)[~np.isnan(areas)]
    return float(defined.mean()) if defined.size else float("nan")


class _Comparisons(NamedTuple):
    """Comparisons of positives and negatives by the groups of images that they come from.

    wins: (group of the positive, group of the negative), ties counted half. positives, negatives:
    their numbers, (group,).
    """

    wins: Array
    positives: Array
    negatives: Array


def _groups(images: Array) -> Array:
    """Number the images from 0 on; of more than GROUPS images, the groups they fall into."""
    # Groups of neighbors in number; sizes differ by one at most.
    _, numbers = np.unique(images, return_inverse=True)
    count = int(numbers.max(initial=-1)) + 1
    return numbers if count <= GROUPS else numbers * GROUPS // count


def _comparisons(scores: Array, labels: Array, groups: Array, n_groups: int) -> _Comparisons:
    """Count, for each two groups, how often a positive of one beats a negative of the other."""
    is_positive = labels == 1
    positive_scores = scores[is_positive]
    positive_groups = groups[is_positive]
    wins = np.zeros((n_groups, n_groups))
    negatives = np.zeros(n_groups)
    # Negatives sorted by group, so that each group is one slice.
    order = np.argsort(groups[labels == 0], kind="stable")
    negative_scores = scores[labels == 0][order]
    bounds = np.searchsorted(groups[labels == 0][order], np.arange(n_groups + 1))
    for group in range(n_groups):
        # Ranks among the sorted negatives of a group: those below count, equals count half.
        rivals = np.sort(negative_scores[bounds[group] : bounds[group + 1]])
        negatives[group] = len(rivals)
        below = np.searchsorted(rivals, positive_scores, "left")
        not_above = np.searchsorted(rivals, positive_scores, "right")
        # A rival below is in both counts, an equal in one: a win is 1, and a tie 1/2.
        halves = (below + not_above) / 2
        wins[:, group] = np.bincount(positive_groups, halves, minlength=n_groups)
    positives = np.bincount(positive_groups, minlength=n_groups).astype(np.float64)
    return _Comparisons(wins, positives, negatives)


def _area(counts: _Comparisons, weights: Array) -> Array:
    """Return the AUROC of weighted groups, one for each row of weights (draw, group)."""
    # An image drawn twice counts twice, as a positive and as a rival.
    wins = ((weights @ counts.wins) * weights).sum(axis=1)
    return ratio(wins, (weights @ counts.positives) * (weights @ counts.negatives))


def _area_of_stranger(scores: Array, ordered: Array, is_own: Array, labels: Array) -> float:
    """Return how well a concept's scores (patch,), also given in rising order, find the patches of
    another one by its labels (patch,); patches of the concept's own are left out.
    """
    # Patches with both concepts would win for the wrong reason.
    positives = scores[(labels == 1) & ~is_own]
    is_left_out = (labels != 0) | is_own
    # All patches less those that are left out, which are few and are soon in order.
    wins = _wins(positives, ordered) - _wins(positives, np.sort(scores[is_left_out]))
    n_negative = len(scores) - int(is_left_out.sum())
    return wins / (len(positives) * n_negative) if len(positives) and n_negative else np.nan


def _wins(positives: Array, ordered: Array) -> float:
    """Return how often positives beat rivals in rising order, ties counted half."""
    # Left counts rivals below, right those not above: their mean halves ties.
    sides = (np.searchsorted(ordered, positives, side) for side in ("left", "right"))
    return float(sum(side.sum() for side in sides)) / 2
