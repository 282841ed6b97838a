"""Scores of multiple-choice benchmarks: CV-Bench (Tong et al. 2024), perception in BLINK (Fu et al. 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kvtool.stats.bootstrap import Array, Scores, ratio

CVBENCH, BLINK = "cvbench", "blink"
TWO_D, THREE_D = ("ADE20K", "COCO"), ("Omni3D",)
"""CV-Bench's image collections."""


class ChoiceCell(NamedTuple):
    """Questions that scores tell apart: a benchmark's task or sub-task, and its collection of images ("" of BLINK)."""

    benchmark: str
    group: str
    source: str


def choice_units(correct: Array) -> Array:
    """Per question [right, 1]: (..., question) bool -> (..., question, 2)."""
    right = np.asarray(correct, np.float64)
    return np.stack([right, np.ones_like(right)], axis=-1)


def accuracy(sums: Array) -> dict[str, Array]:
    return {"accuracy": ratio(sums[..., 0], sums[..., 1])}


def choice_scores(cells: Sequence[ChoiceCell]) -> Scores:
    """Of choice_units' sums of cells side by side, (..., cell * 2):

    accuracy: over all questions of both benchmarks, as the paper pools them (appendix A.5).
    cvbench: CV-Bench's own score, ((ADE20K + COCO) / 2 + Omni3D) / 2 of the accuracies of its collections; not
    defined where one of them is missing. blink: the mean of the sub-tasks' accuracies, of those that are there.
    cvbench_accuracy, blink_accuracy: over all questions of the one. Benchmarks without a cell have no score.
    """
    there = {cell.benchmark for cell in cells}

    def scores(sums: Array) -> dict[str, Array]:
        each = sums.reshape(*sums.shape[:-1], len(cells), 2)

        def of(**names: str) -> Array:
            """Accuracy over the cells with these names."""
            chosen = [
                all(getattr(cell, key) == name for key, name in names.items()) for cell in cells
            ]
            return accuracy(each[..., chosen, :].sum(axis=-2))["accuracy"]

        found = {"accuracy": of()}
        if CVBENCH in there:
            two_d, three_d = (
                mean([of(benchmark=CVBENCH, source=one) for one in sources])
                for sources in (TWO_D, THREE_D)
            )
            found |= {"cvbench": (two_d + three_d) / 2, "cvbench_accuracy": of(benchmark=CVBENCH)}
        if BLINK in there:
            groups = dict.fromkeys(cell.group for cell in cells if cell.benchmark == BLINK)
            macro = mean([of(benchmark=BLINK, group=group) for group in groups])
            found |= {"blink": macro, "blink_accuracy": of(benchmark=BLINK)}
        return found

    return scores


def mean(scores: Sequence[Array]) -> Array:
    averaged: Array = np.mean(scores, axis=0)
    return averaged
