"""The file formats of SAEs, one module each.

Each module has NAME; `find(folder)`, the file with the weights in a folder of this format or None;
and `load(path, transpose)`, which reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kvtool.autoencoders.autoencoder import SparseAutoencoder
from kvtool.autoencoders.formats import (
    dictionary_learning,
    gemma_scope,
    llama_scope,
    qwen_scope,
    saelens,
    saev,
    sparsify,
)


@dataclass(frozen=True)
class Format:
    """One library's way of writing an SAE.

    Attributes:
        name: The library's name.
        recognizes: Whether a file holds an SAE of this format.
        load: Reads it; raises ModelError.
    """

    name: str
    recognizes: Callable[[Path], bool]
    load: Callable[[Path, bool | None], SparseAutoencoder]


FORMATS = tuple(
    Format(module.NAME, module.recognizes, module.load)
    for module in (
        *(gemma_scope, saelens, sparsify, dictionary_learning),
        *(llama_scope, saev, qwen_scope),
    )
)
"""In the order in which a file is tried: those that are known by their settings come first."""
