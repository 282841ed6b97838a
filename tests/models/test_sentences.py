"""Vectors of texts: means of a language model's states, and a sentence encoder's pooling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, T5Config, T5Model

from kvtool.errors import ModelError
from kvtool.models.language import load_language
from kvtool.models.sentences import load_embedder, mean_states
from tests.support import tiny
from tests.support.tiny_language import llama
from tests.support.tiny_words import LLAVA_TEMPLATE, VOCABULARY, text_tokenizer

TEXTS = ["a red cat", "the dog is on the left", "", "a blue dog", "a red cat"]


def test_mean_states_of_a_language_model(tmp_path: Path) -> None:
    folder = llama(tmp_path, LLAVA_TEMPLATE)
    language = load_language(str(folder), dtype="float32")
    vectors = mean_states(language, TEXTS)
    assert vectors.shape == (5, 32)
    for index, text in enumerate(TEXTS):
        ids = [*language.opening_ids, *language.token_ids(text)]
        # 0.6 of three layers is the third one.
        states = language.states(torch.tensor([ids]), [2])[0, 0, len(language.opening_ids) :]
        expected = states.mean(dim=0).numpy() if text else np.zeros(32)
        np.testing.assert_allclose(vectors[index], expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(load_embedder(str(folder))(TEXTS), vectors)
    assert not np.allclose(mean_states(language, TEXTS, layer=0), vectors)


def bert(folder: Path) -> Path:
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=8,
    )
    network = BertModel(config)
    tiny.randomize(network)
    network.save_pretrained(folder)
    text_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize("takes_first", [None, False, True])
def test_a_sentence_encoder_pools_as_its_folder_says(
    tmp_path: Path, takes_first: bool | None
) -> None:
    folder = bert(tmp_path)
    if takes_first is not None:
        (folder / "1_Pooling").mkdir()
        pooling = {"pooling_mode_cls_token": takes_first}
        (folder / "1_Pooling/config.json").write_text(json.dumps(pooling))
    vectors = load_embedder(str(folder))(TEXTS)
    network: Any = BertModel.from_pretrained(folder)
    for text, vector in zip(TEXTS, vectors, strict=True):
        ids = text_tokenizer()(text).input_ids
        with torch.inference_mode():
            states = network(torch.tensor([ids])).last_hidden_state[0]
        expected = states[0] if takes_first else states.mean(dim=0)
        np.testing.assert_allclose(vector, expected.numpy(), rtol=0, atol=1e-5)


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    vectors = load_embedder(str(bert(tmp_path)))(["a red cat " * 30])
    assert np.isfinite(vectors).all()


def test_what_gives_no_vectors_is_refused(tmp_path: Path) -> None:
    config = T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2)
    T5Model(config).save_pretrained(tmp_path)
    text_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="expected a sentence encoder or a language model, found"):
        load_embedder(str(tmp_path))
