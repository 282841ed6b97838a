"""Multimodal models run through transformers' own forward of image and text, which makes masks,
positions, DeepStack and the like itself.

A family says how its processor is called and where an image's tokens lie; all else is the same for
all of them. See docs/adding-a-model.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from PIL import Image

from kvtool.errors import UsageError
from kvtool.models.base import Array, BeforeDecoder, Prepared, sample_of
from kvtool.models.cache import layer_outputs, tower_layers
from kvtool.models.device import to_device
from kvtool.models.families import adds_features
from kvtool.models.faults import preparing
from kvtool.models.loading import Checkpoint
from kvtool.models.processors import ProcessedImage, load_processor, processed_image
from kvtool.models.prompts import Prompt
from kvtool.models.whole_pass import WholePass
from kvtool.types import GridSpan, Sample, View

TOWERS = ("vision_tower", "visual", "vision_model")
"""What transformers' classes call the tower."""
Spans = tuple[GridSpan, ...]


class WholeModel(WholePass):
    """A multimodal model of transformers' common form: `get_image_features`, and a forward that
    puts these features at the placeholders of `input_ids`.
    """

    processor_class: Any = None
    """transformers' processor of image and text."""
    image_processor_class: Any
    """Its image processor, the PIL one."""
    exact_pixels: ClassVar[bool] = False
    """Whether the tower takes pixels in float32, whatever the precision of its weights."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._layouts: dict[tuple[tuple[int, int], int], ProcessedImage] = {}
        super().__init__(checkpoint)

    # What a family says.

    def processed(self, image: Image.Image, view: View) -> ProcessedImage:
        """Return an image as the processor makes it in a view."""
        return processed_image(self.processor, image, self.placeholder, **self.options(view))

    def options(self, view: View) -> dict[str, Any]:  # noqa: ARG002
        """Return the image processor's options in a view."""
        return {}

    def spans(self, image_wh_px: tuple[int, int], processed: ProcessedImage) -> tuple[Spans, Spans]:
        """Return the grids of the decoder's tokens and those of the tower's, row by row."""
        raise NotImplementedError

    def advance(self, spans: Spans) -> int | None:  # noqa: ARG002
        """Return how far an image moves rotary positions on; None for one a token."""
        return None

    def patches(self, states: torch.Tensor, samples: Sequence[Sample]) -> torch.Tensor:
        """Return a tower layer's output for a batch as (image, vision_token, dim), row by row.

        The default is for towers whose patches lie so already, grid after grid, behind class
        tokens that are left out. Rows of `states` (row, token, dim) are images, tiles of images, or
        all images in one.
        """
        # Rows may hold an image, a tile, or the whole batch: patches are counted out over all.
        n_patches = samples[0].n_vision_tokens
        per_row = len(samples) * n_patches // len(states)
        return states[:, -per_row:].reshape(len(samples), n_patches, states.shape[-1])

    # What follows from it.

    def make_prompt(self, tokenizer: Any) -> Prompt:
        """See DecoderModel.make_prompt: what stands around an image is the processor's."""
        checkpoint = self.checkpoint
        self.placeholder = str(tokenizer.convert_ids_to_tokens(self.config.image_token_id))
        image_processor = checkpoint.processor(self.image_processor_class)
        with checkpoint.reading("a processor of image and text (processor_config.json)"):
            self.processor = self.make_processor(image_processor, tokenizer)
            # A gray picture shows what the processor writes around an image, whatever the picture.
            gray = self.processed(Image.new("RGB", (64, 48), "gray"), "base")
        return Prompt(
            tokenizer,
            checkpoint.snapshot.path,
            self.placeholder,
            self.opening + gray.opening,
            self.fallback_template(),
            checkpoint.settings.system,
            written=self.opening + self.marker(),
            closing=gray.closing,
        )

    def make_processor(self, image_processor: Any, tokenizer: Any) -> Any:
        """Return what `processed` calls."""
        folder = self.checkpoint.snapshot.path
        return load_processor(self.processor_class, image_processor, tokenizer, folder)

    def marker(self) -> str:
        """Return what a chat template writes for an image, which the processor replaces."""
        return str(self.processor.image_token)

    def fallback_template(self) -> str:
        """Return no template: checkpoints of these families bring their own."""
        return ""

    def vision_size(self) -> tuple[int, int]:
        """Return (layers, dim) of the tower."""
        vision = self.config.vision_config
        depth = getattr(vision, "num_hidden_layers", None) or vision.depth
        return depth, vision.hidden_size

    def default_vision_layers(self) -> tuple[int, ...]:
        """Return the layers of the tower whose output is projected, the last where none is said."""
        count = self.vision_size()[0]
        layers = getattr(self.config, "vision_feature_layer", -1)
        # hidden_states[i + 1] is the output of layer i, and -1 the last layer's.
        numbers = [layers] if isinstance(layers, int) else layers
        return tuple(n + count if n < 0 else n - 1 for n in numbers)

    def prepare(
        self, image: Image.Image, *, id: str, index: int, prefix: str = "", view: View = "base"
    ) -> Prepared:
        """See Model.prepare."""
        if view not in ("base", "full"):
            raise UsageError(f"view: expected base or full, found {view!r}; choose one of these")
        with preparing(id):
            processed = self.processed(image, view)
        spans, vision_spans = self.spans(image.size, processed)
        sample = sample_of(
            image,
            id=id,
            index=index,
            prefix=prefix,
            prefix_ids=self._prefix_ids(prefix, processed),
            spans=spans,
            vision_spans=vision_spans,
            advance=self.advance(spans),
            n_tokens=len(processed.ids),
        )
        # The layout alone is remembered: pixels are large, and each picture has its own.
        self._layouts[image.size, sample.n_tokens] = processed.without_pixels()
        # Grids and positions are whole numbers, which keep their type.
        dtype = torch.float32 if self.exact_pixels else self.checkpoint.dtype
        tensors = {
            name: values.to(dtype) if values.is_floating_point() else values
            for name, values in processed.inputs.items()
        }
        # All that shapes the pass: the prompt's lengths, the grids, and the tensors themselves.
        shapes = tuple(tuple(values.shape) for values in tensors.values())
        grids = tuple(span.grid for span in vision_spans)
        return Prepared(sample, tensors, (sample.image_start, sample.n_tokens, grids, shapes))

    def _prefix_ids(self, prefix: str, processed: ProcessedImage) -> tuple[int, ...]:
        return self.prompt.prefix_ids(prefix, self.opening + processed.opening)

    def layout(self, sample: Sample) -> ProcessedImage:
        """Return what stands in the prompt for an image, which its size and view decide."""
        key = (sample.image_wh_px, sample.n_tokens)
        views: tuple[View, ...] = ("base", "full")
        for view in views:
            # Either view may be meant: the number of tokens says which.
            if key not in self._layouts:
                blank = self.processed(Image.new("RGB", sample.image_wh_px), view)
                self._layouts[sample.image_wh_px, len(blank.ids)] = blank.without_pixels()
        return self._layouts[key]

    def prepare_stored(
        self, sample: Sample, arrays: Mapping[str, Array], prefix: str = ""
    ) -> Prepared:
        """See LanguageModel.prepare_stored. Raises UsageError where DeepStack needs the tower."""
        if arrays and adds_features(self.family):
            raise UsageError(
                f"image {sample.id}: expected a model whose decoder takes an image at its first "
                f"layer alone, found {self.info.name}, a {self.family}, which takes more of it "
                "later; prepare the picture"
            )
        prepared = super().prepare_stored(sample, arrays, prefix)
        # What opens an image may depend on its size, and belongs to the prompt before it.
        prefix_ids = self._prefix_ids(prefix, self.layout(sample))
        advance = sample.next_position - sample.image_start
        moved = replace(
            prepared.sample,
            prefix_ids=prefix_ids,
            image_start=len(prefix_ids),
            next_position=len(prefix_ids) + advance,
        )
        return replace(prepared, sample=moved)

    # From images to what enters the decoder.

    def tower(self) -> Any:
        """Return the vision tower."""
        return next(
            getattr(self.net.model, name) for name in TOWERS if hasattr(self.net.model, name)
        )

    def encode(
        self, batch: Sequence[Prepared], vision_layers: Sequence[int], project: bool
    ) -> BeforeDecoder:
        """See DecoderModel.encode."""
        # The first axis is that of images, tiles or patches, so that batches are joined along it.
        inputs = {
            name: torch.cat([item.tensors[name] for item in batch]).to(self.checkpoint.device)
            for name in batch[0].tensors
        }
        samples = [item.sample for item in batch]
        depth = self.info.geometry.vision_layers
        layers = tower_layers(self.tower(), depth) if vision_layers else torch.nn.ModuleList()
        features: Any = None
        # Finished ends the pass before the projector where only layers of the tower were asked for.
        with layer_outputs(layers, vision_layers, stop=not project) as outputs:
            features = self.image_features(inputs)
        vision = {layer: self.patches(outputs[layer], samples) for layer in vision_layers}
        if not project:
            return BeforeDecoder(None, vision)
        # Networks with DeepStack give more than what enters the first layer.
        added = getattr(features, "deepstack_features", None) or ()
        return BeforeDecoder(
            self._at_placeholders(samples, self._by_image(features.pooler_output, len(batch))),
            vision,
            tuple(self._by_image(layer, len(batch)) for layer in added),
        )

    def image_features(self, inputs: dict[str, Any]) -> Any:
        """Return what the network makes of pictures, their features as `pooler_output`."""
        modality = "video" if "video_grid_thw" in inputs else "image"
        get_features = getattr(self.net.model, f"get_{modality}_features")
        return get_features(**inputs, return_dict=True)

    def _by_image(self, features: Any, n_images: int) -> torch.Tensor:
        """Features as the network gives them, of images of equal shapes, as (image, feature,
        hidden).
        """
        joined = features if isinstance(features, torch.Tensor) else torch.cat(list(features))
        return joined.reshape(n_images, -1, joined.shape[-1])

    def _at_placeholders(self, samples: Sequence[Sample], features: torch.Tensor) -> torch.Tensor:
        """Image tokens (image, token, hidden) as they enter the decoder: features at the
        placeholders, embeddings of what stands between them.
        """
        ids = to_device(
            [torch.tensor(self.layout(sample).ids) for sample in samples], self.checkpoint.device
        )
        is_image = ids == self.modality(samples[0])[1]
        if is_image.all():
            return features
        # A placeholder may have no embedding of its own.
        tokens = self.embed(ids.masked_fill(is_image, 0)).clone()
        tokens[is_image] = features.flatten(0, 1).to(tokens.dtype)
        return tokens
