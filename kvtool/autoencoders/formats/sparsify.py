"""EleutherAI's sparsify: `<hookpoint>/cfg.json` beside `<hookpoint>/sae.safetensors`."""

from __future__ import annotations

from pathlib import Path

from kvtool.autoencoders.activations import Activation, GroupMax, TopK
from kvtool.autoencoders.autoencoder import Origin, SparseAutoencoder
from kvtool.autoencoders.hooks import hook_of, layer_of
from kvtool.autoencoders.tensors import read_json, read_safetensors
from kvtool.errors import ModelError

NAME = "sparsify"


def recognizes(path: Path) -> bool:
    """Return whether a file lies beside sparsify's settings."""
    return path.name == "sae.safetensors" and path.with_name("cfg.json").is_file()


def load(path: Path, transpose: bool | None) -> SparseAutoencoder:
    """Read an SAE, with its skip connection where it has one. Raises ModelError."""
    settings = read_json(path.with_name("cfg.json"))
    tensors = read_safetensors(path, transpose)
    decoder_bias = tensors.vector("b_dec")
    encoder_bias = tensors.vector("encoder.bias")
    d = decoder_bias.numel()
    m = encoder_bias.numel()
    # The library's own default is 32.
    k = settings.get("k", 32)
    if not isinstance(k, int) or not 1 <= k <= m:
        raise ModelError(f"{path}: expected k from 1 to {m} in cfg.json, found {k!r}")
    activation: Activation = TopK(k)
    if settings.get("activation") == "groupmax":
        if m % k:
            raise ModelError(f"{path}: expected k that divides {m} for groupmax, found {k}")
        activation = GroupMax(k)
    elif settings.get("signed"):
        raise ModelError(f"{path}: expected features that are not signed, found signed ones")
    # sparsify multiplies by its transpose.
    skip = tensors.optional("W_skip")
    return SparseAutoencoder(
        encoder=tensors.matrix(d, m, "encoder.weight"),
        encoder_bias=encoder_bias,
        decoder=tensors.matrix(m, d, "W_dec"),
        decoder_bias=decoder_bias,
        activation=activation,
        origin=Origin(
            format=NAME,
            path=str(path),
            layer=layer_of(path.parent.name),
            hook=hook_of(path.parent.name),
            published_l0=float(k),
        ),
        # sparsify subtracts the decoder's bias always, but for transcoders.
        is_centered=not settings.get("transcode", False),
        skip=None if skip is None else skip.T.contiguous(),
    )
