"""What the values answer: vectorised readings against a slow loop over questions, and planted
truth.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kvtool.asking.paired.folds import stratified_folds
from kvtool.asking.paired.points import PointQuestion, make_questions
from kvtool.asking.paired.readings import (
    NONE,
    LinearProbe,
    MeanCosine,
    PointCosine,
)
from kvtool.features.layers import Layer
from kvtool.store import Run
from kvtool.types import Kind
from tests.support.pairs import pair
from tests.support.units import DIM, HEADS, noise, sample, write_run

Array = np.ndarray[Any, Any]
CPU = torch.device("cpu")
KINDS: tuple[Kind, ...] = ("value", "projected", "vision")


def layer(run: Run, kind: Kind, number: int) -> Layer:
    heads = run.config.heads_and_dim(kind)[0]
    return Layer(run, kind, number, range(heads), CPU)


def vectors(run: Run, kind: Kind, number: int, head: int) -> dict[str, Array]:
    """Every image's base grid tokens, (token, dim)."""
    values, images = run.read(kind, number, head)
    return {
        image.id: values[image.start : image.stop][image.sample.base(kind).token_indices()].astype(
            np.float64
        )
        for image in images
    }


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """12 images of noise, of three grids, one of them with newlines."""
    folder = tmp_path_factory.mktemp("noise")
    samples = [
        sample(f"{i:02d}", i, (400, 300), ((3, 4), (5, 2), (4, 4))[i % 3], newline=i % 3 == 2)
        for i in range(12)
    ]
    return write_run(folder / "s.kv", "blink", "val", folder, samples, noise(0), layers=2)


@pytest.mark.parametrize(
    ("kind", "number"), [("value", 0), ("value", 1), ("projected", 0), ("vision", 3)]
)
def test_mean_cosine_equals_a_loop(run: Run, kind: Kind, number: int) -> None:
    """Questions of two and of three options."""
    rng = np.random.default_rng(0)
    images = [tuple(f"{i:02d}" for i in rng.permutation(12)[: 3 + q % 2]) for q in range(20)]
    measured = MeanCosine(tuple(images)).read(layer(run, kind, number))
    for head in range(measured.shape[0]):
        means = {
            image: tokens.mean(axis=0) for image, tokens in vectors(run, kind, number, head).items()
        }
        expected = [
            int(np.argmax([cosine(means[first], means[option]) for option in options]))
            for first, *options in images
        ]
        assert measured[head, :, 0].tolist() == expected
    assert set(measured[0, :, 0].tolist()) == {0, 1, 2}


def test_equal_options_go_to_the_first_and_a_broken_vector_to_none(tmp_path: Path) -> None:
    def fill(s: Any, layer_number: int, head: int) -> Array:
        values = np.ones((s.n_tokens, DIM))
        if s.index == 3 and (layer_number, head) == (0, 1):
            values[0, 0] = np.nan
        return values

    samples = [sample(str(i), i, (40, 30), (2, 2)) for i in range(4)]
    planted = write_run(tmp_path / "s.kv", "blink", "val", tmp_path, samples, fill, layers=1)
    choices = MeanCosine((("0", "1", "2"), ("0", "3", "2"))).read(layer(planted, "value", 0))
    assert choices[:, :, 0].tolist() == [[0, 0], [0, NONE]]
    probed = LinearProbe(("0", "1", "2", "3"), (0, 1, 0, 1), (0, 0, 1, 1), 1.0).read(
        layer(planted, "value", 0)
    )
    assert (probed[1] == NONE).all()
    assert (probed[0] != NONE).all()


@pytest.fixture(scope="module")
def points() -> tuple[PointQuestion, ...]:
    pairs = [pair(f"{i}", 6, step=60.0) for i in range(4)]
    return tuple(make_questions(pairs, 15, seed=2))


@pytest.fixture(scope="module")
def pair_run(tmp_path_factory: pytest.TempPathFactory, points: tuple[PointQuestion, ...]) -> Run:
    folder = tmp_path_factory.mktemp("pairs")
    ids = dict.fromkeys(image for point in points for image in point.question.image_ids)
    samples = [
        sample(image, i, (400, 300), (7, 9), newline=i % 2 == 1) for i, image in enumerate(ids)
    ]
    return write_run(folder / "s.kv", "spair71k", "test", folder, samples, noise(1), layers=2)


def slow_point(
    run: Run, kind: Kind, number: int, head: int, question: PointQuestion
) -> tuple[int, int]:
    """The choice, and PCK at 0.1 of the nearest token of the target; boxes are one pixel wide."""
    tokens, samples = vectors(run, kind, number, head), {s.id: s for s in run.samples}
    src, trg = question.question.image_ids
    rows, cols = samples[src].base(kind).grid

    def at(point: tuple[float, float]) -> int:
        row, col = samples[src].base(kind).cell_at(*point)
        return row * cols + col

    first = tokens[src][at(question.source_px)]
    scores = [cosine(first, tokens[trg][at(point)]) for point in question.targets_px]
    nearest = int(np.argmax([cosine(first, token) for token in tokens[trg]]))
    centre = ((nearest % cols + 0.5) * 400 / cols, (nearest // cols + 0.5) * 300 / rows)
    x0, _, x1, _ = question.pair.trg_box_xyxy_px
    return int(np.argmax(scores)), int(
        math.dist(centre, question.targets_px[question.right]) <= 0.1 * (x1 - x0)
    )


@pytest.mark.parametrize(
    ("kind", "number"), [("value", 0), ("value", 1), ("projected", 0), ("vision", 3)]
)
def test_point_cosine_equals_a_loop(
    pair_run: Run, points: tuple[PointQuestion, ...], kind: Kind, number: int
) -> None:
    box = (0.0, 0.0, 900.0, 10.0)
    wide_points = tuple(
        replace(point, pair=replace(point.pair, trg_box_xyxy_px=box)) for point in points
    )
    measured = PointCosine(wide_points).read(layer(pair_run, kind, number))
    for head in range(measured.shape[0]):
        expected = [slow_point(pair_run, kind, number, head, point) for point in wide_points]
        assert [tuple(row) for row in measured[head].tolist()] == expected
    assert set(measured[0, :, 1].tolist()) == {0, 1}


def test_the_probe_equals_scikit_learn_fold_by_fold(run: Run) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    images = tuple(f"{i:02d}" for i in range(12))
    labels = np.array([0, 1] * 6)
    folds = stratified_folds(labels.tolist(), 3, seed=4)
    measured = LinearProbe(images, tuple(labels.tolist()), folds, 0.5).read(layer(run, "value", 1))
    for head in range(HEADS):
        means = np.array(
            [tokens.mean(axis=0) for tokens in vectors(run, "value", 1, head).values()]
        )
        expected = np.zeros(12, int)
        for fold in range(3):
            out = np.array(folds) == fold
            scaler = StandardScaler().fit(means[~out])
            model = LogisticRegression(C=0.5, tol=1e-8, max_iter=5000).fit(
                scaler.transform(means[~out]), labels[~out]
            )
            expected[out] = model.predict(scaler.transform(means[out]))
        assert measured[head, :, 0].tolist() == expected.tolist()


@pytest.mark.slow
def test_the_probe_finds_a_planted_answer_and_nothing_in_noise(tmp_path: Path) -> None:
    """One channel of block (1, 1) says the answer; everything else is noise, where it must not do
    better than chance allows: what a question's own label told would show here.
    """
    n = 120
    labels = tuple(int(bit) for bit in np.random.default_rng(3).integers(0, 2, n))

    def fill(s: Any, layer_number: int, head: int) -> Array:
        values = noise(5)(s, layer_number, head)
        if (layer_number, head) == (1, 1):
            values[:, 3] += 2.0 * labels[s.index] - 1
        return values

    samples = [sample(str(i), i, (40, 30), (2, 2)) for i in range(n)]
    planted = write_run(
        tmp_path / "s.kv", "blink", "val", tmp_path, samples, fill, layers=3, part_size=40
    )
    probe = LinearProbe(tuple(s.id for s in samples), labels, stratified_folds(labels, 5, 0), 0.01)
    right = np.array(
        [
            [(row == labels).mean() for row in probe.read(layer(planted, "value", i))[:, :, 0]]
            for i in range(3)
        ]
    )
    assert right[1, 1] > 0.9
    remainder = np.delete(right.ravel(), 1 * HEADS + 1)
    assert (np.abs(remainder - 0.5) < 3.5 * 0.5 / math.sqrt(n)).all()


def test_every_fold_leaves_both_answers_where_a_picture_has_both() -> None:
    """Pictures x of both answers, y of B, and eight of A; then pictures that all have both."""
    cases = [
        ([0, 1, 1, *[0] * 8], ["x", "x", "y", *map(str, range(8))]),
        ([0, 1, 1, 0], ["x", "x", "y", "z"]),
        ([0, 1] * 3, list("aabbcc")),
        ([0, 1, 0, 1, 0], list("aabbc")),
    ]
    for labels, images in cases:
        for folds in range(2, min(3, len(set(images))) + 1):
            for seed in range(50):
                dealt = np.array(stratified_folds(labels, folds, seed, images))
                for fold in range(folds):
                    assert set(np.array(labels)[dealt != fold]) == {0, 1}, (images, folds, seed)
                # A picture stays in one fold.
                assert len(set(zip(images, dealt, strict=True))) == len(set(images))


def test_folds_are_seeded_even_and_stratified() -> None:
    labels = [0] * 23 + [1] * 11
    folds = stratified_folds(labels, 5, seed=1)
    assert stratified_folds([], 5, seed=1) == stratified_folds([], 5, seed=1, images=[]) == ()
    assert folds == stratified_folds(labels, 5, seed=1) != stratified_folds(labels, 5, seed=2)
    assert sorted(Counter(folds).values()) == [6, 7, 7, 7, 7]
    for label in (0, 1):
        counts = Counter(fold for fold, truth in zip(folds, labels, strict=True) if truth == label)
        assert max(counts.values()) - min(counts.values()) <= 1
        assert len(counts) == 5
