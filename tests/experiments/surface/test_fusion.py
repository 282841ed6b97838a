"""Fusion of log-probabilities and evidence against a slow obvious one, and on planted evidence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from kvtool.experiments.surface.fusion import (
    WEIGHTS,
    OptionEvidence,
    choose_fusion,
    crossed_choices,
    fused_choices,
)
from tests.support.surface_evidence import planted, scores_of

Array = np.ndarray[Any, Any]
SEEDS = 20


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Permute 199 times, which is enough for a p of 0.005."""
    monkeypatch.setattr("kvtool.experiments.surface.scores.DRAWS", 199)


def slow_margins(evidence: OptionEvidence, block: int, question: int) -> list[float]:
    """The evidence of a question's options less their mean."""
    n_options = int(np.isfinite(evidence.log_probabilities[question]).sum())
    cosines = evidence.cosines[block][question][:n_options].tolist()
    return [cosine - sum(cosines) / n_options for cosine in cosines]


def slow_fusion(
    evidence: OptionEvidence, choosing: list[int], scoring: list[int], n_blocks: int
) -> tuple[list[int], float, list[int]]:
    """Blocks, weight and choices, question by question and option by option."""

    def margins(block: int, question: int) -> list[float]:
        return slow_margins(evidence, block, question)

    def argmax(values: list[float]) -> int:
        return values.index(max(values))

    def spread(rows: list[list[float]]) -> float:
        flat = [value for row in rows for value in row]
        return math.sqrt(sum(value**2 for value in flat) / len(flat))

    labels = evidence.labels.tolist()
    accuracy = {
        block: sum(argmax(margins(block, q)) == labels[q] for q in choosing) / len(choosing)
        for block in range(len(evidence.cosines))
    }
    blocks = sorted(accuracy, key=lambda block: -accuracy[block])[:n_blocks]
    chance = sum(1 / len(margins(0, q)) for q in choosing) / len(choosing)
    gains = [max(accuracy[block] - chance, 0.0) for block in blocks]
    if not any(gains):
        gains = [1.0] * len(blocks)

    def summed(question: int) -> list[float]:
        total = [0.0] * len(margins(0, question))
        for block, gain in zip(blocks, gains, strict=True):
            scale = spread([margins(block, q) for q in choosing])
            for option, margin in enumerate(margins(block, question)):
                total[option] += gain / sum(gains) * margin / scale
        return total

    scale = spread([summed(q) for q in choosing])

    def fused(question: int, weight: float) -> int:
        log_probabilities = evidence.log_probabilities[question].tolist()
        total = summed(question)
        return argmax([log_probabilities[o] + weight * total[o] / scale for o in range(len(total))])

    right = [sum(fused(q, weight) == labels[q] for q in choosing) for weight in WEIGHTS.tolist()]
    weight = WEIGHTS.tolist()[right.index(max(right))]
    return blocks, weight, [fused(q, weight) for q in scoring]


@pytest.mark.parametrize("n_blocks", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_fusion_equals_the_slow_one(seed: int, n_blocks: int) -> None:
    evidence = planted(seed, 24, model=0.5, value=1.0)
    choosing, scoring = np.arange(0, 24, 2), np.arange(1, 24, 2)
    blocks, weight, choices = slow_fusion(evidence, choosing.tolist(), scoring.tolist(), n_blocks)
    fusion = choose_fusion(evidence, choosing, n_blocks)
    assert fusion.blocks.tolist() == blocks
    assert fusion.weight == weight
    assert fused_choices(evidence, fusion, scoring)[1].tolist() == choices


def test_permuted_evidence_is_that_of_the_questions_it_comes_from() -> None:
    evidence = planted(0, 30, model=0.5, value=1.0)
    rng = np.random.default_rng(1)
    order = np.arange(30)
    # Questions of as many options change places.
    for offset in range(3):
        order[offset::3] = rng.permutation(order[offset::3])
    moved = OptionEvidence(evidence.log_probabilities, evidence.cosines[:, order], evidence.labels)
    sides = np.arange(15), np.arange(15, 30)
    by_order = crossed_choices(evidence, sides, 2, order)
    by_hand = crossed_choices(moved, sides, 2)
    assert by_order.fused.tolist() == by_hand.fused.tolist()
    assert by_order.value.tolist() == by_hand.value.tolist()


def test_each_question_is_scored_once_by_what_the_other_half_chose() -> None:
    evidence = planted(0, 40, model=1.0, value=1.0)
    crossed = scores_of(evidence, 0).crossed
    assert crossed.rows.tolist() == list(range(40))
    for half in (0, 1):
        rows = np.flatnonzero(crossed.half == half)
        choosing = np.flatnonzero(crossed.half != half)
        _, weight, choices = slow_fusion(evidence, choosing.tolist(), rows.tolist(), 1)
        assert crossed.fusions[half].weight == weight
        assert crossed.fused[rows].tolist() == choices


def test_a_model_that_says_noise_is_told_by_values_that_know() -> None:
    listed = scores_of(planted(0, 90, model=0.0, value=4.0), 0).rows()
    rows = {row["condition"]: row for row in listed if "subset" not in row}
    assert rows["model"]["accuracy"] < 0.5
    assert rows["value"]["accuracy"] > 0.9
    assert rows["fused"]["accuracy"] > 0.9
    assert rows["fused"]["difference_low"] > 0.3
    assert rows["fused"]["gained"] > 0.9
    assert rows["either"]["accuracy"] >= rows["value"]["accuracy"]
    assert rows["fused"]["permuted_p"] < 0.01
    assert rows["fused"]["mcnemar_p"] < 0.001
    assert rows["permuted"]["accuracy_high"] < rows["fused"]["accuracy_low"]
    halves = [row for row in listed if "subset" in row]
    assert [row["kv_head"] for row in halves] == [2, 2]
    assert all(row["weight"] > 0 for row in halves)


def test_a_model_that_knows_loses_nothing_to_values_that_know_nothing() -> None:
    evidence = planted(0, 80, model=30.0, value=0.0)
    rows = {row["condition"]: row for row in scores_of(evidence, 0).rows() if "subset" not in row}
    assert rows["model"]["accuracy"] == rows["fused"]["accuracy"] == 1.0
    assert rows["fused"]["lost"] == 0.0
    assert rows["fused"]["gained"] is None
    assert rows["fused"]["permuted_p"] == 1.0


@pytest.mark.slow
def test_values_that_know_nothing_gain_nothing() -> None:
    """Of 20 seeds, with a model that knows something and values that prefer some letters: as many
    false positives as nominal, and no gain on average."""
    permuted, mcnemar, gains = [], [], []
    for seed in range(SEEDS):
        evidence = planted(seed, 60, model=1.0, value=0.0, constant=0.5)
        row = next(row for row in scores_of(evidence, seed).rows() if row["condition"] == "fused")
        permuted.append(row["permuted_p"])
        mcnemar.append(row["mcnemar_p"] < 0.05 and row["difference"] > 0)
        gains.append(row["difference"])
    # At a level of 5 %, four or more of twenty have a probability of 1.6 %.
    assert sum(p < 0.05 for p in permuted) <= 3
    assert sum(mcnemar) <= 3
    assert np.mean(gains) < 0.02
    # The p values are spread: no test that never rejects.
    assert min(permuted) < 0.4 < max(permuted)
