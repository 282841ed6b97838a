"""Families that run through transformers' own forward of image and text."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kvtool.models.base import Model
from tests.contracts.families.gemma3 import Gemma3
from tests.contracts.families.gemma4 import Gemma4
from tests.contracts.families.idefics3 import Idefics3, SmolVLM
from tests.contracts.families.internvl import InternVL
from tests.contracts.families.llava_15 import Llava15
from tests.contracts.families.mistral3 import Mistral3
from tests.contracts.families.qwen3_5 import Qwen3VLMoe, Qwen35, Qwen35Moe
from tests.contracts.families.qwen3_vl import Qwen3VL
from tests.support.tiny import noise


@pytest.mark.slow
class TestQwen3VL(Qwen3VL):
    """DeepStack, interleaved rotary positions."""


@pytest.mark.slow
class TestGemma3(Gemma3):
    """Image tokens that see each other both ways, within sliding windows too."""


@pytest.mark.slow
class TestQwen3VLMoe(Qwen3VLMoe):
    """The same with a mixture of experts."""


@pytest.mark.slow
class TestQwen35(Qwen35):
    """Linear attention between layers that have keys and values."""


@pytest.mark.slow
class TestQwen35Moe(Qwen35Moe):
    """The same with a mixture of experts."""


@pytest.mark.slow
class TestGemma4(Gemma4):
    """Layers of two shapes, and layers that read another's keys and values."""


@pytest.mark.slow
class TestMistral3(Mistral3):
    """Marks between rows of image tokens."""

    def test_no_patch_attends_to_another_picture(self, model: Any) -> None:
        """The tower would take a batch as a single sequence, whose cost grows with its square."""
        items = [model.prepare(noise(60, 40, seed), id=str(seed), index=seed) for seed in range(3)]
        tower = model.net.model.vision_tower
        lengths: list[int] = []
        layer = tower.transformer.layers[0]
        layer.register_forward_pre_hook(lambda _, states: lengths.append(states[0].shape[1]))
        encoded = model.encode(items, (0, 1), True)
        single = [model.encode([item], (0, 1), True) for item in items]
        n_patches = len(items[0].sample.spans_of("vision")[0].token_indices())
        assert lengths == [n_patches] * 6
        assert torch.equal(encoded.tokens, torch.cat([image.tokens for image in single]))
        for number in (0, 1):
            vision = torch.cat([image.vision[number] for image in single])
            assert torch.equal(encoded.vision[number], vision)
        assert model.encode(items, (0,), False).tokens is None


@pytest.mark.slow
class TestInternVL(InternVL):
    """Blocks of tiles, the whole picture last."""

    def test_the_base_view_is_the_last_block(self, model: Model) -> None:
        sample = model.prepare(noise(150, 100), id="a", index=0, view="full").sample
        assert [span.name for span in sample.spans] == [*["tiles"] * 6, "base"]
        assert sample.base() == sample.spans[-1]
        assert sample.base().token_indices() == list(range(96, 112))
        assert sample.base("vision").token_indices() == list(range(384, 448))
        assert sample.base().cover_xyxy_px == (0, 0, 150, 100)
        assert sample.spans[4].cover_xyxy_px == (50, 50, 100, 100)


@pytest.mark.slow
class TestIdefics3(Idefics3):
    """Blocks of tiles between marks, the whole picture last."""


@pytest.mark.slow
class TestSmolVLM(SmolVLM):
    """The same in classes of its own."""


class TestLlava15(Llava15):
    """A crop, and nothing else."""
