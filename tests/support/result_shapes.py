"""One result of each command, and results of every shape that a plot meets."""

from __future__ import annotations

from dataclasses import replace

from tests.support.attend_results import attend_result, sinks_result
from tests.support.intervene_results import intervene_result
from tests.support.lens_results import lens_result
from tests.support.multiple_results import average, compare
from tests.support.results import (
    correlate,
    encoder,
    knockout,
    paired,
    prefix,
    probe,
    undefined,
    variance,
)
from tests.support.sae_results import directions_result, sae_result
from tests.support.surface_results import surface_result

RESULTS = {
    "probe": probe(),
    "variance": variance(8, 2),
    "knockout": knockout(),
    "prefix": prefix(),
    "paired": paired(8, 2),
    "correlate": correlate(),
    "average": average(),
    "compare": compare(),
    "sae": sae_result(),
    "lens": lens_result(),
    "attend": attend_result(),
    "surface": surface_result(),
    "intervene": intervene_result(),
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
    "SAEs of 80 layers": sae_result(range(80)),
    "SAEs of one layer": sae_result([5]),
    "two SAEs a layer": sae_result(saes=(f"layer_{{}}/{LONG}", "layer_{}/short")),
    "two conditions": sae_result(conditions=("text", "image"), aligned=None),
    "word directions": directions_result(),
    "lens of 80 layers": lens_result(range(80)),
    "lens of one layer": lens_result([5]),
    "lens without sentences": lens_result(measures=["lens"], has_text=False),
    "lens of nothing": lens_result(is_defined=False),
    "attention in 32 x 32 heads": attend_result(range(32), 32),
    "attention without objects": attend_result(has_masks=False),
    "sinks": sinks_result(),
    "sinks of one layer": sinks_result([5]),
    "interventions over groups": intervene_result([f"Spatial_Task_{i}" for i in range(5)], "group"),
    "long names": replace(probe(), config={"model": LONG, "dataset": LONG, "run": "r"}),
}
