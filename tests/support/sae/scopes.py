"""SAEs as Gemma Scope, Llama Scope, Qwen-Scope, sparsify and saev write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.sae.dictionaries import linear
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
    write_pickle,
    write_tensors,
)


def gemma_scope(root: Path) -> Written:
    w = Weights(1)
    path = root / "gemma-scope-2b-pt-res/layer_3/width_16k/average_l0_7/params.npz"
    path.parent.mkdir(parents=True)
    names: dict[str, Any] = {"W_enc": w.encoder, "b_enc": w.encoder_bias, "W_dec": w.decoder}
    np.savez(path, **names, b_dec=w.decoder_bias, threshold=w.threshold, scaling_factor=np.ones(M))
    features: Vector = lambda x: jump(w.pre(x), w.threshold)  # noqa: E731
    return Written(path, features, lambda x: w.out(features(x)))


def gemma_scope_embedding(root: Path) -> Written:
    """Trained on rows of the embedding table, which the stream holds sqrt(d) as long."""
    w = Weights(2)
    path = root / "gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6/params.npz"
    path.parent.mkdir(parents=True)
    names: dict[str, Any] = {"W_enc": w.encoder, "b_enc": w.encoder_bias, "W_dec": w.decoder}
    np.savez(path, **names, b_dec=w.decoder_bias, threshold=w.threshold)
    features: Vector = lambda x: jump(w.pre(x / np.float32(D**0.5)), w.threshold)  # noqa: E731
    return Written(path, features, lambda x: w.out(features(x)) * np.float32(D**0.5))


def gemma_scope_2(root: Path) -> Written:
    w = Weights(3)
    folder = root / "resid_post/layer_9_width_16k_l0_small"
    affine = w.draw(D, D)
    path = write_tensors(
        folder / "params.safetensors",
        w_enc=w.encoder,
        b_enc=w.encoder_bias,
        w_dec=w.decoder,
        b_dec=w.decoder_bias,
        threshold=w.threshold,
        affine_skip_connection=affine,
    )
    settings = {"hf_hook_point_in": "model.layers.9.output", "l0": 20, "model_name": "gemma-3-4b"}
    write_json(folder / "config.json", settings | {"architecture": "jump_relu"})
    features: Vector = lambda x: jump(w.pre(x), w.threshold)  # noqa: E731
    return Written(path, features, lambda x: w.out(features(x)) + x @ affine)


def sparsify(root: Path, act: str = "topk", with_skip: bool = False) -> Written:
    w = Weights(7)
    folder = root / "sae-llama/layers.2"
    skip = w.draw(D, D)
    tensors = {"encoder.weight": w.encoder.T, "encoder.bias": w.encoder_bias, "W_dec": w.decoder}
    tensors |= {"b_dec": w.decoder_bias} | ({"W_skip": skip} if with_skip else {})
    path = write_tensors(folder / "sae.safetensors", **tensors)
    write_json(folder / "cfg.json", {"k": K, "activation": act, "expansion_factor": 2, "d_in": D})

    def features(x: Array) -> Array:
        pre = relu(w.pre(x, centered=True))
        if act == "topk":
            return top(pre, K)
        groups = pre.reshape(K, -1)
        return np.concatenate([top(group, 1) for group in groups])

    through: Vector = (lambda x: x @ skip.T) if with_skip else np.zeros_like
    return Written(path, features, lambda x: w.out(features(x)) + through(x))


def sparsify_groupmax(root: Path) -> Written:
    return sparsify(root, "groupmax")


def sparsify_skip(root: Path) -> Written:
    return sparsify(root, with_skip=True)


def plain_state(w: Weights) -> dict[str, Any]:
    names: dict[str, Any] = {"W_enc": w.encoder, "b_enc": w.encoder_bias}
    return names | {"W_dec": w.decoder, "b_dec": w.decoder_bias}


def saev(root: Path, activation: dict[str, Any], act: Vector, schema: int = 5) -> Written:
    w = Weights(14)
    settings = {"d_model": D, "d_sae": M, "activation": activation}
    header = {"schema": schema, "cfg": settings} if schema else settings
    path = root / "checkpoint/sae.pt"
    write_pickle(path, plain_state(w), json.dumps(header) + "\n")
    features: Vector = lambda x: act(w.pre(x))  # noqa: E731
    return Written(path, features, lambda x: w.out(features(x)))


def saev_relu(root: Path) -> Written:
    return saev(root, {"cls": "Relu", "params": {}}, relu, schema=0)


def saev_topk(root: Path) -> Written:
    """The k largest, which may be negative."""
    k = M - 2
    return saev(root, {"cls": "TopK", "params": {"top_k": k}}, lambda pre: top(pre, k))


def saev_batchtopk(root: Path) -> Written:
    activation = {"cls": "BatchTopK", "params": {"top_k": K}, "threshold": 0.2}
    return saev(root, activation, lambda pre: jump(pre, 0.2))


def llama_scope(root: Path) -> Written:
    """The threshold is in units of the unscaled stream, and the gate sees the decoder's norms."""
    w = Weights(15)
    folder = root / "Llama3_1-8B-Base-L7R-8x"
    tensors = {"encoder.weight": w.encoder.T, "encoder.bias": w.encoder_bias}
    tensors |= {"decoder.weight": w.decoder.T, "decoder.bias": w.decoder_bias}
    path = write_tensors(folder / "checkpoints/final.safetensors", **tensors)
    settings = {"hook_point_in": "blocks.7.hook_resid_post", "act_fn": "jumprelu", "top_k": 50}
    settings |= {"hook_point_out": "blocks.7.hook_resid_post", "jump_relu_threshold": 0.4}
    settings |= {"dataset_average_activation_norm": {"in": 3.0, "out": 3.0}}
    write_json(folder / "hyperparams.json", settings | {"sparsity_include_decoder_norm": True})
    scale = np.float32(D**0.5 / 3.0)
    norms = np.linalg.norm(w.decoder, axis=1)

    def features(x: Array) -> Array:
        pre = w.pre(x * scale)
        return np.where(pre * norms > 0.4 * scale, relu(pre), 0)

    return Written(path, features, lambda x: w.out(features(x)) / scale)


def llama_scope_later(root: Path) -> Written:
    w = Weights(16)
    folder = root / "llamascopium"
    point = "blocks.8.hook_resid_post"
    tensors = {"W_E": w.encoder, "b_E": w.encoder_bias, "W_D": w.decoder, "b_D": w.decoder_bias}
    tensors["activation_function.log_jumprelu_threshold"] = np.log(w.threshold)
    tensors[f"dataset_average_activation_norm.{point}"] = np.array(3.0, np.float32)
    path = write_tensors(folder / "sae_weights.safetensors", **tensors)
    write_json(folder / "config.json", {"hook_point_in": point, "act_fn": "jumprelu"})
    scale = np.float32(D**0.5 / 3.0)
    norms = np.linalg.norm(w.decoder, axis=1)

    def features(x: Array) -> Array:
        pre = w.pre(x * scale)
        return np.where(pre * norms > w.threshold, relu(pre), 0)

    return Written(path, features, lambda x: w.out(features(x)) / scale)


def llama_scope_topk(root: Path) -> Written:
    w = Weights(17)
    folder = root / "llamascopium"
    tensors = {"encoder.weight": w.encoder.T, "encoder.bias": w.encoder_bias}
    tensors |= {"decoder.weight": w.decoder.T, "decoder.bias": w.decoder_bias}
    path = write_tensors(folder / "sae_weights.safetensors", **tensors)
    settings = {"hook_point_in": "blocks.8.hook_resid_post", "act_fn": "topk", "top_k": K}
    norm = {"dataset_average_activation_norm": {"in": 3.0}}
    write_json(folder / "config.json", settings | norm)
    scale = np.float32(D**0.5 / 3.0)
    norms = np.linalg.norm(w.decoder, axis=1)

    def features(x: Array) -> Array:
        pre = relu(w.pre(x * scale))
        return top(pre, K, rank_by=pre * norms)

    return Written(path, features, lambda x: w.out(features(x)) / scale)


def llama_scope_token_wise(root: Path) -> Written:
    """Each vector is brought to the length sqrt(d); a mean length in the settings says nothing."""
    stored = llama_scope_topk(root)
    path = stored.path.with_name("config.json")
    write_json(path, {**json.loads(path.read_text()), "norm_activation": "token-wise"})
    w = Weights(17)
    norms = np.linalg.norm(w.decoder, axis=1)

    def factors(x: Array) -> Array:
        lengths: Array = np.linalg.norm(x, axis=-1, keepdims=True)
        return np.float32(D**0.5) / lengths

    def features(x: Array) -> Array:
        pre = relu(w.pre(x * factors(x)))
        return top(pre, K, rank_by=pre * norms)

    return Written(stored.path, features, lambda x: w.out(features(x)) / factors(x))


def llama_scope_folded(root: Path) -> Written:
    """The factor is in the weights, so that vectors are read as they are."""
    stored = llama_scope_topk(root)
    path = stored.path.with_name("config.json")
    write_json(path, {**json.loads(path.read_text()), "norm_activation": "inference"})
    w = Weights(17)
    norms = np.linalg.norm(w.decoder, axis=1)

    def features(x: Array) -> Array:
        pre = relu(w.pre(x))
        return top(pre, K, rank_by=pre * norms)

    return Written(stored.path, features, lambda x: w.out(features(x)))


def qwen_scope(root: Path) -> Written:
    w = Weights(18)
    state = {"W_enc": w.encoder.T, "b_enc": w.encoder_bias}
    state |= {"W_dec": w.decoder.T, "b_dec": w.decoder_bias}
    path = write_pickle(root / "SAE-Res-Qwen3.5-2B-Base-W32K-L0_5/layer6.sae.pt", state)
    features: Vector = lambda x: top(w.pre(x), K)  # noqa: E731
    return Written(path, features, lambda x: w.out(features(x)))


def state_dict(root: Path) -> Written:
    w = Weights(19)
    path = write_pickle(root / "DeepSeek-R1-SAE-l19.pt", linear(w, "decoder.bias"))
    features: Vector = lambda x: relu(w.pre(x))  # noqa: E731
    return Written(path, features, lambda x: w.out(features(x)))
