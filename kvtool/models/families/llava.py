"""What LLaVA-OneVision and LLaVA-NeXT share: tower, projector, base view and tiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from PIL import Image
from transformers.image_processing_utils import select_best_resolution

from kvtool.errors import ModelError, UsageError
from kvtool.models.anyres import Tiling, Tower, base_span
from kvtool.models.base import Prepared, sample_of
from kvtool.models.cache import layer_outputs, tower_layers
from kvtool.models.decoder import DecoderModel
from kvtool.models.device import to_device
from kvtool.models.faults import preparing
from kvtool.models.loading import Checkpoint
from kvtool.models.saliency import ClassAttention
from kvtool.types import GridSpan, Sample, View


def base_only(processor_class: Any) -> Any:
    """Return a transformers image processor that takes an image squeezed into the base view's
    square and makes no tiles.
    """

    class BaseOnly(processor_class):  # type: ignore[misc]
        def get_image_patches(self, image: Any, *_args: Any, **_options: Any) -> list[Any]:
            return [image]

    return BaseOnly


def squeezed(image: Image.Image, processor: Any) -> Image.Image:
    """Return the whole image at the base view's size.

    A processor does the same by way of arrays, twice as slow for photos.
    """
    size = processor.size
    width_height = (
        (size.width, size.height) if size.height else (size.shortest_edge, size.shortest_edge)
    )
    return image.resize(width_height, processor.resample)


def by_image(states: torch.Tensor, views: int) -> torch.Tensor:
    """Return (image * view, token, dim) as (image, view, token, dim)."""
    return states.reshape(-1, views, *states.shape[1:])


class Llava(DecoderModel):
    """LLaVA with any resolution. Tokens of the base view come first, then those of the tiles."""

    processor_class: ClassVar[Any]
    max_tiles: int | None = None

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.processors = {
            "base": checkpoint.processor(base_only(self.processor_class)),
            "full": checkpoint.processor(self.processor_class),
        }
        vision = self.config.vision_config
        self.tower = Tower(vision.image_size, vision.patch_size)
        self.has_class_token = vision.model_type == "clip_vision_model"
        # Pictures are cut by the one list and packed by the other: tokens would be mixed up.
        cut, packed = self.processors["full"].image_grid_pinpoints, self.config.image_grid_pinpoints
        if [tuple(size) for size in cut] != [tuple(size) for size in packed]:
            raise ModelError(
                f"model {checkpoint.snapshot.name}: expected equal image_grid_pinpoints in "
                "config.json and "
                "preprocessor_config.json, found different ones; take both files from one "
                "checkpoint"
            )

    def default_vision_layers(self) -> tuple[int, ...]:
        """Return the layers of the tower whose output is projected."""
        feature_layer = self.config.vision_feature_layer
        count = self.vision_size()[0]
        # hidden_states[i + 1] is the output of layer i, and -1 the last layer's
        return tuple(
            n + count if n < 0 else n - 1
            for n in ([feature_layer] if isinstance(feature_layer, int) else feature_layer)
        )

    def prepare(
        self, image: Image.Image, *, id: str, index: int, prefix: str = "", view: View = "base"
    ) -> Prepared:
        """See Model.prepare."""
        if view not in self.processors:
            raise UsageError(f"view: expected base or full, found {view!r}; choose one of these")
        processor = self.processors[view]
        with preparing(id):
            # The base view alone is resized here; tiles are cut from the picture as it is.
            view_image = squeezed(image, processor) if view == "base" else image
            pixels = processor(view_image, return_tensors="pt")["pixel_values"][0]
        spans, vision_spans = self._spans(image.size, view)
        sample = sample_of(
            image,
            id=id,
            index=index,
            prefix=prefix,
            prefix_ids=self.prompt.prefix_ids(prefix),
            spans=spans,
            vision_spans=vision_spans,
        )
        # Images of one signature form a batch: equal lengths, pixels and grids.
        signature = (
            view,
            sample.image_start,
            sample.n_tokens,
            tuple(pixels.shape),
            vision_spans[-1].grid,
        )
        return Prepared(sample, {"pixels": pixels.to(self.checkpoint.dtype)}, signature)

    def _spans(
        self, image_wh_px: tuple[int, int], view: View
    ) -> tuple[tuple[GridSpan, ...], tuple[GridSpan, ...]]:
        """Grids of the decoder's tokens and of the tower's."""
        base = base_span(image_wh_px, self.tower)
        if view == "base":
            return (base,), (base,)
        width, height = image_wh_px
        best = select_best_resolution((height, width), self.config.image_grid_pinpoints)
        # The best resolution comes as (height, width): rows of tiles before columns.
        tiling = Tiling(
            image_wh_px,
            (best[0] // self.tower.image_px, best[1] // self.tower.image_px),
            self.tower,
        )
        # The tiles' tokens follow those of the base view.
        start = self.tower.side**2
        return (base, tiling.packed_span(start, self.max_tiles)), (base, tiling.whole_span(start))

    def encode(
        self, batch: Sequence[Prepared], vision_layers: Sequence[int], project: bool
    ) -> tuple[torch.Tensor | None, dict[int, torch.Tensor]]:
        """See DecoderModel.encode."""
        pixels = to_device([item.tensors["pixels"] for item in batch], self.checkpoint.device)
        views = pixels.shape[1]
        # One pass gives both: the layers that are projected and those that are stored.
        feeding = self.default_vision_layers() if project else ()
        tower = self.net.model.vision_tower
        layers = tower_layers(tower, self.info.geometry.vision_layers)
        with layer_outputs(layers, sorted({*feeding, *vision_layers}), stop=True) as outputs:
            tower(pixels.flatten(0, 1))
        tokens = (
            self._project(batch, [outputs[layer] for layer in feeding], views) if project else None
        )
        # A class token, where the tower has one, stands before the patches.
        patches = self.tower.side**2
        vision = {
            layer: self._row_major(by_image(outputs[layer][:, -patches:], views), batch[0].sample)
            for layer in vision_layers
        }
        return tokens, vision

    def class_attention(self, layer: int) -> ClassAttention:
        """See DecoderModel.class_attention."""
        layers = tower_layers(self.net.model.vision_tower, self.info.geometry.vision_layers)
        return ClassAttention(layers[layer])

    def saliency(self, attention: ClassAttention, batch: Sequence[Prepared]) -> torch.Tensor:
        """See DecoderModel.saliency. Each view has a class token of its own."""
        views = batch[0].tensors["pixels"].shape[0]
        weights = by_image(attention.over(self.tower.side**2), views)
        return self._row_major(weights, batch[0].sample)

    def _project(
        self, batch: Sequence[Prepared], feeding: list[torch.Tensor], views: int
    ) -> torch.Tensor:
        """Return image tokens as the decoder takes them, (image, token, hidden)."""
        # Of several layers the projector takes the concatenated features.
        features = torch.cat(feeding, dim=-1)
        # "default" drops the class token, which comes first.
        if self.config.vision_feature_select_strategy == "default":
            features = features[:, 1:]
        projected = by_image(self.net.model.multi_modal_projector(features), views)
        if views == 1:
            base: torch.Tensor = projected[:, 0]
            return base
        packed = self.pack(list(projected), [item.sample for item in batch])
        tokens = torch.stack(packed)
        assert tokens.shape[1] == batch[0].sample.n_tokens, (
            "the sample's spans count the tokens transformers packs"
        )
        return tokens

    def pack(self, features: list[torch.Tensor], samples: Sequence[Sample]) -> list[torch.Tensor]:
        """transformers' own packing of base view, tiles and newlines: (view, token, hidden) to
        (token, hidden).
        """
        # transformers' packing takes sizes as (height, width).
        sizes = [(sample.image_wh_px[1], sample.image_wh_px[0]) for sample in samples]
        packed: list[torch.Tensor]
        packed, _ = self.net.model.pack_image_features(
            features, sizes, image_newline=self.net.model.image_newline, **self.pack_options()
        )
        return packed

    def pack_options(self) -> dict[str, Any]:
        """Return what the family's packing takes besides."""
        raise NotImplementedError

    def _row_major(self, states: torch.Tensor, sample: Sample) -> torch.Tensor:
        """Tower outputs (image, view, patch, dim) as (image, vision_token, dim): the base grid, the
        stitched tiles.
        """
        base = states[:, 0]
        if states.shape[1] == 1:
            return base
        side = self.tower.side
        rows, cols = (n // side for n in sample.vision_spans[1].grid)
        # (tile row, tile col, row, col) becomes (tile row, row, tile col, col): one grid, row by
        # row.
        tiles = states[:, 1:].reshape(-1, rows, cols, side, side, states.shape[-1])
        stitched = tiles.transpose(2, 3).flatten(1, 4)
        return torch.cat([base, stitched], dim=1)

    def after_image(self, sample: Sample) -> torch.Tensor | None:
        """Return the newline that ends a base view standing alone; tiles bring theirs."""
        if len(sample.spans) > 1:
            return None
        newline: torch.Tensor = self.net.model.image_newline[None]
        return newline
