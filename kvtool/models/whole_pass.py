"""Prompts of text and images run by a network's own forward, from features of the images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from kvtool.models.base import BeforeDecoder, Prepared
from kvtool.models.decoder import DecoderModel
from kvtool.models.processors import ProcessedImage
from kvtool.types import Sample


class WholePass(DecoderModel):
    """The part of a WholeModel that runs once each image's features are there."""

    lists_features: ClassVar[bool] = False
    """Whether the network takes a list of each image's features, not all in one tensor."""

    def layout(self, sample: Sample) -> ProcessedImage:
        """Return what stands in the prompt for an image."""
        raise NotImplementedError

    def modality(self, sample: Sample) -> tuple[str, int]:
        """Return what transformers calls a sample's tokens, image or video, and the id of their
        placeholder.
        """
        if sample.frames:
            return "video", int(self.config.video_token_id)
        return "image", int(self.config.image_token_id)

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
        # Layouts stand for pictures: their placeholders say where features go.
        layouts = [[self.layout(sample) for sample in row] for row in images]
        ids = torch.tensor(
            [[*_joined(*row), *following] for row in zip(texts, layouts, strict=True)]
        )
        modality, placeholder_id = self.modality(images[0][0])
        is_image = ids == placeholder_id
        flat = [layout for row in layouts for layout in row]
        inputs: dict[str, Any] = {
            name: torch.cat([layout.inputs[name] for layout in flat]).to(device)
            for name in flat[0].inputs
        }
        # Some networks want to be told which tokens are the image's.
        if types := flat[0].types:
            # As transformers counts modalities: text, images, videos.
            inputs[types] = is_image.long().to(device) * (2 if modality == "video" else 1)
        # Marks between the tokens have embeddings of their own, which the network adds itself.
        features = [
            _features(entering, layout, placeholder_id)
            for entering, layout in zip(before, flat, strict=True)
        ]
        # By layer of DeepStack, what each image adds there.
        added = list(zip(*(entering.added for entering in before), strict=True))
        outputs = self.net.model(
            input_ids=ids.to(device),
            past_key_values=cache,
            use_cache=True,
            # The network puts given features at the placeholders in place of running its tower.
            mm_encoder_outputs={modality: self.features_output(features, added)},
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
        cache = self.new_cache()
        self._forward(texts, samples, before, cache)
        # All prompts have equal shapes: the first one's positions are those of all.
        parts = [(len(ids), sample) for ids, sample in zip(texts[0], samples[0], strict=True)]
        _, next_position = self.prompt_positions(parts)
        # What follows goes on behind the last image, as if it stood alone in the prompt.
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
