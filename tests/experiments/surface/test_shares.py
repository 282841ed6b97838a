"""Intervals of what is gained and lost: by the questions behind each share, however few."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from kvtool.experiments.surface.shares import share_row
from kvtool.result import Row
from kvtool.stats.proportions import wilson
from tests.support.surface_evidence import planted, scores_of

DEFINED = {"model": ("gained", "lost"), "value": ("gained",), "either": ("gained", "lost")}


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Values that know all twelve answers beside a model that guesses."""
    monkeypatch.setattr("kvtool.experiments.surface.scores.DRAWS", 19)
    return scores_of(planted(2, 12, model=0.0, value=30.0), 0).rows()


def test_edges_count_the_questions_behind_the_share(rows: list[Row]) -> None:
    model = next(row for row in rows if row["condition"] == "model")
    fused = [row for row in rows if row["condition"] == "fused"]
    assert [(row["gained"], row["lost"]) for row in fused] == [(1.0, 0.0)] * 3
    n_right = round(12 * model["accuracy"])
    # The example tells the counts apart: neither share is of all twelve.
    assert 2 < n_right < 10
    assert fused[0]["lost_of"] == n_right == fused[1]["lost_of"] + fused[2]["lost_of"]
    for row in fused:
        assert row["gained_of"] + row["lost_of"] == row["n"]
        check_edge(row, "gained")
        check_edge(row, "lost")


def check_edge(row: Row, name: str) -> None:
    """The ends are Wilson's of the share's own questions; a single question has none."""
    n = row[f"{name}_of"]
    ends = wilson(round(n * row[name]), n) if n > 1 else (None, None)
    assert (row[f"{name}_low"], row[f"{name}_high"]) == pytest.approx(ends)


def test_shares_fixed_by_definition_have_no_interval(rows: list[Row]) -> None:
    by_condition = {row["condition"]: row for row in rows if "subset" not in row}
    for condition, names in DEFINED.items():
        for name in names:
            row = by_condition[condition]
            assert row[name] in (0.0, 1.0)
            assert row[f"{name}_low"] is row[f"{name}_high"] is None
    assert by_condition["value"]["lost_high"] is not None
    assert by_condition["written"]["gained_high"] is not None


def test_no_question_and_a_single_one_have_no_interval() -> None:
    empty = {"lost": None, "lost_low": None, "lost_high": None, "lost_of": 0}
    assert share_row("lost", np.zeros(0, bool), [], 0) == empty
    single = {"lost": 1.0, "lost_low": None, "lost_high": None, "lost_of": 1}
    assert share_row("lost", np.ones(1, bool), [("a",)], 0) == single


def test_questions_that_share_pictures_count_as_few() -> None:
    """Eight questions of one picture each, by twos; and two pairs of three pictures are two."""
    by_two = share_row("lost", np.zeros(8, bool), [(str(i // 2),) for i in range(8)], 0)
    assert by_two["lost_high"] == pytest.approx(wilson(0, 4)[1])
    pairs = share_row("lost", np.zeros(2, bool), [("a", "b"), ("b", "c")], 0)
    assert pairs["lost_high"] == pytest.approx(wilson(0, 2)[1])


@pytest.mark.parametrize("n", [3, 4, 6, 8, 12])
def test_intervals_of_few_questions_cover_the_share(n: int) -> None:
    """The exact probability that a share lies in its interval: each count that a sample can have
    has one interval, and a binomial probability."""
    pictures = [(str(index),) for index in range(n)]
    intervals = [share_row("lost", np.arange(n) < count, pictures, 0) for count in range(n + 1)]
    lows, highs = (np.array([row[f"lost_{end}"] for row in intervals]) for end in ("low", "high"))
    shares = np.linspace(0.02, 0.98, 49)
    within = (lows <= shares[:, None]) & (shares[:, None] <= highs)
    coverage = (within * binom.pmf(np.arange(n + 1), n, shares[:, None])).sum(axis=1)
    assert coverage.mean() > 0.94
    assert coverage.min() > 0.82
