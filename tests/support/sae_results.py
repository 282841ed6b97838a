"""Results of `sae` made up for figures and the page: rows as the command gives them, with numbers
that differ everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Any

from kvtool.result import Result, Row
from tests.support.result_rows import MODEL, about, interval

CONDITIONS = (
    *("text", "image", "text-prefix", "shuffled", "other-image", "random", "random-norm"),
    *("untrained", "noise-residual", "pca", "random-sae"),
)
NO_LAYER = {"layer": None, "low": None, "high": None}
CHANCE_LEVEL = ("other-image", "random", "random-norm", "untrained", "noise-residual")


def transfer_of(condition: str, position: float) -> float | None:
    """The AUROC of a condition at 0, the first layer, to 1, the last: the image's peaks."""
    index = CONDITIONS.index(condition)
    if condition == "pca":
        return None
    if condition in CHANCE_LEVEL:
        return 0.47 + 0.01 * index - 0.02 * position
    return 0.99 if condition == "text" else 0.7 + 0.25 * position - 0.005 * index


def row(layer: int, n_layers: int, condition: str, sae: str, shift: float = 0.0) -> Row:
    position = layer / max(1, n_layers - 1)
    index = CONDITIONS.index(condition)
    fvu = (
        0.02 * (1 + position) if condition == "text" else (2.6 - 0.05 * index) * exp(-3 * position)
    )
    l0 = 12.0 if condition == "text" else 12 + (180 - 3 * index) * exp(-4 * position)
    area = transfer_of(condition, position)
    matched = 0.1 + 0.4 * position if condition == "image" else None
    return {
        "layer": layer,
        "condition": condition,
        "sae": sae,
        "n_images": 120,
        "n_tokens": 7680,
        "n_outliers": 0,
        "mse": 573.0 - index,
        **interval("fvu", fvu + shift, 0.1 * fvu),
        "l0": l0 + shift,
        "norm_ratio": 1.0 if condition == "text" else 40 * exp(-2 * position) + index,
        **interval("transfer", None if area is None else area - shift, 0.02),
        "transfer_chance": 0.5,
        **interval("match", matched, 0.05),
        "match_chance": None if matched is None else 0.09,
        "lift": None if matched is None else matched - 0.09,
        "directions": None,
        "directions_low": None,
        "directions_high": None,
    }


def sae_result(
    layers: Sequence[int] = range(8),
    conditions: Sequence[str] = CONDITIONS,
    saes: Sequence[str] = ("layer_{}",),
    aligned: tuple[int, int, int] | None = (3, 2, 4),
    **fields: Any,
) -> Result:
    """One SAE a layer, or several; the layer of alignment by transfer, or none."""
    rows = [
        row(layer, len(layers), condition, name.format(layer), 0.1 * number)
        for layer in layers
        for number, name in enumerate(saes)
        for condition in conditions
    ]
    layer, low, high = aligned or (None, None, None)
    entry = {"layer": layer, "low": low, "high": high}
    config = {
        "sae": [{"path": f"/saes/layer_{number}/w.npz", "layer": number} for number in layers],
        "layers": list(layers),
        "conditions": list(conditions),
        "tokens": 64,
        "seed": 0,
        "alignment_layer": [{"by": "fvu", **NO_LAYER}, {"by": "transfer", **entry}],
    }
    return about(
        "sae",
        "fvu",
        rows,
        n=120,
        unit="fvu",
        higher_is_better=False,
        **{"config": config, "items": items(layers[-1]), **fields},
    )


def directions_result(layers: Sequence[int] = range(30)) -> Result:
    """What `--sae none` gives: word directions alone."""
    rows = []
    for layer in layers:
        for condition in ("text", "image", "random", "untrained"):
            area = transfer_of(condition, layer / max(1, len(layers) - 1))
            empty = dict.fromkeys(("fvu", "l0", "norm_ratio", "transfer"))
            labels = {"layer": layer, "condition": condition, "sae": "none"}
            rows.append({**labels, **empty, **interval("directions", area, 0.02)})
    config: dict[str, Any] = {
        "sae": "none",
        "layers": list(layers),
        "tokens": 64,
        "seed": 0,
        "model": MODEL,
    }
    return about("sae", "directions", rows, n=120, config=config, unit="directions")


def items(layer: int, n_images: int = 2) -> list[Row]:
    """The three strongest features of some images, over a grid of 2 x 3 of which a patch was not
    run."""
    return [
        {
            "layer": layer,
            "sae": f"layer_{layer}",
            "image": f"im{image}",
            "feature": 10 * image + feature,
            "description": "names of animals" if feature else None,
            "words": ["cat", "dog"] if feature else [],
            "activation": 2.0,
            "presence": 0.03,
            "transfer": 0.97 if feature == 1 else None,
            "concept": "cat" if feature == 1 else None,
            "grid": [2, 3],
            "cells": [0, 1, 2, 3, 5],
            "activations": [0.0, 0.5, 2.0, 0.0, 1.0],
        }
        for image in range(n_images)
        for feature in range(3)
    ]
