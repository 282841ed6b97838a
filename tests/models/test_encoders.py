from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from transformers import (
    CLIPVisionModel,
    Dinov2Model,
    Dinov2WithRegistersModel,
    SiglipVisionModel,
    ViTModel,
)

from kvtool.errors import UsageError
from kvtool.models import load_model
from kvtool.models.base import Model
from kvtool.types import View
from tests.contracts.arrays import Array, to_array
from tests.contracts.families.processors import own_pixels
from tests.contracts.model_contract import EncoderContract
from tests.support import tiny


class AloneContract(EncoderContract):
    """Encoders alone, besides: what their images show, and what they refuse."""

    special = 0
    """Class and register tokens before the patches."""
    seen_px: tuple[float, float, float, float] = (0, 0, 70 * 32 / 34, 45 * 32 / 34)
    """What the patches of a 70 x 45 px image show of it, worked out by hand: the last 2 of 34 px
    are never seen.
    """

    def own_vision(
        self, reference: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        assert view == "base"
        pixels = own_pixels(folder, image)
        options = {"interpolate_pos_encoding": True} if type(self) is TestDino else {}
        with torch.inference_mode():
            outputs = reference(pixels.to(reference.dtype), output_hidden_states=True, **options)
        is_last = layer == reference.config.num_hidden_layers - 1
        states = outputs.last_hidden_state if is_last else outputs.hidden_states[layer + 1]
        return to_array(states[0, self.special :])

    def test_cover_is_what_the_crop_shows(self, model: Model) -> None:
        sample = model.prepare(tiny.noise(70, 45), id="a", index=0).sample
        assert sample.vision_spans[0].cover_xyxy_px == pytest.approx(self.seen_px)
        assert sample.spans == ()
        assert sample.n_tokens == 0

    def test_a_decoders_choices_are_refused(self, model: Model) -> None:
        with pytest.raises(
            UsageError, match=r"kinds: expected some of vision of this model, found 'key'"
        ):
            model.request(("key",), None)
        with pytest.raises(UsageError, match=r"layers: expected numbers from 0 to 2, found 3"):
            model.request(None, [3])
        with pytest.raises(UsageError, match=r"reads no text"):
            model.prepare(tiny.noise(8, 8), id="a", index=0, prefix="the cat")
        with pytest.raises(UsageError, match=r"reads no text"):
            model.text_vectors(["cat"], [], ("projected",), "{}")

    def test_layers_are_the_towers(self, model: Model) -> None:
        assert model.request(None, None).vision_layers == (2,)
        assert model.request(None, [1, 0]).vision_layers == (0, 1)
        assert model.request(None, None).layers == ()


class TestSiglip(AloneContract):
    build = "siglip"
    own_class: ClassVar[Any] = SiglipVisionModel


class TestSiglipOfWholeModel(TestSiglip):
    build = "siglip_full"


class TestClip(AloneContract):
    """The shorter side of 70 x 45 px becomes 34 px, the longer int(52.9) = 52; the middle 34 of
    those are kept.
    """

    build = "clip"
    own_class: ClassVar[Any] = CLIPVisionModel
    special = 1
    seen_px = (9 * 70 / 52, 0, (9 + 32) * 70 / 52, 32 * 45 / 34)


class TestClipOfWholeModel(TestClip):
    build = "clip_full"


class TestDino(AloneContract):
    """Six rows of four patches, for its processor makes 48 x 32 px (height, width) of any image."""

    build = "vit"
    own_class: ClassVar[Any] = ViTModel
    special = 1
    seen_px = (0, 0, 70, 45)


class TestDinov2(AloneContract):
    """The shorter side becomes 40 px, the longer int(62.2) = 62; the middle 34 x 34 are kept."""

    build = "dinov2"
    own_class: ClassVar[Any] = Dinov2Model
    special = 1
    seen_px = (14 * 70 / 62, 3 * 45 / 40, (14 + 32) * 70 / 62, (3 + 32) * 45 / 40)


class TestDinov2WithRegisters(TestDinov2):
    build = "dinov2_with_registers"
    own_class: ClassVar[Any] = Dinov2WithRegistersModel
    special = 4


@pytest.mark.parametrize("size", [(2000, 7), (7, 2000)])
def test_cropping_first_shows_the_same_pixels(tmp_path: Path, size: tuple[int, int]) -> None:
    """A very long image is cropped before it is resized; up to one level of 255 that changes
    nothing.
    """
    tiny.clip(tmp_path)
    image = tiny.noise(*size)
    values = (
        load_model(str(tmp_path), dtype="float32").prepare(image, id="a", index=0).tensors["pixels"]
    )
    expected = own_pixels(tmp_path, image)[0]
    step = 1 / 255 / 0.26
    assert float((values - expected).abs().max()) < 1.5 * step
