"""Finding SAEs on disk and reading them: one, or one a layer.

Nothing is ever fetched from a hub: a path is a file, a folder of one SAE, a folder that holds many,
or a template such as `.../layer_{layer}/width_16k/*`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path

from kvtool.autoencoders.autoencoder import SparseAutoencoder
from kvtool.autoencoders.formats import FORMATS, WEIGHT_FILES, Format
from kvtool.autoencoders.hooks import layer_of
from kvtool.datasets.names import is_hidden
from kvtool.demo.weights import DEMO, demo_saes_path
from kvtool.errors import KvtoolError, ModelError, UsageError

MOST_FILES = 10_000
"""So many weight files are looked at below a folder."""
_TEMPLATE = "{layer}"


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
        """Read the SAE; a layer that its own files do not say is that of the path."""
        autoencoder = self.format.load(self.path, self.transpose)
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
    files: dict[Path, SaeFile] = {}
    for path in [_resolved(fspath(name)) for name in paths]:
        candidates = list(_candidates(path, layers))
        if not candidates:
            raise UsageError(
                f"{path}: expected SAE weights ({', '.join(WEIGHT_FILES[:4])}, ...), found none; "
                "give a file, a folder, or a template such as layer_{layer}/width_16k/*"
            )
        for file, layer in candidates:
            format_of_file = _format(file)
            guess = layer_of(file.parent.as_posix()) if layer is None else layer
            files.setdefault(file, SaeFile(file, guess, format_of_file, transpose))
    return sorted(files.values(), key=lambda file: (file.layer is None, file.layer or 0, file.path))


def _resolved(path: str) -> str:
    """Return a path as it is, and for "demo" the folder of the shipped SAEs."""
    return str(demo_saes_path()) if path == DEMO else path


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


def _candidates(path: str, layers: Sequence[int] | None) -> Iterator[tuple[Path, int | None]]:
    """Yield the weight files that a path names, with the layer that a template was filled with."""
    if _TEMPLATE not in path:
        for match in _matches(path):
            yield from ((file, None) for file in _weight_files(match))
        return
    pattern = re.compile(
        re.escape(path).replace(re.escape(_TEMPLATE), r"(\d+)").replace(r"\*", "[^/]*")
    )
    if layers is not None:
        for layer in layers:
            for match in _matches(path.replace(_TEMPLATE, str(layer))):
                yield from ((file, layer) for file in _weight_files(match))
        return
    for match in _matches(path.replace(_TEMPLATE, "*")):
        filled = pattern.match(match.as_posix())
        if filled is not None:
            yield from ((file, int(filled.group(1))) for file in _weight_files(match))


def _matches(path: str) -> list[Path]:
    """Return the paths that a pattern names; a path without wildcards is itself, if it is there."""
    expanded = Path(path).expanduser()
    if expanded.exists():
        return [expanded]
    anchor = Path(expanded.anchor)
    relative = expanded.relative_to(anchor) if expanded.anchor else expanded
    return sorted(anchor.glob(str(relative)))


def _weight_files(path: Path) -> list[Path]:
    """Return the weight files at or below a path; of a folder that holds one, that alone."""
    if not path.is_dir():
        return [path] if path.is_file() else []
    for name in WEIGHT_FILES:
        if direct := sorted(path.glob(name)):
            return direct
    below: list[Path] = []
    for name in WEIGHT_FILES:
        for file in path.rglob(name):
            # A training that is under way lies in a hidden folder.
            if any(is_hidden(part) for part in file.relative_to(path).parts):
                continue
            below.append(file)
            if len(below) > MOST_FILES:
                raise KvtoolError(f"{path}: more than {MOST_FILES} SAE files; name fewer")
    return sorted(set(below))
