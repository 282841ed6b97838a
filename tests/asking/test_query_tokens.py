"""Which tokens of a text look, against the text itself."""

from __future__ import annotations

import pytest

from kvtool.asking.query_tokens import QuerySource, query_text
from kvtool.errors import UsageError
from kvtool.models import load_model
from kvtool.models.base import LanguageModel
from tests.support import tiny

QUESTION = "is the cat on the left"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    loaded = load_model(str(tiny.llava_onevision(tmp_path_factory.mktemp("m"))), dtype="float32")
    assert isinstance(loaded, LanguageModel)
    return loaded


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("question", QUESTION.split()),
        ("cat", ["cat"]),
        ("THE", ["the", "the"]),
        ("the left", ["the", "left"]),
        ("ca", []),
        ("dog", []),
    ],
)
def test_tokens_of_words(model: LanguageModel, name: str, words: list[str]) -> None:
    text = query_text(model, QuerySource(name), QUESTION)
    assert list(text.words) == words
    assert len(text.queries) == len(words)
    assert text.text == model.question(QUESTION)
    spans = model.token_spans(text.text)
    assert text.n_tokens == len(spans)
    assert [text.text[slice(*spans[index])].strip() for index in text.queries] == words


def test_the_last_token_is_that_of_the_whole_turn(model: LanguageModel) -> None:
    text = query_text(model, QuerySource("last"), QUESTION)
    assert text.queries == (text.n_tokens - 1,)


def test_tokens_of_an_answer(model: LanguageModel) -> None:
    text = query_text(model, QuerySource("answer"), QUESTION, "yes the cat")
    assert text.words == ("yes", "the", "cat")
    assert text.queries == tuple(range(text.n_tokens - 3, text.n_tokens))
    assert query_text(model, QuerySource("answer"), QUESTION, "").queries == ()


def test_a_source_that_is_empty() -> None:
    with pytest.raises(UsageError, match="expected last, question, answer or a word"):
        QuerySource(" ")
