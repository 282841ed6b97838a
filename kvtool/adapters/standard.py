"""Standardized features: a layer is trained on them, and then reads features as they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch

_IMAGES = 256
"""Images that are read at a time."""


@dataclass(frozen=True)
class Standard:
    """Mean and deviation of each channel of tower features, (d,)."""

    mean: torch.Tensor
    deviation: torch.Tensor

    @classmethod
    def of(cls, tokens: torch.Tensor) -> Standard:
        """Measure tokens (image, token, d), which may be mapped from a file."""
        count = tokens.shape[0] * tokens.shape[1]
        starts = range(0, len(tokens), _IMAGES)
        mean = squares = torch.zeros(tokens.shape[2], dtype=torch.float64)
        for start in starts:
            mean = mean + tokens[start : start + _IMAGES].double().sum(dim=(0, 1)) / count
        # Around the mean, since a channel may vary little far from zero.
        for start in starts:
            distance = tokens[start : start + _IMAGES].double() - mean
            squares = squares + distance.square().sum(dim=(0, 1)) / count
        # A channel that never changes is left at its length.
        deviation = torch.where(squares > 0, squares.sqrt(), 1.0)
        return cls(mean.float(), deviation.float())

    def apply(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return standardized tokens in float32."""
        return (tokens.float() - self.mean) / self.deviation

    def fold(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the layer (d_language, d) that reads features as they are."""
        # W ((x - mean) / deviation) + b, as a layer of x.
        folded = weight / self.deviation
        return folded, bias - folded @ self.mean

    def unfold(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the layer that reads standardized features; the reverse of `fold`."""
        return weight * self.deviation, bias + weight @ self.mean
