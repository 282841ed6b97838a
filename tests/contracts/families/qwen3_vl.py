"""Qwen3-VL as transformers runs it, for the contract of decoders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from transformers import Qwen2VLImageProcessorPil, Qwen3VLForConditionalGeneration
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

from kvtool.errors import UsageError
from kvtool.models.base import LanguageModel
from tests.contracts.arrays import Array, rotated_by_hand
from tests.contracts.families.processors import own_processor
from tests.contracts.families.qwen_vl import Qwen2VL
from tests.contracts.whole_contract import WholeContract
from tests.support.tiny import noise


class Qwen3VL(WholeContract, Qwen2VL):
    build = "qwen3_vl"
    own_class: ClassVar[Any] = Qwen3VLForConditionalGeneration
    image_token = "<|image_pad|>"
    marker = "<|vision_start|><|image_pad|>"

    def own_processor(self, folder: Path) -> Any:
        return own_processor(
            Qwen3VLProcessor, Qwen2VLImageProcessorPil, folder, video_processor=None
        )

    def rotated(
        self, reference: Any, keys: Array, positions: Array, layers: Sequence[int]
    ) -> Array:
        assert len(layers) == len(keys)
        rope = reference.config.text_config.rope_parameters
        return rotated_by_hand(keys, positions, rope["rope_theta"], rope["mrope_section"], True)

    def test_what_a_run_stores_before_the_decoder_is_not_enough(self, model: LanguageModel) -> None:
        item = model.prepare(noise(70, 45), id="a", index=0)
        projected = model.capture([item], model.request(("projected",), None)).arrays["projected"]
        with pytest.raises(UsageError, match=r"image a: .* takes more of it later; prepare the pi"):
            model.prepare_stored(item.sample, {"projected": projected[0]})

    # So it does not go on as in other families.
    test_stored_features_give_what_pixels_give = None  # type: ignore[assignment]
    test_stored_features_in_half_precision_too = None  # type: ignore[assignment]
    test_stored_features_run_no_tower = None  # type: ignore[assignment]
    test_the_stream_follows_from_what_is_stored = None  # type: ignore[assignment]
