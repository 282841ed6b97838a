"""The folder of an adapter, as it is begun and as it is finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from kvtool.models import load_model
from kvtool.models.adapters import WEIGHTS, AdapterSettings, JoinedModel, write_settings
from kvtool.models.families.linear_adapter import LinearAdapter
from kvtool.models.hub import resolve
from kvtool.models.loading import Checkpoint, ModelSettings
from kvtool.outputs import write_output


def joined(name: str) -> JoinedModel:
    """Return a model by its name and its revision as it is now. Raises ModelError."""
    snapshot = resolve(name)
    return JoinedModel(snapshot.name, snapshot.revision)


def begin(folder: Path, settings: AdapterSettings) -> None:
    """Write the folder of an adapter whose layer gives nothing yet. Raises ModelError."""
    folder.mkdir(parents=True, exist_ok=True)
    d_vision = load_model(settings.vision.name, weights=False).info.geometry.vision_dim
    d_language = hidden_size(settings.language.name)
    layer = {"weight": torch.zeros(d_language, d_vision), "bias": torch.zeros(d_language)}
    write_layer(folder, layer)
    write_settings(folder, settings)


def hidden_size(name: str) -> int:
    """Return the width of a language model's stream, by its configuration. Raises ModelError."""
    from transformers import AutoConfig

    checkpoint = Checkpoint(resolve(name, weights=False), ModelSettings(), weights=False)
    with checkpoint.reading("a readable config.json of a language model"):
        config: Any = AutoConfig.from_pretrained(
            checkpoint.snapshot.path, local_files_only=True, trust_remote_code=False
        )
        return int(config.get_text_config().hidden_size)


def write_layer(folder: Path, layer: Mapping[str, torch.Tensor]) -> None:
    """Write a layer, whole or not at all."""
    tensors = {name: part.contiguous() for name, part in layer.items()}
    write_output(folder / WEIGHTS, save(tensors), "adapter")


def finish(
    folder: Path,
    settings: AdapterSettings,
    layer: Mapping[str, torch.Tensor],
    training: dict[str, Any],
) -> None:
    """Write a trained layer, and how it was trained."""
    folder.mkdir(parents=True, exist_ok=True)
    write_layer(folder, layer)
    # Last: a folder without it is no model.
    write_settings(folder, replace(settings, training=training))


def load_adapter(folder: Path, **options: Any) -> LinearAdapter:
    """Return the model of an adapter's folder. Raises ModelError."""
    model = load_model(str(folder), **options)
    assert isinstance(model, LinearAdapter)
    return model


def put(model: LinearAdapter, layer: Mapping[str, torch.Tensor]) -> None:
    """Let a model read images through another layer."""
    model.linear.load_state_dict(dict(layer))
