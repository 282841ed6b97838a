"""One picture as a checkpoint's own processor makes it ready: the network's arguments, and the
tokens that stand in the prompt for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

PIXELS = "pixel_"
"""What arguments begin with that the tower alone takes."""
TYPES = ("mm_token_type_ids", "token_type_ids")
"""Arguments of a number a token: 1 for an image's, 0 for text."""
NO_INPUTS = ("input_ids", "attention_mask", "text_replacement_offsets", *TYPES)


@dataclass(frozen=True)
class ProcessedImage:
    """One image as a processor makes it ready.

    Attributes:
        inputs: Arguments of the network besides token ids, by name; the first axis is that of
            images, tiles or patches, so that those of a batch are joined along it.
        ids: Token ids from the first image token to the last, with what stands between them.
        opening: The text directly before these that is the image's.
        closing: The text directly after them that is the image's.
        types: The argument that tells image tokens from text, if the network takes one.
        text: What stands in the prompt for the image, a placeholder for each vector.
    """

    inputs: dict[str, torch.Tensor]
    ids: tuple[int, ...]
    opening: str
    closing: str
    types: str = ""
    text: str = ""

    def without_pixels(self) -> ProcessedImage:
        """Return what the decoder needs: the same for every picture of one size."""
        inputs = {name: self.inputs[name] for name in self.inputs if not name.startswith(PIXELS)}
        return replace(self, inputs=inputs, text="")

    def run_lengths(self, placeholder_id: int) -> list[tuple[int, int]]:
        """Return the start and the length of each run of placeholders among the tokens."""
        starts = self.runs(placeholder_id)
        # A run ends where the next one begins at the latest; only placeholders are counted.
        ends = [*starts[1:], len(self.ids)]
        return [
            (start, sum(token == placeholder_id for token in self.ids[start:end]))
            for start, end in zip(starts, ends, strict=True)
        ]

    def runs(self, placeholder_id: int) -> list[int]:
        """Return where runs of placeholders begin among the tokens."""
        is_image = [token == placeholder_id for token in self.ids]
        return [
            index
            for index, is_placeholder in enumerate(is_image)
            if is_placeholder and not (index and is_image[index - 1])
        ]


def processed_image(
    processor: Any, image: Image.Image, placeholder: str, **options: Any
) -> ProcessedImage:
    """Return an image as transformers' own processor of image and text makes it.

    Args:
        processor: Of a multimodal model.
        image: In RGB.
        placeholder: The token that stands, repeated, for the image's vectors.
        options: Of the image processor.
    """
    features = processor(
        images=[image],
        text=[processor.image_token],
        return_tensors="pt",
        return_text_replacement_offsets=True,
        **options,
    )
    # What the processor puts in the place of the image, as text.
    text = features["text_replacement_offsets"][0][0]["replacement"]
    types = next((name for name in TYPES if name in features), "")
    inputs = {name: features[name] for name in features if name not in NO_INPUTS}
    return laid_out(processor.tokenizer, text, placeholder, inputs, types)


def laid_out(
    tokenizer: Any,
    text: str,
    placeholder: str,
    inputs: dict[str, torch.Tensor],
    types: str = "",
) -> ProcessedImage:
    """Return an image whose tokens are those of a text that has a placeholder for each vector."""
    # What stands around the placeholders is the image's, and text to the tokenizer.
    first, last = text.index(placeholder), text.rindex(placeholder) + len(placeholder)
    ids = tokenizer(text[first:last], add_special_tokens=False)["input_ids"]
    return ProcessedImage(inputs, tuple(ids), text[:first], text[last:], types, text)


def load_processor(processor_class: Any, image_processor: Any, tokenizer: Any, folder: Path) -> Any:
    """Return transformers' processor of image and text with parts that are loaded already.

    Its video processor is left out: it needs torchvision.
    """

    # The parts are loaded already, of classes that transformers may not expect.
    class WithoutVideo(processor_class):  # type: ignore[misc]
        def check_argument_for_proper_class(self, _name: str, argument: Any) -> Any:
            return type(argument)

    parts = {"image_processor": image_processor, "tokenizer": tokenizer}
    settings, _ = processor_class.get_processor_dict(folder, local_files_only=True)
    return WithoutVideo.from_args_and_dict(
        [parts.get(name) for name in WithoutVideo.get_attributes()], settings
    )
