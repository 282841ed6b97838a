"""`kvtool.adapter_import`: layers that others trained, as the folder of an adapter.

Those of Venhoff et al. (2025) are a state dict of torch with `weight` and `bias`, or the same
behind `module.`; they are read without running what a pickle may hold.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from kvtool.adapters.folder import finish, hidden_size, joined
from kvtool.adapters.info import AdapterInfo, adapter_info
from kvtool.adapters.sources import tower_layer
from kvtool.adapters.train import MARKER
from kvtool.autoencoders.tensors import read_pickle
from kvtool.bounds import checked
from kvtool.digests import digest_files
from kvtool.errors import ModelError, UsageError
from kvtool.models import load_model
from kvtool.models.adapters import AdapterSettings
from kvtool.models.files import CONFIG, one_line
from kvtool.outputs import check_folder

_PREFIX = "module."
_NAMES = {"weight", "bias"}


@checked
def adapter_import(
    weights: str | PathLike[str],
    out: str | PathLike[str],
    *,
    lm: str,
    vision: str,
    layer: int | None = None,
    pool: int = 1,
    keep_marker: bool = False,
) -> AdapterInfo:
    """Make the folder of an adapter from the weights of a linear layer.

    Args:
        weights: A file of safetensors, or of torch (.pth, .pt, .bin), with the tensors weight
            (d_language, d_vision) and bias (d_language,), also behind "module.".
        out: The folder of the adapter.
        lm: The language model that it was trained with.
        vision: The tower that it was trained with.
        layer: The tower's layer that it reads, 0-based; by default the last.
        pool: Patches are averaged over squares of so many a side.
        keep_marker: Put "<image>" before a user's words, as Venhoff et al. do.

    Raises ModelError for a file that holds no such layer, or one of other widths; UsageError where
    the folder holds something.
    """
    folder = check_folder(out, "-o")
    if (folder / CONFIG).exists():
        raise UsageError(f"-o: {folder} holds a model; name another folder, or remove it")
    path = Path(weights)
    # The shapes have to be those of the two models, or a layer of others would be imported.
    parts = _read(path)
    d_vision = load_model(vision, weights=False).info.geometry.vision_dim
    shapes = {name: tuple(part.shape) for name, part in parts.items()}
    d_language = hidden_size(lm)
    expected = {"weight": (d_language, d_vision), "bias": (d_language,)}
    if shapes != expected:
        raise ModelError(
            f"{path}: expected weight {expected['weight']} and bias {expected['bias']} for {lm} "
            f"and {vision}, found {shapes}; name the models that it was trained with"
        )
    settings = AdapterSettings(
        joined(lm), joined(vision), tower_layer(vision, layer), pool, MARKER * keep_marker
    )
    finish(folder, settings, parts, {"imported": path.name, "digest": digest_files([path])[path]})
    return adapter_info(folder)


def _read(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a layer in float32. Raises ModelError."""
    stored: Any
    if path.suffix == ".safetensors":
        try:
            stored = load_file(path)
        except (OSError, SafetensorError, ValueError) as error:
            raise ModelError(f"{path}: expected safetensors, found: {one_line(error)}") from None
    else:
        stored = read_pickle(path)
    if not isinstance(stored, dict):
        raise ModelError(
            f"{path}: expected tensors by name, found {type(stored).__name__}; save the layer's "
            "state_dict()"
        )
    # Wrapped modules of torch put a prefix before each name.
    parts = {str(name).removeprefix(_PREFIX): part for name, part in stored.items()}
    if parts.keys() != _NAMES or not all(map(torch.is_tensor, parts.values())):
        raise ModelError(
            f"{path}: expected the tensors weight and bias of one linear layer, found "
            f"{', '.join(sorted(parts)[:6]) or 'none'}"
        )
    # Looked at in float32, as they are kept.
    parts = {name: part.float() for name, part in parts.items()}
    if absent := [name for name, part in parts.items() if not part.isfinite().all()]:
        raise ModelError(f"{path}: expected finite weights, found NaN or infinity in {absent[0]}")
    return parts
