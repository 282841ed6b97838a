"""Linear layers of half precision on a processor that multiplies single precision alone.

Torch multiplies bfloat16 and float16 on a CPU by oneDNN where the processor has instructions for
them (AVX-512 and later), and value by value where it has not, which takes about ten times as long
as single precision. There these layers multiply the same numbers in single precision and round
each sum once, as oneDNN and GPUs do.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import nn
from torch.nn.functional import linear

LEAST_ROWS = 8
"""With fewer rows, copying the weights takes longer than multiplying value by value."""
COPIED_VALUES = 1 << 24
"""Most weights that are in memory in single precision at once: 64 MiB."""
SUPPORT = {
    torch.bfloat16: "_is_mkldnn_bf16_supported",
    torch.float16: "_is_mkldnn_fp16_supported",
}
"""What tells whether oneDNN multiplies a precision on this processor."""


class SinglePrecisionLinear(nn.Linear):
    """A linear layer of half precision whose products on a CPU are of single precision."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return what nn.Linear does, (..., in) to (..., out), but for the order of its sums."""
        if input.device.type != "cpu" or input.numel() < LEAST_ROWS * self.in_features:
            return linear(input, self.weight, self.bias)
        features = input.float()
        # So many rows of weights at a time that their copy stays small.
        rows = max(1, COPIED_VALUES // self.in_features)
        weights = torch.split(self.weight, rows)
        biases = [None] * len(weights) if self.bias is None else torch.split(self.bias, rows)
        # Some output channels at a time, each sum rounded once.
        parts = [
            linear(features, weight.float(), None if bias is None else bias.float()).to(input.dtype)
            for weight, bias in zip(weights, biases, strict=True)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def multiply_in_single_precision(network: nn.Module) -> None:
    """Let the linear layers of a network, where they are of a half precision that this processor
    does not multiply, do so in single precision. Layers of other classes stay as they are.
    """
    for module in network.modules():
        # Quantized weights are tensors of other classes.
        is_plain = type(module) is nn.Linear and type(module.weight) is nn.Parameter
        if is_plain and is_slow(module.weight.dtype):
            module.__class__ = SinglePrecisionLinear


@cache
def is_slow(dtype: torch.dtype) -> bool:
    """Return whether this processor multiplies a precision value by value."""
    supports = getattr(torch.ops.mkldnn, SUPPORT.get(dtype, ""), None)
    return supports is not None and not supports()
