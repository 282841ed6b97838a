"""Writing an SAE in SAELens' layout, so that every library reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from kvtool.autoencoders.activations import JumpReLU
from kvtool.autoencoders.autoencoder import SparseAutoencoder
from kvtool.errors import UsageError

_LEAST_FREQUENCY = 1e-10
"""What SAELens adds to a frequency before its logarithm."""


def save_sae(
    autoencoder: SparseAutoencoder,
    folder: Path,
    *,
    frequencies: torch.Tensor | None = None,
    metadata: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Path:
    """Write a JumpReLU SAE of the residual stream into a folder.

    Args:
        autoencoder: The SAE.
        folder: Where `cfg.json`, `sae_weights.safetensors` and, with frequencies,
            `sparsity.safetensors` go.
        frequencies: The share of text tokens at which each feature fires, (m,).
        metadata: More about it, which is kept with its settings.
        dtype: The precision of the weights.

    Returns the file of the weights. Raises UsageError for an SAE of another activation.
    """
    activation = autoencoder.activation
    if not isinstance(activation, JumpReLU) or autoencoder.normalization != "none":
        raise UsageError(
            f"save_sae: expected a JumpReLU SAE of unscaled vectors, found {activation.name} with "
            f"normalization {autoencoder.normalization}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        "W_enc": autoencoder.encoder,
        "b_enc": autoencoder.encoder_bias,
        "W_dec": autoencoder.decoder,
        "b_dec": autoencoder.decoder_bias,
        # SAELens has a threshold for each feature, also where all are equal.
        "threshold": activation.threshold.expand(autoencoder.m),
    }
    stored = {name: weight.to(dtype).contiguous() for name, weight in weights.items()}
    path = folder / "sae_weights.safetensors"
    path.write_bytes(save(stored))
    if frequencies is not None:
        # As SAELens writes them: logarithms, a silent feature at the least.
        logarithms = (frequencies.double() + _LEAST_FREQUENCY).log10().float()
        (folder / "sparsity.safetensors").write_bytes(save({"sparsity": logarithms}))
    settings = _settings(autoencoder, dtype, metadata or {})
    (folder / "cfg.json").write_text(json.dumps(settings, indent=1) + "\n")
    return path


def _settings(
    autoencoder: SparseAutoencoder, dtype: torch.dtype, metadata: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what SAELens reads of an SAE beside its weights."""
    return {
        "architecture": "jumprelu",
        "d_in": autoencoder.d,
        "d_sae": autoencoder.m,
        "dtype": str(dtype).removeprefix("torch."),
        "apply_b_dec_to_input": autoencoder.is_centered,
        "normalize_activations": "none",
        "metadata": {
            "hook_name": f"blocks.{autoencoder.layer}.hook_{autoencoder.hook}",
            "model_name": autoencoder.origin.model,
            **metadata,
        },
    }
