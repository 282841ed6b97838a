"""Qwen3.5 as transformers runs it, and the mixtures of experts of both newer Qwen families."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from transformers import (
    DynamicCache,
    Qwen2VLImageProcessorPil,
    Qwen3_5ForConditionalGeneration,
    Qwen3_5MoeForConditionalGeneration,
    Qwen3VLMoeForConditionalGeneration,
)
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

from tests.contracts.arrays import Array, rotated_by_hand
from tests.contracts.families.processors import own_processor
from tests.contracts.families.qwen3_vl import Qwen3VL
from tests.contracts.families.qwen_vl import Qwen2VL
from tests.contracts.whole_contract import WholeContract


class Qwen35(WholeContract, Qwen2VL):
    build = "qwen3_5"
    own_class: ClassVar[Any] = Qwen3_5ForConditionalGeneration
    image_token = "<|image_pad|>"
    marker = "<|vision_start|><|image_pad|>"
    shapes = ((2, 8), (0, 0), (2, 8))
    some_layer = 2
    # Linear attention sums over chunks of 64 tokens, and a longer prompt cuts them elsewhere: where
    # memory lies decides on the last bits, of which experts make some more.
    cache_tolerance = 1e-5

    def own_processor(self, folder: Path) -> Any:
        return own_processor(
            Qwen3VLProcessor, Qwen2VLImageProcessorPil, folder, video_processor=None
        )

    def own_cache(self, reference: Any) -> Any:
        """Its own: states of linear attention, and all else in full."""
        return DynamicCache(config=reference.config)

    def rotated(
        self, reference: Any, keys: Array, positions: Array, layers: Sequence[int]
    ) -> Array:
        """Half of the dimensions turn."""
        assert tuple(layers) == (0, 2)
        rope = reference.config.text_config.rope_parameters
        turning, still = np.split(keys, 2, axis=-1)
        section = rope["mrope_section"]
        turned = rotated_by_hand(turning, positions, rope["rope_theta"], section, True)
        return np.concatenate([turned, still], axis=-1)

    # The layer between is no attention, and none is left out.
    test_work_nobody_needs_is_not_done = None  # type: ignore[assignment]
    test_layers_above_the_last_stream_are_not_run = None  # type: ignore[assignment]
    # transformers cuts the texts of this family into bytes, and the tiny words are whole words.
    test_text_values_are_those_within_the_chat_templates_own_turn = None  # type: ignore[assignment]
    test_text_values_alone_equal_each_text_alone = None  # type: ignore[assignment]
    # See cache_tolerance.
    test_keys_and_values_equal_transformers_own_cache_bit_for_bit = None  # type: ignore[assignment]
    test_the_stream_equals_transformers_own_bit_for_bit = None  # type: ignore[assignment]


class Qwen35Moe(Qwen35):
    build = "qwen3_5_moe"
    own_class: ClassVar[Any] = Qwen3_5MoeForConditionalGeneration


class Qwen3VLMoe(Qwen3VL):
    build = "qwen3_vl_moe"
    own_class: ClassVar[Any] = Qwen3VLMoeForConditionalGeneration
