"""Families without a file: any image-text-to-text class of transformers that has the common form.

Its processor replaces a placeholder, `get_image_features` gives a vector for each placeholder, and
the network takes these vectors as `mm_encoder_outputs`. The grid follows from the number of tokens
and what the processor makes of a picture, and is proven like that of every WholeModel: by changing
cells before an extraction. One view: the picture without tiles.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache, cached_property
from inspect import Parameter, signature
from typing import Any

import torch
import transformers
from PIL import Image
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from kvtool.errors import ImageError, ModelError, UsageError
from kvtool.models.base import Prepared
from kvtool.models.cropping import shown_rectangle
from kvtool.models.families import COMMON
from kvtool.models.families.common_grids import (
    GRID_INPUTS,
    Rectangle,
    cover_of,
    patch_counts,
    shown,
    token_grid,
)
from kvtool.models.families.common_processors import image_processor_class, processor_class
from kvtool.models.families.common_tower import CommonTower
from kvtool.models.families.qwen_grids import GridPositions
from kvtool.models.loading import Checkpoint
from kvtool.models.processors import ProcessedImage
from kvtool.models.prompts import Prompt
from kvtool.models.unserved import SEES_OTHER_IMAGES
from kvtool.models.whole import Spans
from kvtool.types import GridSpan, Sample, View

WHOLE_PICTURE = ("crop_to_patches", "do_image_splitting", "do_pan_and_scan", "split_image")
"""Options of image processors that cut tiles; False leaves the picture whole."""
FEATURES = {
    *("pooler_output", "deepstack_features"),
    *("last_hidden_state", "hidden_states", "attentions"),
}
"""What `get_image_features` gives of a picture, with what it was made from."""
TRIED_PX = ((64, 48), (48, 64), (200, 120))
"""Sizes of gray pictures whose grids must follow from their tokens when a model is loaded."""
FILE = "this model type needs a family file (docs/adding-a-model.md)"


@cache
def common_family(model_type: str) -> type[CommonModel]:
    """Return the family of a model type that has no file."""
    network = getattr(transformers, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[model_type])
    classes = [
        value for value in vars(sys.modules[network.__module__]).values() if _is_class(value)
    ]
    # Rows and columns are axes of rotary positions of their own where a class counts them so.
    has_axes = any("get_rope_index" in vars(value) for value in classes)
    bases = (GridPositions, CommonModel) if has_axes else (CommonModel,)
    members: dict[str, Any] = {
        "family": f"{COMMON}{model_type}",
        "model_type": model_type,
        "network": network,
        "has_axes": has_axes,
    }
    return type(f"Common{network.__name__}", bases, members)


def _is_class(value: object) -> bool:
    return isinstance(value, type)


class CommonModel(CommonTower):
    """Checkpoints of a model type that no family is for."""

    model_type: str
    has_axes: bool
    """Whether rows and columns are axes of rotary positions of their own."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._covers: dict[tuple[int, int], Rectangle] = {}
        self.image_processor_class = image_processor_class(
            self.model_type, checkpoint.snapshot.path
        )
        self.processor_class = processor_class(self.model_type, checkpoint.snapshot.path)
        super().__init__(checkpoint)
        self._try_pictures()

    # What a family says of its prompt.

    def make_prompt(self, tokenizer: Any) -> Prompt:
        """See WholeModel.make_prompt. What the template writes before an image alone, and not
        before a text, is the image's.
        """
        self._check_network()
        # Written without an image, the template tells what of its head belongs to the turn.
        prompt = super().make_prompt(tokenizer)
        opening = prompt.turn_opening
        if not opening or not prompt.head.startswith(opening) or prompt.head == opening:
            return prompt
        self.opening = prompt.head.removeprefix(opening)
        return super().make_prompt(tokenizer)

    def _check_network(self) -> None:
        """Raise ModelError where the network has not the common form."""
        inner = getattr(self.net, "model", None)
        for has_it, what in (
            (hasattr(inner, "get_image_features"), "get_image_features"),
            (
                inner is not None and _takes(inner.forward, "mm_encoder_outputs"),
                "mm_encoder_outputs",
            ),
            (isinstance(getattr(self.config, "image_token_id", None), int), "an image_token_id"),
        ):
            if not has_it:
                raise self._missing(f"a network with {what}", type(self.net).__name__)

    def _missing(self, expected: str, actual: str) -> ModelError:
        name = self.checkpoint.snapshot.name
        return ModelError(
            f"model {name}: {self.model_type}, a model type that no family is for: expected "
            f"{expected}, found {actual}; {FILE}"
        )

    def options(self, view: View) -> dict[str, Any]:  # noqa: ARG002  there is one
        """See WholeModel.options."""
        images = self.processor.image_processor
        return {name: False for name in WHOLE_PICTURE if hasattr(images, name)}

    # Its grids.

    def spans(self, image_wh_px: tuple[int, int], processed: ProcessedImage) -> tuple[Spans, Spans]:
        """See WholeModel.spans. Raises ImageError where they do not follow from the tokens."""
        image_id = self.config.image_token_id
        try:
            rows, cols = patch_counts(processed.inputs, self.patch_px)
            grid = token_grid(processed.run_lengths(image_id), rows, cols)
        except ValueError as error:
            raise ImageError(
                f"picture of {image_wh_px[0]} x {image_wh_px[1]} px in {self.model_type}, a model "
                f"type that no family is for: {error}; {FILE}"
            ) from None
        cover = self._cover(image_wh_px, processed)
        tokens = GridSpan("base", grid.start, (grid.rows, grid.cols), grid.row_stride, cover)
        patches = GridSpan("base", 0, (rows, cols), cols, cover)
        return (tokens,), ((patches,) if self.tower_depth else ())

    def _cover(self, image_wh_px: tuple[int, int], processed: ProcessedImage) -> Rectangle:
        """Return what of a picture the tower sees, in the picture's pixels."""
        width, height = image_wh_px
        # Processors that cut patches themselves show the whole picture.
        if any(name in processed.inputs for name in GRID_INPUTS):
            return (0.0, 0.0, float(width), float(height))
        # Measured once for each size: it takes three passes of the processor.
        if image_wh_px not in self._covers:
            images = self.processor.image_processor
            crops = [shown_rectangle(image_wh_px, images)] if _crops(images) else []
            seen = shown(self._pixels, image_wh_px)
            self._covers[image_wh_px] = cover_of(seen, image_wh_px, crops)
        x0, y0, x1, y1 = self._covers[image_wh_px]
        # Pixels after the last whole patch are never seen.
        patch_px = self.patch_px or 1
        rows_px, cols_px = processed.inputs["pixel_values"].shape[-2:]
        seen_x, seen_y = (side // patch_px * patch_px / side for side in (cols_px, rows_px))
        return x0, y0, x0 + (x1 - x0) * seen_x, y0 + (y1 - y0) * seen_y

    def _pixels(self, image: Image.Image) -> torch.Tensor:
        pixels: torch.Tensor = self.processed(image, "base").inputs["pixel_values"]
        return pixels

    def _try_pictures(self) -> None:
        """Raise ModelError where grids, positions or features of gray pictures are not of the
        common form.
        """
        for image_wh_px in TRIED_PX:
            try:
                item = self.prepare(Image.new("RGB", image_wh_px, "gray"), id="gray", index=0)
            except ImageError as error:
                raise ModelError(f"model {self.checkpoint.snapshot.name}: {error}") from error
            if self.has_axes:
                self._check_positions(item.sample)
        if self.checkpoint.weights:
            _ = self._form

    def _check_positions(self, sample: Sample) -> None:
        """Compare rotary positions of a picture and of what follows it with the network's own."""
        layout = self.layout(sample)
        ids = torch.tensor([[*sample.prefix_ids, *layout.ids, 0]])
        # Image tokens are told by their type, as the network's own counting asks for.
        types = (ids == self.config.image_token_id).long()
        grids = {name: layout.inputs[name] for name in GRID_INPUTS if name in layout.inputs}
        expected, _ = self.net.model.get_rope_index(ids, mm_token_type_ids=types, **grids)
        # What follows the image counts on from it: one text token is compared, too.
        positions, end = self.prompt_positions([(sample.image_start, sample)])
        following = self.text_positions(torch.tensor([[end]]))
        if not torch.equal(torch.cat([positions, following], dim=-1).to(expected), expected):
            raise self._missing("rotary positions that count rows and columns", "others")

    def advance(self, spans: Spans) -> int | None:
        """See WholeModel.advance."""
        # The image takes as many positions as its longer side has tokens.
        return max(spans[0].grid) if self.has_axes else None

    # Its decoder.

    def ask_several(
        self, images: Sequence[Sequence[Prepared]], texts: Sequence[str], max_new_tokens: int = 32
    ) -> list[str | None]:
        """See LanguageModel.ask_several. Raises UsageError where an image depends on others."""
        if self.model_type in SEES_OTHER_IMAGES and any(len(items) > 1 for items in images):
            raise UsageError(
                f"model {self.info.name}: expected one image a question, found several of a "
                f"{self.model_type}, whose images see each other, so that none is what is stored "
                "of it alone; ask over one, or take another model"
            )
        return super().ask_several(images, texts, max_new_tokens)

    def text_config(self) -> Any:
        """See DecoderModel.text_config."""
        return self.config.get_text_config(decoder=True)

    @cached_property
    def _form(self) -> Any:
        """What the network gives for a gray picture: of what form its features are.

        Raises ModelError where they are not all that it takes of a picture.
        """
        gray = self.prepare(Image.new("RGB", TRIED_PX[0], "gray"), id="gray", index=0)
        inputs = {name: values.to(self.checkpoint.device) for name, values in gray.tensors.items()}
        with torch.inference_mode():
            form = self.image_features(inputs)
        # More than these could reach the decoder unseen, and would lack in what is stored.
        if besides := sorted(form.keys() - FEATURES):
            raise self._missing("features alone of a picture", f"{', '.join(besides)} besides")
        return form

    def image_features(self, inputs: dict[str, Any]) -> Any:
        """See WholeModel.image_features: only with the arguments that the network takes."""
        method = self.net.model.get_image_features
        inputs = {name: values for name, values in inputs.items() if _takes(method, name)}
        return super().image_features(inputs)

    def features_output(
        self, features: Sequence[torch.Tensor], added: Sequence[tuple[torch.Tensor, ...]]
    ) -> Any:
        """See WholeModel.features_output: in the form that the network gives them in."""
        form = self._form
        members = {"deepstack_features": [list(layer) for layer in added]} if added else {}
        # Networks give features as one tensor or as a list, one for each picture.
        if not isinstance(form.pooler_output, torch.Tensor):
            return type(form)(pooler_output=tuple(features), **members)
        pooled = torch.cat(list(features)).reshape(-1, *form.pooler_output.shape[1:])
        return type(form)(pooler_output=pooled, **members)


def _takes(function: Any, name: str) -> bool:
    """Return whether a function has a parameter of a name, or takes any of the pixels'."""
    parameters = signature(function).parameters
    has_any = any(value.kind is Parameter.VAR_KEYWORD for value in parameters.values())
    return name in parameters or (has_any and name.startswith("pixel_"))


def _crops(images: Any) -> bool:
    return bool(getattr(images, "do_center_crop", None)) and hasattr(images, "crop_size")
