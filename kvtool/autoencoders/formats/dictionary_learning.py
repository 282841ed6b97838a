"""dictionary_learning: `.../resid_post_layer_L/trainer_i/ae.pt` beside `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from kvtool.autoencoders.activations import Activation, Gated, JumpReLU, ReLU, TopK
from kvtool.autoencoders.autoencoder import Origin, SparseAutoencoder
from kvtool.autoencoders.hooks import hook_of, layer_of
from kvtool.autoencoders.tensors import Tensors, pickled_tensors, read_json, read_pickle
from kvtool.errors import ModelError

NAME = "dictionary-learning"
_UNCENTERED = ("JumpReluAutoEncoder", "AutoEncoderNew")
_BIASES = ("bias", "b_dec", "b_enc", "encoder.bias", "decoder.bias", "decoder_bias")
_SCALED_BIASES = (*_BIASES, "gate_bias", "mag_bias", "threshold")
_UNSET = "its threshold was never set, so that every positive feature counts, as in its library"


def recognizes(path: Path) -> bool:
    """Return whether a file is named as the library names its dictionaries."""
    return path.name == "ae.pt"


def load(path: Path, transpose: bool | None) -> SparseAutoencoder:
    """Read a dictionary of any of the library's classes. Raises ModelError."""
    # Settings may be missing: the class is then guessed from the tensors.
    config = path.with_name("config.json")
    trainer = read_json(config).get("trainer", {}) if config.is_file() else {}
    trainer = trainer if isinstance(trainer, dict) else {}
    tensors = pickled_tensors(path, _state(path), transpose)
    class_name = str(trainer.get("dict_class") or _guess(tensors))
    decoder_bias = tensors.vector("b_dec", "bias", "decoder_bias", "decoder.bias")
    d = decoder_bias.numel()
    bias = tensors.optional("encoder.bias", "b_enc")
    # Gated dictionaries have two biases of their features and none of the encoder.
    m = tensors.vector("gate_bias").numel() if bias is None else bias.numel()
    activation, notes = _activation(path, class_name, tensors, trainer)
    # The module's name, else that of the folder above the trainer's.
    point = str(trainer.get("submodule_name") or path.parent.parent.name)
    layer = trainer.get("layer")
    k = trainer.get("k")
    return SparseAutoencoder(
        encoder=tensors.matrix(d, m, "encoder.weight", "W_enc"),
        encoder_bias=torch.zeros(m) if bias is None else bias,
        decoder=tensors.matrix(m, d, "decoder.weight", "W_dec"),
        decoder_bias=decoder_bias,
        activation=activation,
        origin=Origin(
            format=NAME,
            path=str(path),
            layer=layer if isinstance(layer, int) else layer_of(point),
            hook=hook_of(point),
            published_l0=float(k) if isinstance(k, int) else None,
            model=trainer.get("lm_name"),
            notes=notes,
        ),
        is_centered=class_name not in _UNCENTERED,
    )


def _state(path: Path) -> Any:
    """Return the state dict; of a checkpoint cut short, with biases in the units of the stream."""
    state = read_pickle(path)
    if not isinstance(state, Mapping) or "ae" not in state:
        return state
    inner = state["ae"]
    factor = state.get("norm_factor", 1.0)
    if not isinstance(inner, Mapping) or not isinstance(factor, int | float | torch.Tensor):
        raise ModelError(f"{path}: expected a checkpoint of dictionary_learning, found other parts")
    # The library trains on a scaled stream, and scales the biases back when training ends.
    return {
        name: value * float(factor) if name in _SCALED_BIASES else value
        for name, value in inner.items()
    }


def _guess(tensors: Tensors) -> str:
    """Return the class of a file without settings, by the tensors that only it has."""
    if "r_mag" in tensors:
        return "GatedAutoEncoder"
    if "W_enc" in tensors:
        return "MatryoshkaBatchTopKSAE" if "group_sizes" in tensors else "JumpReluAutoEncoder"
    if "k" in tensors:
        return "BatchTopKSAE" if "threshold" in tensors else "AutoEncoderTopK"
    return "AutoEncoder" if "bias" in tensors else "AutoEncoderNew"


def _activation(
    path: Path, class_name: str, tensors: Tensors, trainer: Mapping[str, Any]
) -> tuple[Activation, tuple[str, ...]]:
    """Return the activation of a class, and what a reader should know of it."""
    if class_name == "AutoEncoderTopK":
        k = int(tensors.vector("k")) if "k" in tensors else trainer.get("k")
        if not isinstance(k, int) or k < 1:
            raise ModelError(f"{path}: expected k of a topk dictionary, found {k!r}")
        return TopK(k), ()
    if "BatchTopK" in class_name:
        threshold = tensors.optional("threshold")
        # A threshold below 0 is how the library initializes what training has not set yet.
        if threshold is None or float(threshold) < 0:
            return ReLU(), (_UNSET,)
        return JumpReLU(threshold), ()
    if class_name == "JumpReluAutoEncoder":
        return JumpReLU(tensors.vector("threshold")), ()
    if class_name == "GatedAutoEncoder":
        # The magnitude shares the gate's weights, scaled by exp(r) for each feature.
        scale = tensors.vector("r_mag").exp()
        return Gated(tensors.vector("gate_bias"), scale, tensors.vector("mag_bias")), ()
    if class_name in ("AutoEncoder", "AutoEncoderNew"):
        return ReLU(), ()
    raise ModelError(f"{path}: expected a class that kvtool knows, found {class_name!r}")
