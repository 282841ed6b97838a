"""The SAEs of a study: which layers they read, and their weights, of which some are in memory."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import torch

from kvtool.autoencoders.autoencoder import SparseAutoencoder
from kvtool.autoencoders.hooks import stream_layer
from kvtool.autoencoders.loading import SaeFile, find_saes
from kvtool.digests import digest_files, digest_texts
from kvtool.errors import KvtoolError, UsageError

Source = str | PathLike[str] | SparseAutoencoder

HELD_BYTES = 2**32
"""So many bytes of weights stay in memory; beyond them an SAE is read again for each chunk."""


@dataclass(frozen=True)
class LayerSae:
    """An SAE of the stream after a layer, which is read when it is needed.

    Attributes:
        layer: The decoder's layer whose output it reads.
        name: A short name, which tells it from the study's others.
        source: Its file, or the SAE itself.
        digest: Of its weights.
        facts: What a result says of it.
        nbytes: Of its weights.
    """

    layer: int
    name: str
    source: SaeFile | SparseAutoencoder
    digest: str
    facts: dict[str, object]
    nbytes: int

    def load(self) -> SparseAutoencoder:
        """Return the SAE with its weights."""
        return self.source.load() if isinstance(self.source, SaeFile) else self.source


@dataclass
class Shelf:
    """SAEs in memory, up to HELD_BYTES: the longest unused go first."""

    device: torch.device
    most_bytes: int = HELD_BYTES
    weights: OrderedDict[str, tuple[SparseAutoencoder, int]] = field(default_factory=OrderedDict)

    def get(self, entry: LayerSae) -> SparseAutoencoder:
        """Return an SAE on the device."""
        if entry.digest not in self.weights:
            self.weights[entry.digest] = entry.load().to(self.device), entry.nbytes
            while len(self.weights) > 1 and self._nbytes() > self.most_bytes:
                self.weights.popitem(last=False)
        self.weights.move_to_end(entry.digest)
        return self.weights[entry.digest][0]

    def holds(self, entries: Sequence[LayerSae]) -> bool:
        """Return whether all of these fit."""
        return sum(entry.nbytes for entry in entries) <= self.most_bytes

    def _nbytes(self) -> int:
        return sum(nbytes for _, nbytes in self.weights.values())


def layer_saes(
    sources: Sequence[Source], hidden: int, layers: Sequence[int]
) -> tuple[list[LayerSae], list[str], list[str]]:
    """Return the SAEs of some layers by layer, a line for each of other layers or places, and one
    for each file that cannot be read.

    Raises UsageError for an SAE of another width, and where none is of these layers; the error of
    the first file where none can be read.
    """
    loadable: list[tuple[SaeFile | SparseAutoencoder, SparseAutoencoder]] = []
    errors: list[KvtoolError] = []
    for source in _sources(sources, layers):
        try:
            autoencoder = source.load() if isinstance(source, SaeFile) else source
        except KvtoolError as error:
            errors.append(error)
            continue
        loadable.append((source, autoencoder))
    if errors and not loadable:
        raise errors[0]
    entries = []
    outside = []
    for source, autoencoder in loadable:
        if autoencoder.d != hidden:
            raise UsageError(
                f"{autoencoder.origin.path}: expected an SAE of the model's width {hidden}, found "
                f"one of width {autoencoder.d}; take one that was trained on this language model"
            )
        layer = _layer(autoencoder)
        if layer in layers:
            entries.append(_entry(layer, source, autoencoder))
        else:
            outside.append(f"{autoencoder.origin.path}: {_place(autoencoder)}, not scored")
    if not entries:
        raise UsageError(
            f"sae: expected SAEs of the residual stream after layers {_listed(layers)}, found "
            f"none of them: {outside[0]}"
        )
    ordered = sorted(_renamed(entries), key=lambda entry: entry.layer)
    return ordered, outside, [str(error) for error in errors]


def _sources(sources: Sequence[Source], layers: Sequence[int]) -> list[SaeFile | SparseAutoencoder]:
    paths = [source for source in sources if not isinstance(source, SparseAutoencoder)]
    ready = [source for source in sources if isinstance(source, SparseAutoencoder)]
    files = find_saes(paths, _filled(paths, layers)) if paths else []
    return [*files, *ready]


def _filled(paths: Sequence[str | PathLike[str]], layers: Sequence[int]) -> Sequence[int] | None:
    """Return the layers that templates are filled with: those asked for."""
    return layers if any("{layer}" in fspath(path) for path in paths) else None


def _layer(autoencoder: SparseAutoencoder) -> int:
    """Return the layer whose output an SAE reads; -1 for none."""
    if autoencoder.layer is None:
        return -1
    layer = stream_layer(autoencoder.layer, autoencoder.hook)
    return -1 if layer is None else layer


def _place(autoencoder: SparseAutoencoder) -> str:
    layer = "no layer" if autoencoder.layer is None else f"layer {autoencoder.layer}"
    return f"{autoencoder.hook} of {layer}"


def _entry(
    layer: int, source: SaeFile | SparseAutoencoder, autoencoder: SparseAutoencoder
) -> LayerSae:
    is_file = isinstance(source, SaeFile)
    facts = {
        "layer": layer,
        "path": autoencoder.origin.path,
        "format": autoencoder.format,
        "hook": autoencoder.hook,
        "features": autoencoder.m,
        "activation": autoencoder.activation.name,
        "k": getattr(autoencoder.activation, "k", None),
        "centered": autoencoder.is_centered,
        "normalization": autoencoder.normalization,
        "scale": autoencoder.scale,
        "model": autoencoder.origin.model,
        "published_l0": autoencoder.origin.published_l0,
    }
    weights = (
        _file_digest(source.path) if isinstance(source, SaeFile) else _weights_digest(autoencoder)
    )
    # Settings lie beside the weights in most formats, and change what an SAE does.
    digest = digest_texts([weights, repr(facts)])
    arrays = (autoencoder.encoder, autoencoder.decoder)
    return LayerSae(
        layer=layer,
        name=_name(Path(autoencoder.origin.path)) if is_file else f"layer_{layer}",
        source=source,
        digest=digest,
        facts={**facts, "digest": digest},
        nbytes=sum(array.numel() * array.element_size() for array in arrays),
    )


def _name(path: Path) -> str:
    """Return the folders of a weight file that tell it from others, e.g. layer_3/width_16k."""
    parts = [part for part in path.parent.parts if part not in ("/", "checkpoints", "checkpoint")]
    return "/".join(parts[-2:]) or path.stem


def _renamed(entries: Sequence[LayerSae]) -> list[LayerSae]:
    """Number those of a layer that share a name."""
    renamed = []
    counts: dict[tuple[int, str], int] = {}
    for entry in entries:
        number = counts[entry.layer, entry.name] = counts.get((entry.layer, entry.name), 0) + 1
        name = entry.name if number == 1 else f"{entry.name} ({number})"
        renamed.append(LayerSae(**{**vars(entry), "name": name}))
    return renamed


def _file_digest(path: Path) -> str:
    return next(iter(digest_files([path]).values()))


def _weights_digest(autoencoder: SparseAutoencoder) -> str:
    """Digest all that an SAE in memory computes with: tensors by their bytes, since their text
    leaves most numbers out."""
    digest = hashlib.sha256()
    for part in (*_values(autoencoder), *_values(autoencoder.activation)):
        if isinstance(part, torch.Tensor):
            number_bytes = part.detach().cpu().contiguous().view(-1).view(torch.uint8)
            digest.update(number_bytes.numpy().tobytes())
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()[:32]


def _values(item: Any) -> list[Any]:
    """Return what the fields of an SAE or of an activation hold, but for one that stands apart."""
    return [value for name, value in vars(item).items() if name not in ("activation", "origin")]


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers)) if len(layers) < 9 else f"{layers[0]} to {layers[-1]}"
