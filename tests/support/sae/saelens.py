"""SAEs as SAELens writes them, before and from version 6."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.sae.weights import (
    Array,
    D,
    K,
    M,
    Vector,
    Weights,
    Written,
    jump,
    relu,
    top,
    write_json,
    write_tensors,
)


def saelens(
    root: Path, settings: dict[str, Any], act: Callable[[Weights, Array], Array], **extra: Array
) -> Written:
    """A file of SAELens whose features are `act` of the centered products."""
    w = Weights(4)
    folder = root / "saelens"
    path = write_tensors(
        folder / "sae_weights.safetensors",
        W_enc=w.encoder,
        b_enc=w.encoder_bias,
        W_dec=w.decoder,
        b_dec=w.decoder_bias,
        **extra,
    )
    write_json(folder / "cfg.json", settings)
    centered = settings.get("apply_b_dec_to_input", True)
    features: Vector = lambda x: act(w, w.pre(x, centered))  # noqa: E731
    return Written(path, features, lambda x: w.out(features(x)))


HOOK = {"metadata": {"hook_name": "blocks.4.hook_resid_pre", "model_name": "gpt2"}}


def saelens_standard(root: Path) -> Written:
    return saelens(root, {"architecture": "standard", **HOOK}, lambda _, pre: relu(pre))


def saelens_old(root: Path) -> Written:
    """Before version 6: flat settings, no architecture, and a bool for the normalization."""
    settings = {"hook_point": "blocks.4.hook_resid_pre", "hook_point_layer": 4}
    return saelens(root, settings | {"normalize_activations": False}, lambda _, pre: relu(pre))


def saelens_old_topk(root: Path) -> Written:
    settings = {"architecture": "standard", "activation_fn_str": "topk", "hook_layer": 4}
    settings |= {"activation_fn_kwargs": {"k": K}, "hook_name": "blocks.4.hook_resid_pre"}
    return saelens(root, settings, lambda _, pre: relu(top(pre, K)))


def saelens_jumprelu(root: Path) -> Written:
    threshold = Weights(5).threshold
    settings = {"architecture": "jumprelu", "apply_b_dec_to_input": False, **HOOK}
    return saelens(root, settings, lambda _, pre: jump(pre, threshold), threshold=threshold)


def saelens_topk(root: Path) -> Written:
    settings = {"architecture": "topk", "k": K, **HOOK}
    return saelens(root, settings, lambda _, pre: relu(top(pre, K)))


def saelens_topk_rescaled(root: Path) -> Written:
    """Features are products with the norms of the decoder's rows, and decoding divides by them."""
    w = Weights(4)
    settings = {"architecture": "topk", "k": K, "rescale_acts_by_decoder_norm": True, **HOOK}
    norms = np.linalg.norm(w.decoder, axis=1)
    plain = saelens(root, settings, lambda _, pre: relu(top(pre * norms, K)))
    return Written(plain.path, plain.features, lambda x: w.out(plain.features(x) / norms))


def saelens_batchtopk(root: Path) -> Written:
    """A training checkpoint, with one threshold for all features."""
    settings = {"architecture": "batchtopk", "k": K, **HOOK}
    act: Callable[[Weights, Array], Array] = lambda _, pre: jump(pre, 0.3)  # noqa: E731
    return saelens(root, settings, act, topk_threshold=np.array(0.3))


def saelens_gated(root: Path) -> Written:
    w = Weights(6)
    gate, magnitude, scale = w.draw(M), w.draw(M), w.draw(M) * np.float32(0.2)
    folder = root / "saelens"
    path = write_tensors(
        folder / "sae_weights.safetensors",
        W_enc=w.encoder,
        W_dec=w.decoder,
        b_dec=w.decoder_bias,
        b_gate=gate,
        b_mag=magnitude,
        r_mag=scale,
    )
    write_json(folder / "cfg.json", {"architecture": "gated", **HOOK})

    def features(x: Array) -> Array:
        start = x - w.decoder_bias
        is_active = start @ w.encoder + gate > 0
        return is_active * relu(start @ (w.encoder * np.exp(scale)) + magnitude)

    return Written(path, features, lambda x: w.out(features(x)))


def saelens_layer_norm(root: Path) -> Written:
    settings = {"architecture": "standard", "normalize_activations": "layer_norm", **HOOK}
    plain = saelens(root, settings, lambda _, pre: relu(pre))
    w = Weights(4)

    def features(x: Array) -> Array:
        return plain.features((x - x.mean()) / (x.std(ddof=1) + np.float32(1e-5)))

    return Written(plain.path, features, lambda x: w.out(features(x)) * x.std(ddof=1) + x.mean())


def saelens_constant_norm(root: Path) -> Written:
    settings = {"normalize_activations": "constant_norm_rescale", **HOOK}
    plain = saelens(root, {"architecture": "standard", **settings}, lambda _, pre: relu(pre))
    w = Weights(4)
    scale: Callable[[Array], Any] = lambda x: np.float32(D**0.5 / np.linalg.norm(x))  # noqa: E731
    features: Vector = lambda x: plain.features(x * scale(x))  # noqa: E731
    return Written(plain.path, features, lambda x: w.out(features(x)) / scale(x))


def saelens_scaled(root: Path) -> Written:
    """The factor lies beside a checkpoint."""
    settings = {"normalize_activations": "expected_average_only_in", **HOOK}
    plain = saelens(root, {"architecture": "standard", **settings}, lambda _, pre: relu(pre))
    write_json(plain.path.with_name("activation_scaler.json"), {"scaling_factor": 0.25})
    w = Weights(4)
    features: Vector = lambda x: plain.features(x * np.float32(0.25))  # noqa: E731
    return Written(plain.path, features, lambda x: w.out(features(x)) / np.float32(0.25))
