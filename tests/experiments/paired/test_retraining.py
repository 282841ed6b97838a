"""Linear probes against vectors that know nothing: trained again for every permutation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kvtool.asking.paired.folds import stratified_folds
from kvtool.asking.paired.questions import FOLDS, C
from kvtool.asking.paired.readings import LinearProbe
from kvtool.datasets.base import Question
from kvtool.experiments.paired import retraining
from kvtool.experiments.paired.cells import ComparedAnswers
from kvtool.experiments.paired.guesses import RecordedAnswers
from kvtool.experiments.paired.retraining import retrained_best
from kvtool.stats.permutation import orders, permuted_best

N = 40


def probed(seed: int) -> tuple[LinearProbe, torch.Tensor, Any]:
    """A probe of forty questions, and vectors (block, question, dim) that know nothing of them."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(N) % 2)
    images = tuple(map(str, range(N)))
    probe = LinearProbe(
        images, tuple(labels.tolist()), stratified_folds(labels.tolist(), FOLDS, seed), C
    )
    vectors = torch.from_numpy(rng.normal(size=(6, N, 8)).astype(np.float32))
    return probe, vectors, rng.random(N) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("n_scored", [N, 25])
def test_it_counts_what_a_loop_over_probes_counts(
    n_scored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retraining, "DRAWS", 9)
    probe, vectors, model_right = probed(3)
    labels, everything = np.array(probe.labels), np.arange(N)
    scored = everything[:n_scored]
    choosing = everything[n_scored:] if n_scored < N else scored
    counts = []
    (order,) = orders(np.full(N, 2), everything, 6 * N * 8, 9, 0)
    for draw in (everything, *order):
        choices = [probe.choices(vectors[block : block + 1, draw])[0] for block in range(6)]
        best = max(choices, key=lambda answers: (answers == labels)[choosing].sum())
        right = (best == labels)[scored]
        counts.append((right.sum(), (right & ~model_right[scored]).sum()))
    null = retrained_best(probe, vectors, model_right, everything, choosing, scored, 0)
    n_right, n_alone = np.array(counts).T
    assert null.right_p == pytest.approx((n_right >= n_right[0]).mean())
    assert null.value_only_p == pytest.approx((n_alone >= n_alone[0]).mean())


@pytest.mark.slow
def test_probes_that_know_nothing_are_seldom_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a hundred studies; choices permuted as they are would be sure of far more."""
    monkeypatch.setattr(retraining, "DRAWS", 39)
    monkeypatch.setattr("kvtool.stats.permutation.DRAWS", 199)
    everything = np.arange(N)
    sure = np.zeros(2)
    for seed in range(100):
        probe, vectors, model_right = probed(seed)
        again = retrained_best(
            probe, vectors, model_right, everything, everything, everything, seed
        )
        labels = np.array(probe.labels)
        as_they_are = permuted_best(probe.choices(vectors), labels, model_right, np.full(N, 2))
        sure += np.array([again.right_p, as_they_are.right_p]) <= 0.05
    assert sure[0] <= 11
    assert sure[1] > sure[0] + 5


@pytest.mark.parametrize("select", ["max", "split"])
def test_a_block_that_knows_is_told(select: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraining, "DRAWS", 79)
    probe, vectors, _ = probed(0)
    labels = np.array(probe.labels)
    vectors[2, :, 0] += 3 * torch.from_numpy(labels)
    questions = [
        Question(image, (image,), "", "", "(AB)"[0] + "AB"[label] + ")", "", ("x", "y"))
        for image, label in zip(probe.images, labels, strict=True)
    ]
    compared = ComparedAnswers(questions, probe, ["(A)"] * N)
    recorded = RecordedAnswers(compared)
    for block, row in enumerate(vectors):
        recorded.vectors["value", 0, block] = row
    scored = np.arange(N) if select == "max" else np.arange(20, N)
    best = {"kind": "value", "layer": 0, "kv_head": 2, "select": select}
    tests = recorded.tests(best, scored, 0)
    assert tests["value_p"] < 0.05
    assert tests["exceeds_chance"]
    assert tests["better_p"] is None
