"""The contract of encoders alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image

from kvtool.errors import UsageError
from kvtool.models.base import Model
from kvtool.types import View
from tests.contracts.arrays import Array, to_array
from tests.contracts.encoder_contract import EncoderContract
from tests.contracts.families.processors import own_pixels
from tests.support import tiny


class AloneContract(EncoderContract):
    """Encoders alone, besides: what their images show, and what they refuse."""

    special: ClassVar[int] = 0
    """Class and register tokens before the patches."""
    interpolates: ClassVar[bool] = False
    """Whether the class must be told to interpolate position embeddings for the tiny checkpoint."""
    seen_px: ClassVar[tuple[float, float, float, float]] = (0, 0, 70 * 32 / 34, 45 * 32 / 34)
    """What the patches of a 70 x 45 px image show of it, worked out by hand: the last 2 of 34 px
    are never seen.
    """

    def own_vision(
        self, reference: Any, folder: Path, image: Image.Image, view: View, layer: int
    ) -> Array:
        assert view == "base"
        pixels = own_pixels(folder, image)
        options = {"interpolate_pos_encoding": True} if self.interpolates else {}
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
