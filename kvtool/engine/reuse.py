"""What no prefix changes, taken from a run that holds it: neither is a picture decoded nor does a
tower run.

See docs/decisions/engine-reuse.md.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kvtool.datasets.identity import compare
from kvtool.errors import CorruptError
from kvtool.models.families import adds_features
from kvtool.models.text_vectors import TextVectors
from kvtool.store import Run, RunConfig, Store, same_numbers
from kvtool.types import SALIENCY, Kind, Sample

if TYPE_CHECKING:
    from kvtool.datasets.base import ImageRef
    from kvtool.models.base import LanguageModel, Prepared

SHARED = ("dataset", "split", "view", "input_size")
"""Fields of a run's configuration that must be equal, beside those of the model that its numbers
depend on.
"""


@dataclass(frozen=True)
class FeatureSource:
    """A run that holds what another one takes from before the decoder.

    samples: its images by id, of those whose pictures are the ones wanted now. vision_rows: where
    the layers of the tower that the other run keeps lie among its own; empty where that one keeps
    none.
    """

    run: Run
    samples: dict[str, Sample]
    vision_rows: tuple[int, ...]

    def sample(self, model: LanguageModel, image: str, index: int, prefix: str) -> Sample:
        """The record of an image under another prefix; no array is read, and the model needs no
        weights.
        """
        # The number of the image is this run's, not the source's.
        sample = replace(self.samples[image], index=index)
        return model.prepare_stored(sample, {}, prefix).sample

    def prepare(self, model: LanguageModel, image: str, index: int, prefix: str) -> Prepared | None:
        """An image made ready from the run's arrays; None where they are damaged, which is said:
        from now on the image is none of the source's.
        """
        sample = replace(self.samples[image], index=index)
        kinds: list[Kind] = ["projected"]
        # Projected features feed the decoder; the tower's layers come along where they are stored.
        if self.vision_rows:
            kinds.append("vision")
        try:
            arrays = self.run.read_image(sample.id, kinds, raw=True)
        except CorruptError as error:
            self.samples.pop(image, None)
            warn_of_damage(error)
            return None
        # The source may keep more of the tower's layers: only those of this run are taken.
        if self.vision_rows:
            arrays["vision"] = arrays["vision"][list(self.vision_rows)]
        return model.prepare_stored(sample, arrays, prefix)

    def text_vectors(
        self, config: RunConfig, names: Sequence[str], template: str
    ) -> TextVectors | None:
        """Vectors of texts run without an image that a run of `config` has, as stored; None where
        this run lacks one of them, or read them after another system message.
        """
        # A text alone still stands behind the system message, and its vectors depend on it.
        if self.run.config.system != config.system:
            return None
        try:
            texts = self.run.texts(template)
            vectors = texts.vectors_for(config, names)
        except CorruptError as error:
            warn_of_damage(error)
            return None
        counts = texts.token_counts
        if vectors is None or not set(names) <= counts.keys():
            return None
        return TextVectors(vectors, [counts[name] for name in names])


def find_source(store: Store, config: RunConfig, refs: Sequence[ImageRef]) -> FeatureSource | None:
    """The run of a store, if there is one, whose features before the decoder a run of `config` can
    take: the one that holds most of the wanted pictures, of several the first by name.
    """
    candidates = store.readable_runs(lambda run: serves(run.config, config))
    sources = [open_source(run, config, refs) for run in candidates]
    # The run with most of the pictures saves most passes of the tower.
    counts = [len(source.samples) for source in sources]
    return sources[counts.index(max(counts))] if any(counts) else None


def serves(source: RunConfig, config: RunConfig) -> bool:
    """Whether a run holds what another one would compute before its decoder."""
    return (
        source.hash != config.hash
        and not adds_features(config.model.family)
        and same_numbers(source.model, config.model)
        and all(getattr(source, name) == getattr(config, name) for name in SHARED)
        and bool({"key", "value"} & set(config.kinds))
        and "projected" in source.kinds
        and ("vision" not in config.kinds or _holds_vision(source, config))
        and SALIENCY not in config.kinds  # made within the tower's layers, which then must run
    )


def _holds_vision(source: RunConfig, config: RunConfig) -> bool:
    return "vision" in source.kinds and set(config.vision_layers) <= set(source.vision_layers)


def open_source(run: Run, config: RunConfig, refs: Sequence[ImageRef]) -> FeatureSource:
    """A run as the source of a run of `config`, which it must serve, over pictures that are those
    it holds.
    """
    ref_ids = {ref.id for ref in refs}
    samples = {sample.id: sample for sample in run.samples if sample.id in ref_ids}
    # A picture that changed since the source was extracted is computed anew.
    difference = compare([picture for picture in run.pictures if picture.id in samples], refs)
    for image in (*difference.changed, *difference.vanished):
        del samples[image]
    # Where each wanted layer of the tower lies among the rows that the source stores.
    rows = (
        map(run.config.vision_layers.index, config.vision_layers)
        if "vision" in config.kinds
        else ()
    )
    return FeatureSource(run, samples, tuple(rows))


def warn_of_damage(error: CorruptError) -> None:
    """A damaged source stops nobody: what it cannot give is computed."""
    logging.getLogger("kvtool").warning("%s; what it holds is computed anew here", error)
