"""What a kept result was made of, said in one way: the run and its pictures, the truth, the
options, the algorithm.

A result is kept under a hash of all this, so that it is given again for exactly what it was made
of.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kvtool.store import Run

ALGORITHMS = {
    "foreground-segmentation": 5,
    "co-segmentation": 5,
    "semantic-segmentation": 6,
    "referring-expression": 6,
    "semantic-correspondence": 4,
    "temporal-correspondence": 4,
    "variance": 1,
    "knockout": 5,
    "knockout-each": 2,
    "paired": 7,
    "prefix": 6,
    "correlate": 5,
    "average": 2,
    "compare": 2,
    "search": 2,
    "sae": 3,
    "lens": 1,
    "attend": 3,
    "surface": 2,
    "answers": 2,
    "intervene": 2,
    "intervention": 1,
}
"""Versions of what computes numbers, by task and command.

One goes up with every change of its numbers, in the same commit: results of the version before are
then computed anew, and no others.
"""


def describe_run(run: Run, ids: Collection[str] | None = None) -> dict[str, Any]:
    """Return what numbers computed from a run depend on: its settings, and which pictures it holds
    (of `ids` alone).

    `run` and `model` are names for the reader. Beside them `run_hash` is of all settings,
    `images_hash` of the ids and the contents of the pictures.
    """
    config = run.config
    # Of frames, too: a choice of ids may name those of a video.
    stored_ids = set(run.ids if ids is None else (view.id for view in run.views))
    # Results of runs without these keep the hash that they had before there were any.
    later = {"quantization": config.model.quantization, "system": config.system}
    # Nor have those whose layers are alike a word of them.
    is_uniform = not config.model.geometry.by_layer
    heads = {} if is_uniform else {"heads_by_layer": config.heads_in_words()}
    return {
        "run": run.name,
        "run_hash": config.hash,
        "model": config.model.name,
        "revision": config.model.revision,
        "dtype": config.model.dtype,
        "dataset": config.dataset,
        "split": config.split,
        "prefix": config.prefix,
        **{name: value for name, value in later.items() if value},
        **heads,
        "view": config.view,
        "keys": config.keys,
        "images": len(stored_ids if ids is None else stored_ids & set(ids)),
        "images_hash": run.images_hash(ids),
    }
