"""Language models for texts alone: streams, words and what stands before a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from kvtool.errors import ModelError, UsageError
from kvtool.models.language import load_language
from tests.support import tiny
from tests.support.tiny_language import llama
from tests.support.tiny_words import LLAVA_TEMPLATE

TEXTS = ["a red cat", "the dog is on the left", "blue", ""]


def own_states(folder: Path, ids: list[int]) -> torch.Tensor:
    """transformers' hidden states (layer, token, hidden) after the first two layers."""
    network: Any = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        states = network(torch.tensor([ids]), output_hidden_states=True).hidden_states
    return torch.stack([states[1][0], states[2][0]])


@pytest.mark.parametrize(
    ("template", "adds_start"), [(LLAVA_TEMPLATE, False), (None, True), (None, False)]
)
def test_streams_equal_transformers(tmp_path: Path, template: str | None, adds_start: bool) -> None:
    folder = llama(tmp_path, template, adds_start)
    language = load_language(str(folder), dtype="float32")
    before = list(language.opening_ids)
    assert bool(before) == bool(template or adds_start)
    streams = {item.index: item for item in language.text_states(TEXTS, [0, 1])}
    # Where nothing stands before a text, its first token is left out, and with it "blue".
    assert sorted(streams) == ([0, 1, 2] if before else [0, 1])
    for index, stream in streams.items():
        ids = language.token_ids(TEXTS[index])
        expected = own_states(folder, before + ids)[:, max(1, len(before)) :]
        assert stream.ids == (before + ids)[max(1, len(before)) :]
        torch.testing.assert_close(stream.states, expected, rtol=0, atol=2e-6)


def test_the_decoder_of_a_multimodal_model(tmp_path: Path) -> None:
    language = load_language(str(tiny.llava_onevision(tmp_path)), dtype="float32")
    assert (language.n_layers, language.hidden) == (3, 32)
    (stream,) = language.text_states(["a red cat"], [2])
    assert stream.states.shape == (1, 3, 32)
    text = language.tokenizer.decode(language.opening_ids)
    assert "user" in text
    assert "assistant" not in text


def test_words_end_at_their_last_token(tmp_path: Path) -> None:
    language = load_language(str(llama(tmp_path, None)), dtype="float32")
    positions = language.word_positions("a red cat is on the Cat", ["cat", "red", "dog", "the cat"])
    assert positions == {"cat": [2, 6], "red": [1], "the cat": [6]}


def test_what_is_no_language_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="found an encoder alone"):
        load_language(str(tiny.dinov2(tmp_path / "dino")))
    language = load_language(str(llama(tmp_path / "llama", None)), dtype="float32")
    with pytest.raises(UsageError, match="expected numbers from 0 to 2, found 3"):
        language.states(torch.tensor([[1, 2]]), [3])
