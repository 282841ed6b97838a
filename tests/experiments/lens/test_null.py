"""Scores that know nothing: what the interval, the permuted labels and the ranks say of them."""

from __future__ import annotations

import numpy as np
import pytest

from kvtool.experiments.lens.measures import measure_row, ranks_of
from kvtool.experiments.lens.patches import LabeledPatches

N_IMAGES = 60
N_PATCHES = 12
N_CONCEPTS = 8


def patches(rng: np.random.Generator) -> LabeledPatches:
    """Every image shows some concepts on a third of its patches; one patch in ten is unsure."""
    is_in_image = rng.random((N_IMAGES, 1, N_CONCEPTS)) < 0.3
    labels = (is_in_image & (rng.random((N_IMAGES, N_PATCHES, N_CONCEPTS)) < 0.35)).astype(np.int8)
    labels[rng.random(labels.shape) < 0.1] = -1
    return LabeledPatches(
        concepts=tuple(f"concept {index}" for index in range(N_CONCEPTS)),
        tokens={f"image {index}": np.arange(N_PATCHES) for index in range(N_IMAGES)},
        labels=labels.reshape(-1, N_CONCEPTS),
        skipped=(),
    )


def noise(rng: np.random.Generator) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Scores that patches of an image share in part, whatever they show."""
    level = np.repeat(rng.standard_normal((N_IMAGES, 1)), N_PATCHES, axis=0)
    return rng.standard_normal((N_IMAGES * N_PATCHES, N_CONCEPTS)) + level


@pytest.mark.slow
def test_intervals_of_scores_that_know_nothing_hold_chance() -> None:
    n_draws = 200
    n_covered = 0
    permuted = []
    for draw in range(n_draws):
        rng = np.random.default_rng(draw)
        row = measure_row(0, "lens", noise(rng), patches(rng), seed=draw)
        n_covered += row["auroc_low"] <= row["chance"] <= row["auroc_high"]
        permuted.append(row["permuted"])
    assert 0.90 <= n_covered / n_draws <= 0.99
    assert np.mean(permuted) == pytest.approx(0.5, abs=0.01)


def test_scores_that_rise_on_any_thing_are_told_by_the_permuted_labels() -> None:
    rng = np.random.default_rng(1)
    labeled = patches(rng)
    is_thing = (labeled.labels == 1).any(axis=1)
    scores = noise(rng) + 3 * is_thing[:, None]
    row = measure_row(0, "lens", scores, labeled)
    assert row["auroc_low"] > 0.6
    assert row["permuted"] > row["auroc_low"] - 0.1
    specific = measure_row(0, "lens", noise(rng) + 3 * (labeled.labels == 1), labeled)
    assert specific["auroc_low"] > 0.9
    assert specific["permuted"] == pytest.approx(0.5, abs=0.06)


def test_patches_that_were_not_read_and_concepts_without_a_score_do_not_count() -> None:
    rng = np.random.default_rng(2)
    labeled = patches(rng)
    scores = noise(rng)
    scores[: 5 * N_PATCHES] = np.nan
    scores[:, 3] = np.nan
    row = measure_row(4, "lens", scores, labeled, text=float("nan"))
    assert (row["layer"], row["n_images"], row["n_concepts"]) == (4, N_IMAGES - 5, N_CONCEPTS - 1)
    assert row["text"] is None
    nothing = measure_row(0, "lens", np.full_like(scores, np.nan), labeled)
    assert (nothing["n_images"], nothing["auroc"], nothing["permuted"]) == (0, None, None)


def test_ranks_are_medians_over_concepts() -> None:
    labels = np.array([[1, 0], [1, -1], [0, 1], [0, 1], [-1, 0]], np.int8)
    ranks = np.array([[3, 50], [5, 60], [100, 1], [200, 21], [7, np.nan]])
    assert ranks_of(ranks, labels) == {"rank": 7.5, "rank_background": 100.0, "top_10": 0.75}
    assert ranks_of(np.full((5, 2), np.nan), labels) == {}
