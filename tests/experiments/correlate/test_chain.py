"""kvtool correlate of tiny models, from pictures to scores."""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

import pytest

import kvtool
import kvtool.models
from kvtool.result import Row
from kvtool.store import Run
from tests.experiments.correlate.planted import coefficients_of
from tests.support import datasets as builders
from tests.support import tiny
from tests.support.correlations import models_of


def extract_all(folder: Path) -> list[Path]:
    """Two tiny models, each over four data sets, in one store."""
    builders.msrc7(folder / "msrc")
    builders.refcoco(folder / "refcoco")
    builders.cvbench(folder / "cvbench")
    builders.blink(folder / "blink")
    specs = [f"msrc:{folder}/msrc", f"refcoco:{folder}/refcoco", f"cvbench:{folder}/cvbench"]
    specs.append(f"blink:{folder}/blink/Counting@val")
    models = [tiny.llava_onevision(folder / "one"), tiny.llava_next(folder / "next")]
    for model in models:
        for spec in specs:
            kvtool.extract(folder / "s.kv", model=str(model), dataset=spec, kinds=("key", "value"))
    return models


@pytest.mark.slow
def test_tiny_models_from_pictures_to_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two families end to end, with real weights: nothing is known beforehand of their scores."""
    models = extract_all(tmp_path)
    tasks = ["co-segmentation", "referring-expression"]
    loaded, original = list[str](), kvtool.models.load_model

    def load(name: str, **options: Any) -> Any:
        loaded.append(name)
        return original(name, **options)

    monkeypatch.setattr(kvtool.models, "load_model", load)
    result = kvtool.correlate(tmp_path / "s.kv", tasks=tasks, max_new_tokens=2, restarts=1)
    assert sorted(loaded) == sorted(map(str, models))
    assert (result.n, result.n_skipped, len(coefficients_of(result))) == (2, 0, 0)
    for row in models_of(result):
        assert row["n"] == 3 + 5
        assert row["segmentation"] == pytest.approx((row[tasks[0]] + row[tasks[1]]) / 2)
        down = sqrt(sum((row[task] - row[f"{task}_low"]) ** 2 for task in tasks)) / 2
        up = sqrt(sum((row[f"{task}_high"] - row[task]) ** 2 for task in tasks)) / 2
        ends = (row["segmentation"] - down, row["segmentation"] + up)
        assert (row["segmentation_low"], row["segmentation_high"]) == pytest.approx(ends)
        results = [
            kvtool.probe(run_of(tmp_path / "s.kv", row, task), task)
            for task in ["referring-expression"]
        ]
        assert results[0].best is not None
        assert row[tasks[1]] == results[0].best[results[0].metric]
    models[0].rename(tmp_path / "moved")
    again = kvtool.correlate(
        tmp_path / "s.kv",
        tasks=tasks,
        max_new_tokens=1,
        restarts=1,
        model={str(models[0]): str(tmp_path / "moved")},
    )
    assert again.n == 2


def run_of(store: Path, row: Row, task: str) -> Run:
    data = {"referring-expression": "refcoco", "co-segmentation": "msrc"}[task]
    (name,) = [name for name in row["runs"] if f"-{data}-" in name]
    return kvtool.open(store).run(name)
