"""Mistral 3 (Small 3.1 and later): a Pixtral tower at the picture's own aspect ratio, patches
merged two by two, and a mark after each row of tokens.

One view: the image made no larger than the checkpoint's longest edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from PIL import Image
from transformers import Mistral3ForConditionalGeneration, PixtralImageProcessorPil

from kvtool.errors import ImageError
from kvtool.models.base import BeforeDecoder, Prepared
from kvtool.models.processors import ProcessedImage, laid_out
from kvtool.models.whole import Spans, WholeModel
from kvtool.types import GridSpan, View

BREAK, END = "[IMG_BREAK]", "[IMG_END]"
"""What ends a row of tokens, and the last row."""


class Mistral3(WholeModel):
    """Checkpoints of model_type mistral3."""

    family = "mistral3"
    network: ClassVar[Any] = Mistral3ForConditionalGeneration
    image_processor_class = PixtralImageProcessorPil
    lists_features = True

    def make_processor(self, image_processor: Any, tokenizer: Any) -> Any:
        """Return the image processor alone: transformers' PixtralProcessor needs torchvision."""
        self.tokenizer = tokenizer
        return image_processor

    def marker(self) -> str:
        """Return the token that stands for the image in a chat template, too."""
        return self.placeholder

    def processed(self, image: Image.Image, view: View) -> ProcessedImage:  # noqa: ARG002
        """See WholeModel.processed. There is one view: base and full are the same."""
        # The processor rounds to what a token shows, so that no row or column is cut off.
        features = self.processor(image, return_tensors="pt", patch_size=self._token_px())
        rows, cols = (int(side) // self._token_px() for side in features["image_sizes"][0])
        text = BREAK.join([self.placeholder * cols] * rows) + END
        return laid_out(self.tokenizer, text, self.placeholder, dict(features))

    def prepare(
        self, image: Image.Image, *, id: str, index: int, prefix: str = "", view: View = "base"
    ) -> Prepared:
        """See Model.prepare. transformers' own forward fails over a single token."""
        prepared = super().prepare(image, id=id, index=index, prefix=prefix, view=view)
        if prepared.sample.n_tokens < 2:
            raise ImageError(
                f"image {id}: expected at least 2 tokens, found 1 of {image.width} x "
                f"{image.height} px; leave it out, or enlarge it"
            )
        return prepared

    def encode(
        self, batch: Sequence[Prepared], vision_layers: Sequence[int], project: bool
    ) -> BeforeDecoder:
        """See DecoderModel.encode. The pictures go through the tower one after another: it would
        let all patches of a batch attend to all, under a mask of that square.
        """
        images = [super(Mistral3, self).encode([item], vision_layers, project) for item in batch]
        tokens = [image.tokens for image in images if image.tokens is not None]
        return BeforeDecoder(
            torch.cat(tokens) if tokens else None,
            {
                layer: torch.cat([image.vision[layer] for image in images])
                for layer in vision_layers
            },
        )

    def spans(self, image_wh_px: tuple[int, int], processed: ProcessedImage) -> tuple[Spans, Spans]:
        """See WholeModel.spans: a mark stands between two rows."""
        height, width = (int(side) for side in processed.inputs["image_sizes"][0])
        cover = (0.0, 0.0, float(image_wh_px[0]), float(image_wh_px[1]))
        # Rows of tokens are one longer than the grid is wide, by the mark.
        token_px, patch_px = self._token_px(), self.config.vision_config.patch_size
        grid = height // token_px, width // token_px
        tokens = GridSpan("base", 0, grid, grid[1] + 1, cover)
        patches = height // patch_px, width // patch_px
        return (tokens,), (GridSpan("base", 0, patches, patches[1], cover),)

    def _token_px(self) -> int:
        """Return the side in pixels of what a token shows."""
        return int(self.config.vision_config.patch_size * self.config.spatial_merge_size)
