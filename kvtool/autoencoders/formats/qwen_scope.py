"""Qwen-Scope's `layerL.sae.pt`, and single state dicts of the same kind that others publish."""

from __future__ import annotations

from pathlib import Path

from kvtool.autoencoders.activations import Activation, ReLU, TopK
from kvtool.autoencoders.autoencoder import Origin, SparseAutoencoder
from kvtool.autoencoders.hooks import layer_of
from kvtool.autoencoders.tensors import number_in, pickled_tensors, read_pickle
from kvtool.errors import ModelError

NAME = "qwen-scope"
_SINGLE = "state-dict"


def recognizes(path: Path) -> bool:
    """Return whether a file is one of torch.save; that of saev and others is looked for before."""
    return path.suffix == ".pt"


def load(path: Path, transpose: bool | None) -> SparseAutoencoder:
    """Read an SAE: the top k of Qwen-Scope, or an encoder and a decoder with biases and ReLU.

    Raises ModelError.
    """
    tensors = pickled_tensors(path, read_pickle(path), transpose)
    # Others' state dicts name a linear layer's weight; Qwen-Scope has bare matrices.
    is_single = "encoder.weight" in tensors
    encoder_bias = tensors.vector("b_enc", "encoder.bias")
    decoder_bias = tensors.vector("b_dec", "decoder.bias")
    d = decoder_bias.numel()
    m = encoder_bias.numel()
    # The number of active features stands in the name of the repository alone.
    k = number_in(r"[-_]L0[-_](\d+)", path.absolute().as_posix())
    activation: Activation = ReLU()
    if not is_single:
        if k is None:
            raise ModelError(
                f"{path}: expected the number of active features in the folder's name, as in "
                "SAE-Res-Qwen3.5-2B-Base-W32K-L0_100, found none; rename the folder so"
            )
        activation = TopK(k, is_rectified=False)
    return SparseAutoencoder(
        encoder=tensors.matrix(d, m, "W_enc", "encoder.weight"),
        encoder_bias=encoder_bias,
        decoder=tensors.matrix(m, d, "W_dec", "decoder.weight"),
        decoder_bias=decoder_bias,
        activation=activation,
        origin=Origin(
            format=_SINGLE if is_single else NAME,
            path=str(path),
            layer=layer_of(path.name),
            published_l0=None if k is None else float(k),
        ),
    )
