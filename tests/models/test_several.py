from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kvtool.errors import UsageError
from tests.contracts.families import (
    gemma3,
    idefics3,
    llava_next,
    llava_onevision,
    mistral3,
    qwen3_vl,
    qwen_vl,
)
from tests.contracts.several_contract import SeveralContract
from tests.support import tiny


class TestLlavaOnevision(SeveralContract):
    """Pictures that are not square are padded, as by transformers' own processor."""

    family = llava_onevision.LlavaOnevision

    def stored_images(self) -> list[Image.Image]:
        """Squares, which padding leaves as they are."""
        return [image.resize((40, 40)) for image in self.images(3)]

    def test_the_grid_of_a_padded_picture_reaches_beyond_it(self, model: Any) -> None:
        """70 x 45 px in a square of 70 px, of which the patches see 32 of 34 parts."""
        sample = model.prepare_several(tiny.noise(70, 45), id="a", index=3).sample
        seen = 70 * 32 / 34
        assert sample.base().cover_xyxy_px == pytest.approx((0, -12, seen, seen - 12))
        assert (sample.image_wh_px, sample.index, sample.base().grid) == ((70, 45), 3, (4, 4))

    def test_a_square_picture_is_prepared_as_alone(self, model: Any) -> None:
        image = tiny.noise(40, 40)
        single = model.prepare(image, id="a", index=0)
        several = model.prepare_several(image, id="a", index=0)
        np.testing.assert_array_equal(several.tensors["pixels"], single.tensors["pixels"])
        assert several.sample == single.sample


@pytest.mark.slow
class TestLlavaOnevisionSqueezed(SeveralContract):
    """The base view that a run stores, where a caller asks over that: transformers' answer over
    pictures that were squeezed before.
    """

    family = llava_onevision.LlavaOnevision

    def prepared(self, model: Any, images: list[Image.Image]) -> list[Any]:
        return [model.prepare(image, id=str(i), index=i) for i, image in enumerate(images)]

    def own_inputs(
        self, reference: Any, folder: Path, images: list[Image.Image], text: str
    ) -> dict[str, Any]:
        squeezed = [image.resize((34, 34), Image.Resampling.BICUBIC) for image in images]
        return super().own_inputs(reference, folder, squeezed, text)


@pytest.mark.slow
class TestLlavaNextFull(SeveralContract):
    """Tiles of every image: what transformers makes of several."""

    family = llava_next.LlavaNextLlama
    view = "full"


@pytest.mark.slow
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


@pytest.mark.slow
class TestQwen2VL(SeveralContract):
    family = qwen_vl.Qwen2VL


@pytest.mark.slow
class TestQwen25VL(SeveralContract):
    family = qwen_vl.Qwen25VL


@pytest.mark.slow
class TestQwen3VL(SeveralContract):
    """DeepStack adds to each picture of several, which a run's stored vectors do not hold."""

    family = qwen3_vl.Qwen3VL

    def test_images_of_a_run_answer_like_their_pixels(self, model: Any) -> None:
        item = model.prepare(tiny.noise(70, 45), id="a", index=0)
        captured = model.capture([item], model.request(("projected",), None))
        with pytest.raises(UsageError, match="takes more of it later; prepare the picture"):
            model.prepare_stored(item.sample, {"projected": captured.arrays["projected"][0]})


@pytest.mark.slow
class TestGemma3(SeveralContract):
    family = gemma3.Gemma3


@pytest.mark.slow
class TestMistral3(SeveralContract):
    family = mistral3.Mistral3


@pytest.mark.slow
class TestIdefics3(SeveralContract):
    """Tiles of every picture, each with marks of its own."""

    family = idefics3.Idefics3
    view = "full"
