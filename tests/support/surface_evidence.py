"""Planted log-probabilities and evidence of values, and their scores."""

from __future__ import annotations

import numpy as np

from kvtool.datasets.base import Question
from kvtool.experiments.surface.fusion import OptionEvidence
from kvtool.experiments.surface.scores import SurfaceScores


def planted(
    seed: int, n: int, *, model: float, value: float, n_blocks: int = 6, constant: float = 0.0
) -> OptionEvidence:
    """Questions of two to four options; `model` and `value` say how much the right option stands
    out of their noise, of the values in block 2 alone."""
    rng = np.random.default_rng(seed)
    n_options = np.array([2, 3, 4])[np.arange(n) % 3]
    labels = rng.integers(0, n_options)
    log_probabilities = rng.normal(size=(n, 4))
    cosines = rng.normal(size=(n_blocks, n, 4)) + constant * np.arange(4)
    log_probabilities[np.arange(n), labels] += model
    cosines[2, np.arange(n), labels] += value
    absent = np.arange(4) >= n_options[:, None]
    log_probabilities[absent] = -np.inf
    cosines[:, absent] = -np.inf
    return OptionEvidence(log_probabilities, cosines, labels)


def scores_of(evidence: OptionEvidence, seed: int, n_blocks: int = 1) -> SurfaceScores:
    n_options = evidence.present.sum(axis=1).tolist()
    questions = [
        Question(
            id=str(index),
            image_ids=(f"{index}a", f"{index}b"),
            text="?",
            group="",
            prompt="?",
            answer=f"({'ABCD'[label]})",
            choices=tuple("ABCD"[:count]),
        )
        for index, (label, count) in enumerate(
            zip(evidence.labels.tolist(), n_options, strict=True)
        )
    ]
    blocks = [("value", 0, head) for head in range(len(evidence.cosines))]
    text_right = np.zeros(len(questions), bool)
    pictures = [question.image_ids for question in questions]
    return SurfaceScores(questions, pictures, text_right, evidence, blocks, n_blocks, seed)
