"""What an adapter is trained on: a tower or a run that holds its features, and captions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from kvtool.adapters.folder import joined
from kvtool.datasets import DATASETS, Spec, open_dataset
from kvtool.datasets.protocols import HasCaptions
from kvtool.digests import digest_texts
from kvtool.engine.extraction import extract
from kvtool.errors import DatasetError, UsageError
from kvtool.models import load_model
from kvtool.models.adapters import JoinedModel
from kvtool.models.hub import resolve
from kvtool.progress import Progress
from kvtool.store import Run, Store, layout, open_store
from kvtool.store.select import Target
from kvtool.types import Precision


@dataclass(frozen=True)
class Source:
    """Where the features of pictures come from.

    Attributes:
        tower: The vision tower.
        layer: Its layer that is read.
        dataset: The pictures, and their captions.
        revision: What the features are known by: the tower, and the run's pictures.
        run: The run that holds them; None where the tower has to run.
    """

    tower: JoinedModel
    layer: int
    dataset: Any
    revision: str
    run: Run | None = None

    def features(
        self, work: Path, images: int | None, dtype: Precision, device: str, progress: Progress
    ) -> Run:
        """Return the run that holds the features; one of the tower is made under `work`, and goes
        on where it was interrupted.
        """
        if self.run is not None:
            return self.run
        # Extraction goes on by itself where it was interrupted.
        extract(
            work / "vision.kv",
            model=self.tower.name,
            dataset=self.dataset,
            kinds=["vision"],
            layers=[self.layer],
            limit=images,
            dtype=dtype,
            devices=(device,),
            progress=progress,
        )
        return open_store(work / "vision.kv").run()


@dataclass(frozen=True)
class Captioned:
    """Images with captions.

    Attributes:
        sentences: Image id -> its captions, in the order of the data set.
        n_listed: So many images of the data set must be read for them.
    """

    sentences: Mapping[str, tuple[str, ...]]
    n_listed: int

    @property
    def digest(self) -> str:
        """Return a digest of all of it."""
        return digest_texts(
            text for image, texts in self.sentences.items() for text in (image, *texts)
        )


def open_source(vision: Target, run: str | None, dataset: Any, layer: int | None) -> Source:
    """Return where features come from. Raises UsageError, ModelError, StoreError, DatasetError."""
    if isinstance(vision, Run | Store) or _is_store(vision):
        return _stored(vision, run, dataset, layer)
    if run is not None:
        raise UsageError(f"--run: expected a store as --vision, found {vision}; leave it out")
    if dataset is None:
        raise UsageError("adapter train: expected a data set with captions, found none; name one")
    name = str(vision)
    tower = joined(name)
    return Source(tower, tower_layer(name, layer), _opened(dataset), tower.revision)


def tower_layer(name: str, layer: int | None) -> int:
    """Return a layer of a tower by its number, its last by None.

    Raises UsageError where the tower lacks it, or where the model is no tower alone.
    """
    geometry = load_model(name, weights=False).info.geometry
    if geometry.layers or not geometry.vision_layers:
        raise UsageError(
            f"--vision {name}: expected a vision tower, found a language model; name an encoder "
            "alone, such as a SigLIP or CLIP tower"
        )
    last = geometry.vision_layers - 1
    if layer is not None and not 0 <= layer <= last:
        raise UsageError(f"--layer: expected a layer from 0 to {last} of {name}, found {layer}")
    return last if layer is None else layer


def _is_store(vision: str | PathLike[str]) -> bool:
    return (Path(vision) / layout.ZARR_JSON).is_file()


def _stored(vision: Target, run: str | None, dataset: Any, layer: int | None) -> Source:
    """Return a source of stored features."""
    if isinstance(vision, Run):
        stored = vision
    else:
        stored = (vision if isinstance(vision, Store) else open_store(vision)).run(run)
    config = stored.config
    layers = config.vision_layers
    if stored.model.geometry.layers or "vision" not in stored.kinds:
        raise UsageError(
            f"run {stored.name}: expected features (vision) of a tower alone, found kinds "
            f"{', '.join(stored.kinds)} of {stored.model.name}; extract the tower by itself"
        )
    # The joined model prepares a picture as its tower does by itself.
    if config.input_size.given:
        raise UsageError(
            f"run {stored.name}: expected pictures in the tower's own size, found --"
            f"{config.input_size.given[0].replace('_', '-')}; extract them without it"
        )
    if (layer is None and len(layers) != 1) or (layer is not None and layer not in layers):
        raise UsageError(
            f"--layer: expected one of {', '.join(map(str, layers))}, which run {stored.name} "
            f"holds, found {'none' if layer is None else layer}"
        )
    # By default the data set that the run was extracted from, as it was named then.
    spec = Spec(config.dataset, stored.place, config.split or None)
    return Source(
        JoinedModel(stored.model.name, _revision(stored)),
        layers[0] if layer is None else layer,
        _opened(str(spec) if dataset is None else dataset),
        f"{stored.model.revision}:{stored.images_hash()}",
        stored,
    )


def _revision(run: Run) -> str:
    """Return the revision of a run's tower. Raises ModelError where it is here as another one."""
    return run.model.revision or resolve(run.model.name).revision


def _opened(dataset: Any) -> Any:
    return open_dataset(dataset) if isinstance(dataset, str) else dataset


def captioned(source: Source, limit: int | None) -> Captioned:
    """Return the first images that have captions. Raises DatasetError where there are none."""
    dataset = source.dataset
    captions = dataset.captions() if isinstance(dataset, HasCaptions) else {}
    # In the order of the data set, in which an extraction with a limit reads it.
    listed = [image.id for image in dataset.images()] if captions else []
    sentences: dict[str, tuple[str, ...]] = {}
    n_listed = 0
    for number, image in enumerate(listed, 1):
        if limit is not None and len(sentences) == limit:
            break
        if texts := tuple(captions.get(image, ())):
            sentences[image] = texts
            # So many pictures have to be extracted for the captioned ones to be among them.
            n_listed = number
    if not sentences:
        names = [name for name, kind in DATASETS.usable().items() if hasattr(kind, "captions")]
        raise DatasetError(
            f"dataset {dataset.name}: expected captions, found none; data sets that may have some: "
            f"{', '.join(names)}"
        )
    return Captioned(sentences, n_listed)
