"""Finding SAEs on disk and reading them: one, or one a layer.

Nothing is ever fetched from a hub: a path is a file, a folder of one SAE, a folder that holds many,
or a template such as `.../layer_{layer}/width_16k/*`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path

from kvtool.autoencoders.autoencoder import SparseAutoencoder
from kvtool.autoencoders.files import WeightFile, weight_files
from kvtool.autoencoders.formats import FORMATS, Format
from kvtool.errors import ModelError, UsageError


@dataclass(frozen=True)
class SaeFile:
    """A file with an SAE's weights that was not read yet.

    Attributes:
        path: The file.
        layer: The decoder layer that the path says, 0-based; None where only the file says it.
        format: What reads it.
        transpose: What a user says of square matrices, see Tensors.
    """

    path: Path
    layer: int | None
    format: Format
    transpose: bool | None = None

    def load(self) -> SparseAutoencoder:
        """Read the SAE; a layer that its own files do not say is that of the path.

        Raises ModelError for what cannot be read.
        """
        try:
            autoencoder = self.format.load(self.path, self.transpose)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # Settings that are JSON and make no sense: one such file ends no list of many.
            raise ModelError(
                f"{self.path}: expected settings of {self.format.name}, found some that cannot be "
                f"read ({type(error).__name__}: {error}); take the files as they were published"
            ) from error
        if autoencoder.layer is None and self.layer is not None:
            origin = replace(autoencoder.origin, layer=self.layer)
            return replace(autoencoder, origin=origin)
        return autoencoder


def load_sae(path: str | PathLike[str], *, transpose: bool | None = None) -> SparseAutoencoder:
    """Read one sparse autoencoder from disk, whichever library wrote it.

    Formats: Gemma Scope 1 and 2, SAELens before and from 6, sparsify, dictionary_learning, saev,
    Llama Scope, Qwen-Scope. Pickled files are read as tensors alone; no code of theirs is run.

    Args:
        path: A file of weights, or a folder that holds one SAE.
        transpose: For square matrices, whose shape does not tell: True where the encoder is stored
            as (m, d) and the decoder as (d, m), False for the reverse.

    Returns:
        An object with d, m, layer, hook, format; encode(x (n, d)) -> (n, m), decode(f (n, m)) ->
        (n, d) and reconstruct(x).

    Raises:
        ModelError: No format fits, or the file is damaged or holds values that are not finite.
        UsageError: The folder holds several SAEs, or a matrix is square.
    """
    files = find_saes([path], transpose=transpose)
    if len(files) > 1:
        names = ", ".join(file.path.parent.name for file in files[:3])
        raise UsageError(
            f"{fspath(path)}: expected one SAE, found {len(files)} ({names}, ...); name one of them"
        )
    return files[0].load()


def find_saes(
    paths: Iterable[str | PathLike[str]],
    layers: Sequence[int] | None = None,
    *,
    transpose: bool | None = None,
) -> list[SaeFile]:
    """Find the SAEs that paths name, in the order of their layers, without reading weights.

    Args:
        paths: Files, folders, or templates with {layer} and the wildcards of a shell; "demo" names
            those of the shipped model's decoder.
        layers: The layers that a template is filled with; None looks for whatever is there.
        transpose: See load_sae.

    Raises UsageError where a path names nothing, ModelError where a file is of no known format.
    """
    return [sae_file(file, transpose) for file in weight_files(paths, layers)]


def sae_file(file: WeightFile, transpose: bool | None = None) -> SaeFile:
    """Return a file with what reads it. Raises ModelError where it is of no known format."""
    return SaeFile(file.path, file.layer, _format(file.path), transpose)


def _format(path: Path) -> Format:
    """Return the first format that recognizes a file. Raises ModelError."""
    for candidate in FORMATS:
        if candidate.recognizes(path):
            return candidate
    raise ModelError(
        f"{path}: expected an SAE of {', '.join(candidate.name for candidate in FORMATS)}, found "
        "a file of none of these; name a weight file or folder as it was published, with the "
        "settings that came with it beside it (cfg.json, config.json or hyperparams.json)"
    )
