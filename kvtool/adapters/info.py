"""`kvtool.adapter_info`: what an adapter joins, how it was trained, and whether both models are
here as they were then.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from kvtool.bounds import checked
from kvtool.display import Displayed, Facts
from kvtool.errors import ModelError
from kvtool.models.adapters import JoinedModel, read_settings
from kvtool.models.hub import resolve

Presence = Literal["same", "other", "missing"]


@dataclass(frozen=True, repr=False)
class AdapterInfo(Displayed):
    """What an adapter is.

    Attributes:
        path: Its folder.
        language: The language model.
        language_is: Whether that is here: the same as in training, another one, or missing.
        vision: The tower.
        vision_is: The same of the tower.
        layer: The tower's layer that is read, 0-based.
        pool: Patches are averaged over squares of this many a side.
        marker: What stands before the user's words.
        d_vision: The width of the tower.
        d_language: The width of the language model.
        n_parameters: The number of the layer's weights.
        training: How it was trained, as far as its folder says.
    """

    path: str
    language: str
    language_is: Presence
    vision: str
    vision_is: Presence
    layer: int
    pool: int
    marker: str
    d_vision: int
    d_language: int
    n_parameters: int
    training: dict[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Return the values by name, as the command prints them, those of the training in line."""
        row = asdict(self)
        training = row.pop("training")
        facts = {name: value for name, value in training.items() if name not in _NOT_SHOWN}
        return row | facts

    def shown(self) -> dict[str, Any]:
        """Return the same for a reader: a model and whether it is the right one are one value."""
        row = self.row()
        for name in ("language", "vision"):
            row[name] = f"{row[name]} ({_WORDS[row.pop(f'{name}_is')]})"
        return row

    def _title(self) -> str:
        return f"Adapter {self.path}"

    def _facts(self) -> Facts:
        return {name: value for name, value in self.shown().items() if name != "path"}


_WORDS: dict[Presence, str] = {
    "same": "the revision that the adapter was made for",
    "other": "another revision than the adapter was made for",
    "missing": "not on this machine",
}
_NOT_SHOWN = ("identity", "skipped", "seconds")


@checked
def adapter_info(path: str | PathLike[str]) -> AdapterInfo:
    """Return what an adapter is.

    path: Its folder, or its name as a model: adapter:DIR, smollm2-adapter, demo-adapter.

    Neither of the two models is loaded. Raises ModelError where there is no adapter.
    """
    folder = resolve(fspath(path), weights=False).path
    # Weights are measured, not read, and of the models only the revisions are looked up.
    settings = read_settings(folder)
    d_language, d_vision = _shape(folder / settings.weights)
    return AdapterInfo(
        path=str(folder),
        language=settings.language.name,
        language_is=_presence(settings.language),
        vision=settings.vision.name,
        vision_is=_presence(settings.vision),
        layer=settings.layer,
        pool=settings.pool,
        marker=settings.marker,
        d_vision=d_vision,
        d_language=d_language,
        n_parameters=d_language * (d_vision + 1),
        training=settings.training,
    )


def _shape(path: Path) -> tuple[int, int]:
    """Return the shape of a layer's weights without reading them. Raises ModelError."""
    try:
        with safe_open(path, "pt") as file:
            shape = file.get_slice("weight").get_shape()
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path}: expected the weights of an adapter, found: {error}; take the whole folder"
        ) from None
    if len(shape) != 2:
        raise ModelError(f"{path}: expected a weight (d_language, d_vision), found {shape}")
    return shape[0], shape[1]


def _presence(model: JoinedModel) -> Presence:
    try:
        revision = resolve(model.name).revision
    except ModelError:
        return "missing"
    return "same" if revision == model.revision or not model.revision else "other"
