"""What the folder of a linear adapter says: which two models it joins, and how."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kvtool import schema
from kvtool.errors import CorruptError, ModelError
from kvtool.models.files import CONFIG, read_json
from kvtool.outputs import write_output

MODEL_TYPE = "linear_adapter"
WEIGHTS = "adapter.safetensors"
SCHEME = "adapter:"
"""May stand before the folder where a model is named."""
MOST_POOL = 64


@dataclass(frozen=True)
class JoinedModel:
    """One of the two models.

    Attributes:
        name: As load_model takes it.
        revision: A digest of its weights and settings, as it was in training.
    """

    name: str
    revision: str


@dataclass(frozen=True)
class AdapterSettings:
    """A linear adapter.

    Attributes:
        language: The causal language model.
        vision: The vision tower.
        layer: The tower's layer whose patches are read, 0-based.
        pool: Patches are averaged over squares of so many a side.
        marker: Stands before a user's words in every prompt, as it did in training.
        weights: The file of the layer's weights.
        training: How it was trained, for the reader.
    """

    language: JoinedModel
    vision: JoinedModel
    layer: int
    pool: int = 1
    marker: str = ""
    weights: str = WEIGHTS
    training: dict[str, Any] = field(default_factory=dict)


def read_settings(folder: Path) -> AdapterSettings:
    """Read an adapter's settings. Raises ModelError."""
    path = folder / CONFIG
    try:
        settings = schema.read(AdapterSettings, read_json(path), "adapter")
    except CorruptError as error:
        raise ModelError(f"{path}: {error}; take the whole folder of an adapter") from None
    # A file of another folder could be any file of the machine.
    if not 1 <= settings.pool <= MOST_POOL or "/" in settings.weights:
        raise ModelError(
            f"{path}: expected pool from 1 to {MOST_POOL} and a file of this folder, found "
            f"{settings.pool} and {settings.weights!r}"
        )
    return settings


def write_settings(folder: Path, settings: AdapterSettings) -> None:
    """Write an adapter's settings as the configuration of a model."""
    record = {
        "model_type": MODEL_TYPE,
        "transformers_weights": settings.weights,
        **asdict(settings),
    }
    write_output(folder / CONFIG, (json.dumps(record, indent=1) + "\n").encode(), "adapter")
