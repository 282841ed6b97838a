"""Words in sentences: which tokens they are, and what directions are worth on text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from kvtool.features.word_states import SentenceWords, WordStates
from kvtool.models.language import Language, load_language
from tests.support.tiny_language import llama
from tests.support.tiny_words import LLAVA_TEMPLATE

SENTENCES = ["a red cat", "the dog is on the left", "there is no cat in the image", "blue dogs"]


@pytest.mark.sampled
@pytest.mark.parametrize("template", [LLAVA_TEMPLATE, None])
def test_tokens_that_are_words(tmp_path: Path, template: str | None) -> None:
    language = load_language(str(llama(tmp_path, template)), dtype="float32")
    words = SentenceWords(language, SENTENCES, ["cat", "dog", "umbrella"])
    states = words.read([2, 0])
    assert list(states) == [2, 0]
    streams = {item.index: item for item in language.text_states(SENTENCES, [2, 0])}
    for row, layer in enumerate((2, 0)):
        layer_states = states[layer]
        assert set(layer_states.labels) == {"cat", "dog"}
        for index, stream in streams.items():
            is_sentence = layer_states.texts == index
            torch.testing.assert_close(layer_states.states[is_sentence], stream.states[row])
            tokens = [language.tokenizer.decode([token]) for token in stream.ids]
            expected = [token == "cat" for token in tokens]
            assert layer_states.labels["cat"][is_sentence].tolist() == expected


def word_states(rng: np.random.Generator, strength: float, n_texts: int = 80) -> WordStates:
    """Sentences of six tokens, of which one is a cat or a dog, so far from the others."""
    states = rng.standard_normal((n_texts * 6, 64))
    labels = {name: np.zeros(n_texts * 6, bool) for name in ("cat", "dog")}
    for text in range(n_texts):
        name = "cat" if text % 3 else "dog"
        token = 6 * text + int(rng.integers(6))
        labels[name][token] = True
        states[token, list(labels).index(name)] += strength
    return WordStates(
        torch.tensor(states, dtype=torch.float32), labels, np.repeat(np.arange(n_texts), 6)
    )


def test_directions_are_tried_on_sentences_that_did_not_make_them() -> None:
    """Directions of noise find the tokens that they were made of; on others they find nothing."""
    rng = np.random.default_rng(0)
    held_out = []
    for _ in range(20):
        states = word_states(rng, 0.0)
        direction = states.directions()["dog"]
        in_sample = roc_auc_score(states.labels["dog"], states.states.numpy() @ direction)
        assert in_sample > 0.7
        held_out.append(states.directions_auroc())
    assert abs(np.mean(held_out) - 0.5) < 0.05
    assert word_states(rng, 8.0).directions_auroc() > 0.97


def test_scores_of_words_that_do_not_occur_do_not_count() -> None:
    states = word_states(np.random.default_rng(1), 0.0)
    scores = np.stack([states.labels["cat"], np.zeros(len(states.texts))], axis=1)
    assert states.scores_auroc(scores, ["cat", "umbrella"]) == 1.0
    assert np.isnan(states.scores_auroc(scores, ["kite", "umbrella"]))


def test_sentences_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    language: Language = load_language(str(llama(tmp_path, LLAVA_TEMPLATE)), dtype="float32")
    words = SentenceWords(language, SENTENCES, ["cat", "dog"])
    with torch.no_grad():
        blue = language.token_ids("blue")[0]
        language.decoder.embed_tokens.weight[blue] = float("inf")
    assert set(words.read([0])[0].texts) == {0, 1, 2}
    assert SentenceWords(language, ["blue"], ["cat"]).read([0]) == {}
