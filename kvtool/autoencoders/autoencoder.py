"""The one form that SAEs of every format take: weights, an activation and a scale.

features = activation((scale x - [decoder bias]) encoder + encoder bias)
reconstruction = (features decoder + decoder bias) / scale + x skip
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import sqrt
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from kvtool.autoencoders.activations import Activation
from kvtool.display import Displayed, Facts
from kvtool.errors import UsageError

Vectors = TypeVar("Vectors", torch.Tensor, np.ndarray[Any, Any])
Normalization = Literal["none", "constant", "constant-norm", "layer-norm"]
Undo = Callable[[torch.Tensor], torch.Tensor]

LAYER_NORM_EPSILON = 1e-5
"""What SAELens adds to a token's deviation before it divides by it."""


@dataclass(frozen=True)
class Origin:
    """Where an SAE comes from, as far as its files say.

    Attributes:
        format: The library's name, e.g. "gemma-scope".
        path: The file that holds the weights.
        layer: The decoder layer whose stream it reads, 0-based; None where no file says it.
        hook: The place in the layer: "resid_post" is the layer's output.
        published_l0: The mean number of active features of a token that its makers give.
        model: The language model that it was trained on.
        notes: What a reader should know, a sentence each.
    """

    format: str
    path: str
    layer: int | None = None
    hook: str = "resid_post"
    published_l0: float | None = None
    model: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False)
class SparseAutoencoder(Displayed):
    """A sparse autoencoder. Vectors go in and out as torch tensors or as NumPy arrays.

    Attributes:
        encoder: (d, m) float32, and its bias (m,).
        decoder: (m, d) float32, and its bias (d,).
        activation: What turns products into features.
        origin: Where it comes from.
        is_centered: Whether the decoder's bias is subtracted before encoding.
        normalization: How vectors are scaled before encoding, which is undone afterwards:
            "constant" multiplies by `scale`; "constant-norm" brings every vector to the length
            sqrt(d); "layer-norm" subtracts a vector's mean and divides by its deviation.
        scale: The factor of "constant".
        skip: (d, d), by which vectors are multiplied and added to the reconstruction.
    """

    encoder: torch.Tensor
    encoder_bias: torch.Tensor
    decoder: torch.Tensor
    decoder_bias: torch.Tensor
    activation: Activation
    origin: Origin
    is_centered: bool = False
    normalization: Normalization = "none"
    scale: float = 1.0
    skip: torch.Tensor | None = field(default=None)

    @property
    def d(self) -> int:
        """Return the width of the residual stream."""
        return self.encoder.shape[0]

    @property
    def m(self) -> int:
        """Return the number of features."""
        return self.encoder.shape[1]

    @property
    def layer(self) -> int | None:
        """Return the decoder layer, see Origin."""
        return self.origin.layer

    @property
    def hook(self) -> str:
        """Return the place in the layer, see Origin."""
        return self.origin.hook

    @property
    def format(self) -> str:
        """Return the library's name, see Origin."""
        return self.origin.format

    def encode(self, x: Vectors) -> Vectors:
        """Return the features (n, m) of vectors (n, d). Raises UsageError for another width."""
        return _as_given(x, self._encode(self._stream(x)))

    def decode(self, f: Vectors, x: Vectors | None = None) -> Vectors:
        """Return the vectors (n, d) that features (n, m) stand for.

        Args:
            f: The features.
            x: The vectors that were encoded, (n, d); needed where each is scaled by its own length
                or deviation, or passes by a skip connection.

        Raises UsageError where x is needed and not given.
        """
        # A constant scale is known without the vectors; a length, deviation or skip is not.
        if x is None and (self.skip is not None or self.normalization not in ("none", "constant")):
            raise UsageError(
                f"{self.origin.path}: decode(f) needs the vectors too, as each has a scale or skip "
                "of its own: use decode(f, x) or reconstruct(x)"
            )
        features = torch.as_tensor(f, dtype=torch.float32)
        if features.shape[-1] != self.m:
            raise UsageError(
                f"{self.origin.path}: expected features of {self.m}, found {features.shape[-1]}"
            )
        return _as_given(f, self._decode(features, None if x is None else self._stream(x)))

    def reconstruct(self, x: Vectors) -> Vectors:
        """Return the reconstructions (n, d) of vectors (n, d). Raises UsageError."""
        stream = self._stream(x)
        return _as_given(x, self._decode(self._encode(stream), stream))

    def to(self, device: torch.device | str) -> SparseAutoencoder:
        """Return the same autoencoder with its weights on a device."""
        weights = {name: value.to(device) for name, value in self._weights().items()}
        return replace(self, **weights)  # type: ignore[arg-type]

    def _weights(self) -> dict[str, torch.Tensor]:
        names = ("encoder", "encoder_bias", "decoder", "decoder_bias", "skip")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def _stream(self, x: Vectors) -> torch.Tensor:
        """Return vectors as float32 where the weights are. Raises UsageError for another width."""
        stream = torch.as_tensor(x).to(self.encoder)
        if stream.shape[-1] != self.d:
            raise UsageError(
                f"{self.origin.path}: an SAE of width {self.d} cannot read vectors of width "
                f"{stream.shape[-1]}; take one that was trained on this language model"
            )
        return stream

    def _encode(self, stream: torch.Tensor) -> torch.Tensor:
        scaled, _ = self._scaled(stream)
        # The decoder's bias is in units of the scaled vectors.
        centered = scaled - self.decoder_bias if self.is_centered else scaled
        return self.activation(centered @ self.encoder + self.encoder_bias)

    def _decode(self, features: torch.Tensor, stream: torch.Tensor | None) -> torch.Tensor:
        decoded = features.to(self.decoder) @ self.decoder + self.decoder_bias
        if stream is None:
            return decoded / self.scale
        # The skip takes the stream as it is, and adds to what is scaled back.
        _, undo = self._scaled(stream)
        return undo(decoded) if self.skip is None else undo(decoded) + stream @ self.skip

    def _scaled(self, stream: torch.Tensor) -> tuple[torch.Tensor, Undo]:
        """Return vectors as the encoder takes them, and what brings reconstructions back."""
        if self.normalization == "constant-norm":
            # Each vector has a factor of its own, which its reconstruction takes back.
            factor = sqrt(self.d) / stream.norm(dim=-1, keepdim=True)
            return stream * factor, lambda decoded: decoded / factor
        if self.normalization == "layer-norm":
            mean = stream.mean(dim=-1, keepdim=True)
            deviation = stream.std(dim=-1, keepdim=True)
            scaled = (stream - mean) / (deviation + LAYER_NORM_EPSILON)
            # The way back is without the epsilon, as in SAELens.
            return scaled, lambda decoded: decoded * deviation + mean
        return stream * self.scale, lambda decoded: decoded / self.scale

    def _title(self) -> str:
        return f"SAE of {self.format}, {self.d} -> {self.m}"

    def _facts(self) -> Facts:
        return {
            "layer": self.layer,
            "hook": self.hook,
            "activation": self.activation.name,
            "centered": self.is_centered,
            "normalization": self.normalization,
            "published l0": self.origin.published_l0,
            "path": self.origin.path,
        }


def _as_given(source: Vectors, result: torch.Tensor) -> Vectors:
    """Return a result as the kind of array that the input was."""
    return result if isinstance(source, torch.Tensor) else result.detach().cpu().numpy()
