"""What a run and a part record of themselves, as attributes of their groups."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kvtool import schema
from kvtool.errors import UsageError
from kvtool.store.encoding import Codec
from kvtool.store.layout import part_name
from kvtool.store.run_arrays import StoredArrays
from kvtool.types import Geometry, InputSize, KeyPosition, Kind, ModelInfo, RunView, View

FOLDER = "folder"
"""The data set of pictures alone, whose runs are told apart by their folder's name."""
_STEM_LENGTH = 120
_NOT_IDENTITY = ("name", "dataset_path", "part_size", "defaults", "beside")
_LATER = ("vision_norm", "image_size", "min_pixels", "max_pixels", "system")
"""Fields that runs of older versions lack: where they are empty, they are no part of the hash."""
_NOT_IDENTITY_OF_MODEL = ("name", "commit", "quantization")
_UNLIKE_LAYERS = ("by_layer", "recurrent")
"""Fields of a geometry that are written only where layers differ."""


@dataclass(frozen=True)
class Choice:
    """Which arrays a run holds; as `RunConfig.defaults`, what its model gives a user who chooses
    nothing.
    """

    kinds: tuple[Kind, ...] = ()
    layers: tuple[int, ...] = ()
    vision_layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class RunConfig(StoredArrays):
    """The settings of a run.

    What pictures it holds is said by its samples, in what order by its roster.

    Two runs of equal hash over the same pictures hold the same numbers. Neither where model and
    data set lay nor what they were called is part of the hash, nor the size of parts, which only
    cuts the same numbers.

    name: empty to open the run of this configuration whatever its name, or make one called
        run_name.
    dataset: the spec's name, e.g. "spair71k"; dataset_path: where it lay when the run was made.
    prefix: "none", "correct", "incorrect", "random", "text:..." or "file" (one an image); samples
        have the texts.
    system: the text of the system message before everything else; empty where the chat template is
        left to itself.
    image_size, min_pixels, max_pixels: see kvtool.types.InputSize.
    vision_norm: of an encoder alone, the norm that its last layer is kept after, as its class calls
        it; empty where that layer is not kept, or the class has none for patches.
    beside: of an encoder alone, the model whose tower says which layers are its default.
    keys: whether keys are stored after or before the rotary embedding.
    layers, vision_layers: the model's layer numbers that are stored. part_size: images of a part at
        most.
    """

    name: str
    model: ModelInfo
    dataset: str
    dataset_path: str | None
    split: str
    prefix: str
    view: RunView
    keys: KeyPosition
    kinds: tuple[Kind, ...]
    layers: tuple[int, ...]
    vision_layers: tuple[int, ...]
    codec: Codec = "lz4"
    part_size: int = 16
    defaults: Choice = Choice()
    vision_norm: str = ""
    image_size: str = ""
    min_pixels: int = 0
    max_pixels: int = 0
    beside: str = ""
    system: str = ""

    @property
    def input_size(self) -> InputSize:
        """To what size pictures were brought before the tower."""
        return InputSize(self.image_size, self.min_pixels, self.max_pixels)

    @property
    def picture_view(self) -> View:
        """The view of pictures. Raises UsageError for a run over videos."""
        if self.view == "video":
            raise UsageError(
                f"run {self.name}: expected a run over pictures, found one over videos; extract "
                "the frames one by one (--view base)"
            )
        return self.view

    @property
    def hash(self) -> str:
        """16 hex digits over everything that the numbers of an image depend on, the image aside."""
        return hash_json(self._identity)

    @property
    def _identity(self) -> dict[str, Any]:
        """What the hash covers."""
        # Fields that came later count only where they say something: older runs keep their hash.
        record = {
            name: value
            for name, value in self.to_json().items()
            if name not in _NOT_IDENTITY and (value or name not in _LATER)
        }
        return record | {"model": _model_identity(self.model)}

    @property
    def run_name(self) -> str:
        """`name`, or where that is empty one made of model, data set (of a folder its name), split
        and hash.
        """
        folder_name = Path(self.dataset_path).name if self.dataset_path else "list"
        name_parts = [
            _model_word(self.model.name),
            self.dataset,
            folder_name if self.dataset == FOLDER else self.split,
        ]
        stem = "-".join(_word(word) for word in name_parts)
        return self.name or f"{stem[:_STEM_LENGTH]}-{self.hash[:8]}"

    def claim_name(self, index: int) -> str:
        """Return what to claim for a part that begins at an index: its whole block, so that all
        limits meet on one claim.
        """
        # The start of the block, not of the part: what is left of a block has the same claim.
        start = index // self.part_size * self.part_size
        return part_name(start, start + self.part_size)

    def differences(self, config: RunConfig) -> list[str]:
        """'field: ours, theirs' for each field of the identity that differs, those of the model one
        by one.
        """
        ours = self._identity
        theirs = config._identity
        model = ours.pop("model")
        other_model = theirs.pop("model")
        names = dict.fromkeys((*ours, *theirs))
        pairs = [(name, ours.get(name, ""), theirs.get(name, "")) for name in names]
        # The model is compared field by field, since it is what mostly differs.
        pairs += [(f"model {name}", model[name], other_model[name]) for name in model]
        return [
            f"{name}: stored {stored!r}, asked {requested!r}"
            for name, stored, requested in pairs
            if stored != requested
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return asdict(self) | {"model": _model_record(self.model)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> RunConfig:
        """Return the inverse of to_json, after a trip through JSON."""
        geometry = schema.read(Geometry, record["model"]["geometry"], "geometry")
        model = ModelInfo(**{**record["model"], "geometry": geometry})
        defaults = Choice(
            **{name: tuple(numbers) for name, numbers in record.get("defaults", {}).items()}
        )
        # JSON knows no tuples, which the configuration needs in order to be compared.
        tuples = {name: tuple(record[name]) for name in ("kinds", "layers", "vision_layers")}
        return cls(**{**record, **tuples, "model": model, "defaults": defaults})


def same_numbers(model: ModelInfo, second_model: ModelInfo) -> bool:
    """Return whether two models give the same numbers, whatever they are called and wherever they
    lie.
    """
    return _model_identity(model) == _model_identity(second_model)


def _model_identity(model: ModelInfo) -> dict[str, Any]:
    return {
        name: value
        for name, value in _model_record(model).items()
        if name not in _NOT_IDENTITY_OF_MODEL
    }


def _model_record(model: ModelInfo) -> dict[str, Any]:
    """Return a model as JSON values; of one whose layers are alike without what tells them
    apart.
    """
    record = asdict(model)
    geometry = {
        name: value
        for name, value in record["geometry"].items()
        if value or name not in _UNLIKE_LAYERS
    }
    return record | {"geometry": geometry}


def _model_word(name: str) -> str:
    """Return what a run's name says of its model: the last word of a hub id without its revision,
    or of a folder.
    """
    # A snapshot in the hub's cache is called by the model's own name, not by its commit.
    snapshot = re.search(r"/models--(?:[^/]*--)?([^/]+)/snapshots/[0-9a-f]{40}/?$", name)
    if snapshot:
        return snapshot[1]
    hub = re.fullmatch(r"[^/@]+/([^/@]+)@.+", name)
    return hub[1] if hub else Path(name).name


def _word(text: str) -> str:
    """Return a word of a run's name: letters, digits and dots of any text."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_.") or "x"


def hash_json(value: Any) -> str:
    """Return 16 hex digits of a JSON value, whatever the order of its members."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
