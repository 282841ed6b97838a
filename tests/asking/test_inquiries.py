"""The thing that a text names."""

from __future__ import annotations

import pytest

from kvtool.asking.inquiries import named_thing

WORDS = ("cat", "dog", "table", "dining table", "bus")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("Is there a cat?", "cat"),
        ("How many Cats are there?", "cat"),
        ("Is there a catalog?", ""),
        ("Is the cat beside the dog?", ""),
        ("Where is the dining table?", "dining table"),
        ("Where are the buses?", "bus"),
        ("What is there?", ""),
    ],
)
def test_the_only_thing_that_a_text_names(text: str, word: str) -> None:
    assert named_thing(text, WORDS) == word
