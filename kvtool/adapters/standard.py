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
        mean = sum(part.double().sum(dim=(0, 1)) for part in tokens.split(_IMAGES)) / count
        # Around the mean, since a channel may vary little far from zero.
        squares = sum(
            (part.double() - mean).square().sum(dim=(0, 1)) for part in tokens.split(_IMAGES)
        )
        deviation = torch.as_tensor(squares / count).sqrt()
        # A channel that never changes is left at its length.
        deviation = torch.where(deviation > 0, deviation, 1.0)
        return cls(torch.as_tensor(mean).float(), deviation.float())

    def apply(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return standardized tokens in float32."""
        return (tokens.float() - self.mean) / self.deviation

    def fold(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the layer (d_language, d) that reads features as they are."""
        folded = weight / self.deviation
        return folded, bias - folded @ self.mean

    def unfold(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the layer that reads standardized features; the reverse of `fold`."""
        return weight * self.deviation, bias + weight @ self.mean
