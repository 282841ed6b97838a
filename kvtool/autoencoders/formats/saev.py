"""saev's SAEs of vision transformers: a line of JSON, and after it a file of torch.save."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from kvtool.autoencoders.activations import Activation, JumpReLU, ReLU, TopK
from kvtool.autoencoders.autoencoder import Origin, SparseAutoencoder
from kvtool.autoencoders.tensors import pickled_tensors, read_pickle
from kvtool.digests import open_regular
from kvtool.errors import ModelError

NAME = "saev"
_HEADER_BYTES = 1 << 16


def recognizes(path: Path) -> bool:
    """Return whether a file begins with saev's line of JSON."""
    return path.suffix == ".pt" and _header(path) is not None


def load(path: Path, transpose: bool | None) -> SparseAutoencoder:
    """Read an SAE of any schema. Raises ModelError."""
    header = _header(path)
    if header is None:
        raise ModelError(f"{path}: expected a line of JSON before the weights, found none")
    settings, size = header
    # Before schema 1 the line was the settings themselves.
    settings = settings["cfg"] if isinstance(settings.get("cfg"), dict) else settings
    state = read_pickle(path, skip_bytes=size)
    tensors = pickled_tensors(path, state, transpose)
    # The biases tell d and m, by which matrices are brought to their shapes.
    encoder_bias = tensors.vector("b_enc")
    decoder_bias = tensors.vector("b_dec")
    d = decoder_bias.numel()
    m = encoder_bias.numel()
    activation = _activation(path, settings.get("activation"))
    return SparseAutoencoder(
        encoder=tensors.matrix(d, m, "W_enc"),
        encoder_bias=encoder_bias,
        decoder=tensors.matrix(m, d, "W_dec"),
        decoder_bias=decoder_bias,
        activation=activation,
        origin=Origin(
            format=NAME,
            path=str(path),
            published_l0=float(activation.k) if isinstance(activation, TopK) else None,
            notes=("reads the blocks of a vision transformer; no file says which layer",),
        ),
    )


def _header(path: Path) -> tuple[dict[str, Any], int] | None:
    """Return the JSON object of a file's first line and the line's length in bytes."""
    try:
        with open_regular(path) as fd, open(fd, "rb", closefd=False) as file:
            line = file.readline(_HEADER_BYTES)
        record = json.loads(line) if line.startswith(b"{") and line.endswith(b"\n") else None
    except (OSError, ValueError, RecursionError):
        return None
    return (record, len(line)) if isinstance(record, dict) else None


def _activation(path: Path, settings: Any) -> Activation:
    """Return the activation that `{"cls": ..., "params": {...}}` names; ReLU where none is."""
    if not isinstance(settings, dict):
        return ReLU()
    name = str(settings.get("cls", "Relu")).lower()
    options = settings.get("params") or {}
    if name == "relu":
        return ReLU()
    if name == "topk":
        return TopK(int(options["top_k"] if "top_k" in options else options["k"]), False)
    if name == "batchtopk":
        threshold = settings.get("threshold", options.get("threshold", 0.0))
        return JumpReLU(torch.tensor(float(threshold))) if threshold > 0 else ReLU()
    raise ModelError(f"{path}: expected an activation that kvtool knows, found {name!r}")
