"""Cases of bad input to `kvtool score`: data and predictions of every benchmark, changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import datasets as builders
from tests.support.datasets import label_png

Make = Callable[[Path], list[Any]]


def davis_case(change: Callable[[Path], object]) -> Make:
    """Predictions equal to the annotations, but for `change`, which gets their folder."""

    def make(tmp: Path) -> list[Any]:
        data = builders.davis(tmp / "DAVIS")
        shutil.copytree(data / "Annotations/480p", tmp / "results")
        label_png(tmp / "results/two/00001.png", np.zeros((24, 32)))
        label_png(tmp / "results/two/00002.png", np.zeros((24, 32)))
        change(tmp / "results")
        return ["davis", "--data", data, "--results", tmp / "results"]

    return make


def bdd_case(change: Callable[[Path], object], *flags: object) -> Make:
    def make(tmp: Path) -> list[Any]:
        data = builders.bdd10k(tmp / "bdd")
        shutil.copytree(data / "labels/sem_seg/masks/val", tmp / "results")
        change(tmp)
        return ["bdd10k", "--data", data, "--results", tmp / "results", *flags]

    return make


def imagenet_case(change: Callable[[Path], object], classes: int = 50) -> Make:
    def make(tmp: Path) -> list[Any]:
        data = builders.imagenet_s(tmp / "data")
        shutil.copytree(data / "ImageNetS50/validation-segmentation", tmp / "results")
        change(tmp)
        return ["imagenet-s", "--data", data, "--results", tmp / "results", "--classes", classes]

    return make


def answers_case(name: str, content: str | bytes) -> Make:
    def make(tmp: Path) -> list[Any]:
        path = tmp / "a.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return [name, "--answers", tmp if name == "mme" else path]

    return make


def pair(**changes: Any) -> str:
    """A line of spair answers; a change of None takes the field away."""
    record = builders.pair_record("a", "b", "dog") | {"prd_kps": [[6, 7], [10.5, 12]]} | changes
    return json.dumps({name: value for name, value in record.items() if value is not None}) + "\n"


def nothing(_: Path) -> None:
    """The case is in the arguments."""


def emptied(tmp: Path) -> None:
    shutil.rmtree(tmp / "results")
    (tmp / "results").mkdir()


def first_map(tmp: Path) -> Path:
    return next((tmp / "results").glob("*/*.png"))


YES = '{"answer": "Yes", "label": "yes"}\n'
MME = "a.jpg\tIs it?\tYes\tyes\na.jpg\tIs it not?\tNo\tno\n"
