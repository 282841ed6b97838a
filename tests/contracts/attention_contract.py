"""The contract of attention on the image: what a restored cache gives is what transformers' eager
attention gives over the whole prompt.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from kvtool.models.attention import image_attention
from kvtool.models.base import LanguageModel
from tests.contracts.arrays import Array, to_array
from tests.contracts.transformers_side import TransformersSide
from tests.support.tiny import noise

QUESTION = "what is there"


@contextmanager
def eager_weights(decoder: nn.Module) -> Iterator[list[Array]]:
    """The attention (q_head, query, key) that each layer of transformers' decoder puts out."""
    weights: list[Array] = []
    handles = [
        layer.self_attn.register_forward_hook(
            lambda _module, _inputs, output: weights.append(to_array(output[1][0]))
        )
        for layer in decoder.layers  # type: ignore[union-attr]
    ]
    before = decoder.config._attn_implementation  # type: ignore[union-attr]
    decoder.set_attn_implementation("eager")  # type: ignore[operator]
    try:
        yield weights
    finally:
        decoder.set_attn_implementation(before)  # type: ignore[operator]
        for handle in handles:
            handle.remove()


class AttentionContract(TransformersSide):
    """Attention of text on the tokens of the image before it."""

    def test_attention_equals_eager_weights_of_the_whole_prompt(
        self, model: LanguageModel, reference: Any, folder: Path
    ) -> None:
        text = model.question(QUESTION)
        count = len(model.token_spans(text))
        for view in self.views:
            image = noise(70, 45)
            with eager_weights(reference.get_decoder()) as expected:
                self.own_pass(reference, folder, image, view)
            for keys in ("post-rope", "pre-rope"):
                sample, captured = self.capture(model, image, view, keys=keys)
                cache = model.restore([sample], [self.stored(captured)], keys)
                tokens = slice(sample.image_start, sample.image_start + sample.n_tokens)
                maps = image_attention(model, cache, [sample], [text], [range(count)], [0, 1, 2])
                assert maps.dtype == torch.float32
                for layer in range(3):
                    eager = expected[layer][:, -count:, tokens]
                    np.testing.assert_allclose(maps[0, layer].numpy(), eager, rtol=0, atol=1e-5)
