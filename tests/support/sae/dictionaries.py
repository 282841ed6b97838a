"""SAEs as dictionary_learning writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.support.sae.weights import (
    Array,
    K,
    M,
    Vector,
    Weights,
    Written,
    jump,
    relu,
    top,
    write_json,
    write_pickle,
)


def dictionary(
    root: Path, class_name: str, state: dict[str, Any], features: Vector, out: Vector
) -> Written:
    folder = root / "saes/resid_post_layer_5/trainer_1"
    trainer = {"dict_class": class_name, "layer": 5, "lm_name": "qwen", "k": K}
    write_json(
        folder / "config.json", {"trainer": trainer | {"submodule_name": "resid_post_layer_5"}}
    )
    path = write_pickle(folder / "ae.pt", state)
    return Written(path, features, lambda x: out(features(x)))


def linear(w: Weights, bias: str) -> dict[str, Any]:
    """The tensors of two linear layers, (out, in) as torch keeps them."""
    return {
        "encoder.weight": w.encoder.T,
        "encoder.bias": w.encoder_bias,
        "decoder.weight": w.decoder.T,
        bias: w.decoder_bias,
    }


def dictionary_standard(root: Path) -> Written:
    w = Weights(8)
    features: Vector = lambda x: relu(w.pre(x, True))  # noqa: E731
    return dictionary(root, "AutoEncoder", linear(w, "bias"), features, w.out)


def dictionary_new(root: Path) -> Written:
    w = Weights(8)
    state = linear(w, "decoder.bias")
    return dictionary(root, "AutoEncoderNew", state, lambda x: relu(w.pre(x)), w.out)


def dictionary_topk(root: Path) -> Written:
    w = Weights(9)
    state = linear(w, "b_dec") | {"k": np.array(K), "threshold": np.array(-1.0, np.float32)}
    features: Vector = lambda x: top(relu(w.pre(x, True)), K)  # noqa: E731
    return dictionary(root, "AutoEncoderTopK", state, features, w.out)


def dictionary_batchtopk(root: Path) -> Written:
    w = Weights(9)
    state = linear(w, "b_dec") | {"k": np.array(K), "threshold": np.array(0.4, np.float32)}
    features: Vector = lambda x: jump(w.pre(x, True), 0.4)  # noqa: E731
    return dictionary(root, "BatchTopKSAE", state, features, w.out)


def dictionary_batchtopk_unset(root: Path) -> Written:
    w = Weights(9)
    state = linear(w, "b_dec") | {"k": np.array(K), "threshold": np.array(-1.0, np.float32)}
    return dictionary(root, "BatchTopKSAE", state, lambda x: relu(w.pre(x, True)), w.out)


def dictionary_matryoshka(root: Path) -> Written:
    w = Weights(10)
    state = {"W_enc": w.encoder, "b_enc": w.encoder_bias, "W_dec": w.decoder}
    state |= {"b_dec": w.decoder_bias, "threshold": np.array(0.4, np.float32), "k": np.array(K)}
    features: Vector = lambda x: jump(w.pre(x, True), 0.4)  # noqa: E731
    return dictionary(root, "MatryoshkaBatchTopKSAE", state, features, w.out)


def dictionary_jumprelu(root: Path) -> Written:
    w = Weights(11)
    state = {"W_enc": w.encoder, "b_enc": w.encoder_bias, "W_dec": w.decoder}
    state |= {"b_dec": w.decoder_bias, "threshold": w.threshold}
    features: Vector = lambda x: jump(w.pre(x), w.threshold)  # noqa: E731
    return dictionary(root, "JumpReluAutoEncoder", state, features, w.out)


def dictionary_gated(root: Path) -> Written:
    w = Weights(12)
    gate, magnitude, scale = w.draw(M), w.draw(M), w.draw(M) * np.float32(0.2)
    state = {
        "encoder.weight": w.encoder.T,
        "decoder.weight": w.decoder.T,
        "decoder_bias": w.decoder_bias,
        "gate_bias": gate,
        "mag_bias": magnitude,
        "r_mag": scale,
    }

    def features(x: Array) -> Array:
        pre = (x - w.decoder_bias) @ w.encoder
        return (pre + gate > 0) * relu(np.exp(scale) * pre + magnitude)

    return dictionary(root, "GatedAutoEncoder", state, features, w.out)


def dictionary_checkpoint(root: Path) -> Written:
    """Cut short: the state lies in `ae`, and the biases are in units of the scaled stream."""
    w = Weights(13)
    factor = np.float32(2.5)
    inner = linear(w, "bias")
    scaled = {
        name: torch.from_numpy(value / factor if "bias" in name else value)
        for name, value in inner.items()
    }
    state = {"step": 7, "ae": scaled, "norm_factor": 2.5, "config": {"lr": 1e-3}}
    features: Vector = lambda x: relu(w.pre(x, True))  # noqa: E731
    return dictionary(root, "AutoEncoder", state, features, w.out)
