"""Llama Scope (He et al. 2024), in its first release's files and in those of its library since.

First: `hyperparams.json` and `checkpoints/final.safetensors`; later `config.json` and
`sae_weights.safetensors`, with tensors of either of two name schemes.
"""

from __future__ import annotations

from math import sqrt
from pathlib import Path
from typing import Any

import torch

from kvtool.autoencoders.activations import Activation, JumpReLU, ReLU, TopK
from kvtool.autoencoders.autoencoder import Normalization, Origin, SparseAutoencoder
from kvtool.autoencoders.hooks import hook_of, layer_of
from kvtool.autoencoders.tensors import Tensors, read_json, read_safetensors
from kvtool.errors import ModelError

NAME = "llama-scope"
_NORM = "dataset_average_activation_norm"
_LOG_THRESHOLDS = ("log_jumprelu_threshold", "activation_function.log_jumprelu_threshold")


def recognizes(path: Path) -> bool:
    """Return whether a file lies beside the settings of one of the releases."""
    if path.parts[-2:] == ("checkpoints", "final.safetensors"):
        return (path.parent.parent / "hyperparams.json").is_file()
    return path.name == "sae_weights.safetensors" and path.with_name("config.json").is_file()


def load(path: Path, transpose: bool | None) -> SparseAutoencoder:
    """Read an SAE. Raises ModelError, also for a transcoder, which reads one place and writes
    another.
    """
    is_first = path.name == "final.safetensors"
    settings = read_json(
        path.parent.parent / "hyperparams.json" if is_first else path.with_name("config.json")
    )
    # An SAE writes where it reads; only a transcoder has another place for its output.
    point = str(settings.get("hook_point_in") or "")
    if settings.get("hook_point_out", point) != point:
        raise ModelError(
            f"{path}: expected an SAE, found a transcoder from {point} to "
            f"{settings['hook_point_out']}"
        )
    tensors = read_safetensors(path, transpose)
    # The biases tell d and m, by which matrices are brought to their shapes.
    encoder_bias = tensors.vector("encoder.bias", "b_E")
    decoder_bias = tensors.vector("decoder.bias", "b_D")
    d = decoder_bias.numel()
    m = encoder_bias.numel()
    decoder = tensors.matrix(m, d, "decoder.weight", "W_D")
    normalization, scale = _scaling(path, settings, tensors, point, d)
    l0 = settings.get("top_k")
    return SparseAutoencoder(
        encoder=tensors.matrix(d, m, "encoder.weight", "W_E"),
        encoder_bias=encoder_bias,
        decoder=decoder,
        decoder_bias=decoder_bias,
        activation=_activation(path, settings, tensors, decoder, scale),
        origin=Origin(
            format=NAME,
            path=str(path),
            layer=layer_of(point),
            hook=hook_of(point),
            published_l0=float(l0) if isinstance(l0, int) else None,
            model=settings.get("model_name"),
        ),
        normalization=normalization,
        scale=scale,
    )


def _scaling(
    path: Path, settings: dict[str, Any], tensors: Tensors, point: str, d: int
) -> tuple[Normalization, float]:
    """Return how vectors are scaled before encoding, as `norm_activation` says, and the factor.

    Raises ModelError where the factor is not in the files.
    """
    rule = settings.get("norm_activation") or "dataset-wise"
    if rule == "token-wise":
        # Each vector is brought to the length sqrt(d), whatever a mean length was.
        return "constant-norm", 1.0
    if rule == "inference":
        # The factor was taken into the weights.
        return "none", 1.0
    if rule != "dataset-wise":
        raise ModelError(
            f"{path}: expected norm_activation dataset-wise, token-wise or inference, found "
            f"{rule!r}: the same vector would be scaled differently in each batch"
        )
    # Trained on vectors scaled to a mean length of sqrt(d).
    return "constant", sqrt(d) / _norm(path, settings, tensors, point)


def _norm(path: Path, settings: dict[str, Any], tensors: Tensors, point: str) -> float:
    """Return the mean length of the stream that the SAE was trained on."""
    stored = tensors.optional(f"{_NORM}.{point}")
    if stored is not None:
        return float(stored)
    norms = settings.get(_NORM)
    norm = norms.get("in") if isinstance(norms, dict) else norms
    if not isinstance(norm, int | float) or norm <= 0:
        raise ModelError(
            f"{path}: expected {_NORM}, the mean length of the stream in training, found {norm!r}"
        )
    return float(norm)


def _activation(
    path: Path, settings: dict[str, Any], tensors: Tensors, decoder: torch.Tensor, scale: float
) -> Activation:
    """Return the activation; its gate looks at products with the norms of the decoder's rows."""
    name = str(settings.get("act_fn", "jumprelu")).lower()
    # Thresholds are of products with these norms, unless the settings say otherwise.
    norms = (
        decoder.norm(dim=1)
        if settings.get("sparsity_include_decoder_norm", True)
        else torch.ones(len(decoder))
    )
    logarithm = tensors.optional(*_LOG_THRESHOLDS)
    if logarithm is not None:
        # pre x norm > threshold, where the value stays pre: a threshold of its own a feature.
        return JumpReLU(logarithm.exp() / norms)
    if name == "jumprelu":
        threshold = settings.get("jump_relu_threshold")
        if not isinstance(threshold, int | float):
            raise ModelError(f"{path}: expected jump_relu_threshold, found {threshold!r}")
        # The first release gives it in units of the stream before it is scaled.
        return JumpReLU(threshold * scale / norms)
    if name in ("topk", "batchtopk"):
        k = settings.get("top_k")
        if not isinstance(k, int) or k < 1:
            raise ModelError(f"{path}: expected top_k of a topk SAE, found {k!r}")
        return TopK(k, weights=norms)
    if name == "relu":
        return ReLU()
    raise ModelError(f"{path}: expected an activation that kvtool knows, found {name!r}")
