"""The contract of attention on the image: what a restored cache gives is what transformers' eager
attention gives over the whole prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kvtool.models.attention import image_attention
from kvtool.models.base import LanguageModel
from tests.contracts.arrays import Array, to_array
from tests.contracts.transformers_side import QUESTION, TransformersSide
from tests.support.tiny import noise


@contextmanager
def eager_weights(decoder: Any, layers: Sequence[int]) -> Iterator[dict[int, Array]]:
    """The attention (q_head, query, key) that some layers of transformers' decoder put out."""
    weights: dict[int, Array] = {}

    def keeper(number: int) -> Any:
        def keep(_module: Any, _inputs: Any, output: Any) -> None:
            weights[number] = to_array(output[1][0])

        return keep

    handles = [
        decoder.layers[number].self_attn.register_forward_hook(keeper(number)) for number in layers
    ]
    before = decoder.config._attn_implementation
    decoder.set_attn_implementation("eager")
    try:
        yield weights
    finally:
        decoder.set_attn_implementation(before)
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
            layers = model.info.geometry.cached_layers
            with eager_weights(reference.get_decoder(), layers) as expected:
                self.own_pass(reference, folder, image, view)
            for keys in ("post-rope", "pre-rope"):
                sample, captured = self.capture(model, image, view, keys=keys)
                cache = model.restore([sample], [self.stored(captured)], keys)
                tokens = slice(sample.image_start, sample.image_start + sample.n_tokens)
                maps = image_attention(model, cache, [sample], [text], [range(count)], layers)
                assert maps.dtype == torch.float32
                for row, layer in enumerate(layers):
                    eager = expected[layer][:, -count:, tokens]
                    np.testing.assert_allclose(maps[0, row].numpy(), eager, rtol=0, atol=1e-5)
