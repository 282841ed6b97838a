"""Scores of multiple choice: CV-Bench (Tong et al. 2024) and BLINK (Fu et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kvtool.stats.bootstrap import Array, Scores, ratio

CVBENCH = "cvbench"
BLINK = "blink"
TWO_D = ("ADE20K", "COCO")
THREE_D = ("Omni3D",)
"""CV-Bench's image collections."""


class ChoiceCell(NamedTuple):
    """Questions that scores tell apart: a task or sub-task, and a collection of images.

    The source is "" in BLINK.
    """

    benchmark: str
    group: str
    source: str


def choice_units(correct: Array) -> Array:
    """Count the right answers: (..., question) bool -> (..., question, 2), [right, 1]."""
    right = np.asarray(correct, np.float64)
    return np.stack([right, np.ones_like(right)], axis=-1)


def accuracy(sums: Array) -> dict[str, Array]:
    """Turn sums of `choice_units` (..., 2) into the accuracy."""
    return {"accuracy": ratio(sums[..., 0], sums[..., 1])}


def choice_scores(cells: Sequence[ChoiceCell]) -> Scores:
    """Return the scores of sums of `choice_units`, of cells side by side: (..., cell * 2).

    accuracy is over all questions of both benchmarks, as the paper pools them (appendix A.5).
    cvbench is CV-Bench's score, ((ADE20K + COCO) / 2 + Omni3D) / 2 of the accuracies of its
    collections, which is not defined where one is missing. blink is the mean of the accuracies of
    the sub-tasks that are present. cvbench_accuracy and blink_accuracy are over all questions of a
    benchmark. A benchmark without a cell has no score.
    """
    benchmarks = {cell.benchmark for cell in cells}

    def scores(sums: Array) -> dict[str, Array]:
        """Turn sums (..., cell * 2) into table scores (...)."""
        # Of each cell the right answers and the questions.
        by_cell = sums.reshape(*sums.shape[:-1], len(cells), 2)
        table = {"accuracy": _accuracy_over(cells, by_cell)}
        if CVBENCH in benchmarks:
            # CV-Bench weighs the two collections of plane pictures as one.
            two_d = _mean_over(cells, by_cell, CVBENCH, "source", TWO_D)
            three_d = _mean_over(cells, by_cell, CVBENCH, "source", THREE_D)
            table["cvbench"] = (two_d + three_d) / 2
            table["cvbench_accuracy"] = _accuracy_over(cells, by_cell, benchmark=CVBENCH)
        if BLINK in benchmarks:
            groups = dict.fromkeys(cell.group for cell in cells if cell.benchmark == BLINK)
            table["blink"] = _mean_over(cells, by_cell, BLINK, "group", list(groups))
            table["blink_accuracy"] = _accuracy_over(cells, by_cell, benchmark=BLINK)
        return table

    return scores


def _accuracy_over(cells: Sequence[ChoiceCell], by_cell: Array, **names: str) -> Array:
    """Compute the accuracy (...) over the cells with these names, of sums (..., cell, 2)."""
    # Cells that have all of these names; none is 0 of 0, which is not defined.
    mask = [names.items() <= cell._asdict().items() for cell in cells]
    return accuracy(by_cell[..., mask, :].sum(axis=-2))["accuracy"]


def _mean_over(
    cells: Sequence[ChoiceCell],
    by_cell: Array,
    benchmark: str,
    field: str,
    values: Sequence[str],
) -> Array:
    """Average the accuracies of the cells that have each of the values in a field."""
    accuracies = [
        _accuracy_over(cells, by_cell, benchmark=benchmark, **{field: value}) for value in values
    ]
    averaged: Array = np.mean(accuracies, axis=0)
    return averaged
