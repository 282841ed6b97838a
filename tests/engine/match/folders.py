"""Extraction of a folder, and what becomes of its pictures between two of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import kvtool
from kvtool.engine.outcome import Report
from kvtool.store import Run
from tests.support.tiny import noise


def extract(store: Path, model: Path, folder: Path, **options: Any) -> Report:
    return kvtool.extract(store, model=str(model), dataset=f"folder:{folder}", **options)


def values(run: Run, image: str) -> np.ndarray[Any, Any]:
    return np.asarray(run.read_image(image)["value"])


def counts(report: Report) -> tuple[int, int]:
    return report.n_before, report.n_done


def replace_pictures(folder: Path, *names: str) -> None:
    for name in names:
        size = (50, 40)
        noise(*size, 1000 + int(name)).save(folder / f"{name}.png")
