"""transformers' own networks of half precision, whose bits those of a capture are compared with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from kvtool.models.linear_layers import multiply_in_single_precision


def half_network(network: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A network of a transformers class in evaluation mode.

    Where this processor multiplies half precisions value by value, its linear layers multiply as
    kvtool's do, since no bit says more than the order of sums; tests/models/test_linear_layers.py
    compares these with exact ones.
    """
    loaded = network.from_pretrained(folder, dtype=dtype).eval()
    multiply_in_single_precision(loaded)
    return loaded
