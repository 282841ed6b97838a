"""Processors of families without a file, found by the names that a checkpoint gives them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import transformers
from transformers.models.auto import image_processing_auto, processing_auto
from transformers.models.auto.configuration_auto import model_type_to_module_name
from transformers.processing_utils import ProcessorMixin

from kvtool.errors import ModelError
from kvtool.models.files import PROCESSORS, read_json

IMAGE_PROCESSORS: dict[str, Any] = vars(image_processing_auto)["IMAGE_PROCESSOR_MAPPING_NAMES"]
PROCESSOR_NAMES: dict[str, Any] = vars(processing_auto)["PROCESSOR_MAPPING_NAMES"]
"""transformers' names of classes by model type."""
SETTINGS = (*PROCESSORS, "tokenizer_config.json")
PIL, FAST = "Pil", "Fast"


def processor_class(model_type: str, folder: Path) -> Any:
    """Return transformers' processor of image and text of a checkpoint.

    Raises ModelError where it has none of the common form, in which the processor says itself what
    stands in the prompt for a picture.
    """
    # The checkpoint's own word comes before that of its model type.
    names = [*_settings(folder, "processor_class"), PROCESSOR_NAMES.get(model_type)]
    name = next((name for name in names if name), "")
    owners = [owner for owner, processor_name in PROCESSOR_NAMES.items() if processor_name == name]
    processor, reason = None, f"{name or 'none'} (processor_class in processor_config.json)"
    for owner in owners:
        # A processor that several types share lies with one of them.
        module = model_type_to_module_name(owner)
        if find_spec(path := f"transformers.models.{module}.processing_{module}"):
            try:
                processor = getattr(import_module(path), name, None)
            except ImportError as error:
                reason = f"{name}, which cannot be used here: {error}"
    if processor is None:
        raise ModelError(
            f"model {folder}: expected a processor of image and text of transformers, found "
            f"{reason}; install what it needs, or take another model"
        )
    if processor.replace_image_token is ProcessorMixin.replace_image_token:
        raise ModelError(
            f"model {folder}: expected a processor that says what stands in a prompt for a picture "
            f"(replace_image_token), found {name}, which does not; this model type needs a family "
            "file (docs/adding-a-model.md)"
        )
    return processor


def image_processor_class(model_type: str, folder: Path) -> Any:
    """Return a checkpoint's image processor, the one of PIL where there is one; else that of
    torchvision. Raises ModelError where neither can be used here.
    """
    types = [
        name.removesuffix(FAST).removesuffix(PIL)
        for name in _settings(folder, "image_processor_type")
    ]
    backends = IMAGE_PROCESSORS.get(model_type) or {}
    names = [
        *(f"{name}{PIL}" for name in types),
        *(backends.get(key) for key in ("pil", "torchvision")),
    ]
    for name in [*filter(None, names), *types]:
        value = getattr(transformers, name, None)
        # Of a class that lacks a package transformers holds an empty one in its place.
        if value is not None and not getattr(value, "is_dummy", False):
            return value
    raise ModelError(
        f"model {folder}: expected an image processor that needs no torchvision, found "
        f"{', '.join(types) or 'none'}; pip install torchvision, or take another model"
    )


def _settings(folder: Path, key: str) -> Iterator[str]:
    """Yield what a checkpoint's files say under a key, of a processor's parts too."""
    for name in SETTINGS:
        if (folder / name).exists():
            settings = read_json(folder / name)
            parts = (settings, *(part for part in settings.values() if isinstance(part, dict)))
            yield from (str(part[key]) for part in parts if part.get(key))
