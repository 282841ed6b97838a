"""transformers' own processors, without the video processor that needs torchvision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
)


def own_processor(processor: Any, image_processor: Any, folder: Path, **options: Any) -> Any:
    """transformers' processor of a folder; its check of the absent video processor is left out."""

    class Own(processor):  # type: ignore[misc]
        def check_argument_for_proper_class(self, _name: str, argument: Any) -> Any:
            return type(argument)

    template = (folder / "chat_template.jinja").read_text()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    images = image_processor.from_pretrained(folder)
    return Own(image_processor=images, tokenizer=tokenizer, chat_template=template, **options)


def own_pixels(folder: Path, image: Image.Image) -> torch.Tensor:
    processors: Any = AutoImageProcessor
    pixels: torch.Tensor = processors.from_pretrained(folder, backend="pil")(
        image, return_tensors="pt"
    )["pixel_values"]
    return pixels
