"""Coefficients within families; over all of them on request only."""

from __future__ import annotations

import pytest

from kvtool.experiments.correlate.coefficients import correlations
from kvtool.result import Row


def models(family: str, scores: list[tuple[float, float]]) -> list[Row]:
    return [
        {"family": family, "segmentation": segmentation, "accuracy": accuracy}
        for segmentation, accuracy in scores
    ]


FALLING = models("a", [(0.1, 0.4), (0.2, 0.3), (0.3, 0.2), (0.4, 0.11)])
FALLING_HIGHER = models("b", [(0.6, 0.9), (0.7, 0.8), (0.8, 0.7), (0.9, 0.59)])


def test_two_families_that_fall_make_no_rise() -> None:
    """Simpson's paradox: pooled they correlate at +0.6, each by itself at -1."""
    rows, notes = correlations([*FALLING, *FALLING_HIGHER], pooled=False)
    assert [row["family"] for row in rows] == ["a", "a", "b", "b"]
    assert all(row["value"] < -0.99 for row in rows)
    assert {row["n"] for row in rows} == {4}
    # Of four models 2 of 24 orders are as extreme; two families double it.
    assert [row["p"] for row in rows] == pytest.approx([1 / 12] * 4)
    assert [row["holm_p"] for row in rows] == pytest.approx([2 / 12] * 4)
    assert not [note for note in notes if "no coefficient" in note]


def test_all_models_together_on_request() -> None:
    rows, _ = correlations([*FALLING, *FALLING_HIGHER], pooled=True)
    assert [row["family"] for row in rows[-2:]] == ["all", "all"]
    assert rows[-2]["value"] > 0.5
    assert rows[-2]["n"] == 8
    assert "holm_p" not in rows[-2]


def test_families_of_too_few_models_are_named() -> None:
    rows, notes = correlations([*FALLING, *FALLING_HIGHER[:2]], pooled=False)
    assert {row["family"] for row in rows} == {"a"}
    assert any("no coefficient of b: expected 3 models or more, found 2" in note for note in notes)
    rows, notes = correlations([*FALLING[:2], *FALLING_HIGHER[:2]], pooled=False)
    assert rows == []
    assert "4 models of 2 families are not pooled unless asked" in notes
