from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from tests.contracts.families import llava_next, llava_onevision, qwen_vl
from tests.contracts.several_contract import SeveralContract


class TestLlavaOnevision(SeveralContract):
    family = llava_onevision.LlavaOnevision

    def own_inputs(
        self, reference: Any, folder: Path, images: list[Image.Image], text: str
    ) -> dict[str, Any]:
        """transformers pads an image among several to a square; squeezed before, it is the base
        view of an image alone. See docs/decisions/models-several-images.md.
        """
        squeezed = [image.resize((34, 34), Image.Resampling.BICUBIC) for image in images]
        return super().own_inputs(reference, folder, squeezed, text)


class TestLlavaNextFull(SeveralContract):
    """Tiles of every image: what transformers makes of several."""

    family = llava_next.LlavaNextLlama
    view = "full"


class TestLlavaNextBase(SeveralContract):
    family = llava_next.LlavaNextLlama

    def own_inputs(
        self, reference: Any, folder: Path, images: list[Image.Image], text: str
    ) -> dict[str, Any]:
        """Of each image the head of transformers' features, which is its base view, and one
        newline.
        """
        inputs = super().own_inputs(reference, folder, images, text)
        ids = inputs["input_ids"][0]
        spots = (ids == reference.config.image_token_id).nonzero()[:, 0]
        head, tail = ids[: spots[0]], ids[spots[-1] + 1 :]
        with torch.inference_mode():
            features = reference.model.get_image_features(
                inputs["pixel_values"], inputs["image_sizes"]
            ).pooler_output
            views = [
                torch.cat([feature[:16], reference.model.image_newline[None]])
                for feature in features
            ]
            words = reference.get_input_embeddings()
            embedded = torch.cat([words(head), *views, words(tail)])
        image_ids = torch.full((17 * len(images),), reference.config.image_token_id)
        return {
            "input_ids": torch.cat([head, image_ids, tail])[None],
            "inputs_embeds": embedded[None],
        }


class TestQwen2VL(SeveralContract):
    family = qwen_vl.Qwen2VL


class TestQwen25VL(SeveralContract):
    family = qwen_vl.Qwen25VL
