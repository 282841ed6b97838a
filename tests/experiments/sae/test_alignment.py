"""The layer of alignment and the change point: curves with a known layer, and without any."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kvtool.experiments.sae.alignment import (
    LayerCurve,
    alignment_by_fvu,
    alignment_by_transfer,
    change_point,
)

LAYERS = tuple(range(2, 12))
N_IMAGES = 60
DRAWS = 400


def curve(truth: Any, rng: np.random.Generator, spread: float = 0.3) -> LayerCurve:
    """The means over images of a measure with a known mean in each layer, as a study has it.

    Images differ in all layers alike, and in each layer by itself.
    """
    images = truth + spread * (
        rng.standard_normal((N_IMAGES, 1)) + rng.standard_normal((N_IMAGES, len(truth)))
    )
    picks = rng.integers(N_IMAGES, size=(DRAWS, N_IMAGES))
    return LayerCurve(LAYERS, images.mean(axis=0), images[picks].mean(axis=1))


def step(before: float, after: float, index: int) -> Any:
    return np.where(np.arange(len(LAYERS)) < index, before, after)


def test_a_clear_step_is_found_by_all_measures() -> None:
    rng = np.random.default_rng(0)
    expected = {"layer": 8, "low": 8, "high": 8}
    assert alignment_by_fvu(curve(step(9.0, 1.0, 6), rng, 0.1)) == {"by": "fvu", **expected}
    transfer = curve(step(0.5, 0.95, 6), rng, 0.02)
    assert alignment_by_transfer(transfer) == {"by": "transfer", **expected}
    assert change_point("transfer", transfer) == {"by": "transfer", **expected}


def test_what_does_not_hold_to_the_end_is_no_alignment() -> None:
    rng = np.random.default_rng(1)
    ratios = step(1.0, 1.0, 0)
    ratios[-1] = 3.0
    alignment = alignment_by_fvu(curve(ratios, rng, 0.05))
    assert alignment == {"by": "fvu", "layer": None, "low": None, "high": None}


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.5, 0.6])
def test_nothing_is_aligned_where_transfer_is_not_above_its_bound(level: float) -> None:
    """Curves at what knows nothing: a layer is reported as seldom as an interval allows."""
    rng = np.random.default_rng(2)
    truth = np.full(len(LAYERS), level)
    n_found = sum(
        alignment_by_transfer(curve(truth, rng, 0.1))["layer"] is not None for _ in range(200)
    )
    # One-sided 2.5 % in the last layer; 200 binomial draws exceed 12 with a chance of 0.2 %.
    assert n_found <= 12


@pytest.mark.slow
def test_nothing_is_aligned_where_the_ratio_is_at_its_bound() -> None:
    rng = np.random.default_rng(3)
    bound = np.full(len(LAYERS), 1.25)
    n_found = sum(alignment_by_fvu(curve(bound, rng, 0.2))["layer"] is not None for _ in range(200))
    assert n_found <= 12


@pytest.mark.slow
def test_the_interval_of_the_change_point_holds_the_true_layer() -> None:
    """Noise as large as makes the change point wander: its interval still holds the truth."""
    rng = np.random.default_rng(4)
    n_held = 0
    n_wide = 0
    for _ in range(100):
        alignment = change_point("fvu", curve(step(1.0, 0.85, 5), rng, 0.4))
        n_held += alignment["low"] <= 7 <= alignment["high"]
        n_wide += alignment["low"] < alignment["high"]
    assert n_held >= 88
    assert n_wide > 20


@pytest.mark.parametrize("n_layers", [1, 3])
def test_few_layers_have_no_change_point(n_layers: int) -> None:
    values = np.ones(n_layers)
    short = LayerCurve(tuple(range(n_layers)), values, np.ones((5, n_layers)))
    assert change_point("fvu", short)["layer"] is None
