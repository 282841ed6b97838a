"""Texts that a model reads without an image: their place, their templates, what is said of them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from kvtool.errors import UsageError
from kvtool.models import load_model
from kvtool.text_templates import TextTemplate
from tests.support import tiny


def test_patterns_of_a_template() -> None:
    assert TextTemplate.parse("{}").filled("red {} cat") == ["red {} cat"]
    several = TextTemplate.parse("a photo of a {}.|a {} in a game")
    assert several.filled("cat") == ["a photo of a cat.", "a cat in a game"]
    assert TextTemplate.parse("alone:{}") == TextTemplate(("{}",), is_alone=True)


@pytest.mark.parametrize("template", ["", "a photo", "{} and {}", "alone:", "{}|", "{}|" * 1001])
def test_templates_that_are_none(template: str) -> None:
    with pytest.raises(UsageError, match=r"text template: expected \{\} once in each pattern"):
        TextTemplate.parse(template)


@pytest.mark.slow
def test_a_text_alone_at_position_0_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a tokenizer without a start token; one that has it puts something before the text."""
    startless = load_model(str(tiny.llava_onevision(tmp_path / "a")), dtype="float32")
    started = load_model(str(tiny.llava_next(tmp_path / "b")), dtype="float32")
    texts = ["cat", "red dog", "dog"]
    with caplog.at_level(logging.WARNING, "kvtool"):
        started.text_vectors(texts, [0], ("value",), "alone:{}")
        startless.text_vectors(texts, [0], ("value",), "{}")
        startless.text_vectors(texts, [0], ("value",), "alone:the {}")
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING, "kvtool"):
        startless.text_vectors(texts, [0], ("value",), "alone:{}")
    assert "2 of 3 texts are one token alone at position 0" in caplog.messages[0]


@pytest.mark.sampled
@pytest.mark.parametrize("text", ["", "  "])
def test_a_text_without_a_word_is_refused(tmp_path: Path, text: str) -> None:
    model = load_model(str(tiny.llava_onevision(tmp_path)), dtype="float32")
    for template in ("{}", "the {}", "alone:{}"):
        with pytest.raises(UsageError, match="expected at least one token in each"):
            model.text_vectors(["cat", text], [0], ("value",), template)
