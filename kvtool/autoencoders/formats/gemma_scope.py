"""Gemma Scope (Lieberum et al. 2024) and Gemma Scope 2: JumpReLU SAEs of Gemma 2 and Gemma 3.

The first is a NumPy archive without settings, `layer_L/width_W/average_l0_N/params.npz`; the second
`layer_L_width_W_l0_S/params.safetensors` beside a `config.json`.
"""

from __future__ import annotations

from math import sqrt
from pathlib import Path

from kvtool.autoencoders.activations import JumpReLU
from kvtool.autoencoders.autoencoder import Origin, SparseAutoencoder
from kvtool.autoencoders.hooks import hook_of, layer_of
from kvtool.autoencoders.tensors import Tensors, number_in, read_json, read_npz, read_safetensors

NAME = "gemma-scope"
_SECOND = "gemma-scope-2"


def recognizes(path: Path) -> bool:
    """Return whether a file is named as Gemma Scope names its weights."""
    return path.name in ("params.npz", "params.safetensors")


def load(path: Path, transpose: bool | None) -> SparseAutoencoder:
    """Read an SAE of either release. Raises ModelError."""
    if path.suffix == ".npz":
        return _first(path, read_npz(path, transpose))
    return _second(path, read_safetensors(path, transpose))


def _weights(tensors: Tensors, origin: Origin, scale: float = 1.0) -> SparseAutoencoder:
    """Return the SAE of named tensors; `scale` moves weights to a stream that long."""
    encoder_bias = tensors.vector("b_enc")
    decoder_bias = tensors.vector("b_dec")
    d = decoder_bias.numel()
    m = encoder_bias.numel()
    affine = tensors.optional("affine_skip_connection")
    # The stream is `scale` times the vectors of training: weights absorb the factor.
    return SparseAutoencoder(
        encoder=tensors.matrix(d, m, "W_enc", "w_enc") / scale,
        encoder_bias=encoder_bias,
        decoder=tensors.matrix(m, d, "W_dec", "w_dec") * scale,
        decoder_bias=decoder_bias * scale,
        activation=JumpReLU(tensors.vector("threshold")),
        origin=origin,
        skip=affine,
    )


def _first(path: Path, tensors: Tensors) -> SparseAutoencoder:
    """Return an SAE of Gemma Scope, whose folder's names say what it reads."""
    folder = path.parent.as_posix()
    is_of_embeddings = "embedding" in path.parts
    hook = "embedding" if is_of_embeddings else hook_of(folder)
    origin = Origin(
        format=NAME,
        path=str(path),
        layer=None if is_of_embeddings else layer_of(folder),
        hook=hook,
        published_l0=number_in(r"average_l0_(\d+)", folder, float),
    )
    # SAEs of embeddings were trained on rows of the table; the stream holds them sqrt(d) as long.
    scale = sqrt(tensors.vector("b_dec").numel()) if is_of_embeddings else 1.0
    return _weights(tensors, origin, scale)


def _second(path: Path, tensors: Tensors) -> SparseAutoencoder:
    """Return an SAE of Gemma Scope 2, whose settings name a module and its input or output."""
    config = read_json(path.with_name("config.json"))
    point = str(config.get("hf_hook_point_in", ""))
    l0 = config.get("l0")
    origin = Origin(
        format=_SECOND,
        path=str(path),
        layer=layer_of(point) if point else layer_of(path.parent.as_posix()),
        hook=hook_of(point or path.parent.as_posix()),
        published_l0=float(l0) if isinstance(l0, int | float) else None,
        model=str(config["model_name"]) if "model_name" in config else None,
    )
    return _weights(tensors, origin)
