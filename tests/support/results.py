"""Results as commands give them, of any shape, with numbers that differ everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from kvtool.result import Result, Row, best_row
from tests.support.result_rows import MODEL, about, block, interval, per_layer


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
        "groups": [],
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
    config = {"dataset": "refcoco", "split": "val", "select": "max", "notes": [], "images": 54}
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
