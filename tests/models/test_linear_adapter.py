"""Two frozen models and a linear layer: the same keys, values and answers as by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import Dinov2Model, LlamaForCausalLM

from kvtool.errors import ModelError
from kvtool.models import load_model
from kvtool.models.adapters import AdapterSettings, JoinedModel, write_settings
from kvtool.models.hub import resolve
from tests.support import tiny
from tests.support.tiny import noise
from tests.support.tiny_language import llama

D_LANGUAGE = 32
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }} {{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""The chat template of a model that reads text alone: what a user says is one string."""


def adapter(root: Path, pool: int = 1, layer: int = 2) -> Path:
    """An adapter between a tiny Llama and a tiny DINOv2."""
    language = llama(root / "language", CHAT)
    vision = tiny.dinov2(root / "vision")
    folder = root / "adapter"
    folder.mkdir()
    d_vision = load_model(str(vision), weights=False).info.geometry.vision_dim
    generator = torch.Generator().manual_seed(0)
    weights = {
        "weight": torch.randn(D_LANGUAGE, d_vision, generator=generator),
        "bias": torch.randn(D_LANGUAGE, generator=generator),
    }
    save_file(weights, folder / "adapter.safetensors")
    parts = [JoinedModel(str(path), resolve(str(path)).revision) for path in (language, vision)]
    write_settings(folder, AdapterSettings(parts[0], parts[1], layer, pool))
    return folder


def by_hand(folder: Path, model: Any, sample: Any, text: str) -> Any:
    """transformers' own models and the matrix between them, over [text][image][text]."""
    settings = json.loads((folder / "config.json").read_text())
    weights = _weights(folder)
    tower: Any = Dinov2Model.from_pretrained(settings["vision"]["name"])
    prepared = model.tower.prepare(noise(70, 45), id="a", index=0)
    with torch.inference_mode():
        states = tower(
            prepared.tensors["pixels"][None].float(), output_hidden_states=True
        ).hidden_states
        patches = states[settings["layer"] + 1][0, 1:]
        if settings["layer"] + 2 == len(states):
            patches = tower.layernorm(patches)
        rows, cols = prepared.sample.vision_spans[0].grid
        pool = settings["pool"]
        squares = [
            patches.reshape(rows, cols, -1)[r : r + pool, c : c + pool].mean(dim=(0, 1))
            for r in range(0, rows, pool)
            for c in range(0, cols, pool)
        ]
        tokens = torch.stack(squares) @ weights["weight"].T + weights["bias"]
        network: Any = LlamaForCausalLM.from_pretrained(settings["language"]["name"])
        embed = network.get_input_embeddings()
        parts = [
            embed(torch.tensor(sample.prefix_ids, dtype=torch.long)),
            tokens,
            embed(torch.tensor(model.prompt.text_ids(text))),
        ]
        return network(inputs_embeds=torch.cat(parts)[None], use_cache=True), tokens


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("pool", [1, 2])
@pytest.mark.parametrize("scheme", ["", "adapter:"])
def test_keys_values_and_logits_are_those_by_hand(tmp_path: Path, pool: int, scheme: str) -> None:
    folder = adapter(tmp_path, pool)
    model: Any = load_model(f"{scheme}{folder}", dtype="float32")
    batch = [model.prepare(noise(70, 45), id="a", index=0, prefix="the red cat")]
    sample = batch[0].sample
    captured = model.capture(batch, model.request(None, None))
    text = model.question("what is there")
    expected, tokens = by_hand(folder, model, sample, text)
    np.testing.assert_allclose(captured.arrays["projected"][0][0, 0], tokens, atol=2e-5)
    stop = sample.image_start + sample.n_tokens
    for layer, stored in enumerate(expected.past_key_values.layers):
        image = slice(sample.image_start, stop)
        for kind, states in (("key", stored.keys), ("value", stored.values)):
            image_states = captured.arrays[kind][0][layer]
            np.testing.assert_allclose(image_states, states[0, :, image], atol=5e-5)
    arrays = {kind: values[0] for kind, values in captured.arrays.items()}
    arrays |= {f"text_{kind}": values[0] for kind, values in captured.text.items()}
    logits = model.logits(model.restore([sample], [arrays]), [sample], text)[0]
    np.testing.assert_allclose(logits, expected.logits[0, stop:], atol=2e-4)
    rows, cols = sample.vision_spans[0].grid
    assert sample.spans[0].grid == (rows // pool, cols // pool)


def test_a_system_text_stands_where_the_chat_template_puts_it(tmp_path: Path) -> None:
    folder = str(adapter(tmp_path))
    model: Any = load_model(folder, system="the red dog", weights=False)
    before = "<|im_start|>system the red dog<|im_end|>\n<|im_start|>user "
    ids = model.prompt.tokenizer(before, add_special_tokens=False).input_ids
    assert model.prepare(noise(70, 45), id="a", index=0).sample.prefix_ids == tuple(ids)


@pytest.mark.slow
def test_a_batch_is_its_images(tmp_path: Path) -> None:
    model: Any = load_model(str(adapter(tmp_path)), dtype="float32")
    batch = [model.prepare(noise(70, 45, seed), id=str(seed), index=seed) for seed in range(2)]
    request = model.request(None, None)
    together = model.capture(batch, request)
    for number, item in enumerate(batch):
        single = model.capture([item], request)
        for kind, arrays in single.arrays.items():
            np.testing.assert_allclose(together.arrays[kind][number], arrays[0], atol=1e-5)


def test_another_decoder_is_refused(tmp_path: Path) -> None:
    folder = adapter(tmp_path)
    (tmp_path / "other").mkdir()
    llama(tmp_path / "language", CHAT, adds_start=True)
    with pytest.raises(ModelError, match="the layer was trained, found files-"):
        load_model(str(folder))


@pytest.mark.slow
def test_a_layer_of_other_widths_is_refused(tmp_path: Path) -> None:
    folder = adapter(tmp_path)
    save_file({"weight": torch.zeros(5, 7), "bias": torch.zeros(5)}, folder / "adapter.safetensors")
    with pytest.raises(ModelError, match=r"expected weight \(32, .* it is of other models"):
        load_model(str(folder))


@pytest.mark.parametrize("layer", [3, -1, 99])
def test_a_layer_that_the_tower_lacks(tmp_path: Path, layer: int) -> None:
    folder = adapter(tmp_path, layer=layer)
    with pytest.raises(ModelError, match=rf"expected a layer from 0 to 2 of .* found {layer}$"):
        load_model(str(folder), weights=False)


def test_settings_that_are_none(tmp_path: Path) -> None:
    folder = adapter(tmp_path)
    record = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**record, "pool": "two"}))
    with pytest.raises(ModelError, match="take the whole folder of an adapter"):
        load_model(str(folder))
