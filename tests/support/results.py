"""Results as commands give them, of any shape, with numbers that differ everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from kvtool.experiments.average.means import best_of_layers
from kvtool.result import Result, Row, best_row

MODEL = "llava-hf/llava-onevision-qwen2-7b-ov-hf"


def about(
    command: str,
    metric: str,
    rows: list[Row],
    *,
    task: str | None = None,
    n: int = 200,
    **fields: Any,
) -> Result:
    config = {"run": "r", "model": MODEL, "dataset": "spair71k", "split": "test"} | fields.pop(
        "config", {}
    )
    return Result(
        command=command, task=task, metric=metric, n=n, rows=rows, config=config, **fields
    )


def interval(name: str, value: float | None, half: float = 0.04) -> Row:
    low, high = (None, None) if value is None else (value - half, value + half)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def block(kind: str, layer: int, head: int, metric: str, value: float | None, **labels: Any) -> Row:
    return {
        "kind": kind,
        "layer": layer,
        "kv_head": head,
        **labels,
        **interval(metric, value),
        "n": 200,
    }


def per_layer(rows: Sequence[Row], metric: str) -> list[Row]:
    groups = dict.fromkeys((row["kind"], row["layer"]) for row in rows)
    best = [
        best_row([r for r in rows if (r["kind"], r["layer"]) == group], metric) for group in groups
    ]
    return [row for row in best if row is not None]


def probe(
    layers: Sequence[int] = range(8),
    heads: int = 2,
    kinds: Sequence[str] = ("value",),
    *,
    metric: str = "pck_image",
    n_others: int = 1,
) -> Result:
    """A rise and a fall over layers; alpha rows that no plot shows; projected, vision and other
    runs beside.
    """
    rng = np.random.default_rng(0)
    rows = []
    for (which, kind), (position, layer), head in product(
        enumerate(kinds), enumerate(layers), range(heads)
    ):
        value = 0.2 + 0.3 * np.sin(3 * position / len(layers)) + 0.1 * float(rng.random())
        rows.append(block(kind, layer, head, metric, value - 0.05 * which))
    rows += [row | {"alpha": 0.05, metric: 0.9} for row in rows]
    tower_rows = [block("projected", 0, 0, metric, 0.21), block("vision", 25, 0, metric, 0.302)]
    summaries = [row for row in rows if "alpha" not in row]
    best = {**(best_row(summaries, metric) or {}), "select": "max"}
    baselines = [{"run": "r", "model": MODEL, **row} for row in tower_rows]
    for index in range(n_others):
        tower = block("vision", 25, 0, metric, 0.33 + 0.02 * index)
        name = f"google/siglip-so400m-patch14-384-number-{index}"
        baselines.append({"run": f"siglip-{index}", "model": name, **tower})
    return about(
        "probe",
        metric,
        rows + tower_rows,
        task="semantic-correspondence",
        best=best,
        per_layer=per_layer(summaries + tower_rows, metric),
        baselines=baselines,
    )


def encoder(layers: Sequence[int] = (3,)) -> Result:
    """A run of a vision tower alone: its best block is its own baseline."""
    rows = [block("vision", layer, 0, "pck_image", 0.2 + 0.01 * layer) for layer in layers]
    best = {**(best_row(rows, "pck_image") or {}), "select": "max"}
    baselines = [{"run": "r", "model": MODEL, **row} for row in rows]
    return about(
        "probe",
        "pck_image",
        rows,
        task="semantic-correspondence",
        best=best,
        per_layer=rows,
        baselines=baselines,
    )


def undefined(result: Result) -> Result:
    """The same, with every third block undefined, the whole second layer among them."""
    rows = [
        row | interval(result.metric, None)
        if row["kind"] in ("key", "value") and (i % 3 == 0 or row["layer"] == 1)
        else row
        for i, row in enumerate(result.rows)
    ]
    summaries = [row for row in rows if "alpha" not in row]
    best = best_row([row for row in summaries if row["kind"] == "value"], result.metric)
    return replace(result, rows=rows, best=best, per_layer=per_layer(summaries, result.metric))


def variance(
    layers: int = 28, heads: int = 4, *, bimodal: bool = True, kind: str = "key"
) -> Result:
    rng = np.random.default_rng(1)
    low = rng.random((layers, heads)) < (0.4 if bimodal else 0)
    values = np.where(low, rng.normal(200, 30, low.shape), rng.normal(900, 150, low.shape))
    cut = 450.0 if bimodal else None
    edges = np.exp(np.linspace(np.log(values.min()), np.log(values.max()), 25))
    counts, _ = np.histogram(values, np.concatenate([[0], edges[1:-1], [1e9]]))
    rows = [
        {
            "kind": kind,
            "layer": layer,
            "kv_head": head,
            **interval("variance", float(values[layer, head]), 10.0),
            "n": 1000,
            "input_agnostic": None if cut is None else bool(values[layer, head] < cut),
        }
        for layer in range(layers)
        for head in range(heads)
    ]
    distribution = {
        "bimodal": bimodal,
        "why": "density in the valley 0.80 of the lower mode's, p = 0.162",
        "modes": [200.0, 900.0] if bimodal else [900.0],
        "bin_edges": edges.tolist(),
        "counts": counts.tolist(),
    }
    config: Row = {
        "kind": kind,
        "threshold": cut,
        "threshold_from": "auto",
        "distribution": distribution,
        "notes": [],
    }
    return about("variance", "variance", rows, n=1000, unit="variance", config=config)


def knockout(
    parts: Sequence[str] = ("random", "popular", "adversarial"), draws: int = 1, label: str = "file"
) -> Result:
    heads = {
        "none": 0,
        "chosen": 42,
        "early": 20,
        "middle": 8,
        "late": 14,
        "dependent": 42,
        "random": 42,
    }
    rows: list[Row] = []
    for index, (condition, n_heads) in enumerate(heads.items()):
        row: Row = {"condition": condition, "n_heads": n_heads}
        several = draws > 1 and condition in ("dependent", "random")
        if several:
            rows += [
                row | {"draw": draw, **interval("f1", 0.75 - 0.03 * draw), "n": 900}
                for draw in range(draws)
            ]
            row["draw"] = "all"
        rows.append(row | interval("f1", 0.8 - 0.021 * index) | {"n": 900})
        rows += [
            row | {label: part, **interval("f1", 0.82 - 0.03 * index), "n": 300} for part in parts
        ]
    return about(
        "knockout", "f1", rows, task="pope", n=900, config={"dataset": "pope", "notes": []}
    )


def prefix(text: str = "") -> Result:
    names = ["none", "correct", "random", "incorrect", *([text] if text else [])]
    rows = [
        {"condition": condition, "choice": choice, "kind": "value", "layer": 5, "kv_head": 1}
        | interval("miou_fgbg", 0.4 + 0.03 * index - 0.01 * position)
        | interval(
            "difference", 0.03 * index - 0.01 * position * (index > 0), 0.0 if index == 0 else 0.02
        )
        | {"n": 54, "run": "r"}
        for index, condition in enumerate(names)
        for position, choice in enumerate(("best", "fixed"))
    ]
    config = {"dataset": "refcoco", "split": "val", "select": "max", "notes": []}
    return about("prefix", "miou_fgbg", rows, task="referring-expression", n=54, config=config)


def paired(layers: int = 28, heads: int = 4, metric: str = "value") -> Result:
    rows: list[Row] = []
    for layer in range(layers):
        for head in range(heads):
            common, value_only, model_only = (
                0.25,
                0.1 + 0.2 * np.sin(3 * layer / layers) + 0.01 * head,
                0.06,
            )
            shares = {
                metric: common + value_only,
                "model": common + model_only,
                "union": common + value_only + model_only,
                "both": common,
                "value_only": value_only,
                "model_only": model_only,
                "neither": 1 - common - value_only - model_only,
            }
            row: Row = {
                "kind": "value",
                "layer": layer,
                "kv_head": head,
                "n": 117,
                "chance": 0.5,
                "mcnemar_p": 3e-5,
            }
            for name, share in shares.items():
                row |= interval(name, float(share), 0.03)
            rows.append(row)
    best = {**(best_row(rows, metric) or {}), "select": "max"}
    projected = rows[0] | {"kind": "projected", "layer": 0, "kv_head": 0}
    return about(
        "paired",
        metric,
        [*rows, projected],
        task="art-style",
        n=117,
        best=best,
        config={"dataset": "blink"},
    )


def correlate(models: int = 3, *, coefficients: bool = True) -> Result:
    names = [MODEL, "Qwen/Qwen2.5-VL-7B-Instruct", "llava-hf/llama3-llava-next-8b-hf"]
    names += [
        f"some-organisation/a-model-of-a-long-name-number-{index}-instruct-hf"
        for index in range(models - 3)
    ]
    rows: list[Row] = [
        {
            "model": name,
            **interval("segmentation", 0.45 + 0.05 * i),
            **interval("accuracy", 0.5 + 0.04 * i * (-1) ** i, 0.02),
        }
        for i, name in enumerate(names[:models])
    ]
    if coefficients:
        rows.append(
            {"coefficient": "pearson", **interval("value", 0.93, 0.05), "p": 0.04, "n": models}
        )
        rows.append({"coefficient": "spearman", **interval("value", None), "p": None, "n": models})
    notes = (
        []
        if coefficients
        else [f"no coefficient: expected 3 models or more, found {models}; extract more of them"]
    )
    config: Row = {
        "tasks": {"foreground-segmentation": {}, "co-segmentation": {}},
        "benchmarks": ["cvbench", "blink"],
        "notes": notes,
    }
    return Result(
        command="correlate", task=None, metric="accuracy", n=models, rows=rows, config=config
    )


def average(models: int = 1, layers: int = 8, heads: int = 2) -> Result:
    """Means of two tasks of each set; projected beside, of all and of some tasks."""
    sets = {"segmentation": ("co-segmentation", "referring-expression")}
    sets |= {"correspondence": ("semantic-correspondence", "temporal-correspondence")}
    names = [name for members in sets.values() for name in members]
    rng = np.random.default_rng(2)
    rows: list[Row] = []
    items: list[Row] = []
    baselines: list[Row] = []
    model_names = [f"lab/model-{index}" for index in range(models)]
    for model, subset in product(model_names, [*names, *sets, "all"]):
        n_tasks = 4 if subset == "all" else 2 if subset in sets else 1
        labels: Row = {"model": model, "subset": subset, "n_tasks": n_tasks}
        own_rows = [
            {**labels, **block("value", layer, head, "score", 0.3 + 0.4 * float(rng.random()))}
            | {"chance": 0.2, "chance_low": 0.18, "chance_high": 0.22}
            for layer in range(layers)
            for head in range(heads)
        ]
        rows += own_rows
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


RESULTS = {
    "probe": probe(),
    "variance": variance(8, 2),
    "knockout": knockout(),
    "prefix": prefix(),
    "paired": paired(8, 2),
    "correlate": correlate(),
    "average": average(),
    "compare": compare(),
}
LONG = (
    "an-organisation-of-a-long-name/and-a-model-of-one-that-is-longer-still-than-a-page-is-wide" * 2
)
SHAPES = {
    **RESULTS,
    "28 x 4": probe(range(28), 4),
    "28 x 8": probe(range(28), 8, n_others=3),
    "32 x 8, two kinds": probe(range(32), 8, ("value", "key")),
    "80 x 8": probe(range(80), 8),
    "8 x 2, long metric": probe(range(8), 2, metric="miou_fgbg_image"),
    "one block": probe([5], 1),
    "one layer": probe([5], 8),
    "one head": probe(range(8), 1),
    "more heads than fit": probe(range(28), 64, n_others=12),
    "some layers": probe([0, 1, 2, 14, 20, 27], 4),
    "nulls": undefined(probe(range(8), 2, ("value", "key"))),
    "encoder": encoder(),
    "encoder, layers": encoder(range(5)),
    "variance 28 x 4": variance(),
    "variance 80 x 8": variance(80, 8),
    "not bimodal": variance(8, 2, bimodal=False),
    "variance, one head": variance(8, 1),
    "one file": knockout(()),
    "draws": knockout(draws=5),
    "14 subsets": knockout([f"subset_number_{i}" for i in range(14)], label="subset"),
    "own prefix": prefix(f"text:{LONG}"),
    "paired 28 x 4": paired(),
    "two models": correlate(2, coefficients=False),
    "ten models": correlate(10),
    "averages of three models": average(3, 28, 4),
    "comparison of three runs": compare(3, 28, 4),
    "long names": replace(probe(), config={"model": LONG, "dataset": LONG, "run": "r"}),
}
