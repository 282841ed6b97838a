"""Results of the lens, of the shapes that a plot and the page meet."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from kvtool.result import Result, Row, best_row
from tests.support.result_rows import about, interval


def lens_result(
    layers: Sequence[int] = range(8),
    measures: Sequence[str] = ("lens", "directions"),
    *,
    has_text: bool = True,
    is_defined: bool = True,
) -> Result:
    """Words that find their patches the better the later the layer."""
    rng = np.random.default_rng(3)
    rows = []
    for (position, layer), measure in product(enumerate(layers), measures):
        value = 0.5 + 0.4 * position / len(layers) if is_defined else None
        has_ranks = measure == "lens" and is_defined
        rows.append(
            {
                "layer": layer,
                "measure": measure,
                "n_images": 80,
                "n_concepts": 24,
                "rank": float(1000 - position) if has_ranks else None,
                **interval("auroc", value, 0.03),
                "chance": 0.5,
                "permuted": 0.45 + 0.1 * float(rng.random()) if is_defined else None,
                "text": 0.9 if has_text else None,
                "rank_background": 5000.0 if has_ranks else None,
                "top_10": 0.2 if has_ranks else None,
            }
        )
    config: Row = {
        "layers": list(layers),
        "tokens": 64,
        "limit": None,
        "text": "captions" if has_text else "",
        "seed": 0,
        "n_words": 151_646,
        "notes": [],
    }
    return about(
        "lens", "auroc", rows, n=80, unit="auroc", best=best_row(rows, "auroc"), config=config
    )
