"""The contract of what a multimodal family captures: keys, values, projected tokens, prompts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from kvtool.models import load_model
from kvtool.models.base import LanguageModel, Model, Prepared
from kvtool.types import View
from tests.contracts.arrays import Array, of_layer, to_array
from tests.contracts.encoder_contract import SIZES
from tests.contracts.own_networks import half_network
from tests.contracts.transformers_side import QUESTION, TransformersSide
from tests.support.tiny import noise

LANES = 32
"""Tokens that fill whole vector lanes of the CPU's attention kernel, in every precision."""


class CacheContract(TransformersSide):
    """What is captured is what transformers' own forward holds."""

    shapes: ClassVar[tuple[tuple[int, int], ...]] = ((2, 8),) * 3
    """(kv_heads, dim) of each layer."""
    some_layer: ClassVar[int] = 1
    """A layer with keys and values of its own."""
    cache_tolerance: ClassVar[float] = 3e-6
    """How far float32 keys and values may be from those of a prompt that goes on."""
    embeds_between: ClassVar[int] = 0
    """How often words between image tokens are embedded to know what enters the decoder."""

    def lane_filling_prefix(self, model: Model, image: Image.Image, view: View) -> str:
        """A prefix with which text and image tokens fill whole vector lanes of the CPU's attention
        kernel.

        It sums over a row's keys in lanes of 16 or 32 numbers, so that its last bit depends on the
        length of the prompt: only then can equality with a longer prompt be exact, which must fill
        lanes as well. See docs/decisions/models-bit-equality.md.
        """
        for words in range(1, LANES + 1):
            prefix = "red " * words
            sample = model.prepare(image, id="a", index=0, prefix=prefix, view=view).sample
            if (sample.image_start + sample.n_tokens) % LANES == 0:
                return prefix
        raise AssertionError(f"one of {LANES} lengths in a row is a multiple of {LANES}")

    def lane_filling_question(
        self, reference: Any, folder: Path, image: Image.Image, view: View, prefix: str
    ) -> str:
        """A question with which transformers' whole prompt fills whole vector lanes."""

        def n_tokens(question: str) -> int:
            inputs = self.own_inputs(reference, folder, image, view, prefix, question)
            tokens = inputs["input_ids"] if "input_ids" in inputs else inputs["inputs_embeds"]
            return int(tokens.shape[1])

        question = QUESTION + " red" * (-n_tokens(QUESTION) % LANES)
        assert n_tokens(question) % LANES == 0
        return question

    def test_keys_and_values_equal_transformers_own_cache_bit_for_bit(
        self, model: Model, reference: Any, folder: Path
    ) -> None:
        half = load_model(str(folder), dtype="bfloat16")
        own_half = half_network(self.own_class, folder, torch.bfloat16)
        for view in self.views:
            image = noise(70, 45)
            prefix = self.lane_filling_prefix(model, image, view)
            question = self.lane_filling_question(reference, folder, image, view, prefix)
            for loaded, theirs in ((model, reference), (half, own_half)):
                pairs = self.key_value_pairs(loaded, theirs, folder, view, prefix, question)
                for values, expected in pairs:
                    assert values.dtype == (np.float32 if loaded is model else np.uint16)
                    np.testing.assert_array_equal(values, expected)

    @pytest.mark.parametrize("prefix", ["", "the red cat"])
    def test_keys_and_values_equal_transformers_own_cache(
        self, model: Model, reference: Any, folder: Path, prefix: str
    ) -> None:
        for view in self.views:
            for values, expected in self.key_value_pairs(model, reference, folder, view, prefix):
                np.testing.assert_allclose(values, expected, rtol=0, atol=self.cache_tolerance)

    def key_value_pairs(
        self,
        model: Model,
        reference: Any,
        folder: Path,
        view: View,
        prefix: str,
        question: str = QUESTION,
    ) -> Iterator[tuple[Array, Array]]:
        """(ours, transformers') of each layer: keys and values of image and of text tokens."""
        image = noise(70, 45)
        prepared = model.prepare(image, id="a", index=0, prefix=prefix, view=view)
        captured = model.capture([prepared], model.request(("key", "value"), None))
        keys, values, _ = self.own_pass(reference, folder, image, view, prefix, question)
        start, end = (
            prepared.sample.image_start,
            prepared.sample.image_start + prepared.sample.n_tokens,
        )
        geometry = model.info.geometry
        layers = range(geometry.layers)
        assert tuple(map(geometry.shape, layers)) == self.shapes
        for name, states in (("key", keys), ("value", values)):
            for layer in geometry.cached_layers:
                image_states = of_layer(captured.arrays, model, name, layers, layer)
                heads, dim = geometry.shape(layer)
                assert image_states.shape == (heads, prepared.sample.n_tokens, dim)
                yield image_states, states[layer][:, start:end]
                yield (
                    of_layer(captured.text, model, name, layers, layer),
                    states[layer][:, :start],
                )

    def test_prompt_ids_equal_transformers(
        self, model: Model, reference: Any, folder: Path
    ) -> None:
        for prefix in ("", "the red cat"):
            for view in self.views:
                inputs = self.own_inputs(reference, folder, noise(70, 45), view, prefix)
                if "input_ids" in inputs:
                    ids = inputs["input_ids"][0].tolist()
                    sample = model.prepare(
                        noise(70, 45), id="a", index=0, prefix=prefix, view=view
                    ).sample
                    assert tuple(ids[: sample.image_start]) == sample.prefix_ids

    def test_projected_equals_transformers_features(
        self, model: Model, reference: Any, folder: Path
    ) -> None:
        for view in self.views:
            sample, captured = self.capture(model, noise(70, 45), view)
            with torch.inference_mode():
                inputs = self.own_inputs(reference, folder, noise(70, 45), view)
                expected = to_array(self.own_features(reference, inputs))[: sample.n_tokens]
            np.testing.assert_array_equal(captured.arrays["projected"][0][0, 0], expected)

    def test_token_counts_equal_transformers_processor(self, model: Model, folder: Path) -> None:
        processor = self.own_processor(folder)
        for width, height in [*SIZES, (20_000, 120)]:
            encoded = processor(images=noise(width, height), text=f"the {self.image_token} cat")
            count = encoded["input_ids"][0].count(processor.image_token_id)
            sample = model.prepare(
                noise(width, height), id="a", index=0, view=self.views[-1]
            ).sample
            assert sample.n_tokens == count, (width, height)

    def test_some_layers_equal_those_of_all(self, model: Model) -> None:
        prepared = model.prepare(noise(70, 45), id="a", index=0)
        full = model.capture([prepared], model.request(None, None))
        layer, layers = self.some_layer, range(model.info.geometry.layers)
        part = model.capture([prepared], model.request(("value", "projected"), [layer]))
        assert set(part.arrays) == {"value", "projected"}
        for ours, theirs in ((part.arrays, full.arrays), (part.text, full.text)):
            expected = of_layer(theirs, model, "value", layers, layer)
            np.testing.assert_array_equal(of_layer(ours, model, "value", [layer], layer), expected)
        assert set(part.text) == {"value"}

    def test_work_nobody_needs_is_not_done(self, model: LanguageModel) -> None:
        ran: list[str] = []
        layers = model.language_model.layers
        watched = {
            "attention 1": layers[1].self_attn.o_proj,
            "mlp 0": layers[0].mlp,
            "mlp 1": layers[1].mlp,
        }
        watched |= {
            "layer 2": layers[2].input_layernorm,
            "embedding": model.language_model.embed_tokens,
        }
        handles = [
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
            for name, module in watched.items()
        ]
        prepared: Prepared = model.prepare(noise(70, 45), id="a", index=0)
        model.capture([prepared], model.request(("key", "value"), [0, 1]))
        between = ["embedding"] * self.embeds_between
        assert sorted(ran) == [*between, "embedding", "mlp 0"]
        ran.clear()
        model.capture([prepared], model.request(("projected", "vision"), None))
        assert ran == between
        for handle in handles:
            handle.remove()
