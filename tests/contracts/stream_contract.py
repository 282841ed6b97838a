"""The contract of the residual stream: captured, computed from what is stored, and transformers'
own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kvtool.geometry import array_kind
from kvtool.models import load_model
from kvtool.models.base import LanguageModel
from kvtool.models.cache import watched
from kvtool.models.hidden import hidden_states
from kvtool.types import KINDS, View
from tests.contracts.arrays import Array, to_array
from tests.contracts.cache_contract import CacheContract
from tests.contracts.own_networks import half_network
from tests.support.tiny import noise


class StreamContract(CacheContract):
    """The kind `hidden` is what each decoder layer puts out, before the final norm."""

    def own_streams(
        self,
        reference: Any,
        folder: Path,
        image: Image.Image,
        view: View,
        prefix: str,
        question: str,
    ) -> list[Array]:
        """Outputs (token, hidden) of each decoder layer over transformers' whole prompt."""
        outputs: list[torch.Tensor] = []
        network = reference.model
        decoder = (
            network.language_model if hasattr(network, "language_model") else network.text_model
        )
        with watched(dict.fromkeys(decoder.layers, outputs.append)):
            self.own_pass(reference, folder, image, view, prefix, question)
        return [to_array(output[0]) for output in outputs]

    def test_the_stream_equals_transformers_own_bit_for_bit(
        self, model: LanguageModel, reference: Any, folder: Path
    ) -> None:
        half = load_model(str(folder), dtype="bfloat16")
        own_half = half_network(self.own_class, folder, torch.bfloat16)
        for view in self.views:
            image = noise(70, 45)
            prefix = self.lane_filling_prefix(model, image, view)
            question = self.lane_filling_question(reference, folder, image, view, prefix)
            for loaded, theirs in ((model, reference), (half, own_half)):
                prepared = loaded.prepare(image, id="a", index=0, prefix=prefix, view=view)
                captured = loaded.capture([prepared], loaded.request(["hidden"], [2, 0]))
                assert captured.text == {}
                (stream,) = captured.arrays["hidden"]
                start = prepared.sample.image_start
                end = start + prepared.sample.n_tokens
                assert stream.shape == (2, 1, end - start, 32)
                expected = self.own_streams(theirs, folder, image, view, prefix, question)
                for row, layer in enumerate((0, 2)):
                    np.testing.assert_array_equal(stream[row, 0], expected[layer][start:end])

    def test_the_stream_changes_nothing_beside_it(self, model: LanguageModel) -> None:
        for view in self.views:
            prepared = [model.prepare(noise(70, 45, i), id="a", index=i, view=view) for i in (0, 1)]
            for keys in ("post-rope", "pre-rope"):
                plain = model.capture(prepared, model.request(None, None, keys))
                beside = model.capture(prepared, model.request((*KINDS, "hidden"), None, keys))
                assert {array_kind(name) for name in plain.arrays} == set(KINDS)
                assert beside.arrays.keys() == {*plain.arrays, "hidden"}
                for kind, arrays in plain.arrays.items():
                    np.testing.assert_array_equal(beside.arrays[kind], arrays)
                for name, arrays in plain.text.items():
                    np.testing.assert_array_equal(beside.text[name], arrays)

    def test_the_stream_follows_from_what_is_stored(self, folder: Path) -> None:
        half: Any = load_model(str(folder), dtype="bfloat16")
        for view in self.views:
            prepared = half.prepare(noise(70, 45), id="a", index=0, view=view)
            captured = half.capture([prepared], half.request((*KINDS, "hidden"), None))
            arrays = self.stored(captured)
            tokens = np.array([[0, 2, prepared.sample.n_tokens - 1]])
            layers = range(half.info.geometry.layers)
            computed = hidden_states(half, [prepared.sample], [arrays], tokens, layers)
            stream = captured.arrays["hidden"][0][:, 0, tokens[0]]
            np.testing.assert_array_equal(to_array(computed[:, 0]), stream)

    def test_layers_above_the_last_stream_are_not_run(self, model: LanguageModel) -> None:
        ran: list[str] = []
        layers = model.language_model.layers
        modules = {"mlp 1": layers[1].mlp, "layer 2": layers[2].input_layernorm}
        handles = [
            module.register_forward_hook(lambda *_, name=name: ran.append(name))
            for name, module in modules.items()
        ]
        prepared = model.prepare(noise(70, 45), id="a", index=0)
        model.capture([prepared], model.request(("key", "hidden"), [1]))
        assert ran == ["mlp 1"]
        for handle in handles:
            handle.remove()
