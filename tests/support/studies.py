"""Results made up for the page: of every command, with numbers that a test can tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtool.reporting import KeptResult, Study
from kvtool.result import Result, Row, best_row

NASTY = "<script>alert(1)</script>"
METRICS = {
    "foreground-segmentation": ("miou", "miou_episode", "fb_iou"),
    "co-segmentation": ("j_mean",),
    "semantic-segmentation": ("miou_fgbg", "miou_fgbg_image", "iou_fg"),
    "referring-expression": ("miou_fgbg", "miou_fg", "oiou"),
    "semantic-correspondence": ("pck_image", "pck_point"),
    "temporal-correspondence": ("j_and_f", "j_mean", "f_mean"),
}
VERSIONS = {"kvtool": "0", "python": "3"}


def scored(name: str, value: float | None, half: float = 0.02) -> Row:
    """A metric with its interval."""
    low, high = (None, None) if value is None else (value - half, value + half)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def about(model: str = "model", dataset: str = "spair71k", **fields: Any) -> dict[str, Any]:
    return {
        "run": f"{model}-{dataset}",
        "model": model,
        "dataset": dataset,
        "split": "test",
        **fields,
    }


def probe_result(
    task: str = "semantic-correspondence",
    layers: int = 4,
    heads: int = 2,
    categories: tuple[str, ...] = ("cat", NASTY),
    model: str = "model",
    seed: int = 0,
    select: str = "max",
) -> Result:
    """Scores drawn from a seed; baselines projected 0.3 and the tower's of another model 0.1."""
    rng = np.random.default_rng(seed)
    metrics = METRICS[task]

    def row(kind: str, layer: int, head: int, **labels: str) -> Row:
        values = rng.uniform(0.15, 0.65, len(metrics)).tolist()
        scores = {
            k: v
            for name, value in zip(metrics, values, strict=True)
            for k, v in scored(name, value).items()
        }
        return {"kind": kind, "layer": layer, "kv_head": head, **labels, **scores, "n": 60}

    blocks = [(layer, head) for layer in range(layers) for head in range(heads)]
    summary = [row("value", *block) for block in blocks]
    labelled = [row("value", *block, category=name) for name in categories for block in blocks]
    projected = {**row("projected", 0, 0), **scored(metrics[0], 0.3)}
    tower = {**row("vision", 3, 0), **scored(metrics[0], 0.1)}
    by_layer = [[r for r in summary if r["layer"] == layer] for layer in range(layers)]
    best = best_row(summary, metrics[0])
    assert best is not None
    read = {"kind": "value", "layers": list(range(layers)), "kv_heads": list(range(heads))}
    config = about(model, task, select=select, seed=0, options={"limit": None}, blocks=[read])
    return Result(
        command="probe",
        task=task,
        metric=metrics[0],
        n=60,
        rows=[*summary, *labelled, projected],
        best={**best, "select": select},
        per_layer=[best_row(rows, metrics[0]) or {} for rows in by_layer],
        baselines=[
            {"run": config["run"], "model": model, **projected},
            {"run": "tower-run", "model": "tower", **tower},
        ],
        config=config,
        versions=VERSIONS,
        n_skipped=1,
        skipped=[f"1 pair needs {NASTY}"],
    )


def variance_result(bimodal: bool = True) -> Result:
    values = [0.1, 0.12, 0.11, 5.0, 6.0, 5.5, 7.0, 4.5]
    cut = 1.0 if bimodal else None
    rows = [
        {
            "kind": "key", "layer": i // 2, "kv_head": i % 2,
            **scored("variance", value, 0.01), "n": 60,
            "input_agnostic": None if cut is None else value < cut,
            "group": "early" if i < 4 else "late",
        }
        for i, value in enumerate(values)
    ]  # fmt: skip
    counts = [3, 0, 5] if bimodal else [8]
    edges = [0.1, 0.3, 2.0, 8.0] if bimodal else [0.1, 8.0]
    config = about(
        kind="key",
        seed=0,
        threshold=cut,
        threshold_from="auto",
        distribution={
            "bimodal": bimodal, "why": "" if bimodal else "one mode",
            "modes": [0.11, 5.4] if bimodal else [5.4],
            "bin_edges": edges, "counts": counts,
        },
        groups=[{
            "group": "early", "layers": [0, 1], "n_keys": 4,
            "n_input_agnostic": 3 if bimodal else None,
        }],
        notes=[] if bimodal else ["not bimodal"],
    )  # fmt: skip
    return Result(
        "variance",
        None,
        "variance",
        60,
        rows=rows,
        config=config,
        versions=VERSIONS,
        unit="variance",
    )


def knockout_result() -> Result:
    def row(condition: str, value: float, **fields: Any) -> Row:
        return {
            "condition": condition,
            "n_heads": 0 if condition == "none" else 3,
            **scored("f1", value),
            "n": 90,
        } | fields

    tested = {"n_lost": 2, "n_gained": 1, "mcnemar_p": 1.0}
    rows = [row("none", 0.8), row("none", 0.81, file="random"), row("chosen", 0.79, **tested)]
    rows += [row("dependent", 0.6, n_lost=20, n_gained=1, mcnemar_p=0.00002)]
    config = about(
        benchmark="pope:/data/pope",
        heads="agnostic",
        heads_run="model-spair71k",
        layers=None,
        controls=[],
    )
    config |= {"draws": 1, "max_new_tokens": 16, "limit": None, "seed": 0, "notes": []}
    return Result("knockout", "pope", "f1", 90, rows=rows, config=config, versions=VERSIONS)


def prefix_result() -> Result:
    def row(condition: str, choice: str, value: float, difference: float | None) -> Row:
        block = {"kind": "value", "layer": 3, "kv_head": 1}
        return {
            "condition": condition,
            "choice": choice,
            **block,
            **scored("pck_image", value),
            "n": 60,
        } | ({} if difference is None else scored("difference", difference))

    rows = [
        row("none", "best", 0.4, None),
        row("correct", "best", 0.5, 0.1),
        row("random", "best", 0.41, 0.01),
    ]
    return Result(
        "prefix",
        "semantic-correspondence",
        "pck_image",
        60,
        rows,
        config=about(),
        versions=VERSIONS,
    )


def paired_result() -> Result:
    cells = {
        "both": 0.4,
        "value_only": 0.3,
        "model_only": 0.1,
        "neither": 0.2,
        "value": 0.7,
        "model": 0.5,
        "union": 0.8,
    }
    row: Row = {"kind": "value", "layer": 3, "kv_head": 1}
    for name, value in cells.items():
        row |= scored(name, value)
    row |= {
        "n_both": 24,
        "n_value_only": 18,
        "n_model_only": 6,
        "n_neither": 12,
        "mcnemar_p": 0.02,
        "n": 60,
    }
    values = {
        "label": "A",
        "answer": NASTY,
        "said": "B",
        "model": False,
        "value": "A",
        "value_right": True,
    }
    items = [
        {"id": f"q{i}", "images": [f"im{i}"], **values, "cell": "value_only"} for i in range(3)
    ]
    return Result(
        "paired", "semantic-correspondence", "value", 60, [row],
        best={**row, "select": "max"}, items=items, config=about(), versions=VERSIONS,
    )  # fmt: skip


def correlate_result(low: float = 0.2) -> Result:
    rows: list[Row] = [
        {"model": name, **scored("segmentation", 0.3 + i / 10), **scored("accuracy", 0.5 + i / 20)}
        for i, name in enumerate(("one", "two", NASTY))
    ]
    rows.append(
        {
            "coefficient": "pearson",
            "value": 0.9,
            "value_low": low,
            "value_high": 0.99,
            "p": 0.04,
            "n": 3,
        }
    )
    return Result("correlate", None, "accuracy", 3, rows, versions=VERSIONS)


def unknown_result() -> Result:
    return Result(
        "hereafter", None, "score", 1, [{"what": NASTY, "score": 0.123456789}], versions=VERSIONS
    )


def every_result() -> list[Result]:
    probes = [probe_result(), probe_result(model="second", seed=1)]
    results = [
        knockout_result(),
        prefix_result(),
        paired_result(),
        correlate_result(),
        unknown_result(),
    ]
    return [*probes, variance_result(), *results]


def study(*results: Result, **options: Any) -> Study:
    return Study(
        "A study",
        "Made by a test.",
        tuple(KeptResult("s.kv", result) for result in results),
        **options,
    )
