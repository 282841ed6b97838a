"""Results of attention, of the shapes that a plot and the page meet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from kvtool.result import Result, Row, best_row
from tests.support.result_rows import about, interval

CONFIG: Row = {
    "question": None,
    "image": None,
    "benchmark": None,
    "expressions": True,
    "from": "last",
    "limit": None,
    "max_new_tokens": None,
    "seed": 0,
    "notes": [],
}
HALVES = {"n_chosen": 100, "n_scored": 100, "n_candidates": 12, "threshold": 0.1}


def attend_result(
    layers: Sequence[int] = range(8), q_heads: int = 4, *, has_masks: bool = True
) -> Result:
    """Heads that find objects the better the later their layer, or no objects at all."""
    rng = np.random.default_rng(4)
    rows: list[Row] = []
    for layer, head in product(layers, range(q_heads)):
        row: Row = {"layer": layer, "q_head": head, "kv_head": head // 2}
        if has_masks:
            row |= interval("auroc", 0.5 + 0.3 * float(rng.random()))
            row |= interval("pointing", float(rng.random()))
            row |= {"auroc_permuted": 0.53, "pointing_permuted": 0.1, "pointing_chance": 0.08}
            row |= {"chance": 0.5, "n_masks": 180}
        mass = float(rng.random())
        for name, value in (("mass", mass), ("mass_text", 1 - mass)):
            row |= interval(name, value)
        for name in ("entropy", "sink_share"):
            row |= interval(name, float(rng.random()))
        rows.append(row | {"n": 200, "n_resampled": 50})
    metric = "auroc" if has_masks else "mass"
    best = best_row(rows, metric)
    localization: dict[str, Any] = HALVES | {"heads": [rows[0] | {"frequency": 0.6}]}
    if has_masks:
        localization |= interval("auroc", 0.61) | {"auroc_permuted": 0.52, "chance": 0.5}
        values = {"layer": 2, "kv_head": 1, **interval("miou_fgbg", 0.4)}
        localization["segmentation"] = {
            "metric": "miou_fgbg",
            **interval("miou_fgbg", 0.5),
            "chance": 0.45,
            "chance_kind": "random map",
            "values": values | interval("difference", 0.1),
        }
    config = CONFIG | {
        "layers": list(layers),
        "localization_heads": 3,
        "localization": localization,
        "chosen_head": best | {"chosen_auroc": 0.8} if has_masks and best else None,
    }
    return about("attend", metric, rows, n=200, best=best, config=config)


def sinks_result(layers: Sequence[int] = range(8), kv_heads: int = 2) -> Result:
    """Keys of which the second half of the layers are input-agnostic; the stream is not known."""
    rng = np.random.default_rng(5)
    rows = []
    for layer, head in product(layers, range(kv_heads)):
        row: Row = {"kind": "key", "layer": layer, "kv_head": head}
        for name in ("sink_share", "mass", "border", "key_norm_ratio", "value_norm_ratio"):
            row |= interval(name, float(rng.random()))
        row |= {"overlap": float(rng.random()), "overlap_chance": 0.01, "border_chance": 0.3}
        row |= {"value_dependence": 0.2, "value_dependence_others": 0.8}
        row |= dict.fromkeys(("peak", "peak_others", "massive_dimension"))
        is_late = layer >= max(layers) // 2
        row |= {"variance": float(rng.random()), "input_agnostic": is_late}
        rows.append(row | {"n": 40, "n_resampled": 40})
    relation = {"measure": "overlap", "rho": -0.6, "rho_low": -0.8, "rho_high": -0.2, "n": 16}
    groups = {"measure": "mass", "agnostic": 0.2, "others": 0.6, "n_agnostic": 8, "n_others": 8}
    tested = {"p": 0.001, "holm_p": 0.008}
    config = CONFIG | {
        "layers": list(layers),
        "sinks": True,
        "correlations": [relation | tested],
        "agnostic": [groups | tested],
    }
    best = best_row(rows, "sink_share")
    return about("attend", "sink_share", rows, task="sinks", n=40, best=best, config=config)
