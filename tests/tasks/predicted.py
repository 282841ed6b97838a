"""Predictions of a task as they lie on disk."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kvtool.datasets.masks import VOID
from kvtool.result import Result, Row
from kvtool.stats.bootstrap import Array
from kvtool.tasks import predictions

DOCS = Path(__file__).parents[2] / "docs/output.md"
BLOCK: dict[str, Any] = {"layers": [2], "heads": [1]}
"""A block of noise: asked for alone, it is the best."""


def best(result: Result) -> Row:
    assert result.best is not None
    return result.best


def index_of(folder: Path, result: Result) -> list[dict[str, Any]]:
    """The records of predictions.json, which names the best block and every file."""
    index = json.loads((folder / predictions.INDEX).read_text())
    assert index["schema"] == predictions.SCHEMA
    assert {name: index[name] for name in ("kind", "layer", "kv_head")} == {
        name: best(result)[name] for name in ("kind", "layer", "kv_head")
    }
    assert index["config"]["run"] == result.config["run"]
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {record["file"] for record in index["files"]} | {predictions.INDEX}
    records: list[dict[str, Any]] = index["files"]
    documented = set(re.findall(r"`([^`]+)`", DOCS.read_text()))
    assert index.keys() | {name for record in records for name in record} <= documented
    return records


def read_mask(path: Path) -> Array:
    with Image.open(path) as image:
        assert image.mode == "L"
        values = np.asarray(image)
    assert set(np.unique(values)) <= {0, 255}
    return values > 0


def iou(prediction: Array, truth: Array) -> float:
    """Of one mask; truth 255 is left out."""
    keep = truth != VOID
    a, b = prediction[keep], truth[keep] == 1
    return float((a & b).sum() / (a | b).sum())
