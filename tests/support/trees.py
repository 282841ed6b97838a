"""A small tree of every data set that has annotations, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from kvtool.datasets import open_dataset
from kvtool.datasets.base import DatasetBase
from kvtool.datasets.msrc import V2_COLORS
from tests.support import datasets as builders


def with_class_names(build: Callable[[Path], Path], count: int) -> Callable[[Path], Path]:
    def built(root: Path) -> Path:
        build(root)
        builders.write_text(root / "classes.txt", "\n".join(f"thing {i}" for i in range(count)))
        return root

    return built


def refcoco(root: Path) -> Path:
    builders.refcoco(root)
    builders.captions(root)
    return root


def msrc_v2(root: Path) -> Path:
    for name, category in (("1_1_s", "cow"), ("1_2_s", "cow"), ("2_1_s", "plane")):
        builders.picture(root / f"Images/{name}.bmp")
        builders.colour_bmp(
            root / f"GroundTruth/{name}_GT.bmp", np.full((24, 32, 3), V2_COLORS[category])
        )
    return root


TREES: dict[str, Callable[[Path], Path]] = {
    "own": builders.own,
    "spair71k": builders.spair,
    "pascal5i": with_class_names(builders.pascal, 20),
    "msrc": builders.msrc7,
    "msrc v2": msrc_v2,
    "imagenet-s": builders.imagenet_s,
    "refcoco": refcoco,
    "davis": builders.davis,
    "bdd10k": with_class_names(builders.bdd10k, 19),
    "coco": builders.coco,
    "pope": lambda root: builders.pope(root / "pope"),
    "mme": builders.mme,
    "blink": builders.blink,
    "cvbench": builders.cvbench,
}


def open_tree(name: str, root: Path) -> DatasetBase:
    return open_dataset(f"{name.partition(' ')[0]}:{root}")
