"""Co-segmentation finds objects that are planted; its seeds are in the intervals; what knows
nothing gets its due.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kvtool.datasets.msrc import V2_COLORS, Msrc
from kvtool.errors import UsageError
from kvtool.experiments.probe.run import probe
from kvtool.features.clusters import shared_clusters
from kvtool.metrics.segmentation import binary_counts
from kvtool.stats.bootstrap import bootstrap
from kvtool.tasks.chance import spread_of_draws
from kvtool.tasks.co_segmentation import CoSegmentation, cosegment
from kvtool.tasks.regions import on_pixels, random_regions
from kvtool.types import GridSpan
from tests.support.datasets import colour_bmp, picture
from tests.support.tasks.co_segmentation import GRID, TASK, make_run

Array = np.ndarray[Any, Any]
SIDE, DIM, IMAGES = 27, 64, 10
OBJECT = 9


def planted_images(noise: float, scene: str) -> tuple[list[torch.Tensor], list[Array]]:
    """Values (1, token, dim) of images whose object and background have a random direction each, a
    standard normal number a channel, and the masks (token,) of their objects."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(3, DIM))
    values = []
    masks = []
    for _ in range(IMAGES):
        material = np.zeros((SIDE, SIDE), int)
        if scene == "strip":
            material[:, :5] = 2
        if scene == "scattered":
            material[rng.random(material.shape) < 0.2] = 2
        top, left = rng.integers(1, SIDE - OBJECT - 1, size=2)
        material[top : top + OBJECT, left : left + OBJECT] = 1
        labels = material.reshape(-1)
        tokens = directions[labels] + noise * rng.normal(size=(SIDE * SIDE, DIM))
        values.append(torch.from_numpy(tokens.astype(np.float32))[None])
        masks.append(labels == 1)
    return values, masks


def mean_overlap(predicted: list[Array], masks: list[Array]) -> float:
    overlaps = [(p & m).sum() / (p | m).sum() for p, m in zip(predicted, masks, strict=True)]
    return float(np.mean(overlaps))


def slow(*values: Any) -> list[Any]:
    """Parameters that `make check` leaves out."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def is_separated(values: list[torch.Tensor], masks: list[Array], seed: int) -> bool:
    """Tell whether k-means itself has clusters that are the objects."""
    labels, _ = shared_clusters(values, restarts=5, seed=seed)
    flat = np.concatenate([label[0] for label in labels])
    truth = np.concatenate(masks)
    purest = np.array([truth[flat == cluster].mean() > 0.5 for cluster in np.unique(flat)])
    masked = [purest[np.searchsorted(np.unique(flat), label[0])] for label in labels]
    return mean_overlap(masked, masks) >= 0.95


@pytest.mark.parametrize("noise", [*slow(0.0, 0.6), 0.8, *slow(1.0)])
@pytest.mark.parametrize("scene", ["one background", *slow("strip", "scattered")])
@pytest.mark.slow
def test_planted_objects_are_found(noise: float, scene: str) -> None:
    values, masks = planted_images(noise, scene)
    n_separated = 0
    for seed in range(2):
        n_separated += is_separated(values, masks, seed)
        tokens = cosegment(values, [(SIDE, SIDE)] * IMAGES, restarts=5, seed=seed)
        if is_separated(values, masks, seed):
            assert mean_overlap([mask[0] for mask in tokens], masks) >= 0.95
    assert n_separated == 2


def make_task(tmp_path: Path, **options: Any) -> tuple[CoSegmentation, Any]:
    run = make_run(tmp_path)
    sizes = {sample.id: sample.image_wh_px for sample in run.samples}
    task = CoSegmentation(Msrc(tmp_path / "data"), sizes, torch.device("cpu"), **options)
    return task, run


def test_counts_by_cell_are_counts_by_pixel(tmp_path: Path) -> None:
    task, run = make_task(tmp_path)
    rng = np.random.default_rng(1)
    # Coarser than the mask, and reaching beyond the image or not to its end.
    for cover in ((0.0, 0.0, 8.0, 6.0), (-1.5, 0.0, 9.0, 7.0), (1.0, 1.0, 6.5, 5.0)):
        span = GridSpan("base", 0, (3, 5), 5, cover)
        tokens = rng.random((2, 15)) < 0.5
        image = run.samples[0].id
        truth = task.dataset.group_mask(image, "cow")
        for mask, counts in zip(tokens, task._counts(tokens, span, image, "cow"), strict=True):
            slow = binary_counts(on_pixels(mask, span, truth.shape[::-1]), truth == 1)
            assert counts.tolist() == np.concatenate(slow).tolist()


@pytest.mark.slow
def test_the_score_is_the_mean_over_seeds(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    together = probe(run, TASK, seeds=3, restarts=1)
    singles = [probe(run, TASK, seeds=1, restarts=1, seed=seed) for seed in range(3)]
    for index, row in enumerate(together.rows):
        scores = [result.rows[index]["j_mean"] for result in singles]
        assert row["j_mean"] == pytest.approx(np.mean(scores))
    assert together.config["seeds"] == 3
    spread = np.ptp([[row["j_mean"] for row in result.rows] for result in singles], axis=0)
    assert spread.max() > 0.05


def seeded_units(seed_sd: float, draws: int, classes: int) -> Array:
    """Scores 0 on average of classes of 10 images under 5 seeds, as units (draw, image, 10)."""
    rng = np.random.default_rng(2)
    image_effects = rng.normal(size=(draws, classes, 10, 1))
    seed_effects = seed_sd * rng.normal(size=(draws, classes, 1, 5))
    interactions = 0.3 * rng.normal(size=(draws, classes, 10, 5))
    flat = (image_effects + seed_effects + interactions).reshape(draws, -1, 5)
    return np.stack([flat, np.ones_like(flat)], axis=-1).reshape(*flat.shape[:2], -1)


def seed_mean(sums: Array) -> dict[str, Array]:
    totals = sums.reshape(*sums.shape[:-1], 5, 2).sum(axis=-2)
    return {"j_mean": totals[..., 0] / totals[..., 1]}


@pytest.mark.parametrize("classes", [7, 1])
@pytest.mark.parametrize("seed_sd", [0.0, 0.4, 1.5])
@pytest.mark.slow
def test_intervals_cover_what_other_seeds_and_images_would_give(
    seed_sd: float, classes: int
) -> None:
    units = seeded_units(seed_sd, 1000, classes)
    strata = np.repeat(np.arange(classes), 10)
    carried = bootstrap(units, seed_mean, strata=strata, repeats=5)["j_mean"]
    coverage = np.mean((carried.low <= 0) & (carried.high >= 0))
    assert 0.93 <= coverage <= 0.97
    # Images alone are not enough where seeds matter.
    images = bootstrap(units, seed_mean, strata=strata)["j_mean"]
    if seed_sd == 1.5:
        assert np.mean((images.low <= 0) & (images.high >= 0)) < 0.7


def test_a_single_repetition_is_the_bootstrap_over_units() -> None:
    units = seeded_units(0.3, 4, classes=7)
    plain = bootstrap(units, seed_mean)["j_mean"]
    single = bootstrap(units, seed_mean, repeats=1)["j_mean"]
    assert plain.low.tolist() == single.low.tolist()


def test_what_knows_nothing_is_scored_beside(tmp_path: Path) -> None:
    task, run = make_task(tmp_path, seeds=2)
    grids = {sample.id: sample.base("value") for sample in run.samples}
    guesses = dict(task.guesses(grids, 0))
    assert list(guesses) == ["all background", "all foreground", "random regions"]
    scores = {}
    for name, measured in guesses.items():
        assert measured.shape[1:] == (8, 2, 4)
        table = next(task.tables(measured))
        scores[name] = table.scores(table.units.sum(axis=1))["j_mean"]
    # An object is 6 of 48 pixels.
    assert scores["all background"].tolist() == [0.0]
    assert scores["all foreground"] == pytest.approx([6 / 48])
    assert len(set(scores["random regions"].tolist())) == 8
    assert task.unseen(grids).tolist() == [[0, 48]] * 8


def test_random_regions_are_alike_in_all_images() -> None:
    span = GridSpan("base", 0, GRID, GRID[1], (0.0, 0.0, 8.0, 6.0))
    first, second = random_regions(3, np.random.default_rng(0), [span, span])
    assert np.array_equal(first, second)
    assert first.any()
    assert not first.all()


@pytest.mark.slow
def test_the_spread_of_random_regions_is_that_of_many_draws(tmp_path: Path) -> None:
    """Images of a class share their regions: put together image by image they vary by half."""
    task, run = make_task(tmp_path, seeds=2)
    grids = {sample.id: sample.base("value") for sample in run.samples}
    scores = []
    spreads = []
    for seed in range(40):
        table = next(task.tables(dict(task.guesses(grids, seed))["random regions"]))
        scores.append(table.scores(table.units.sum(axis=1))["j_mean"])
        spreads.append(spread_of_draws(table, "j_mean", seed))
    deviation = np.std(np.concatenate(scores), ddof=1)
    assert np.mean(spreads) == pytest.approx(deviation, rel=0.1)


def test_void_is_ignored_or_background(tmp_path: Path) -> None:
    """A map of MSRCv2: 6 pixels of a cow, 18 of grass, 24 black ones."""
    for number in range(2):
        colors = np.zeros((6, 8, 3), np.uint8)
        colors[:3] = (0, 128, 0)
        colors[1, 1:7] = V2_COLORS["cow"]
        picture(tmp_path / f"data/Images/1_{number}_s.bmp", 8, 6)
        colour_bmp(tmp_path / f"data/GroundTruth/1_{number}_s_GT.bmp", colors)
    dataset = Msrc(tmp_path / "data")
    sizes = {ref.id: (8, 6) for ref in dataset.images()}
    span = GridSpan("base", 0, GRID, GRID[1], (0.0, 0.0, 8.0, 6.0))
    scores = {}
    for void in ("ignored", "background"):
        task = CoSegmentation(dataset, sizes, torch.device("cpu"), void=void)
        measured = dict(task.guesses(dict.fromkeys(sizes, span), 0))["all foreground"]
        table = next(task.tables(measured))
        scores[void] = table.scores(table.units.sum(axis=1))["j_mean"].item()
        assert task.settings()["void"] == void
    assert scores == {"ignored": pytest.approx(6 / 24), "background": pytest.approx(6 / 48)}
    with pytest.raises(UsageError, match="expected ignored or background, found 'black'"):
        CoSegmentation(dataset, sizes, torch.device("cpu"), void="black")  # type: ignore[arg-type]
