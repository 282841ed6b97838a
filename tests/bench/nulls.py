"""Null simulations: how often intervals hold the truth, how often tests are sure of nothing.

    python -m tests.bench.nulls [--draws 1000] [--only paired]

Each line is one simulation: of intervals the share that holds the truth (nominal 95 %), of tests
the share of null runs with p < .05 (nominal 5 %). docs/measures.md has the figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from kvtool.asking.benchmarks import BENCHMARKS
from kvtool.asking.condition_answers import Answers
from kvtool.asking.conditions import score_conditions
from kvtool.asking.paired.folds import stratified_folds
from kvtool.asking.paired.questions import FOLDS, C
from kvtool.asking.paired.readings import LinearProbe
from kvtool.experiments.paired import retraining
from kvtool.experiments.paired.retraining import retrained_best
from kvtool.stats import permutation
from kvtool.stats.bootstrap import Array, bootstrap
from kvtool.stats.mcnemar import mcnemar
from kvtool.stats.modes import describe
from kvtool.stats.permutation import flipped_best, permuted_best
from tests.support.questions import pope_answers, pope_questions

PERMUTATIONS = 399
"""Fewer than a command's, which takes five times as long: their number is no part of a test's
level."""
REFITS = 99
QUESTIONS = 117
BLOCKS = 112
PICTURES = 100
PROBES = 16
PROBE_DIM = 16
"""Of the vectors that linear probes are trained on."""


@dataclass(frozen=True)
class Share:
    """How many of n runs had what was counted."""

    name: str
    hits: int
    n: int

    def __str__(self) -> str:
        share = self.hits / self.n
        error = (share * (1 - share) / self.n) ** 0.5
        return f"{self.name:62} {100 * share:5.1f} % +- {100 * error:.1f}"


def counted(names: list[str], runs: int, run: Callable[[int], list[bool]]) -> Iterator[Share]:
    """Count over runs (by their seed) how often each thing held."""
    totals = np.array([run(seed) for seed in range(runs)], int).sum(axis=0)
    return (Share(name, int(count), runs) for name, count in zip(names, totals, strict=True))


def paired_nulls(n_choices: int, common: float) -> Callable[[int], list[bool]]:
    """Return what runs a study of 112 blocks and a model that all guess 117 questions.

    A share `common` of the blocks' answers is the same in all, as neighboring layers agree.
    """

    def run(seed: int) -> list[bool]:
        rng = np.random.default_rng([n_choices, round(100 * common), seed])
        labels = rng.integers(n_choices, size=QUESTIONS)
        guesses = rng.integers(n_choices, size=(BLOCKS, QUESTIONS))
        shared = rng.integers(n_choices, size=QUESTIONS)
        choices = np.where(rng.random((BLOCKS, QUESTIONS)) < common, shared, guesses)
        model_right = rng.random(QUESTIONS) < 1 / n_choices
        null = permuted_best(choices, labels, model_right, np.full(QUESTIONS, n_choices), seed=seed)
        right = choices == labels
        best = right[right.sum(axis=1).argmax()]
        p = [null.right_p, null.value_only_p, flipped_best(right, model_right, seed=seed)]
        return [value < 0.05 for value in (*p, mcnemar(model_right, best).p)]

    return run


def probe_nulls(common: float) -> Callable[[int], list[bool]]:
    """Return what runs a study whose 112 blocks answer by a linear probe trained on noise.

    A share `common` of the vectors' variance is the same in all blocks. Their choices are permuted
    as they are, which is no test of them, and the probes are trained again for each permutation.
    """

    def run(seed: int) -> list[bool]:
        rng = np.random.default_rng([round(100 * common), seed])
        labels = rng.integers(2, size=QUESTIONS)
        vectors = np.sqrt(1 - common) * rng.normal(size=(PROBES, QUESTIONS, PROBE_DIM))
        vectors += np.sqrt(common) * rng.normal(size=(QUESTIONS, PROBE_DIM))
        images = tuple(map(str, range(QUESTIONS)))
        probe = LinearProbe(
            images, tuple(labels.tolist()), stratified_folds(labels.tolist(), FOLDS, seed), C
        )
        features = torch.from_numpy(vectors.astype(np.float32))
        choices = probe.choices(features)
        model_right = rng.random(QUESTIONS) < 0.5
        null = permuted_best(choices, labels, model_right, np.full(QUESTIONS, 2), seed=seed)
        better = flipped_best(choices == labels, model_right, seed=seed)
        everything = np.arange(QUESTIONS)
        again = retrained_best(
            probe, features, model_right, everything, everything, everything, seed
        )
        tests = (null.right_p, null.value_only_p, better, again.right_p, again.value_only_p)
        return [value < 0.05 for value in tests]

    return run


def question_nulls(kind: str) -> Callable[[int], list[bool]]:
    """Return what runs a knockout on POPE's files in which nothing differs."""
    questions = pope_questions(PICTURES)

    def run(seed: int) -> list[bool]:
        texts = pope_answers(questions, np.random.default_rng(seed), kind)
        conditions = [
            Answers(name, None, 0, tuple(answers))
            for name, answers in zip(("none", "chosen"), texts, strict=True)
        ]
        rows = score_conditions(BENCHMARKS["pope"], questions, conditions, seed)
        row = next(row for row in rows if row["condition"] == "chosen" and "file" not in row)
        right = [
            np.array([text == q.answer for text, q in zip(answers, questions, strict=True)])
            for answers in texts
        ]
        line_by_line = mcnemar(right[0], right[1]).mid_p
        tests = [row["mcnemar_mid_p"], row["picture_p"], line_by_line]
        return [p < 0.05 for p in tests] + [row["accuracy_low"] <= 0.8 <= row["accuracy_high"]]

    return run


def few_shot(by_picture: bool) -> Callable[[int], list[bool]]:
    """Return what runs few-shot episodes: 400 of 60 queries, each with a quality of its own."""

    def truth(rng: np.random.Generator, n_queries: int) -> Array:
        quality = rng.beta(4, 4, n_queries)
        union = 40.0
        return np.stack([quality * union, np.full(n_queries, union)], axis=-1)

    def mean(sums: Array) -> dict[str, Array]:
        return {"miou": sums[..., 0] / sums[..., 1]}

    def run(seed: int) -> list[bool]:
        rng = np.random.default_rng(seed)
        queries = np.arange(400) % 60
        units = truth(rng, 60)[queries]
        units[:, 0] += rng.normal(0, 2, 400)
        clusters = queries if by_picture else None
        estimate = bootstrap(units, mean, clusters=clusters, seed=seed)["miou"]
        return [bool(estimate.low <= 0.5 <= estimate.high)]

    return run


def two_modes(spread: float) -> Callable[[int], list[bool]]:
    """Return what draws the paper's keys: 42 around 200 and 70 around 600, log-normal."""

    def run(seed: int) -> list[bool]:
        rng = np.random.default_rng(seed)
        logs = np.concatenate(
            [rng.normal(np.log(200), spread, 42), rng.normal(np.log(600), spread, 70)]
        )
        return [describe(np.exp(logs), 0).bimodal]

    return run


def simulations(runs: int, only: str = "") -> Iterator[Share]:
    """Yield the figures of all simulations whose name begins with `only`."""
    claims = ["value_p", "value_only_p", "better_p", "McNemar of the best, uncorrected"]
    planned: list[tuple[list[str], int, Callable[[int], list[bool]]]] = []
    for n_choices, common in ((2, 0.0), (2, 0.5), (4, 0.0), (4, 0.5)):
        title = f"paired, best of {BLOCKS}, {n_choices} choices, {common:.0%} in common: "
        planned.append(([title + claim for claim in claims], runs, paired_nulls(n_choices, common)))
    for common in (0.0, 0.5):
        title = f"linear probe, best of {PROBES}, {common:.0%} in common: "
        tests = [*claims[:3], "value_p, trained again", "value_only_p, trained again"]
        planned.append(([title + test for test in tests], runs, probe_nulls(common)))
    tests = ["McNemar, distinct questions", "picture_p", "McNemar, line by line"]
    tests.append("accuracy's interval holds the truth")
    for kind in ("questions", "pictures"):
        names = [f"POPE, changes by {kind}: {test}" for test in tests]
        planned.append((names, runs, question_nulls(kind)))
    for by_picture in (False, True):
        unit = "query picture" if by_picture else "episode"
        name = f"few-shot, resampled by {unit}: interval holds the truth"
        planned.append(([name], runs, few_shot(by_picture)))
    for spread in (0.2, 0.3, 0.4, 0.5):
        name = f"two modes found, spread {spread} of the logarithm"
        planned.append(([name], min(runs, 200), two_modes(spread)))
    for names, count, run in planned:
        if names[0].startswith(only):
            yield from counted(names, count, run)


def main() -> None:
    """Print the figures of all simulations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=1000, help="null runs of each simulation")
    permutation.DRAWS = PERMUTATIONS
    retraining.DRAWS = REFITS
    parser.add_argument("--only", default="", help="simulations whose name begins so")
    arguments = parser.parse_args()
    for share in simulations(arguments.draws, arguments.only):
        print(share, flush=True)


if __name__ == "__main__":
    main()
