"""`kvtool surface` over planted values, answers and log-probabilities, and a tiny model's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import kvtool
import kvtool.models
from kvtool.asking.answering import Answerer
from kvtool.asking.paired.answers import option_letters, stored_prompt
from kvtool.datasets import open_dataset, parse_spec
from kvtool.datasets.base import Question
from kvtool.errors import UsageError
from kvtool.experiments.surface.article import sentences
from kvtool.experiments.surface.plot import draw
from kvtool.models.continuation import Continuation
from kvtool.models.several import SeveralImages
from kvtool.reporting.emit import emit
from kvtool.result import Result, Row
from kvtool.store import Run, Store
from tests.support.fields import assert_documented, documented
from tests.support.paired import (
    MODEL_RIGHT,
    plant_answers,
    plant_options,
    planted_run,
    questions_of,
)
from tests.support.units import PLANTED

pytestmark = pytest.mark.slow

CONDITIONS = ["model", "written", "value", "fused", "either", "permuted", "fused", "fused"]
BLOCKS: dict[str, Any] = {"layers": [PLANTED[0]], "heads": [0, PLANTED[1]]}


def noisy_options(questions: list[Question]) -> list[list[float]]:
    """Log-probabilities of a model that knows nothing: every question's (A) is likelier."""
    return [[-1.0, -1.1] for _ in questions]


def planted_store(path: Path, scenes: Path, options: Sequence[list[float] | None]) -> Run:
    """Values that know all twelve answers, beside a model that finds options so likely."""
    questions = questions_of(scenes / "blink", "Art_Style")
    run = planted_run(path, scenes / "blink" / "Art_Style", questions, set(range(12)))
    plant_answers(run, questions, MODEL_RIGHT)
    plant_options(run, questions, options)
    return run


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Run:
    options = noisy_options(questions_of(scenes / "blink", "Art_Style"))
    return planted_store(tmp_path_factory.mktemp("planted") / "s.kv", scenes, options)


@pytest.fixture(scope="module")
def surfaced(planted: Run) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kvtool.models, "load_model", refused)
        patch.setattr("kvtool.experiments.surface.scores.DRAWS", 99)
        return kvtool.surface(planted, "art-style", **BLOCKS)


def refused(*_arguments: Any, **_options: Any) -> None:
    raise AssertionError("computed again")


def summary(result: Result) -> dict[str, Row]:
    return {row["condition"]: row for row in result.rows if "subset" not in row}


@pytest.mark.slow
def test_what_values_know_is_surfaced(surfaced: Result, scenes: Path) -> None:
    result = surfaced
    labels = [question.answer for question in questions_of(scenes / "blink", "Art_Style")]
    n_a = labels.count("(A)")
    rows = summary(result)
    assert [row["condition"] for row in result.rows] == CONDITIONS
    assert rows["model"]["accuracy"] == pytest.approx(n_a / 12)
    assert rows["written"]["accuracy"] == pytest.approx(len(MODEL_RIGHT) / 12)
    assert rows["value"]["accuracy"] == rows["fused"]["accuracy"] == 1.0
    assert rows["either"]["accuracy"] == 1.0
    assert (rows["fused"]["gained"], rows["fused"]["lost"]) == (1.0, 0.0)
    assert (rows["fused"]["n_gained"], rows["fused"]["n_lost"]) == (12 - n_a, 0)
    assert rows["fused"]["permuted_p"] < 0.05
    assert (rows["fused"]["chance"], result.n, result.n_skipped) == (0.5, 12, 0)
    halves = [row for row in result.rows if "subset" in row]
    assert [(row["kind"], row["layer"], row["kv_head"]) for row in halves] == [
        ("value", *PLANTED)
    ] * 2
    assert [item["label"] for item in result.items] == labels
    assert [item["fused"] for item in result.items] == labels
    assert {item["model"] for item in result.items} == {"(A)"}
    assert_documented(result.to_json())
    assert set(result.items[0]) <= documented()


@pytest.mark.slow
def test_a_second_call_is_read_from_the_store(
    planted: Run, surfaced: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvtool.experiments.surface.work.SurfaceWork.result", refused)
    again = kvtool.surface(planted, "art-style", **BLOCKS)
    assert again == Result.from_json(surfaced.to_json())
    # Another seed halves the pictures in another way.
    with pytest.raises(AssertionError, match="computed again"):
        kvtool.surface(planted, "art-style", seed=1, **BLOCKS)


@pytest.mark.slow
def test_table_figure_and_sentences(surfaced: Result) -> None:
    out = StringIO()
    emit(surfaced, "table", out)
    text = out.getvalue()
    assert "blink@val; n = 12; percent, 95 % interval" in text
    for line in ("as written", "model and values", "permuted values", "chance"):
        assert line in text
    assert "half 2: value, layer 5, head 1, weight" in text
    assert max(map(len, text.splitlines())) <= 80
    assert isinstance(draw(surfaced), Figure)
    first, *_, last = sentences(surfaced)
    assert first.startswith("With its values' evidence the model answers more questions: 100")
    assert last.startswith("Chosen on the other half of the pictures: value, layer 5, head 1")


@pytest.mark.slow
def test_sentences_claim_no_gain_without_one(surfaced: Result) -> None:
    rows = [
        row | ({"permuted_p": 0.3} if row["condition"] == "fused" else {}) for row in surfaced.rows
    ]
    assert "no better than chance" in next(sentences(replace(surfaced, rows=rows)))


@pytest.mark.slow
def test_the_page_has_an_article(planted: Run, surfaced: Result, tmp_path: Path) -> None:
    kvtool.report(planted.store, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "Model and values together" in page
    assert next(sentences(surfaced))[:60] in page.replace("&#39;", "'")
    assert "art-style --run planted-blink-val-5de89ccc --kinds value --layers 5" in page


@pytest.mark.slow
def test_questions_without_log_probabilities_are_left_out(
    tmp_path: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kvtool.models, "load_model", refused)
    monkeypatch.setattr("kvtool.experiments.surface.scores.DRAWS", 99)
    questions = questions_of(scenes / "blink", "Art_Style")
    options: list[list[float] | None] = [*noisy_options(questions)]
    # A model whose logits are not finite gives none.
    options[3] = None
    run = planted_store(tmp_path / "s.kv", scenes, options)
    result = kvtool.surface(run, "art-style", **BLOCKS)
    assert (result.n, result.n_skipped, result.n_unusable) == (11, 1, 1)
    assert questions[3].id in result.skipped[0]


@pytest.mark.parametrize(
    ("task", "options", "expected"),
    [
        ("relative-depth", {}, "surface relative-depth: expected a task whose values say"),
        ("two-choice", {}, "found one that a trained probe answers; take semantic-corr"),
        ("nothing", {}, "surface: unknown task 'nothing'; known: semantic-correspondence, art"),
        ("art-style", {"blocks": 0}, "blocks"),
        ("art-style", {"blocks": 3, **BLOCKS}, "blocks: expected at most 2, found 3"),
        ("art-style", {"n": 1, **BLOCKS}, "expected two questions or more, found one"),
        ("art-style", {"layers": [99]}, "has no layer 99; stored"),
    ],
)
def test_what_cannot_be_surfaced_is_refused(
    planted: Run, task: str, options: dict[str, Any], expected: str
) -> None:
    with pytest.raises(UsageError, match=expected):
        kvtool.surface(planted, task, **options)


def slow_scores(
    model: Any, pictures: list[Any], text: str, options: tuple[str, ...]
) -> list[float]:
    """Log-probabilities token by token: each prompt runs anew up to the token before."""
    turn = model.prompt.question(text, len(pictures))
    scores = []
    for option in options:
        ids = list(model.prompt.text_ids(turn + option))
        first = len(model.prompt.text_ids(turn))
        total = 0.0
        for position in range(first, len(ids)):
            cache, samples = model.prefill_several([pictures])
            states = model._follow(cache, samples, torch.tensor([ids[:position]]))
            logits = model.head(states[:, -1])[0].double()
            total += float(logits[ids[position]] - logits.logsumexp(0))
        scores.append(total)
    return scores


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, scenes: Path) -> Store:
    path = tmp_path_factory.mktemp("store") / "s.kv"
    for spec in (f"blink:{scenes}/blink/Art_Style@val", f"spair71k:{scenes}/spair71k"):
        kvtool.extract(path, model=str(tiny_model), dataset=spec, limit=36)
    return kvtool.open(path)


@pytest.mark.slow
def test_log_probabilities_equal_those_token_by_token(extracted: Store, scenes: Path) -> None:
    dataset: Any = open_dataset(parse_spec(f"blink:{scenes}/blink/Art_Style@val"))
    [run] = extracted.readable_runs(lambda run: run.config.dataset == "blink")
    answerer = Answerer(extracted, run, None, "cpu", 4)
    refs = {ref.id: ref for ref in dataset.images()}
    question = dataset.questions()[0]
    pictures = stored_prompt(answerer, question, refs).prepare()
    assert pictures is not None
    with torch.inference_mode():
        options = ("(A)", "(B) the third image", "yes")
        expected = slow_scores(answerer.loaded, pictures, question.prompt, options)
    scores = answerer.loaded.option_scores(pictures, question.prompt, options)
    assert scores == pytest.approx(expected, abs=1e-4)
    assert len(set(scores or ())) == 3
    assert option_letters(question) == ("(A)", "(B)")


@pytest.mark.slow
def test_semantic_correspondence_of_a_tiny_model(
    extracted: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marked pictures, four options; a second call, with more blocks, asks nothing."""
    monkeypatch.setattr("kvtool.experiments.surface.scores.DRAWS", 19)
    result = kvtool.surface(extracted, "semantic-correspondence", n=12, max_new_tokens=2)
    rows = summary(result)
    assert rows["fused"]["chance"] == 0.25
    # Questions of the same words and pictures differ by their points.
    assert rows["fused"]["n_distinct"] == result.n
    # Pairs of pictures of both halves are in neither.
    assert result.skipped[0].startswith(f"{12 - result.n} questions join pictures of both halves")
    right = np.mean([item["model"] == item["label"] for item in result.items])
    assert rows["model"]["accuracy"] == pytest.approx(right)
    monkeypatch.setattr(SeveralImages, "ask_several", refused)
    monkeypatch.setattr(Continuation, "log_probabilities", refused)
    options: dict[str, Any] = {"n": 12, "max_new_tokens": 2, "blocks": 2}
    result = kvtool.surface(extracted, "semantic-correspondence", **options)
    assert summary(result)["model"] == rows["model"]
    assert {row["n_blocks"] for row in result.rows if "subset" in row} == {2}
