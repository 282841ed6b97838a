"""Runs of tasks, an annotation of each that is to be broken, and what they score."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvtool.experiments.probe.run import probe
from kvtool.result import Result
from kvtool.store import Run

LAYERS: dict[str, Any] = {"layers": [0], "kinds": ["value"]}
OPTIONS: dict[str, dict[str, Any]] = {
    "foreground-segmentation": {"episodes": 20},
    "co-segmentation": {"restarts": 1},
}

MASKS = {
    "foreground-segmentation": "VOC2012/SegmentationClassAug/*.png",
    "co-segmentation": "groundtruth/*/*",
    "semantic-segmentation": "**/validation-segmentation/*/*.png",
    "bdd10k": "labels/sem_seg/masks/val/*.png",
    "temporal-correspondence": "Annotations/480p/*/00000.png",
}


def scored(run: Run, name: str, **options: Any) -> Result:
    task = "semantic-segmentation" if name == "bdd10k" else name
    return probe(run, task, fresh=True, **LAYERS, **OPTIONS.get(name, {}), **options)


def data_of(run: Run) -> Path:
    return Path(str(run.config.dataset_path))


@dataclass(frozen=True)
class Scene:
    """A run, the mask that is to be broken, and its results with that mask and without it."""

    run: Run
    path: Path
    full: Result
    without: Result
