"""A small run for each task."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from kvtool.datasets.refcoco import RefCoco
from kvtool.store import Run
from tests.support.tasks import co_segmentation as msrc
from tests.support.tasks import foreground_segmentation as pascal
from tests.support.tasks import language
from tests.support.tasks import semantic_correspondence as spair
from tests.support.tasks import temporal_correspondence as davis
from tests.support.units import noise, sample, write_run


def imagenet_run(folder: Path) -> Run:
    run = language.imagenet_run(folder, scale=3)
    language.commit_texts(run, language.NAMES)
    return run


def refcoco_run(folder: Path) -> Run:
    language.refcoco(folder / "data")
    dataset = RefCoco(folder / "data", "val")
    samples = [
        sample(ref.id, i, language.GRID[::-1], language.GRID)
        for i, ref in enumerate(dataset.images())
    ]
    run = write_run(
        folder / "store",
        "refcoco",
        "val",
        folder / "data",
        samples,
        noise(3),
        layers=language.LAYERS,
    )
    language.commit_texts(run, dataset.texts())
    return run


RUNS: dict[str, Callable[[Path], Run]] = {
    "foreground-segmentation": lambda folder: pascal.make_run(folder, 3),
    "co-segmentation": msrc.make_run,
    "semantic-segmentation": imagenet_run,
    "bdd10k": language.bdd_run,
    "referring-expression": refcoco_run,
    "semantic-correspondence": spair.make_run,
    "temporal-correspondence": davis.make_run,
}
"""A small run for each task, and of BDD for semantic segmentation."""
