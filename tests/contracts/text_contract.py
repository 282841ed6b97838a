"""The contract of vectors of texts alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from tests.contracts.arrays import of_layer, to_array
from tests.contracts.transformers_side import TransformersSide


class TextContract(TransformersSide):
    """Vectors of texts are those that transformers computes."""

    two_layers: ClassVar[tuple[int, int]] = (0, 2)
    """Layers with keys and values of their own."""

    def test_text_values_are_those_within_the_chat_templates_own_turn(
        self, model: Any, reference: Any, folder: Path
    ) -> None:
        """What stands after a text changes nothing of it, so that the whole turn as transformers
        renders it is the reference.
        """
        texts = ["cat", "the red dog", "dog", "is there a cat"]
        layers = self.two_layers
        vectors = model.text_vectors(texts, layers, ("value", "projected"), "{}")
        tokenizer = self.own_processor(folder).tokenizer
        embed = reference.get_input_embeddings()
        assert vectors.token_counts == [1, 3, 1, 4]
        for row, text in enumerate(texts):
            turn = [{"role": "user", "content": [{"type": "text", "text": text}]}]
            rendered = tokenizer.apply_chat_template(turn, tokenize=False)
            ids = tokenizer(rendered)["input_ids"]
            words = tokenizer(text, add_special_tokens=False)["input_ids"]
            # The text stands last in the turn, before <|im_end|>.
            end = max(i for i in range(len(ids)) if ids[i : i + len(words)] == words) + len(words)
            assert end > len(words)
            with torch.inference_mode():
                cache = reference.get_decoder()(
                    input_ids=torch.tensor([ids]), use_cache=True
                ).past_key_values
                embedded = embed(torch.tensor(words))
            for layer in layers:
                expected = to_array(cache.layers[layer].values[0, :, end - 1])
                values = of_layer(vectors.arrays, model, "value", layers, layer, row)
                np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(
                vectors.arrays["projected"][row, 0, 0], to_array(embedded[-1])
            )
            np.testing.assert_allclose(
                vectors.arrays["projected_mean"][row, 0, 0], to_array(embedded.mean(0)), atol=1e-6
            )

    def test_text_values_alone_equal_each_text_alone(
        self, model: Any, reference: Any, folder: Path
    ) -> None:
        texts = ["cat", "the red dog", "dog", "is there a cat"]
        values = model.text_values(texts, [0, 2], "alone:{}")
        tokenizer = self.own_processor(folder).tokenizer
        for row, text in enumerate(texts):
            ids = torch.tensor([tokenizer(text)["input_ids"]])
            with torch.inference_mode():
                cache = reference.get_decoder()(input_ids=ids, use_cache=True).past_key_values
            expected = [to_array(cache.layers[layer].values[0, :, -1]) for layer in (0, 2)]
            np.testing.assert_allclose(values[row], np.stack(expected), rtol=1e-5, atol=1e-6)

    def test_several_patterns_are_averaged(self, model: Any) -> None:
        patterns = ["the {}", "a red {}", "{}"]
        averaged = model.text_values(["cat", "dog"], [0, 1], "|".join(patterns))
        apart = [model.text_values(["cat", "dog"], [0, 1], pattern) for pattern in patterns]
        np.testing.assert_allclose(averaged, np.mean(apart, axis=0), rtol=1e-5, atol=1e-6)
