"""What turns an encoder's products into features: the activations of published SAEs.

Each takes pre-activations (..., m) and gives features (..., m), of which most are 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


class Activation(Protocol):
    """An activation, called with pre-activations (..., m)."""

    @property
    def name(self) -> str:
        """Return the activation's name in the field: relu, jumprelu, topk, groupmax or gated."""
        ...

    def __call__(self, pre: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class ReLU:
    """The positive part."""

    name: str = "relu"

    def __call__(self, pre: torch.Tensor) -> torch.Tensor:
        return pre.relu()


@dataclass(frozen=True)
class JumpReLU:
    """The positive part where it exceeds a threshold (Rajamanoharan et al. 2024).

    Attributes:
        threshold: (m,), or one number () for all features.
    """

    threshold: torch.Tensor
    name: str = "jumprelu"

    def __call__(self, pre: torch.Tensor) -> torch.Tensor:
        # Strictly above: a value at its threshold is off.
        return pre.relu() * (pre > self.threshold.to(pre))


@dataclass(frozen=True)
class TopK:
    """The k largest pre-activations of each token (Gao et al. 2024).

    Attributes:
        k: How many features of a token are active.
        is_rectified: Whether negative values count as 0; where not, features may be negative.
        weights: (m,) by which pre-activations are multiplied to be ranked, such as the norms of the
            decoder's rows; the features keep their own values. None ranks them as they are.
    """

    k: int
    is_rectified: bool = True
    weights: torch.Tensor | None = None
    name: str = "topk"

    def __call__(self, pre: torch.Tensor) -> torch.Tensor:
        values = pre.relu() if self.is_rectified else pre
        # Weights decide which features stay, and leave their values alone.
        ranked = values if self.weights is None else values * self.weights.to(pre)
        top = ranked.topk(min(self.k, pre.shape[-1]), dim=-1).indices
        return torch.zeros_like(values).scatter(-1, top, values.gather(-1, top))


@dataclass(frozen=True)
class GroupMax:
    """The largest feature of each of k equal groups of neighbors (sparsify's `groupmax`)."""

    k: int
    name: str = "groupmax"

    def __call__(self, pre: torch.Tensor) -> torch.Tensor:
        # Neighbors in number are a group, (..., k, m / k).
        groups = pre.relu().reshape(*pre.shape[:-1], self.k, -1)
        values, top = groups.max(dim=-1, keepdim=True)
        return torch.zeros_like(groups).scatter(-1, top, values).flatten(-2)


@dataclass(frozen=True)
class Gated:
    """One encoder that gates and measures (Rajamanoharan et al. 2024, "Gated SAE").

    Attributes:
        gate_bias: (m,), added to the products to tell which features are active.
        magnitude_scale: (m,), by which the products are multiplied to give magnitudes.
        magnitude_bias: (m,), added to magnitudes.
    """

    gate_bias: torch.Tensor
    magnitude_scale: torch.Tensor
    magnitude_bias: torch.Tensor
    name: str = "gated"

    def __call__(self, pre: torch.Tensor) -> torch.Tensor:
        # Gate and magnitude share the products, and differ in bias and scale.
        magnitudes = pre * self.magnitude_scale.to(pre) + self.magnitude_bias.to(pre)
        return magnitudes.relu() * (pre + self.gate_bias.to(pre) > 0)
