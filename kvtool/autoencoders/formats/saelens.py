"""SAELens, before and from version 6: `cfg.json` beside `sae_weights.safetensors`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from kvtool.autoencoders.activations import Activation, Gated, JumpReLU, ReLU, TopK
from kvtool.autoencoders.autoencoder import Normalization, Origin, SparseAutoencoder
from kvtool.autoencoders.hooks import hook_of, layer_of
from kvtool.autoencoders.tensors import Tensors, read_json, read_safetensors
from kvtool.errors import ModelError

NAME = "saelens"
_NORMALIZATIONS: dict[Any, Normalization] = {
    None: "none",
    False: "none",
    "none": "none",
    True: "constant",
    "expected_average_only_in": "constant",
    "constant_norm_rescale": "constant-norm",
    "layer_norm": "layer-norm",
}
_BATCHED = ("batchtopk", "matryoshka_batchtopk")


def recognizes(path: Path) -> bool:
    """Return whether a file lies beside SAELens' settings."""
    return path.name == "sae_weights.safetensors" and path.with_name("cfg.json").is_file()


def load(path: Path, transpose: bool | None) -> SparseAutoencoder:
    """Read an SAE of any version and architecture. Raises ModelError."""
    settings = read_json(path.with_name("cfg.json"))
    tensors = read_safetensors(path, transpose)
    # The biases tell d and m, by which matrices are brought to their shapes.
    decoder_bias = tensors.vector("b_dec")
    d = decoder_bias.numel()
    m = tensors.vector("b_enc", "b_gate").numel()
    encoder = tensors.matrix(d, m, "W_enc")
    decoder = tensors.matrix(m, d, "W_dec")
    encoder_bias = tensors.optional("b_enc")
    bias = torch.zeros(m) if encoder_bias is None else encoder_bias
    if settings.get("rescale_acts_by_decoder_norm"):
        # Features are ranked, and given, as products with the norms of their decoder rows.
        norms = decoder.norm(dim=1)
        encoder = encoder * norms
        bias = bias * norms
        decoder = decoder / norms[:, None]
    normalization = _normalization(path, settings)
    scale, note = _scale(path, settings, tensors) if normalization == "constant" else (1.0, "")
    return SparseAutoencoder(
        encoder=encoder,
        encoder_bias=bias,
        decoder=decoder,
        decoder_bias=decoder_bias,
        activation=_activation(path, settings, tensors),
        origin=_origin(path, settings, note),
        is_centered=settings.get("apply_b_dec_to_input", True) is not False,
        normalization=normalization,
        scale=scale,
    )


def _activation(path: Path, settings: dict[str, Any], tensors: Tensors) -> Activation:
    """Return what the architecture says, where an older file's activation does not say more."""
    architecture = settings.get("architecture", "standard")
    is_topk = settings.get("activation_fn_str", settings.get("activation_fn")) == "topk"
    # Older files call it standard, and say topk by their activation alone.
    if architecture == "topk" or is_topk:
        options = settings.get("activation_fn_kwargs") or {}
        k = settings.get("k", options.get("k"))
        if not isinstance(k, int) or k < 1:
            raise ModelError(f"{path}: expected k of a topk SAE in cfg.json, found {k!r}")
        return TopK(k)
    if architecture in _BATCHED:
        # A training checkpoint has no threshold a feature, but the mean of what batches let pass.
        return JumpReLU(tensors.vector("topk_threshold", "threshold"))
    if architecture == "jumprelu":
        return JumpReLU(tensors.vector("threshold"))
    if architecture == "gated":
        scale = tensors.vector("r_mag").exp()
        return Gated(tensors.vector("b_gate"), scale, tensors.vector("b_mag"))
    if architecture == "standard":
        return ReLU()
    raise ModelError(
        f"{path}: expected an architecture that kvtool knows (standard, jumprelu, topk, gated, "
        f"{', '.join(_BATCHED)}), found {architecture!r}"
    )


def _normalization(path: Path, settings: dict[str, Any]) -> Normalization:
    name = settings.get("normalize_activations")
    if not isinstance(name, str | bool | None) or name not in _NORMALIZATIONS:
        raise ModelError(
            f"{path}: expected normalize_activations that kvtool knows, found {name!r}"
        )
    return _NORMALIZATIONS[name]


def _scale(path: Path, settings: dict[str, Any], tensors: Tensors) -> tuple[float, str]:
    """Return the constant that vectors are multiplied by, and what to know of it.

    It is in the settings, or beside a checkpoint, or in none of the files.
    """
    scaler = path.with_name("activation_scaler.json")
    candidates = (
        settings.get("norm_scaling_factor"),
        read_json(scaler).get("scaling_factor") if scaler.is_file() else None,
    )
    for factor in candidates:
        if isinstance(factor, int | float) and factor > 0:
            return float(factor), ""
    # A factor of ones is written where it was folded into the weights already.
    folded = tensors.optional("scaling_factor")
    if folded is not None and bool((folded == 1).all()):
        return 1.0, ""
    return 1.0, (
        "trained on vectors scaled to a mean length of sqrt(d), by a factor that its files do not "
        "hold: it is folded into the weights or has to be known"
    )


def _origin(path: Path, settings: dict[str, Any], note: str) -> Origin:
    """Return where an SAE comes from; version 6 keeps it in `metadata`."""
    facts = {**settings, **(settings.get("metadata") or {})}
    hook_name = str(facts.get("hook_name") or facts.get("hook_point") or "")
    layer = facts.get("hook_layer", facts.get("hook_point_layer"))
    if not isinstance(layer, int):
        layer = layer_of(hook_name)
    # A training checkpoint says k; what kvtool trains says what it measured.
    l0 = settings.get("k", facts.get("l0"))
    model = facts.get("model_name")
    return Origin(
        format=NAME,
        path=str(path),
        layer=layer,
        hook=hook_of(hook_name),
        published_l0=float(l0) if isinstance(l0, int | float) else None,
        model=model if isinstance(model, str) else None,
        notes=(note,) if note else (),
    )
