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
from transformers.modeling_outputs import BaseModelOutputWithPooling

from kvtool.errors import UsageError
from kvtool.models.base import Array, BeforeDecoder, Prepared, sample_of
from kvtool.models.cache import full_cache, layer_outputs, tower_layers
from kvtool.models.decoder import DecoderModel
from kvtool.models.device import to_device
from kvtool.models.families import ADDS_FEATURES
from kvtool.models.faults import preparing
from kvtool.models.loading import Checkpoint
from kvtool.models.processors import ProcessedImage, load_processor, processed_image
from kvtool.models.prompts import Prompt
from kvtool.types import GridSpan, Sample, View

TOWERS = ("vision_tower", "visual", "vision_model")
"""What transformers' classes call the tower."""
Spans = tuple[GridSpan, ...]


class WholeModel(DecoderModel):
    """A multimodal model of transformers' common form: `get_image_features`, and a forward that
    puts these features at the placeholders of `input_ids`.
    """

    processor_class: ClassVar[Any] = None
    """transformers' processor of image and text."""
    image_processor_class: ClassVar[Any]
    """Its image processor, the PIL one."""
    proves_itself: ClassVar[bool] = True
    lists_features: ClassVar[bool] = False
    """Whether the network takes a list of each image's features, not all in one tensor."""

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
        self._layouts[image.size, sample.n_tokens] = processed.without_pixels()
        tensors = {
            name: values.to(self.checkpoint.dtype) if values.is_floating_point() else values
            for name, values in processed.inputs.items()
        }
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
            if key not in self._layouts:
                blank = self.processed(Image.new("RGB", sample.image_wh_px), view)
                self._layouts[sample.image_wh_px, len(blank.ids)] = blank.without_pixels()
        return self._layouts[key]

    def prepare_stored(
        self, sample: Sample, arrays: Mapping[str, Array], prefix: str = ""
    ) -> Prepared:
        """See LanguageModel.prepare_stored. Raises UsageError where DeepStack needs the tower."""
        if arrays and self.family in ADDS_FEATURES:
            raise UsageError(
                f"image {sample.id}: expected a model whose decoder takes an image at its first "
                f"layer alone, found {self.info.name}, a {self.family}, which takes more of it "
                "later; prepare the picture"
            )
        prepared = super().prepare_stored(sample, arrays, prefix)
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
        inputs = {
            name: torch.cat([item.tensors[name] for item in batch]).to(self.checkpoint.device)
            for name in batch[0].tensors
        }
        samples = [item.sample for item in batch]
        layers = tower_layers(self.tower(), self.info.geometry.vision_layers)
        features: Any = None
        # Finished ends the pass before the projector where only layers of the tower were asked for.
        with layer_outputs(layers, vision_layers, stop=not project) as outputs:
            features = self.net.model.get_image_features(**inputs, return_dict=True)
        vision = {layer: self.patches(outputs[layer], samples) for layer in vision_layers}
        if not project:
            return BeforeDecoder(None, vision)
        added = getattr(features, "deepstack_features", None) or ()
        return BeforeDecoder(
            self._at_placeholders(samples, self._by_image(features.pooler_output, len(batch))),
            vision,
            tuple(self._by_image(layer, len(batch)) for layer in added),
        )

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
        is_image = ids == self.config.image_token_id
        if is_image.all():
            return features
        # A placeholder may have no embedding of its own.
        tokens = self.embed(ids.masked_fill(is_image, 0)).clone()
        tokens[is_image] = features.flatten(0, 1).to(tokens.dtype)
        return tokens

    # From there to the cache.

    def run_prompts(
        self,
        samples: Sequence[Sample],
        before: BeforeDecoder,
        cache: Any,
        following: Sequence[int] = (),
    ) -> torch.Tensor:
        """See Continuation.run_prompts: by the network's own forward."""
        assert before.tokens is not None, "what enters the decoder was asked for"
        texts = [[list(sample.prefix_ids)] for sample in samples]
        rows = [
            BeforeDecoder(tokens, {}, tuple(layer[row] for layer in before.added))
            for row, tokens in enumerate(before.tokens)
        ]
        return self._forward(texts, [[sample] for sample in samples], rows, cache, following)

    def _forward(
        self,
        texts: Sequence[Sequence[Sequence[int]]],
        images: Sequence[Sequence[Sample]],
        before: Sequence[BeforeDecoder],
        cache: Any,
        following: Sequence[int] = (),
    ) -> torch.Tensor:
        """Run prompts of equal shapes, each [text][image][text][image] ..., through the network.

        Args:
            texts: Of each prompt, the token ids before each of its images.
            images: Of each prompt, its images.
            before: What enters the decoder, (token, hidden), of all images in this order.
            cache: Grows.
            following: Token ids after the last image of each.

        Returns the last hidden states (prompt, token, hidden).
        """
        device = self.checkpoint.device
        layouts = [[self.layout(sample) for sample in row] for row in images]
        ids = torch.tensor(
            [[*_joined(*row), *following] for row in zip(texts, layouts, strict=True)]
        )
        is_image = ids == self.config.image_token_id
        flat = [layout for row in layouts for layout in row]
        inputs: dict[str, Any] = {
            name: torch.cat([layout.inputs[name] for layout in flat]).to(device)
            for name in flat[0].inputs
        }
        if types := flat[0].types:
            inputs[types] = is_image.long().to(device)
        features = [
            _features(entering, layout, self.config.image_token_id)
            for entering, layout in zip(before, flat, strict=True)
        ]
        added = list(zip(*(entering.added for entering in before), strict=True))
        outputs = self.net.model(
            input_ids=ids.to(device),
            past_key_values=cache,
            use_cache=True,
            mm_encoder_outputs={"image": self.features_output(features, added)},
            **inputs,
        )
        states: torch.Tensor = outputs.last_hidden_state
        return states

    def features_output(
        self,
        features: Sequence[torch.Tensor],
        added: Sequence[tuple[torch.Tensor, ...]],  # noqa: ARG002  a family with DeepStack takes it
    ) -> Any:
        """Return the features (feature, hidden) of each image as `get_image_features` gives them.

        added: of each layer that DeepStack adds to, what it adds for each image.
        """
        pooled: Any = tuple(features) if self.lists_features else torch.cat(list(features))
        return BaseModelOutputWithPooling(pooler_output=pooled)

    @torch.inference_mode()
    def prefill_several(self, images: Sequence[Sequence[Prepared]]) -> tuple[Any, list[Sample]]:
        """See SeveralImages.prefill_several."""
        samples = [[item.sample for item in items] for items in images]
        layouts = [[self.layout(sample) for sample in row] for row in samples]
        n_images = len(images[0])
        texts = [
            self.prompt.several_ids(n_images, [self.opening + layout.opening for layout in row])
            for row in layouts
        ]
        before = self._entering([item for items in images for item in items])
        cache = full_cache([], [])
        self._forward(texts, samples, before, cache)
        parts = [(len(ids), sample) for ids, sample in zip(texts[0], samples[0], strict=True)]
        _, next_position = self.prompt_positions(parts)
        last = [row[-1] for row in samples]
        image_start = sum(n_text + sample.n_tokens for n_text, sample in parts) - last[0].n_tokens
        return cache, [
            replace(sample, image_start=image_start, next_position=next_position) for sample in last
        ]


def _joined(texts: Sequence[Sequence[int]], layouts: Sequence[ProcessedImage]) -> list[int]:
    """Return the token ids of a prompt up to its last image token."""
    ids: list[int] = []
    for text, layout in zip(texts, layouts, strict=True):
        ids += [*text, *layout.ids]
    return ids


def _features(before: BeforeDecoder, layout: ProcessedImage, image_id: int) -> torch.Tensor:
    """Return an image's features (feature, hidden): its tokens, without what stands between."""
    assert before.tokens is not None, "what enters the decoder was asked for"
    is_image = torch.tensor(layout.ids, device=before.tokens.device) == image_id
    return before.tokens[is_image]
