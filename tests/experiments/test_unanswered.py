"""Questions whose logits are not finite: no answer, left out of both sides, named and counted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import kvtool
from kvtool.asking.answering import Answerer
from kvtool.datasets.cvbench import CvBench
from kvtool.errors import KvtoolError
from kvtool.store import Store, hash_json
from tests.support.correlations import (
    RIGHT,
    WRONG,
    answered,
    correlated,
    models_of,
    right_for,
    segmented,
)
from tests.support.paired import (
    MODEL_RIGHT,
    VALUE_RIGHT,
    plant_answers,
    planted_run,
    questions_of,
)
from tests.support.planted import NOISY, planted_mme, planted_model, planted_pope
from tests.support.scenes import World
from tests.support.tiny_words import word_id

FEW_TOKENS: dict[str, Any] = {"max_new_tokens": 1}


def spoil(folder: Path, name: str, index: Any) -> None:
    """A NaN in a parameter of a LLaVA-NeXT's decoder, or in its output head."""
    from transformers import LlavaNextForConditionalGeneration

    loader: Any = LlavaNextForConditionalGeneration
    net = loader.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        dict(net.named_parameters())[name][index] = torch.nan
    net.save_pretrained(folder)


def spoil_a_word(folder: Path, word: str) -> Path:
    """Every question with that word has logits that are not finite; images' caches stay what they
    were.
    """
    spoil(folder, "model.language_model.embed_tokens.weight", (word_id(word), 0))
    return folder


@pytest.mark.slow
def test_knockout_drops_such_a_question_from_every_condition(tmp_path: Path) -> None:
    model, pope = planted_model(tmp_path / "model"), planted_pope(tmp_path / "pope", 4)
    sound = kvtool.knockout(
        tmp_path / "sound.kv", f"pope:{pope}", sorted(NOISY), model=str(model), **FEW_TOKENS
    )
    assert (sound.n, sound.n_skipped) == (24, 0)
    spoil_a_word(model, "what")  # of the third wording alone
    result = kvtool.knockout(
        tmp_path / "s.kv",
        f"pope:{pope}",
        sorted(NOISY),
        model=str(model),
        answers=tmp_path / "answers.jsonl",
        **FEW_TOKENS,
    )
    assert (result.n, result.n_skipped) == (16, 8)
    assert result.skipped[0].startswith("question random/5: expected finite logits")
    for row in result.rows:
        reference = next(
            candidate
            for candidate in sound.rows
            if (candidate["condition"], candidate.get("file"))
            == (row["condition"], row.get("file"))
        )
        assert (row["n"], row["accuracy"]) == (16, reference["accuracy"])
    records = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert {line["condition"] for line in records} == {"none", "chosen", "late"}
    assert not any("what" in line["text"] for line in records)
    results = [record for record in Store(tmp_path / "s.kv").results() if "answers" in record]
    nulls = [
        text
        for answers in results[0]["answers"].values()
        for text, answer in answers.items()
        if answer is None
    ]
    assert nulls
    assert all("what" in text for text in nulls)


@pytest.mark.slow
def test_knockout_of_mme_drops_both_questions_of_the_image(tmp_path: Path) -> None:
    model, mme = planted_model(tmp_path / "model"), planted_mme(tmp_path / "mme", 4)
    first = mme / "position" / "000.txt"
    (yes, no) = first.read_text().splitlines()
    first.write_text(f"{yes}\n{no.replace('on the left', 'what')}\n")
    spoil_a_word(model, "what")
    result = kvtool.knockout(
        tmp_path / "s.kv", f"mme:{mme}", sorted(NOISY), model=str(model), **FEW_TOKENS
    )
    summary = next(row for row in result.rows if "subset" not in row)
    assert (result.n, summary["n_questions"], result.n_skipped) == (7, 14, 2)
    assert "the other one about its image has no answer" in result.skipped[0]


@pytest.mark.slow
def test_a_late_weight_leaves_nothing_to_score(tmp_path: Path) -> None:
    """The caches are finite, and no question has an answer."""
    model, pope = planted_model(tmp_path / "model"), planted_pope(tmp_path / "pope", 2)
    spoil(model, "model.language_model.layers.5.mlp.down_proj.weight", (0, 0))
    with pytest.raises(KvtoolError, match="an answer under every condition, found none: question"):
        kvtool.knockout(
            tmp_path / "s.kv", f"pope:{pope}", sorted(NOISY), model=str(model), **FEW_TOKENS
        )


def forget(run: Any, question: Any) -> None:
    """What an earlier command would have kept of a question without an answer."""
    store = Store(run.store)
    key = Answerer(store, run, None, "cpu", 16).key
    images = [[image, ""] for image in question.image_ids]
    store.save_result(hash_json([key, images, question.prompt]), {"answer": None})


@pytest.mark.parametrize("select", ["max", "split"])
@pytest.mark.slow
def test_paired_scores_both_sides_on_the_others(
    tmp_path: Path, embedded_world: World, select: str
) -> None:
    folder = embedded_world("blink") / "blink" / "Art_Style"
    questions = questions_of(folder.parent, folder.name)
    run = planted_run(tmp_path / "s.kv", folder, questions, VALUE_RIGHT)
    plant_answers(run, questions, MODEL_RIGHT)
    forget(run, questions[0])
    forget(run, questions[11])
    result = kvtool.paired(tmp_path / "s.kv", "art-style", select=select)
    assert (result.n, result.n_skipped) == (10, 2)
    assert [line.split(":")[0] for line in result.skipped] == [
        f"question {questions[index].id}" for index in (0, 11)
    ]
    best, items = result.best, result.items
    assert best is not None
    cells = [item["cell"] for item in items if item["cell"] is not None]
    assert len(cells) == best["n"] == (10 if select == "max" else 5)
    assert [best[f"n_{cell}"] for cell in ("both", "value_only", "model_only", "neither")] == [
        cells.count(cell) for cell in ("both", "value_only", "model_only", "neither")
    ]
    for index in (0, 11):
        item = items[index]
        assert (item["answer"], item["said"], item["model"], item["cell"]) == (None,) * 4
    if select == "max":
        assert cells == ["both"] * 3 + ["value_only"] * 5 + ["model_only"] * 2
        assert best["value"] == pytest.approx(8 / 10)
        assert best["model"] == pytest.approx(5 / 10)


@pytest.mark.slow
def test_paired_without_any_answer_says_so(tmp_path: Path, embedded_world: World) -> None:
    folder = embedded_world("blink") / "blink" / "Art_Style"
    questions = questions_of(folder.parent, folder.name)
    run = planted_run(tmp_path / "s.kv", folder, questions, VALUE_RIGHT)
    for question in questions:
        forget(run, question)
    with pytest.raises(KvtoolError, match="expected questions that the model answers, found 0 of"):
        kvtool.paired(tmp_path / "s.kv", "art-style")


@pytest.mark.slow
def test_correlate_leaves_such_a_model_out(tmp_path: Path, data: Path) -> None:
    store = tmp_path / "s.kv"
    bench = CvBench(data / "cvbench")
    for number, (wrong, right) in enumerate(zip(WRONG, RIGHT, strict=True)):
        segmented(store, data, f"planted-{number}", wrong)
        says: Any = right_for(right)
        if number == 2:
            answer = says
            says = lambda index: None if index == 3 else answer(index)  # noqa: B023, E731
        answered(store, bench, f"planted-{number}", says)
    result = correlated([store])
    assert [row["model"] for row in models_of(result)] == [f"planted-{n}" for n in (0, 1, 3, 4)]
    assert [row["accuracy"] for row in models_of(result)] == pytest.approx(
        [RIGHT[n] / 24 for n in (0, 1, 3, 4)]
    )
    assert (result.n, result.n_skipped) == (4, 1)
    assert result.skipped[0].startswith("model planted-2: 1 of 24 questions without an answer")
