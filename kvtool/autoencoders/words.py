"""Words of captions and descriptions: what counts as content, and one form of a word's inflections.

The rules are English, few, and the same for both sides of a comparison; no dictionary is needed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from kvtool.stats.bootstrap import Array

_STOPS = """
a about above after again all also an and another any are as at be been before being below
between both but by can could did do does doing down during each either etc few for from further
had has have having he her here hers him his how i if in into is it its itself just may me might
more most my near next no nor not of off on once one only or other our out over own per s same
she should so some such t than that the their them then there these they this those through to
too toward towards two under until up upon us very was we were what when where which while who
whom whose why will with within without would you your
"""
STOP_WORDS = frozenset(_STOPS.split())
"""Words that say nothing of what a picture shows."""

_IRREGULAR = {
    "men": "man", "women": "woman", "children": "child", "people": "person", "feet": "foot",
    "teeth": "tooth", "geese": "goose", "mice": "mouse", "knives": "knife", "wives": "wife",
    "lives": "life", "leaves": "leaf", "loaves": "loaf", "thieves": "thief", "scarves": "scarf",
    "oxen": "ox", "buses": "bus", "shoes": "shoe", "sat": "sit", "stood": "stand", "ran": "run",
    "ate": "eat", "held": "hold", "wore": "wear", "worn": "wear", "flew": "fly", "rode": "ride",
    "lying": "lie", "tied": "tie", "during": "during", "ceiling": "ceiling", "building": "building",
    "clothing": "clothing", "wedding": "wedding",
}  # fmt: skip
"""Inflections that no rule gives, and words that only look like one."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
_VOWELS = "aeiou"
_UNINFLECTED = ("ss", "us", "is", "ous")
"""Ends of words that end in s and are no plurals."""


def content_words(text: str) -> list[str]:
    """Return the words of a text in order, lower-cased and without inflection, stop words left
    out.
    """
    return [lemma(word) for word in _words(text) if word not in STOP_WORDS]


def content_tokens(tokenizer: Any, text: str) -> Array:
    """Tell which tokens of a text are part of a word that is no stop word, (token,) bool.

    Args:
        tokenizer: A fast one of transformers; the text is taken without special tokens.
        text: The text.
    """
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    # Marked by characters, so that every token that reaches into a word is of it.
    is_content = np.zeros(len(text) + 1, bool)
    for match in _WORD.finditer(text):
        if match.group().lower() not in STOP_WORDS:
            is_content[match.start() : match.end()] = True
    spans = encoded.offset_mapping
    return np.array([bool(is_content[start:end].any()) for start, end in spans], bool)


def lemma(word: str) -> str:
    """Return the form that a word shares with its plural, -ing and -ed forms, by its suffix.

    The word is in lower case. Forms that no rule fits stay as they are.
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("s"):
        return _singular(word)
    for suffix in ("ing", "ed"):
        stem = word.removesuffix(suffix)
        # What is left has to be a word: with a vowel, and long enough ("ring" and "bed" are none).
        if stem != word and len(stem) > 2 and any(letter in _VOWELS + "y" for letter in stem):
            return _verb(stem)
    return word


def _singular(word: str) -> str:
    """Return a noun without its plural, a verb without its third person."""
    if len(word) < 4 or word.endswith(_UNINFLECTED):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y" if len(word) > 4 else word[:-1]
    if word.endswith("lves"):
        return word[:-3] + "f"
    if word.endswith(("sses", "shes", "ches", "xes")) or (word.endswith("oes") and len(word) > 5):
        return word[:-2]
    return word[:-1]


def _verb(stem: str) -> str:
    """Return the base form of a verb from what -ing or -ed leaves of it."""
    if stem.endswith("i"):
        return stem[:-1] + "y"
    before, last = stem[-2], stem[-1]
    if last == before and last not in "lsze":
        return stem[:-1]  # sitting
    is_vowel = [letter in _VOWELS for letter in stem]
    n_vowel_groups = sum(
        vowel and not previous
        for vowel, previous in zip(is_vowel, [False, *is_vowel[:-1]], strict=True)
    )
    # A single vowel before a single consonant: the e was dropped (riding), but not in longer words
    # (opening); nor is a word left that ends in c, v, z or a consonant and a u (dancing, moving).
    is_short = n_vowel_groups == 1 and is_vowel[-2:] == [True, False] and last not in "wxy"
    needs_e = stem.endswith(("c", "v", "iz", "dg", "rg", "rs", "bl", "tl", "dl", "pl", "gl"))
    if (is_short and not _is_double(stem)) or needs_e or _is_at(stem):
        return stem + "e"
    return stem


def _is_double(stem: str) -> bool:
    """Tell whether two vowels stand before the last consonant, as in eat."""
    return len(stem) > 2 and stem[-3] in _VOWELS


def _is_at(stem: str) -> bool:
    """Tell whether a longer word ends as decorat(e) does."""
    return len(stem) > 4 and stem.endswith("at") and stem[-3] not in _VOWELS


def _words(text: str) -> list[str]:
    """Return the words of a text in lower case, without a possessive's end."""
    words = (match.group().lower() for match in _WORD.finditer(text))
    return [re.split("['’]", word)[0] if word.endswith(("'s", "’s")) else word for word in words]


def document_frequency(documents: Sequence[Sequence[str]]) -> dict[str, int]:
    """Return in how many documents each word occurs."""
    frequency: dict[str, int] = {}
    for words in documents:
        for word in set(words):
            frequency[word] = frequency.get(word, 0) + 1
    return frequency
