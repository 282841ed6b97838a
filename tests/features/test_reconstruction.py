"""Scores of reconstructions: planted dictionaries with closed forms, and a slow reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kvtool.features.reconstruction import (
    UNITS,
    ReconstructionSums,
    overlap,
    reconstruction_scores,
)

D = 32
N_IMAGES = 40
N_TOKENS = 25


def planted(rng: np.random.Generator, noise: float = 0.0) -> tuple[Any, Any]:
    """Tokens (image, token, d) with three of 32 orthonormal directions each, and the codes."""
    codes = np.zeros((N_IMAGES, N_TOKENS, D), np.float32)
    for image in range(N_IMAGES):
        for token in range(N_TOKENS):
            active = rng.choice(D, 3, replace=False)
            codes[image, token, active] = rng.uniform(1, 2, 3)
    return codes + noise * rng.standard_normal(codes.shape).astype(np.float32), codes


def add_all(vectors: Any, center: float = 0.0) -> ReconstructionSums:
    """Sums of an SAE whose features are the 32 axes, active above 1/2."""
    means = torch.full((D,), center)
    sums = ReconstructionSums(len(vectors), D, torch.zeros(D), means)
    for image, tokens in enumerate(vectors):
        x = torch.from_numpy(tokens)
        features = torch.where(x > 0.5, x, 0.0)
        sums.add(image, x, features, features)
    return sums


def scores_of(sums: ReconstructionSums) -> dict[str, float]:
    scores = reconstruction_scores(D, D)(sums.units().sum(axis=0))
    return {name: float(value) for name, value in scores.items()}


def slow(vectors: Any) -> dict[str, float]:
    """Every score by its definition, over all tokens at once."""
    x = vectors.reshape(-1, D).astype(np.float64)
    decoded = np.where(x > 0.5, x, 0.0)
    errors = ((x - decoded) ** 2).sum(axis=1)
    spread = ((x - x.mean(axis=0)) ** 2).sum()
    lengths = np.linalg.norm(x, axis=1)
    cosines = (x * decoded).sum(axis=1) / (lengths * np.linalg.norm(decoded, axis=1))
    l0 = (decoded != 0).sum(axis=1).mean()
    return {
        "mse": float((errors / D).reshape(N_IMAGES, -1).mean(axis=1).mean()),
        "mse_token": float(errors.mean() / D),
        "fvu": float(errors.sum() / spread),
        "fvu_text": float(errors.sum() / (x**2).sum()),
        "nmse": float((errors / lengths**2).mean()),
        "cos": float(cosines.mean()),
        "bias": float((decoded**2).sum() / (x * decoded).sum()),
        "l0": float(l0),
        "l0_fraction": float(l0 / D),
    }


@pytest.mark.parametrize("center", [0.0, 0.3, -2.0])
def test_scores_equal_their_definitions_whatever_the_guessed_center(center: float) -> None:
    vectors, _ = planted(np.random.default_rng(1), noise=0.2)
    measured = scores_of(add_all(vectors, center))
    assert measured == pytest.approx(slow(vectors), rel=1e-6)


def test_a_dictionary_that_fits_is_exact() -> None:
    vectors, _ = planted(np.random.default_rng(2))
    scores = scores_of(add_all(vectors))
    assert scores["fvu"] == scores["nmse"] == scores["mse"] == 0
    assert scores["cos"] == pytest.approx(1)
    assert scores["bias"] == pytest.approx(1)
    assert scores["l0"] == 3


def test_tenfold_vectors_change_mse_a_hundredfold_and_fvu_not_at_all() -> None:
    vectors, codes = planted(np.random.default_rng(3), noise=0.1)
    results = []
    for scale in (1.0, 10.0):
        sums = ReconstructionSums(N_IMAGES, D, torch.zeros(D), torch.zeros(D))
        for image, tokens in enumerate(vectors):
            # The same codes, as long as the vectors: an SAE that is linear in its input.
            decoded = torch.from_numpy(codes[image]) * scale
            sums.add(image, torch.from_numpy(tokens) * scale, decoded, decoded)
        results.append(scores_of(sums))
    assert results[1]["mse"] == pytest.approx(100 * results[0]["mse"], rel=1e-5)
    for name in ("fvu", "fvu_text", "nmse", "cos", "bias", "l0"):
        assert results[1][name] == pytest.approx(results[0][name], rel=1e-5)


@pytest.mark.parametrize("degrees", [0, 30, 60, 90])
def test_misaligned_vectors_lose_the_square_of_the_cosine(degrees: float) -> None:
    """Codes turned out of the dictionary's span by an angle keep only their projection on it."""
    rng = np.random.default_rng(4)
    _, codes = planted(rng)
    angle = np.deg2rad(degrees)
    sums = ReconstructionSums(N_IMAGES, D, torch.zeros(2 * D), torch.zeros(2 * D))
    for image, tokens in enumerate(codes):
        turned = np.concatenate([np.cos(angle) * tokens, np.sin(angle) * tokens], axis=1)
        projection = np.concatenate([np.cos(angle) * tokens, np.zeros_like(tokens)], axis=1)
        features = torch.from_numpy(projection[:, :D])
        sums.add(image, torch.from_numpy(turned), features, torch.from_numpy(projection))
    scores = reconstruction_scores(2 * D, D)(sums.units().sum(axis=0))
    assert float(scores["nmse"]) == pytest.approx(np.sin(angle) ** 2, abs=1e-6)
    assert float(scores["cos"]) == pytest.approx(np.cos(angle), abs=1e-6)


def test_presence_counts_and_images_without_a_token() -> None:
    vectors, codes = planted(np.random.default_rng(5))
    sums = add_all(vectors)
    assert np.array_equal(sums.presence, (codes != 0).any(axis=1))
    assert np.array_equal(sums.counts, (codes != 0).sum(axis=(0, 1)))
    before = sums.units().copy()
    sums.add(0, torch.zeros(0, D), torch.zeros(0, D), torch.zeros(0, D))
    assert np.array_equal(sums.units(), before)
    lengths = np.linalg.norm(vectors, axis=2)
    assert sums.median_norm() == pytest.approx(float(np.median(lengths)), rel=1e-6)
    assert np.isnan(ReconstructionSums(1, D, torch.zeros(D), torch.zeros(D)).median_norm())


def test_units_are_named() -> None:
    assert add_all(planted(np.random.default_rng(6))[0]).units().shape == (N_IMAGES, len(UNITS))


def test_overlap_stands_beside_that_of_other_captions() -> None:
    rng = np.random.default_rng(7)
    presence = rng.random((60, 200)) < 0.1
    orders = [np.roll(np.arange(60), shift) for shift in range(1, 20)]
    matched, by_chance = overlap(presence, presence, orders)
    assert np.all(matched == 1)
    # Two independent draws of density p share p / (2 - p) of what either has.
    assert by_chance == pytest.approx(0.1 / 1.9, abs=0.01)
    _, unrelated = overlap(presence, rng.random((60, 200)) < 0.1, orders)
    assert unrelated == pytest.approx(0.1 / 1.9, abs=0.01)
    nothing = np.zeros((2, 5), bool)
    assert np.array_equal(overlap(nothing, nothing, [])[0], [0, 0])
