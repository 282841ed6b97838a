"""Holm's correction against its definition, and by family."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kvtool.stats.multiple import holm, with_holm


def slow_holm(p: list[float]) -> list[float]:
    order = sorted(range(len(p)), key=lambda index: p[index])
    corrected = [0.0] * len(p)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, (len(p) - rank) * p[index])
        corrected[index] = min(1.0, largest)
    return corrected


def test_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == pytest.approx([0.02])


def test_is_the_definition() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = (rng.random(rng.integers(1, 9)) ** 3).tolist()
        assert holm(p) == pytest.approx(slow_holm(p))


def test_of_ten_true_hypotheses_one_is_rejected_in_five_percent() -> None:
    rng = np.random.default_rng(0)
    rejected = np.mean([holm(rng.random(10)).min() < 0.05 for _ in range(2000)])
    assert 0.03 < rejected < 0.07


def test_families_are_corrected_apart_and_rows_without_p_stay() -> None:
    rows: list[dict[str, Any]] = [
        {"p": 0.01, "part": "a"},
        {"part": "a"},
        {"p": 0.02, "part": "b"},
        {"p": None},
    ]
    rows.append({"p": 0.04, "part": "a"})
    corrected = with_holm(rows, "p", "holm_p", lambda row: row["part"])
    assert [row.get("holm_p") for row in corrected] == [0.02, None, 0.02, None, 0.04]
    assert "holm_p" not in corrected[3]
