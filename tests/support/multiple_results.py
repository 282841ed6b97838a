"""Results about several tasks or runs, as `kvtool average` and `kvtool compare` give them."""

from __future__ import annotations

from itertools import product

import numpy as np

from kvtool.experiments.average.means import best_of_layers
from kvtool.result import Result, Row, best_row
from tests.support.result_rows import about, block, interval


def average(models: int = 1, layers: int = 8, heads: int = 2) -> Result:
    """Means of two tasks of each set; projected beside, of all and of some tasks."""
    sets = {"segmentation": ("co-segmentation", "referring-expression")}
    sets |= {"correspondence": ("semantic-correspondence", "temporal-correspondence")}
    names = [name for members in sets.values() for name in members]
    rng = np.random.default_rng(2)
    rows, items, baselines = list[Row](), list[Row](), list[Row]()
    model_names = [f"lab/model-{index}" for index in range(models)]
    for model, subset in product(model_names, [*names, *sets, "all"]):
        n_tasks = 4 if subset == "all" else 2 if subset in sets else 1
        labels: Row = {"model": model, "subset": subset, "n_tasks": n_tasks}
        for layer, head in product(range(layers), range(heads)):
            score = block("value", layer, head, "score", 0.3 + 0.4 * float(rng.random()))
            rows.append(labels | score | interval("chance", 0.2, 0.02))
        run = {"run": "r"} if subset in names else {}
        items.append({**labels, **interval("score", 0.7), **run})
        for n_having in (n_tasks, n_tasks - 1):
            tower = block("projected" if n_having == n_tasks else "vision", 0, 0, "score", 0.33)
            baselines.append(labels | tower | {"average_of": model, "n_tasks": n_having})
    bests = [row for row in rows if row["subset"] == "all"]
    entries = [{"name": name, "revision": "a", "probes": []} for name in model_names]
    return about(
        "average",
        "score",
        rows,
        best=best_row(bests, "score"),
        per_layer=best_of_layers(rows),
        baselines=baselines,
        items=items,
        config={"models": entries, "tasks": dict.fromkeys(names, "d@s"), "notes": []},
    )


def compare(runs: int = 1, layers: int = 8, heads: int = 2) -> Result:
    """Each run's best block beside the first run's, and a map of differences."""
    rng = np.random.default_rng(3)
    rows: list[Row] = []
    names = [f"run-{index}" for index in range(runs)]
    for index, name in enumerate(names):
        best = block("value", 3, 1, "pck_image", 0.5) | interval("base_score", 0.4)
        best |= interval("difference", 0.1 - 0.2 * index) | {"p": 0.004, "holm_p": 0.008}
        labels = {"run": name, "base": "first"}
        base = {"base_kind": "value", "base_layer": 2, "base_kv_head": 0}
        rows.append({**labels, "choice": "best", **best, **base})
        for layer, head in product(range(layers), range(heads)):
            value = float(rng.normal(0, 0.1))
            row = block("value", layer, head, "pck_image", 0.5 + value)
            row |= interval("base_score", 0.5) | interval("difference", value)
            test = {"p": 0.01, "holm_p": 0.01 if abs(value) > 0.1 else 0.6}
            rows.append({**labels, "choice": "block", **row, **test})
    config: Row = {"run": "first", "select": "split", "notes": [], "blocks": []}
    config["runs"] = [{"run": name} for name in ("first", *names)]
    return about("compare", "pck_image", rows, task="semantic-correspondence", config=config)
