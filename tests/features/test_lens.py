"""What norm and head read in states: logits, ranks, first pieces and likeliest words."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from kvtool.features import lens
from kvtool.features.lens import first_pieces, piece_logits, read_pieces, top_words
from kvtool.models.language import Language, load_language
from tests.support.tiny_language import llama
from tests.support.tiny_words import word_id

TEXTS = ["a red cat and a dog on the airfield", "the airplane is in the air", "potted plants, cat"]


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Language:
    return load_language(str(llama(tmp_path_factory.mktemp("model"), None)), dtype="float32")


@pytest.mark.parametrize("at_once", [3, 128])
def test_readings_are_those_of_all_logits(
    language: Language, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(lens, "AT_ONCE", at_once)
    states = torch.randn(10, language.hidden, generator=torch.Generator().manual_seed(0)) * 5
    pieces = [word_id("cat"), word_id("dog"), 0]
    reading = read_pieces(language, states, pieces)
    np.testing.assert_array_equal(piece_logits(language, states, pieces), reading.logits)
    norm = language.decoder.norm
    scaled = states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)
    logits = ((scaled * norm.weight) @ language.head.weight.T).detach().numpy()
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(reading.logits, logits[:, pieces], rtol=1e-4, atol=1e-5)
    expected = (logits[:, None, :] > logits[:, pieces][:, :, None]).sum(axis=2) + 1
    np.testing.assert_array_equal(reading.ranks, expected)
    words = top_words(language, states, 3)
    order = np.argsort(-logits, axis=1)[:, :3]
    for token, best in enumerate(words):
        assert [word.text for word in best] == [
            language.tokenizer.decode([piece]) for piece in order[token]
        ]
        np.testing.assert_allclose(
            [word.probability for word in best], probabilities[token, order[token]], rtol=1e-4
        )


def test_no_token_at_all_and_values_that_are_not_finite(language: Language) -> None:
    nothing = read_pieces(language, torch.zeros(0, language.hidden), [1, 2])
    assert nothing.logits.shape == nothing.ranks.shape == (0, 2)
    assert piece_logits(language, torch.zeros(0, language.hidden), [1, 2]).shape == (0, 2)
    assert read_pieces(language, torch.zeros(3, language.hidden), []).ranks.shape == (3, 0)
    spoiled = torch.full((1, language.hidden), float("nan"))
    assert top_words(language, spoiled, 3) == [[]]


def test_equals_share_the_best_of_their_ranks(language: Language) -> None:
    head = torch.nn.Linear(language.hidden, 6, bias=False)
    torch.nn.init.zeros_(head.weight)
    head.weight.data[4, 0] = 1.0
    states = torch.ones(1, language.hidden)
    reading = read_pieces(replace(language, head=head), states, [0, 3, 4])
    assert reading.ranks.tolist() == [[2, 2, 1]]


def test_the_soft_cap_of_a_family_is_applied(language: Language) -> None:
    states = torch.randn(4, language.hidden) * 30
    plain = language.logits(states)
    config = SimpleNamespace(final_logit_softcapping=2.0)
    decoder = SimpleNamespace(norm=language.decoder.norm, config=config)
    capped = replace(language, decoder=decoder).logits(states)
    torch.testing.assert_close(capped, 2.0 * torch.tanh(plain / 2.0))
    assert float(capped.abs().max()) <= 2.0 < float(plain.abs().max())


def trained(core: Tokenizer, trainer: Any) -> Any:
    core.train_from_iterator(TEXTS * 20, trainer)
    wrap: Any = PreTrainedTokenizerFast
    return wrap(tokenizer_object=core, unk_token="<unk>")


def byte_level() -> Any:
    """Spaces are part of the word's first piece, as in GPT-2's and Qwen's tokenizers."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return trained(core, trainers.BpeTrainer(vocab_size=60, special_tokens=["<unk>"]))


def metaspace() -> Any:
    """Spaces are marks before words, and may be pieces of their own, as in Llama's first ones."""
    core = Tokenizer(models.BPE(unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    return trained(core, trainers.BpeTrainer(vocab_size=45, special_tokens=["<unk>"]))


@pytest.mark.parametrize("build", [byte_level, metaspace])
def test_the_first_piece_holds_the_words_first_letter(language: Language, build: Any) -> None:
    tokenizer = build()
    words = ["cat", "airplane", "potted plant", "dog"]
    pieces = first_pieces(replace(language, tokenizer=tokenizer), words)
    assert list(pieces) == words
    for word, piece in pieces.items():
        text = tokenizer.decode([piece]).strip()
        assert text, word
        assert word.startswith(text)


def test_a_word_that_the_tokenizer_does_not_know_has_none(language: Language) -> None:
    assert first_pieces(language, ["cat", "umbrella"]) == {"cat": word_id("cat")}
