"""The contract of families that run through transformers' own forward of image and text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import DynamicCache

from kvtool.models import load_model
from kvtool.models.base import LanguageModel
from kvtool.models.knockout import knocked_out
from kvtool.types import View
from tests.contracts.arrays import Array, states_of, to_array
from tests.contracts.model_contract import DecoderContract
from tests.contracts.own_networks import half_network
from tests.contracts.transformers_side import QUESTION
from tests.support.tiny import noise

QUESTIONS = (QUESTION, "is the cat red on the left")


class WholeContract(DecoderContract):
    """What holds besides for a family whose tokens are its processor's own."""

    def image_slice(self, reference: Any, ids: list[int]) -> slice:
        """The tokens of a prompt's image, from the first placeholder to the last."""
        indices = [i for i, token in enumerate(ids) if token == reference.config.image_token_id]
        return slice(indices[0], indices[-1] + 1)

    def own_options(self, view: View) -> dict[str, Any]:
        """Options of transformers' processor in a view."""
        assert view in self.views
        return {}

    def own_inputs(
        self,
        reference: Any,
        folder: Path,
        image: Image.Image,
        view: View,
        prefix: str = "",
        question: str = QUESTION,
    ) -> dict[str, Any]:
        del reference
        processor = self.own_processor(folder)
        content = [{"type": "image"}, {"type": "text", "text": question}]
        text = processor.tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        )
        assert text.count(self.marker) == 1
        if prefix:
            text = text.replace(self.marker, f"{prefix}\n{self.marker}")
        options = self.own_options(view)
        return dict(processor(images=[image], text=[text], return_tensors="pt", **options))

    def own_features(self, reference: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """What transformers' own forward hands to its decoder at the image's tokens."""
        entering: list[torch.Tensor] = []

        def see(_module: Any, _args: Any, options: dict[str, Any]) -> None:
            entering.append(options["inputs_embeds"][0])

        handle = reference.get_decoder().register_forward_pre_hook(see, with_kwargs=True)
        reference(**inputs)
        handle.remove()
        return entering[0][self.image_slice(reference, inputs["input_ids"][0].tolist())]

    def test_token_counts_equal_transformers_processor(self, model: Any, folder: Path) -> None:
        processor = self.own_processor(folder)
        for width, height in [*self.sizes, (20_000, 120)]:
            for view in self.views:
                image = noise(width, height)
                encoded = processor(
                    images=[image], text=[f"the {self.image_token} cat"], **self.own_options(view)
                )
                ids = list(encoded["input_ids"][0])
                expected = tuple(ids[self.image_slice(model, ids)])
                sample = model.prepare(image, id="a", index=0, view=view).sample
                assert sample.n_tokens == len(expected), (width, height)
                assert model.layout(sample).ids == expected
                stored = model.prepare_stored(sample, {}).sample
                assert stored == sample
                # Known from the size alone, where the picture itself was never prepared.
                model._layouts.clear()
                assert model.layout(sample).ids == expected

    def test_an_image_is_the_same_under_two_questions(self, reference: Any, folder: Path) -> None:
        """The premise of a store: what follows an image changes nothing of it."""
        for view in self.views:
            passes = []
            for question in QUESTIONS:
                inputs = self.own_inputs(reference, folder, noise(70, 45), view, question=question)
                tokens = self.image_slice(reference, inputs["input_ids"][0].tolist())
                layers = self.run_whole(reference, inputs)[0].layers
                states = [states_of(layer, "value", tokens) for layer in layers]
                passes.append([values for values in states if values is not None])
            for first, second in zip(*passes, strict=True):
                np.testing.assert_allclose(first, second, rtol=0, atol=3e-6)

    def test_the_picture_is_hidden_where_all_heads_are_knocked_out(
        self, model: LanguageModel
    ) -> None:
        geometry = model.info.geometry
        heads = geometry.heads
        for view in self.views:
            seen, hidden = [], []
            states: dict[int, Any] = {}
            for seed in range(2):
                item = model.prepare(noise(70, 45, seed), id="a", index=0, view=view)
                cache = model.prefill([item])
                # No head is blocked in layers of linear attention: both pictures have one state.
                for layer in geometry.recurrent:
                    cache.layers[layer] = states.setdefault(layer, cache.layers[layer])
                text = model.question("what is there")
                seen.append(model.logits(cache, [item.sample], text, last=True).numpy())
                with knocked_out(model, [item.sample], heads):
                    hidden.append(model.logits(cache, [item.sample], text, last=True).numpy())
            assert np.abs(seen[0] - seen[1]).max() > 1e-3
            np.testing.assert_allclose(hidden[0], hidden[1], rtol=0, atol=1e-6)

    def test_in_bfloat16_the_stored_cache_goes_on_as_the_whole_prompt(self, folder: Path) -> None:
        model: Any = load_model(str(folder), dtype="bfloat16")
        reference = half_network(self.own_class, folder, torch.bfloat16)
        for view in self.views:
            sample, captured = self.capture(model, noise(70, 45), view)
            cache = model.restore([sample], [self.stored(captured)])
            logits = model.logits(cache, [sample], model.question("what is there"), last=True)
            with torch.inference_mode():
                inputs = self.own_inputs(reference, folder, noise(70, 45), view)
                expected = reference(**inputs).logits[0, -1].float()
            scale = float(expected.abs().max())
            np.testing.assert_allclose(logits[0].numpy(), expected.numpy(), atol=0.03 * scale)

    def own_cache(self, reference: Any) -> Any:
        """A cache of transformers from which nothing slides."""
        del reference
        return DynamicCache()

    def run_whole(self, reference: Any, inputs: dict[str, Any]) -> tuple[Any, Any]:
        """The cache and the logits of a whole prompt; nothing slides out of the cache."""
        cache = self.own_cache(reference)
        with torch.inference_mode():
            logits = reference(**inputs, past_key_values=cache, use_cache=True).logits
        return cache, logits

    def own_pass(
        self,
        reference: Any,
        folder: Path,
        image: Image.Image,
        view: View,
        prefix: str = "",
        question: str = QUESTION,
    ) -> tuple[list[Any], list[Any], Array]:
        inputs = self.own_inputs(reference, folder, image, view, prefix, question)
        cache, logits = self.run_whole(reference, inputs)
        keys, values = (
            [states_of(layer, name) for layer in cache.layers] for name in ("key", "value")
        )
        return keys, values, to_array(logits[0])
