"""The SAEs of a study: which layers they read, and their weights, of which some are in memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from kvtool.autoencoders.autoencoder import SparseAutoencoder
from kvtool.autoencoders.files import WeightFile
from kvtool.autoencoders.hooks import stream_layer
from kvtool.errors import KvtoolError, UsageError
from kvtool.experiments.sae.sources import SaeSource

HELD_BYTES = 2**32
"""So many bytes of weights stay in memory; beyond them an SAE is read again for each chunk."""


@dataclass(frozen=True)
class LayerSae:
    """An SAE of the stream after a layer, which is read when it is needed.

    Attributes:
        layer: The decoder's layer whose output it reads.
        name: A short name, which tells it from the study's others.
        source: Its file, or the SAE itself.
        digest: Of its weights and settings.
        facts: What a result says of it.
        nbytes: Of its weights.
    """

    layer: int
    name: str
    source: SaeSource
    digest: str
    facts: dict[str, object]
    nbytes: int

    def load(self) -> SparseAutoencoder:
        """Return the SAE with its weights."""
        return self.source.load()


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
            # The SAE that was used longest ago goes first; the present one always stays.
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
    sources: Sequence[SaeSource], hidden: int, layers: Sequence[int]
) -> tuple[list[LayerSae], list[str], list[str]]:
    """Return the SAEs of some layers by layer, a line for each of other layers or places and each
    that was there before, and one for each that cannot be read or is of another width.

    Raises UsageError where none is of these layers; the error of the first where none can be read
    and is of the model's width.
    """
    entries: dict[str, LayerSae] = {}
    outside: list[str] = []
    errors: list[tuple[SaeSource, KvtoolError]] = []
    for source in sources:
        try:
            autoencoder = _of_width(source.load(), hidden)
        except KvtoolError as error:
            errors.append((source, error))
            continue
        # An SAE of another layer or place is named, not scored.
        layer = _layer(autoencoder)
        if layer not in layers:
            outside.append(f"{source.label}: {_place(autoencoder)}, not scored")
        # One SAE under two names would count twice.
        elif source.digest in entries:
            before = entries[source.digest].source.label
            outside.append(f"{source.label}: the SAE of {before}, scored once")
        else:
            entries[source.digest] = _entry(layer, source, autoencoder)
    # Where nothing at all could be read, the first reason says more than that there is no SAE.
    if errors and not entries and not outside:
        raise errors[0][1]
    if not entries:
        raise UsageError(
            f"sae: expected SAEs of the residual stream after layers {_listed(layers)}, found "
            f"none of them: {outside[0]}"
        )
    # Several SAEs of a layer follow each other, under names that tell them apart.
    ordered = sorted(_renamed(list(entries.values())), key=lambda entry: entry.layer)
    return ordered, outside, [source.labeled(str(error)) for source, error in errors]


def _of_width(autoencoder: SparseAutoencoder, hidden: int) -> SparseAutoencoder:
    """Return an SAE of the model's width. Raises UsageError for another."""
    if autoencoder.d != hidden:
        raise UsageError(
            f"{autoencoder.origin.path}: expected an SAE of the model's width {hidden}, found "
            f"one of width {autoencoder.d}; take one that was trained on this language model"
        )
    return autoencoder


def _layer(autoencoder: SparseAutoencoder) -> int:
    """Return the layer whose output an SAE reads; -1 for none."""
    if autoencoder.layer is None:
        return -1
    layer = stream_layer(autoencoder.layer, autoencoder.hook)
    return -1 if layer is None else layer


def _place(autoencoder: SparseAutoencoder) -> str:
    layer = "no layer" if autoencoder.layer is None else f"layer {autoencoder.layer}"
    return f"{autoencoder.hook} of {layer}"


def _entry(layer: int, source: SaeSource, autoencoder: SparseAutoencoder) -> LayerSae:
    is_file = isinstance(source.origin, WeightFile)
    facts = {
        "layer": layer,
        "path": source.label,
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
        "digest": source.digest,
    }
    arrays = (autoencoder.encoder, autoencoder.decoder)
    return LayerSae(
        layer=layer,
        name=_name(Path(autoencoder.origin.path)) if is_file else f"layer_{layer}",
        source=source,
        digest=source.digest,
        facts=facts,
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


def _listed(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers)) if len(layers) < 9 else f"{layers[0]} to {layers[-1]}"
