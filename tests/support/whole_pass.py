"""A model's pass over a whole prompt, and what a run stores of it."""

from __future__ import annotations

from typing import Any

import torch

from kvtool.models.cache import watched

FAMILIES = ("llava_onevision", "llava_next", "qwen2_vl", "qwen2_5_vl", "gemma3", "mistral3")


def stored(captured: Any, index: int) -> dict[str, Any]:
    """The arrays of one image as a run holds them."""
    arrays = {kind: values[index] for kind, values in captured.arrays.items()}
    return arrays | {f"text_{kind}": values[index] for kind, values in captured.text.items()}


def whole_pass(model: Any, batch: Any) -> torch.Tensor:
    """The outputs of all layers over the whole prompt, (layer, image, token, hidden), by hooks."""
    layers = model.language_model.layers
    outputs: list[torch.Tensor] = []
    with watched(dict.fromkeys(layers, outputs.append)):
        model.prefill(batch)
    return torch.stack(outputs)
