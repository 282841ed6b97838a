"""What patches show of a concept, such as a category's word, by its mask."""

from __future__ import annotations

import numpy as np

from kvtool.features.layers import Array, cell_shares
from kvtool.types import GridSpan

PRESENT, ABSENT, UNSURE = 1, 0, -1
"""Labels of a patch."""


def concept_labels(mask: Array, span: GridSpan) -> Array:
    """Return what each patch shows of a concept, (row * col,) int8, row-major.

    Args:
        mask: (H, W), 1 where the concept is, 0 where it is not, 255 void.
        span: The grid of the patches.

    A patch shows the concept where at least half of its pixels do (PRESENT), and does not where
    none of them does (ABSENT). In between, where pixels are void, and where the picture has none,
    neither is sure (UNSURE).
    """
    n_concept = cell_shares(mask == 1, span)
    n_background = cell_shares(mask == 0, span)
    # All pixels of a patch, void ones too: these keep it from being sure.
    n_pixels = cell_shares(np.ones(mask.shape, bool), span)
    labels = np.full(len(n_pixels), UNSURE, np.int8)
    labels[(n_background == n_pixels) & (n_pixels > 0)] = ABSENT
    labels[(2 * n_concept >= n_pixels) & (n_pixels > 0)] = PRESENT
    return labels


def word_threshold(activations: Array, is_word: Array) -> float:
    """Return the activation at which a feature tells a word from other tokens best.

    There the difference of the shares of words and of other tokens that reach it is largest
    (Youden's J): in the middle of the gap below the lowest word that counts, the highest of equals.

    Args:
        activations: (token,).
        is_word: (token,) bool, with some of both kinds.
    """
    # Between two words' activations only alarms are added: the best cut is at a word.
    words = np.sort(activations[is_word])
    remainder = np.sort(activations[~is_word])
    candidates = np.unique(words)
    # Shares of words and of other tokens that reach each candidate.
    hits = 1 - np.searchsorted(words, candidates, "left") / len(words)
    alarms = 1 - np.searchsorted(remainder, candidates, "left") / len(remainder)
    # From the highest down, so that argmax takes the highest of equals.
    lowest_word = candidates[::-1][(hits - alarms)[::-1].argmax()]
    # The next lower activation of any token, or 0 where that is higher.
    below = activations[activations < lowest_word].max(initial=min(0.0, lowest_word))
    return float((lowest_word + below) / 2)


def shown_iou(activations: Array, labels: Array, threshold: float) -> float:
    """Return intersection over union of the patches whose activation reaches a threshold and those
    that show a concept; NaN where neither is any.

    Args:
        activations: (patch,).
        labels: (patch,), see concept_labels; unsure patches count nowhere.
        threshold: The activation from which on a patch is predicted.
    """
    # Unsure patches are taken out of both sides of the union.
    is_sure = labels != UNSURE
    is_predicted = (activations >= threshold) & is_sure
    is_shown = labels == PRESENT
    n_union = int((is_predicted | is_shown).sum())
    return float((is_predicted & is_shown).sum()) / n_union if n_union else float("nan")
