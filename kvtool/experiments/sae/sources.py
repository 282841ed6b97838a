"""The SAEs that a study is asked to read: their files, or themselves, and what tells them apart; no
torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvtool.autoencoders.files import WeightFile, file_digests, label_of, weight_files
from kvtool.digests import DIGITS
from kvtool.errors import UsageError

if TYPE_CHECKING:
    from kvtool.autoencoders.autoencoder import SparseAutoencoder

    Source = str | PathLike[str] | SparseAutoencoder

NONE = "none"


@dataclass(frozen=True)
class SaeSource:
    """An SAE that was not read yet, or one in memory.

    Attributes:
        origin: Its file, or the SAE itself.
        digest: Of its weights and settings, wherever they lie.
    """

    origin: WeightFile | SparseAutoencoder
    digest: str

    @property
    def label(self) -> str:
        """The last parts of its path."""
        if isinstance(self.origin, WeightFile):
            return self.origin.label
        return label_of(Path(self.origin.origin.path))

    def load(self) -> SparseAutoencoder:
        """Return the SAE with its weights. Raises ModelError."""
        if not isinstance(self.origin, WeightFile):
            return self.origin
        from kvtool.autoencoders.loading import sae_file

        return sae_file(self.origin).load()

    def labeled(self, message: str) -> str:
        """Return a message without the folders that the SAE lies in, but for the last."""
        return self.origin.labeled(message) if isinstance(self.origin, WeightFile) else message


def listed_sources(sources: Iterable[Source] | Source) -> list[Source]:
    """Return SAEs as a list; none for the word "none". Raises UsageError."""
    if isinstance(sources, str | PathLike) or not isinstance(sources, Iterable):
        return listed_sources([sources])
    listed = list(sources)
    # The word none stands alone: beside files it would be ambiguous.
    names = [item for item in listed if isinstance(item, str)]
    if names == [NONE] == listed:
        return []
    if not listed or NONE in names:
        raise UsageError("sae: expected files of SAEs, or none alone")
    return listed


def find_sources(sources: Sequence[Source], layers: Sequence[int]) -> list[SaeSource]:
    """Return the SAEs that paths name, by layer, and then those in memory.

    Args:
        sources: Paths as find_saes takes them, and SAEs.
        layers: What templates are filled with.

    Raises UsageError where a path names nothing.
    """
    paths = [source for source in sources if isinstance(source, str | PathLike)]
    ready = [source for source in sources if not isinstance(source, str | PathLike)]
    is_template = any("{layer}" in fspath(path) for path in paths)
    files = weight_files(paths, layers if is_template else None)
    unread = map(SaeSource, files, file_digests(files))
    return [*unread, *(SaeSource(item, _memory_digest(item)) for item in ready)]


def _memory_digest(autoencoder: SparseAutoencoder) -> str:
    """Digest all that an SAE in memory computes with: tensors by their bytes, since their text
    leaves most numbers out."""
    import torch

    digest = hashlib.sha256(autoencoder.activation.name.encode())
    # Where the SAE was read from changes nothing.
    digest.update(repr(replace(autoencoder.origin, path="")).encode())
    for part in (*_values(autoencoder), *_values(autoencoder.activation)):
        if isinstance(part, torch.Tensor):
            number_bytes = part.detach().cpu().contiguous().view(-1).view(torch.uint8)
            digest.update(number_bytes.numpy().tobytes())
        else:
            digest.update(repr(part).encode())
    return digest.hexdigest()[:DIGITS]


def _values(item: Any) -> list[Any]:
    """Return what the fields of an SAE or of an activation hold, but for one that stands apart."""
    return [value for name, value in vars(item).items() if name not in ("activation", "origin")]
