"""The contract of what follows a restored cache: logits and answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kvtool.models.base import LanguageModel
from kvtool.types import Sample
from tests.contracts.arrays import Array, assert_same_cache, rotated_by_hand
from tests.contracts.transformers_side import TransformersSide
from tests.support.tiny import noise


class ContinuationContract(TransformersSide):
    """A restored cache goes on as the whole prompt does."""

    def test_continued_logits_equal_the_whole_prompt(
        self, model: LanguageModel, reference: Any, folder: Path
    ) -> None:
        for view in self.views:
            image = noise(70, 45)
            sample, captured = self.capture(model, image, view)
            cache = model.restore([sample], [self.stored(captured)])
            text = model.question("what is there")
            logits = model.logits(cache, [sample], text)[0].numpy()
            _, _, expected = self.own_pass(reference, folder, image, view)
            np.testing.assert_allclose(logits, expected[-len(logits) :], rtol=0, atol=1e-4)
            last = model.logits(cache, [sample], text, last=True)[0].numpy()
            np.testing.assert_allclose(last, expected[-1], rtol=0, atol=1e-4)

    def test_answers_equal_transformers_generate(
        self, model: LanguageModel, reference: Any, folder: Path
    ) -> None:
        for view in self.views:
            sample, captured = self.capture(model, noise(70, 45), view)
            cache = model.restore([sample], [self.stored(captured)])
            answers = [
                model.generate(cache, [sample], model.question("what is there"), 12)
                for _ in range(2)
            ]
            inputs = self.own_inputs(reference, folder, noise(70, 45), view)
            start = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
            ids = reference.generate(**inputs, max_new_tokens=12, do_sample=False)[0, start:]
            expected = (
                self.own_processor(folder).tokenizer.decode(ids, skip_special_tokens=True).strip()
            )
            assert answers == [[expected], [expected]]

    def test_batch_goes_on_like_single(self, model: LanguageModel) -> None:
        items = [model.prepare(noise(70, 45, i), id=str(i), index=i) for i in range(2)]
        captured = model.capture(items, model.request(None, None))
        samples = [item.sample for item in items]
        cache = model.restore(samples, [self.stored(captured, i) for i in range(2)])
        texts = [model.question("what is there"), model.question("red cat left")]
        together = model.logits(cache, samples, texts)
        for i in range(2):
            restored = model.restore([samples[i]], [self.stored(captured, i)])
            expected = model.logits(restored, [samples[i]], texts[i])[0]
            np.testing.assert_allclose(together[i].numpy(), expected.numpy(), rtol=0, atol=1e-4)

    def test_prefill_equals_restore(self, model: LanguageModel) -> None:
        prepared = model.prepare(noise(70, 45), id="a", index=0, prefix="red", view=self.views[-1])
        captured = model.capture([prepared], model.request(None, None))
        restored = model.restore([prepared.sample], [self.stored(captured)])
        prefilled = model.prefill([prepared])
        # Layers that read another's keys and values have no place in a restored cache.
        del prefilled.layers[len(restored.layers) :]
        assert_same_cache(prefilled, restored)

    def test_pre_rope_keys_rotated_by_hand_equal_post_rope(
        self, model: LanguageModel, reference: Any, folder: Path
    ) -> None:
        for view in self.views:
            sample, after = self.capture(model, noise(70, 45), view)
            _, before = self.capture(model, noise(70, 45), view, keys="pre-rope")
            positions = self.positions_by_hand(sample)
            layers = range(model.info.geometry.layers)
            for array in model.info.geometry.cache_arrays("key", layers):
                keys, expected = (
                    np.concatenate([item.text[array.name][0], item.arrays[array.name][0]], axis=2)
                    for item in (before, after)
                )
                rotated = self.rotated(reference, keys, positions, array.layers)
                np.testing.assert_allclose(rotated, expected, rtol=0, atol=1e-5)
                assert np.abs(keys - expected).max() > 0.01
            for array in model.info.geometry.cache_arrays("value", layers):
                values, expected = (item.arrays[array.name][0] for item in (before, after))
                np.testing.assert_array_equal(values, expected)
            cache = model.restore([sample], [self.stored(before)], keys="pre-rope")
            logits = model.logits(cache, [sample], model.question("what is there"))[0].numpy()
            _, _, full_logits = self.own_pass(reference, folder, noise(70, 45), view)
            np.testing.assert_allclose(logits, full_logits[-len(logits) :], rtol=0, atol=1e-4)

    def rotated(
        self, reference: Any, keys: Array, positions: Array, layers: Sequence[int]
    ) -> Array:
        """Keys (layer, kv_head, token, dim) of some layers rotated as the family's paper says."""
        assert len(layers) == len(keys)
        rope = reference.config.text_config.rope_parameters
        return rotated_by_hand(keys, positions, rope["rope_theta"], rope.get("mrope_section"))

    def positions_by_hand(self, sample: Sample) -> Array:
        """(axis, token) rotary positions of prefix and image; of most families just counted, the
        same on all axes.
        """
        return np.tile(np.arange(sample.image_start + sample.n_tokens), (3, 1))
