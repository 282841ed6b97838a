"""What gives vectors back from features: an SAE, the same turned at random, or principal axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from kvtool.autoencoders.autoencoder import SparseAutoencoder


class Dictionary(Protocol):
    """Features of vectors, and vectors of features."""

    @property
    def m(self) -> int:
        """Return the number of features."""
        ...

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features (n, m) of vectors (n, d)."""
        ...

    def decode(self, f: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Return the reconstructions (n, d) of vectors x (n, d), by their features (n, m)."""
        ...


@dataclass(frozen=True)
class TurnedSae:
    """An SAE in a random basis: vectors are turned about the text's center before it reads them,
    and its reconstructions are turned back. It is as sparse as the SAE, and knows nothing.

    Attributes:
        autoencoder: The SAE, whose thresholds stay.
        rotation: (d, d), orthogonal.
        center: (d,), about which is turned.
    """

    autoencoder: SparseAutoencoder
    rotation: torch.Tensor
    center: torch.Tensor

    @property
    def m(self) -> int:
        """Return the number of features."""
        return self.autoencoder.m

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """See Dictionary."""
        return self.autoencoder.encode(self._turned(x))

    def decode(self, f: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """See Dictionary."""
        decoded = self.autoencoder.decode(f, self._turned(x))
        return (decoded - self.center) @ self.rotation.T + self.center

    def _turned(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.center) @ self.rotation + self.center


@dataclass(frozen=True)
class PrincipalAxes:
    """Projection on the text's first principal components.

    Attributes:
        axes: (k, d), orthonormal.
        center: (d,), the text's mean.
    """

    axes: torch.Tensor
    center: torch.Tensor

    @property
    def m(self) -> int:
        """Return the number of components."""
        return len(self.axes)

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """See Dictionary."""
        return (x - self.center) @ self.axes.T

    def decode(self, f: torch.Tensor, x: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """See Dictionary."""
        return f @ self.axes + self.center


def principal_axes(states: torch.Tensor, k: int) -> PrincipalAxes:
    """Return the first k principal components of vectors (token, d), or all there are."""
    center = states.mean(dim=0)
    centered = states - center
    # The covariance is small, however many tokens there are; eigenvalues come in rising order.
    _, vectors = torch.linalg.eigh(centered.T @ centered)
    return PrincipalAxes(vectors.T.flip(0)[: max(1, k)].contiguous(), center)


def random_rotation(d: int, seed: int, device: torch.device) -> torch.Tensor:
    """Draw an orthogonal matrix (d, d), uniformly."""
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(d, d, generator=generator))
    # The signs make the distribution uniform (Mezzadri 2007).
    rotation: torch.Tensor = q * r.diagonal().sign()
    return rotation.to(device)
