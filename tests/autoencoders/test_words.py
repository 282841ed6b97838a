"""Words: inflections of one word are one form, and words that only look alike are not."""

from __future__ import annotations

import numpy as np
import pytest

from kvtool.autoencoders.words import (
    STOP_WORDS,
    content_tokens,
    content_words,
    document_frequency,
    lemma,
)
from tests.support.tiny_words import tokenizer

FORMS = {
    "dog": "dogs",
    "butterfly": "butterflies",
    "box": "boxes",
    "bench": "benches",
    "glass": "glasses",
    "horse": "horses",
    "house": "houses",
    "vase": "vases",
    "shelf": "shelves",
    "knife": "knives",
    "person": "people",
    "woman": "women",
    "potato": "potatoes",
    "shoe": "shoes",
    "tie": "ties",
    "ride": "rides riding rode",
    "sit": "sits sitting sat",
    "eat": "eats eating ate",
    "park": "parks parked parking",
    "walk": "walking walked",
    "play": "plays playing played",
    "carry": "carries carried carrying",
    "drive": "driving drives",
    "open": "opening opened opens",
    "dance": "dancing danced dances",
    "decorate": "decorating decorated",
    "stand": "standing stands stood",
    "look": "looking looked looks",
    "hold": "holding held",
    "smile": "smiling smiled",
    "jump": "jumping",
    "fly": "flying flies flew",
}


@pytest.mark.parametrize(("word", "forms"), FORMS.items())
def test_forms_of_one_word_are_one(word: str, forms: str) -> None:
    assert {lemma(form) for form in [word, *forms.split()]} == {word}


@pytest.mark.parametrize(
    "word", ["bus", "grass", "tennis", "ring", "bed", "red", "king", "car", "care", "sheep", "gas"]
)
def test_words_without_an_inflection_stay(word: str) -> None:
    assert lemma(word) == word


def test_content_words_of_a_text() -> None:
    text = "A man's two dogs are running; the DOG, near 3 trees — isn't eating."
    assert content_words(text) == ["man", "dog", "run", "dog", "tree", "isn't", "eat"]
    assert content_words("of the and") == []
    assert all(word == word.lower() for word in STOP_WORDS)


def test_tokens_of_content_words() -> None:
    words = tokenizer(None)
    text = "the cat is on a dog"
    pieces = words.convert_ids_to_tokens(words(text, add_special_tokens=False).input_ids)
    is_content = content_tokens(words, text)
    assert len(is_content) == len(pieces)
    spans = words(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
    expected = [any(w in text[a:b] for w in ("cat", "dog")) for a, b in spans]
    assert np.array_equal(is_content, expected)
    assert content_tokens(words, "").tolist() == []


def test_documents_are_counted_once_for_a_word() -> None:
    assert document_frequency([["a", "b", "a"], ["b"], []]) == {"a": 1, "b": 2}
