"""DINOv3, RADIO, AIMv2, SigLIP 2 (NaFlex), MetaCLIP 2 and TIPSv2, by the encoders' contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate
from transformers import (
    Aimv2VisionModel,
    DINOv3ViTModel,
    MetaClip2VisionModel,
    RadioModel,
    Siglip2ImageProcessorPil,
    Siglip2VisionModel,
    Tipsv2VisionModel,
)

from kvtool.errors import ImageError, UsageError
from kvtool.models import load_model
from kvtool.models.base import Model
from kvtool.types import InputSize, View
from tests.contracts.alone_contract import AloneContract
from tests.contracts.arrays import Array, to_array
from tests.contracts.families.processors import own_pixels
from tests.support import tiny_encoders
from tests.support.tiny import noise


def rescaled(image: Image.Image) -> torch.Tensor:
    """A picture (1, 3, height, width) of 0 to 1."""
    return torch.tensor(np.asarray(image)).permute(2, 0, 1)[None] / 255


class NewerContract(AloneContract):
    """The tower's input is worked out here, by what the class's documentation says."""

    builders: ClassVar[Any] = tiny_encoders

    def inputs(self, folder: Path, image: Image.Image, dtype: Any) -> dict[str, torch.Tensor]:
        """Arguments of the class for a picture."""
        return {"pixel_values": own_pixels(folder, image).to(dtype)}

    def own_vision(
        self, reference: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        assert view == "base"
        arguments = self.inputs(folder, image, reference.dtype)
        with torch.inference_mode():
            outputs = reference(**arguments, output_hidden_states=True)
        is_last = layer == reference.config.num_hidden_layers - 1
        states = outputs.last_hidden_state if is_last else outputs.hidden_states[layer + 1]
        return to_array(states[0, self.special :])


class AnySizeContract(NewerContract):
    """Encoders of a grid of pixels that take any size."""

    rounding: ClassVar[float] = 1e-6
    """How far pixels may be from those of a picture resized before, whose levels are rounded."""

    def test_a_chosen_size(self, folder: Path, reference: Any) -> None:
        """The whole picture, squeezed to five rows of eight patches."""
        model: Any = load_model(str(folder), dtype="float32", size=InputSize("40x64"))
        image = noise(70, 45)
        prepared = model.prepare(image, id="a", index=0)
        (span,) = prepared.sample.vision_spans
        assert span.grid == (5, 8)
        assert span.cover_xyxy_px == pytest.approx((0, 0, 70, 45))
        resized = image.resize((64, 40), model.processor.resample)
        options = {"do_resize": False, "do_center_crop": False}
        pixels = model.processor(resized, return_tensors="pt", **options)["pixel_values"]
        np.testing.assert_allclose(prepared.tensors["pixels"], pixels[0], atol=self.rounding)
        arguments = {"pixel_values": prepared.tensors["pixels"][None]}
        if isinstance(reference, MetaClip2VisionModel):
            arguments["interpolate_pos_encoding"] = True
        with torch.inference_mode():
            states = reference(**arguments).last_hidden_state[0, self.special :]
        captured = model.capture([prepared], model.request(None, None))
        np.testing.assert_array_equal(captured.arrays["vision"][0][0, 0], states)


class TestDinov3(AnySizeContract):
    """Four rows of six patches: 2 of the 34 px of its height are never seen."""

    build = "dinov3_vit"
    own_class: ClassVar[Any] = DINOv3ViTModel
    special = 5
    seen_px = (0, 0, 70, 45 * 32 / 34)
    rounding = 1.05 / 255 / 0.224

    def inputs(self, folder: Path, image: Image.Image, dtype: Any) -> dict[str, torch.Tensor]:
        model = load_model(str(folder), weights=False, dtype="float32")
        pixels = model.prepare(image, id="a", index=0).tensors["pixels"]
        return {"pixel_values": pixels[None].to(dtype)}

    def test_pixels_are_resized_as_floats(self, model: Model) -> None:
        """As transformers does with torchvision: brought to 0 to 1, resized, normed."""
        image = noise(70, 45)
        options: Any = {"mode": "bilinear", "antialias": True, "align_corners": False}
        resized = interpolate(rescaled(image), size=(34, 48), **options)[0]
        mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
        expected = (resized - mean[:, None, None]) / deviation[:, None, None]
        pixels = model.prepare(image, id="a", index=0).tensors["pixels"]
        np.testing.assert_allclose(pixels, expected, atol=1e-6)
        # Levels are not rounded, as they are where Pillow resizes.
        levels = (pixels * deviation[:, None, None] + mean[:, None, None]) * 255
        assert float((levels - levels.round()).abs().max()) > 0.4


class TestRadio(AnySizeContract):
    """Pictures keep their size, to the nearest whole patches of 8 px: 70 x 45 px become 72 x 48."""

    build = "radio"
    own_class: ClassVar[Any] = RadioModel
    special = 5
    seen_px = (0, 0, 70, 45)
    sizes = ((70, 45), (45, 70), (64, 64), (1, 1), (90, 1))
    extremes = ((1, 1), (3, 2), (2000, 12))

    def inputs(
        self,
        folder: Path,  # noqa: ARG002
        image: Image.Image,
        dtype: Any,
    ) -> dict[str, torch.Tensor]:
        width, height = (max(round(side / 8), 1) * 8 for side in image.size)
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        return {"pixel_values": rescaled(resized).to(dtype)}

    def test_features_are_the_classs_own(self, model: Model, reference: Any, folder: Path) -> None:
        """RADIO names its patches itself."""
        _, captured = self.capture(model, noise(70, 45))
        with torch.inference_mode():
            features = reference(**self.inputs(folder, noise(70, 45), torch.float32)).features
        np.testing.assert_array_equal(captured.arrays["vision"][0][0, 0], features[0])


class TestAimv2(NewerContract):
    """The middle 34 of 52 x 34 px."""

    build = "aimv2_vision"
    own_class: ClassVar[Any] = Aimv2VisionModel
    seen_px = (9 * 70 / 52, 0, (9 + 32) * 70 / 52, 32 * 45 / 34)

    def test_a_size_it_has_no_positions_for_is_refused(self, folder: Path) -> None:
        with pytest.raises(UsageError, match="--image-size: expected an AIMv2 of native size"):
            load_model(str(folder), weights=False, size=InputSize("48"))


class TestAimv2Native(AnySizeContract):
    """Pictures keep their size, and patches after the last whole one are never seen."""

    build = "aimv2_native"
    own_class: ClassVar[Any] = Aimv2VisionModel
    seen_px = (0, 0, 64, 40)
    sizes = ((70, 45), (45, 70), (64, 64), (90, 9))
    extremes = ((9, 8), (2000, 12))

    def test_a_picture_smaller_than_a_patch_is_left_out(self, model: Model) -> None:
        with pytest.raises(ImageError, match="expected a whole patch of 8 px, found 70 x 7 px"):
            model.prepare(noise(70, 7), id="a", index=0)


class TestSiglip2(NewerContract):
    """Pictures of 70 x 45 px become six columns and four rows, 24 patches."""

    build = "siglip2_vision"
    own_class: ClassVar[Any] = Siglip2VisionModel
    seen_px = (0, 0, 70, 45)

    def inputs(self, folder: Path, image: Image.Image, dtype: Any) -> dict[str, torch.Tensor]:
        arguments = self.padded(folder, image)
        n_patches = int(arguments["pixel_attention_mask"].sum())
        return {
            "pixel_values": arguments["pixel_values"][:, :n_patches].to(dtype),
            "pixel_attention_mask": arguments["pixel_attention_mask"][:, :n_patches],
            "spatial_shapes": arguments["spatial_shapes"],
        }

    def padded(self, folder: Path, image: Image.Image) -> Any:
        """What transformers' processor makes of a picture."""
        processor: Any = Siglip2ImageProcessorPil.from_pretrained(folder)
        return processor(image, return_tensors="pt")

    def test_padding_changes_nothing(self, model: Model, reference: Any, folder: Path) -> None:
        """transformers pads 4 x 4 patches to 24 and masks the rest."""
        image = noise(64, 64)
        sample, captured = self.capture(model, image)
        assert sample.base("vision").grid == (4, 4)
        with torch.inference_mode():
            states = reference(**self.padded(folder, image)).last_hidden_state[0]
        assert len(states) == 24
        np.testing.assert_allclose(captured.arrays["vision"][0][0, 0], states[:16], atol=1e-5)

    def test_grids_of_as_many_patches_share_no_batch(self, model: Model) -> None:
        landscape, portrait = (
            model.prepare(noise(*wh), id="a", index=0) for wh in ((60, 40), (40, 60))
        )
        assert landscape.sample.n_vision_tokens == portrait.sample.n_vision_tokens == 24
        assert landscape.signature != portrait.signature

    @pytest.mark.parametrize(
        ("size", "grid"),
        [
            (InputSize("48x35"), (6, 4)),
            (InputSize("short:24"), (3, 4)),
            (InputSize(max_pixels=12 * 64), (3, 4)),
            (InputSize(max_pixels=1), (1, 1)),
        ],
    )
    def test_sizes(self, folder: Path, size: InputSize, grid: tuple[int, int]) -> None:
        """Of 70 x 45 px. Position embeddings are resized to any grid."""
        model = load_model(str(folder), dtype="float32", size=size)
        sample, captured = self.capture(model, noise(70, 45))
        span = sample.base("vision")
        assert span.grid == grid
        assert span.cover_xyxy_px == pytest.approx((0, 0, 70, 45))
        assert np.isfinite(captured.arrays["vision"][0]).all()


class TestMetaClip2(AnySizeContract):
    """As CLIP."""

    build = "metaclip_2_vision"
    own_class: ClassVar[Any] = MetaClip2VisionModel
    special = 1
    seen_px = (9 * 70 / 52, 0, (9 + 32) * 70 / 52, 32 * 45 / 34)


class TestTipsv2(AnySizeContract):
    """A class token and a register before 4 x 4 patches of a picture squeezed to 34 px."""

    build = "tipsv2_vision"
    own_class: ClassVar[Any] = Tipsv2VisionModel
    special = 2

    def inputs(
        self,
        folder: Path,  # noqa: ARG002
        image: Image.Image,
        dtype: Any,
    ) -> dict[str, torch.Tensor]:
        resized = image.resize((34, 34), Image.Resampling.BILINEAR)
        return {"pixel_values": rescaled(resized).to(dtype)}
