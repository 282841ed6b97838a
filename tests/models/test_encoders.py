from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
from transformers import (
    CLIPVisionModel,
    Dinov2Model,
    Dinov2WithRegistersModel,
    SiglipVisionModel,
    ViTModel,
)

from kvtool.models import load_model
from tests.contracts.alone_contract import AloneContract
from tests.contracts.families.processors import own_pixels
from tests.support import tiny


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
    interpolates = True
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
