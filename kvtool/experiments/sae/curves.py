"""The curves of a study over layers, and what is computed of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from kvtool.experiments.sae.alignment import (
    LayerCurve,
    alignment_by_fvu,
    alignment_by_transfer,
    change_point,
)
from kvtool.experiments.sae.rows import Scores


def curves_of(scores: Scores) -> dict[str, Any]:
    """Return the layers of alignment and the change points of image tokens over layers."""
    # Resampled curves carry the intervals: layers are resampled together, by image.
    curves = {name: _curve(scores, name) for name in scores.resampled}
    alignment = []
    # Without an SAE there is no reconstruction, and without masks no transfer.
    if "fvu_ratio" in curves:
        alignment.append(alignment_by_fvu(curves["fvu_ratio"]))
    for name in ("transfer", "directions"):
        if name in curves:
            alignment.append({**alignment_by_transfer(curves[name]), "by": name})
    points = [
        change_point("fvu" if name == "fvu_ratio" else name, curve)
        for name, curve in curves.items()
    ]
    return {"alignment_layer": alignment, "change_point": points}


def _curve(scores: Scores, name: str) -> LayerCurve:
    by_layer = scores.resampled[name]
    layers = tuple(sorted(by_layer))
    values: dict[int, float] = {}
    for row in scores.rows:
        if row["condition"] == "image":
            # Of several SAEs of a layer the first counts.
            values.setdefault(row["layer"], row[name])
    return LayerCurve(
        layers,
        np.array([values[layer] for layer in layers], float),
        np.stack([by_layer[layer] for layer in layers], axis=1),
    )
