"""A run as the viewer looks at it: its images by id, its data set where that is still there."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from kvtool.datasets.clips import refs_of
from kvtool.datasets.identity import dataset_of
from kvtool.datasets.records import ImageRef, VideoRef
from kvtool.digests import digest_texts
from kvtool.errors import KvtoolError, UsageError
from kvtool.result import Result
from kvtool.store import Run, open_store
from kvtool.store.kept import results_among
from kvtool.types import VIDEO, Kind, Sample
from kvtool.viewer.replies import ViewRequest
from kvtool.web.grids import grid_record

if TYPE_CHECKING:
    from kvtool.datasets.base import DatasetBase

DECODER_GRID, TOWER_GRID = "value", "vision"


@dataclass
class ViewedRun:
    """A run, and what was looked up of it.

    Ids are compared with those that the run holds; none of them ever becomes a part of a path.

    Attributes:
        run: The run.
        data: The place of its data set, if it moved.
        lock: Held by whoever reads, since a run's reader serves one thread at a time.
        truth_lock: Held by whoever opens the data set, for which vectors need not wait.
    """

    run: Run
    data: str | Path | None = None
    lock: RLock = field(default_factory=RLock)
    truth_lock: RLock = field(default_factory=RLock)

    @cached_property
    def samples(self) -> dict[str, Sample]:
        """The pictures that the model was given, by id: images, or frames of videos."""
        with self.lock:
            return {sample.id: sample for sample in self.run.views}

    def sample(self, image: str) -> Sample:
        """Return what is recorded of an image. Raises UsageError where the run has none."""
        sample = self.samples.get(image)
        if sample is None:
            raise UsageError(f"run {self.run.name}: no image {image!r} among {len(self.samples)}")
        return sample

    def version(self, sample: Sample) -> str:
        """Return a digest of all that an image's vectors depend on."""
        return digest_texts(
            [self.run.config.hash, sample.id, sample.digest, *map(str, sample.stamp)]
        )

    def lasting_name(self, request: ViewRequest, sample: Sample) -> str:
        """Return a name of the answer to a request that names the version which an image has; else
        an empty one.
        """
        version = self.version(sample)
        if request.texts.get("version") != version:
            return ""
        return digest_texts(text for entry in sorted(request.texts.items()) for text in entry)

    @cached_property
    def dataset(self) -> DatasetBase | KvtoolError:
        """The data set, or why there is none."""
        with self.truth_lock:
            if "dataset" in self.__dict__:
                return self.dataset  # opened by another thread meanwhile
            try:
                return dataset_of(self.run, self.data)
            except KvtoolError as error:
                return error

    def need_dataset(self) -> DatasetBase:
        """Return the data set. Raises KvtoolError where it is gone."""
        if isinstance(self.dataset, KvtoolError):
            raise self.dataset
        return self.dataset

    @cached_property
    def refs(self) -> dict[str, ImageRef]:
        """The data set's pictures by id, those of videos frame by frame. Raises KvtoolError."""
        dataset = self.need_dataset()
        with self.truth_lock:
            refs: dict[str, ImageRef] = {}
            for ref in refs_of(dataset, self.run.config.view):
                frames = ref.frames if isinstance(ref, VideoRef) else (ref,)
                refs |= {frame.id: frame for frame in frames}
            return refs

    @cached_property
    def results(self) -> list[Result]:
        """The kept results of the run, the last first; those of other runs are not parsed."""
        run_hash = self.run.config.hash
        records = open_store(self.run.store).results(mention=run_hash)
        return [
            result for result in results_among(records) if result.config.get("run_hash") == run_hash
        ]

    def kinds(self) -> list[dict[str, Any]]:
        """Return the kinds of vectors with their layers, and the heads and dimensions of each."""
        config = self.run.config
        return [
            {
                "kind": kind,
                "layers": list(config.stored_layers(kind)),
                "heads": [config.count_heads(kind, n) for n in config.stored_layers(kind)],
                "dims": [config.heads_and_dim(kind, n)[1] for n in config.stored_layers(kind)],
            }
            for kind in config.vector_kinds
            if config.stored_layers(kind)
        ]

    def record(self) -> dict[str, Any]:
        """Return what the viewer needs to know of the run."""
        config = self.run.config
        with self.lock:
            # A run may grow while it is looked at: its images and results are read anew.
            self.run.refresh()
            for name in ("samples", "results"):
                self.__dict__.pop(name, None)
        return {
            "run": self.run.name,
            "model": config.model.name,
            "dataset": config.dataset,
            "split": config.split,
            "prefix": config.prefix,
            "precision": config.model.dtype,
            "is_video": config.view == VIDEO,
            "geometry": {
                "layers": config.model.geometry.layers,
                "q_heads": config.model.geometry.q_heads,
                "kv_heads": config.model.geometry.kv_heads,
            },
            "kinds": self.kinds(),
            "images": list(self.samples),
        }

    def image_record(self, image: str) -> dict[str, Any]:
        """Return where the tokens of an image lie on it."""
        sample = self.sample(image)
        grids: dict[str, Kind] = {DECODER_GRID: "value", TOWER_GRID: "vision"}
        return {
            "image": sample.id,
            "wh_px": list(sample.image_wh_px),
            "version": self.version(sample),
            "grids": {
                name: grid_record(sample.base(kind))
                for name, kind in grids.items()
                if sample.spans_of(kind)
            },
        }
