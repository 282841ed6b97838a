"""The map from pixels to tokens, proven: cells of a picture or a video are changed, and the token
that changes most must be the one that the map names.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from kvtool.models.base import Array, LanguageModel
from kvtool.models.cells import Stimulus, changed_cell, nine_cells, prepare_stimulus
from kvtool.models.device import from_numpy
from kvtool.models.outcome import ModelCheck, check_outcome
from kvtool.types import GridSpan, Kind, RunView

MOST_MISSES = 1 / 3
"""Share of the changed cells whose token may change less than another one."""


def pixel_map(model: Any, image: Stimulus, view: RunView) -> ModelCheck:
    """Change nine cells of each grid, of a video in frames that it shows: the token that changes
    most must be the one that the map names.
    """
    kind: Kind = "projected" if isinstance(model, LanguageModel) else "vision"
    return _map("pixel map", model, image, view, kind)


def tower_map(model: Any, image: Stimulus, view: RunView) -> ModelCheck:
    """Do the same with the tokens of the tower before a decoder."""
    return _map("tower map", model, image, view, "vision")


def _map(name: str, model: Any, image: Stimulus, view: RunView, kind: Kind) -> ModelCheck:
    before, spans = _features(model, image, view, kind)
    last = max(token for span in spans for token in span.token_indices())
    if last >= len(before):
        return check_outcome(
            name, view, 1, MOST_MISSES, f"token {last} in the map, of {len(before)}"
        )
    hits: list[bool] = []
    wh_px = (image if isinstance(image, Image.Image) else image[0]).size
    # A frame of a video must change the tokens of its own grid more than those of all others.
    every_token = np.array([token for span in spans for token in span.token_indices()])
    for span in spans:
        tokens = every_token if span.frames else np.array(span.token_indices())
        for row, col in nine_cells(span, wh_px):
            changes = np.zeros(len(tokens))
            # One filling alone may mean much to a tower, so that every token changes.
            for changed in changed_cell(image, span, row, col):
                after, _ = _features(model, changed, view, kind)
                change = np.linalg.norm((after - before)[tokens], axis=1)
                changes += change / max(change.max(), np.finfo(np.float32).tiny)
            strongest = int(tokens[changes.argmax()])
            hits.append(strongest == span.token_at(*span.centre_px(row, col)))
    n_missed = len(hits) - sum(hits)
    meaning = f"{sum(hits)} of {len(hits)} cells change the token over them most"
    return check_outcome(name, view, n_missed / len(hits), MOST_MISSES, meaning)


def _features(
    model: Any, image: Stimulus, view: RunView, kind: Kind
) -> tuple[Array, tuple[GridSpan, ...]]:
    """Return the (token, dim) of a kind before the decoder in float32, and its grids."""
    item = prepare_stimulus(model, image, view)
    captured = model.capture([item], model.request((kind,), None))
    features = from_numpy(captured.arrays[kind][0][0, 0], torch.float32)
    return features.numpy(), item.sample.spans_of(kind)
