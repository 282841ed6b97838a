"""A run whose stored keys make one head look at an object, and all texts at one token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kvtool.engine.extraction import extract
from kvtool.engine.run_model import load_run_model
from kvtool.models.attention import AttentionCall, acting
from kvtool.store import Run, open_store, part_name
from kvtool.types import Sample
from tests.support.concepts import HALVES, shown
from tests.support.runs import create_run

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
QUESTION = "is the cat there"
FINDER = (1, 0)
"""(layer, q_head) of the head that looks at the cat."""
SINK_KEY = (0, 1)
"""(layer, kv_head) of the key whose queries all look at SINK."""
SINK = 5
"""A cell of the base grid."""
LOUD = 12.0
"""A logit beside which all others are nothing."""


def looking_run(store: Path, model: Path, data: Path) -> Run:
    """A run over cats_and_dogs with planted keys: FINDER looks at the left half of pictures, where
    cats are, and the queries of SINK_KEY at SINK, whose value is the same in every picture.
    """
    report = extract(
        store, model=str(model), dataset=f"coco:{data}", kinds=["key", "value"], dtype="float32"
    )
    source = open_store(store).run(report.run)
    loaded = load_run_model(source, str(model), "cpu")
    images = []
    for sample in source.samples:
        arrays = {name: array.copy() for name, array in source.read_image(sample.id).items()}
        plant_sink(arrays, sample, last_queries(loaded, sample, arrays, SINK_KEY[0]))
        plant_finder(arrays, sample, last_queries(loaded, sample, arrays, FINDER[0]))
        images.append(arrays)
    run = create_run(open_store(store), replace(source.config, name="looking"))
    run.enroll(source.ids, source.place)
    states = {name: [arrays[name] for arrays in images] for name in ("key", "value")}
    text = {name: [arrays[f"text_{name}"] for arrays in images] for name in ("key", "value")}
    run.commit_part(part_name(0, len(source)), source.samples, states, text)
    run.refresh()
    return run


def last_queries(model: Any, sample: Sample, arrays: Arrays, layer: int) -> Array:
    """The queries (q_head, dim) of the question's last token in a layer, times the scale."""
    queries: list[torch.Tensor] = []

    def see(call: AttentionCall) -> None:
        queries.append(call.queries[0, :, -1] * call.scale)

    cache = model.restore([sample], [arrays])
    with acting(model, {layer: see}):
        model.logits(cache, [sample], model.question(QUESTION), last=True)
    return queries[0].numpy()


def plant_sink(arrays: Arrays, sample: Sample, queries: Array) -> None:
    """Set the key and the value of SINK: both query heads that share the key look at it."""
    layer, head = SINK_KEY
    token = sample.base().token_indices()[SINK]
    group = queries[2 * head : 2 * head + 2]
    arrays["key"][layer, head, token] = np.linalg.pinv(group) @ np.full(2, 2 * LOUD)
    arrays["value"][layer, head, token] = 0.01


def plant_finder(arrays: Arrays, sample: Sample, queries: Array) -> None:
    """Set the keys of a layer's head: those of cells in the left half draw FINDER's query."""
    layer, q_head = FINDER
    query = queries[q_head]
    loud = (LOUD * query / (query @ query)).astype(np.float32)
    span = sample.base()
    for cell, token in enumerate(span.token_indices()):
        is_left = span.centre_px(*divmod(cell, span.grid[1]))[0] < HALVES["left"][2]
        arrays["key"][layer, q_head // 2, token] = loud if is_left else -loud


def shows_cat(image: str) -> bool:
    """Whether a picture of cats_and_dogs shows a cat."""
    return "cat" in dict(shown(int(image.split("_")[-1])))
