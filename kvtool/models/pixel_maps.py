"""The map from pixels to tokens, proven: cells of a picture or a video are changed, and the token
that changes most must be the one that the map names.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import nan
from typing import Any

import numpy as np
import torch
from PIL import Image

from kvtool.models.base import Array, LanguageModel, Prepared, Request
from kvtool.models.cells import N_FILLINGS, Stimulus, changed_cell, nine_cells, prepare_stimulus
from kvtool.models.device import from_numpy
from kvtool.models.outcome import ModelCheck, check_outcome
from kvtool.types import GridSpan, Kind, RunView

MOST_MISSES = 1 / 3
"""Share of the changed cells whose token may change less than another one."""
BATCH_TOKENS = 8192
"""About as many tokens of changed pictures run together."""


def pixel_map(model: Any, image: Stimulus, view: RunView) -> ModelCheck:
    """Change nine cells of each grid, of a video in frames that it shows: the token that changes
    most must be the one that the map names.

    Of an encoder alone, after its first layer: later ones may write what the whole picture shows
    into any token.
    """
    kind: Kind = "projected" if isinstance(model, LanguageModel) else "vision"
    return _map("pixel map", model, image, view, kind)


def tower_map(model: Any, image: Stimulus, view: RunView) -> ModelCheck:
    """Do the same with the tokens of the tower before a decoder."""
    return _map("tower map", model, image, view, "vision")


def _map(name: str, model: Any, image: Stimulus, view: RunView, kind: Kind) -> ModelCheck:
    (before,), spans = _features(model, [image], view, kind)
    # A map that names tokens which are not there is wrong without any measuring.
    last = max(token for span in spans for token in span.token_indices())
    if last >= len(before):
        return check_outcome(
            name, view, 1, MOST_MISSES, f"token {last} in the map, of {len(before)}"
        )
    hits: list[bool] = []
    wh_px = (image if isinstance(image, Image.Image) else image[0]).size
    # Pictures with one cell changed run together, as many as a batch of tokens holds.
    n_together = max(1, BATCH_TOKENS // (N_FILLINGS * len(before)))
    # A frame of a video must change the tokens of its own grid more than those of all others.
    every_token = np.array([token for span in spans for token in span.token_indices()])
    for span in spans:
        tokens = every_token if span.frames else np.array(span.token_indices())
        cells = nine_cells(span, wh_px)
        for start in range(0, len(cells), n_together):
            batch = cells[start : start + n_together]
            stimuli = [s for cell in batch for s in changed_cell(image, span, *cell)]
            after, _ = _features(model, stimuli, view, kind)
            # How far each token's features move under each filling, (cell * filling, token).
            changes = np.linalg.norm((after - before)[:, tokens], axis=-1)
            if not np.isfinite(changes).all():
                return check_outcome(name, view, nan, MOST_MISSES, "features are not finite")
            # The positions found are those among the chosen tokens.
            strongest = tokens[_strongest(changes)]
            centers = [span.centre_px(*cell) for cell in batch]
            expected = [span.token_at(*center) for center in centers]
            hits.extend(strongest == expected)
    if not hits:
        return check_outcome(name, view, nan, MOST_MISSES, "no cell lies over the picture")
    n_missed = len(hits) - sum(hits)
    meaning = f"{sum(hits)} of {len(hits)} cells change the token over them most"
    return check_outcome(name, view, n_missed / len(hits), MOST_MISSES, meaning)


def _strongest(changes: Array) -> Array:
    """Return the position of the token that changes most under the fillings of a cell, (cell,), of
    changes (cell * filling, token).
    """
    # One filling alone may mean much to a tower, so that every token changes.
    largest = np.maximum(changes.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    # Each filling counts alike, as a share of the change that it makes at most.
    shares = (changes / largest).reshape(-1, N_FILLINGS, changes.shape[1])
    strongest: Array = shares.sum(axis=1).argmax(axis=1)
    return strongest


def _features(
    model: Any, stimuli: Sequence[Stimulus], view: RunView, kind: Kind
) -> tuple[Array, tuple[GridSpan, ...]]:
    """Return the (stimulus, token, dim) of a kind before the decoder in float32, and its grids."""
    items = [prepare_stimulus(model, stimulus, view) for stimulus in stimuli]
    is_alone = not isinstance(model, LanguageModel)
    # Of an encoder alone the first layer, in which a token shows little but its own cell.
    request = model.request((kind,), None, vision_layers=(0,) if is_alone else None)
    features = [
        from_numpy(array[0, 0], torch.float32).numpy()
        # Changed pictures have the shape of the first, so that they mostly are one batch.
        for _, batch in groupby(items, lambda item: item.signature)
        for array in _captured(model, list(batch), request, kind)
    ]
    return np.stack(features), items[0].sample.spans_of(kind)


def _captured(model: Any, batch: list[Prepared], request: Request, kind: Kind) -> list[Array]:
    """Return the (layer, 1, token, dim) of a kind of each item, alone where memory does not hold
    all of them.
    """
    arrays: list[Array]
    try:
        arrays = model.capture(batch, request).arrays[kind]
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
        arrays = [array for item in batch for array in _captured(model, [item], request, kind)]
    return arrays
